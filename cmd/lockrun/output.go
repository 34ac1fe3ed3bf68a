package main

import (
	"os"
	"path/filepath"

	"github.com/lockrun/lockrun/detach"
)

// output is where the flags send the command's standard output and error.
type output struct {
	log, stdout, stderr destination
	rotate              rotation
	syslog              int // the priority, if toSyslog
	toSyslog            bool
	quietSuccess        bool
	inDaemon            bool // ours are opened already, by the launcher
}

func (o *output) register(fs *flagSet) {
	fs.value(&o.log, "log")
	fs.value(&o.stdout, "stdout")
	fs.value(&o.stderr, "stderr")
	fs.value(&o.rotate, "log-rotate")
}

// check returns what is wrong with the flags taken together, and makes paths
// absolute: a daemon has another working directory.
func (o *output) check() error {
	var err error
	if o.syslog, o.toSyslog, err = parseSyslog(o.log.given); err != nil {
		return err
	}
	for _, err := range []error{o.log.check("--log"), o.stdout.check("--stdout"), o.stderr.check("--stderr")} {
		if err != nil {
			return err
		}
	}
	if o.toSyslog {
		o.log.path = ""
	}
	switch {
	case o.quietSuccess && (o.log.set || o.stdout.set || o.stderr.set):
		return usageError("--quiet-success shows the output, if the command fails; it contradicts --log, --stdout and --stderr")
	case o.log.set && (o.stdout.set || o.stderr.set):
		return usageError("--log is for both, and contradicts --stdout and --stderr")
	case o.rotate.given != "" && o.log.path == "":
		return usageError("--log-rotate needs --log FILE")
	}
	return nil
}

// words returns the flags again, for another subcommand.
func (o *output) words() (words []string) {
	for _, d := range []struct {
		flag string
		destination
	}{{"--log", o.log}, {"--stdout", o.stdout}, {"--stderr", o.stderr}} {
		if d.set {
			words = append(words, d.flag, d.given)
		}
	}
	if o.rotate.given != "" {
		words = append(words, "--log-rotate", o.rotate.given)
	}
	return words
}

// files returns what standard output and error are sent to.
func (o *output) files() (stdout, stderr destination) {
	if o.log.set {
		return o.log, o.log
	}
	return o.stdout, o.stderr
}

// destination is a flag's file, or none: what there is without the flag.
type destination struct {
	given string
	path  string // absolute; "" for none
	set   bool
}

func (d *destination) Set(s string) error {
	d.given, d.set = s, true
	return nil
}

func (d *destination) check(flag string) (err error) {
	switch d.given {
	case "":
		if d.set {
			return usageError("%s needs the name of a file", flag)
		}
	case "-":
	default:
		d.path, err = filepath.Abs(d.given)
	}
	return err
}

// name is the file as it was given, "" for none.
func (d *destination) name() string {
	if d.path == "" {
		return ""
	}
	return d.given
}

// streams are the standard output and error of a command, across its restarts.
// A nil *streams is our own.
type streams struct {
	stdout, stderr uintptr
	files          []*logFile // the command writes to them by itself
	drains         []*drain   // we read what it writes
	syslog         *syslogLog // nil without
	spools         []*spool   // of standard output and of standard error
}

// warn says what is no reason to refuse: syslog may come later.
func (o *output) warn() {
	if !o.toSyslog {
		return
	}
	conn, err := dialSyslog()
	if err != nil {
		complain("no syslog, so the output is lost until there is one: %v", err)
		return
	}
	conn.Close()
}

// open opens what the command writes to. It comes when the lock is held, so that
// who is refused changes nothing.
func (o *output) open(name lockName) (*streams, error) {
	switch {
	case o.toSyslog:
		return o.openSyslog(name)
	case o.quietSuccess:
		return spooled()
	case o.rotate.given != "":
		return o.openRotated()
	}
	stdout, stderr := o.files()
	if stdout.path == "" && stderr.path == "" {
		return nil, nil
	}
	s := &streams{stdout: 1, stderr: 2}
	if stdout.path != "" {
		f, err := o.openFile(stdout, os.Stdout)
		if err != nil {
			return nil, err
		}
		s.files = append(s.files, f)
		s.stdout = f.Fd()
	}
	if stderr.path != "" {
		f, err := o.openFile(stderr, os.Stderr)
		if err != nil {
			return nil, err
		}
		if len(s.files) > 0 && s.files[0].same(f) {
			// One description, so that neither overwrites the other, whatever
			// the file system makes of O_APPEND.
			s.files[0].others = append(s.files[0].others, f.File)
			s.stderr = s.stdout
		} else {
			s.files = append(s.files, f)
			s.stderr = f.Fd()
		}
	}
	return s, nil
}

// openRotated opens a log that we write.
func (o *output) openRotated() (*streams, error) {
	if err := mayRotate(o.log.path); err != nil {
		return nil, err
	}
	file, err := o.openFile(o.log, os.Stderr)
	if err != nil {
		return nil, err
	}
	if o.inDaemon {
		file.others = []*os.File{os.Stdout}
	}
	return drained(&rotatedLog{logFile: file, rotation: o.rotate})
}

func (o *output) openSyslog(name lockName) (*streams, error) {
	log := &syslogLog{priority: o.syslog, tag: syslogTag(name)}
	s, err := drained(log)
	if err != nil {
		return nil, err
	}
	s.syslog = log
	if o.inDaemon {
		ourSyslog = log
	}
	return s, nil
}

// spooled are streams that are held, each for itself.
func spooled() (*streams, error) {
	s := &streams{spools: []*spool{{}, {}}}
	for _, into := range s.spools {
		d, err := newDrain(into)
		if err != nil {
			return nil, err
		}
		s.drains = append(s.drains, d)
	}
	s.stdout, s.stderr = s.drains[0].descriptor(), s.drains[1].descriptor()
	return s, nil
}

// drained are streams that go into one sink, by one pipe: so they stay in order.
func drained(into sink) (*streams, error) {
	d, err := newDrain(into)
	if err != nil {
		return nil, err
	}
	return &streams{stdout: d.descriptor(), stderr: d.descriptor(), drains: []*drain{d}}, nil
}

// openFile opens a file; in a daemon it is one that is open already.
func (o *output) openFile(d destination, daemons *os.File) (*logFile, error) {
	l := &logFile{File: daemons, path: d.path}
	if o.inDaemon {
		return l, nil
	}
	var err error
	l.File, err = detach.OpenLog(d.given)
	return l, err
}

// refresh opens files anew that were renamed meanwhile, before the command is
// started.
func (s *streams) refresh() {
	if s == nil {
		return
	}
	for _, f := range s.files {
		if f.renamed() {
			if err := f.reopen(); err != nil {
				complain("%v", err)
			}
		}
	}
}

// running tells that the command runs.
func (s *streams) running(pid int) {
	if s == nil {
		return
	}
	if s.syslog != nil {
		s.syslog.pid.Store(int64(pid))
	}
	for _, d := range s.drains {
		d.begin()
	}
}

// show prints what was held back.
func (s *streams) show() {
	if s == nil || s.spools == nil {
		return
	}
	s.spools[0].show(os.Stdout)
	s.spools[1].show(os.Stderr)
}

// end comes after the end of the last command: what it wrote is written.
func (s *streams) end() {
	if s == nil {
		return
	}
	for _, d := range s.drains {
		d.close()
	}
	for _, d := range s.drains {
		d.end()
	}
	s.drains = nil
}

// descriptors returns those that the command gets as its standard ones.
func (s *streams) descriptors() []uintptr {
	if s == nil {
		return []uintptr{0, 1, 2}
	}
	return []uintptr{0, s.stdout, s.stderr}
}
