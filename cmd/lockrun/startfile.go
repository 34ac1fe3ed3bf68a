package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/lockrun/lockrun/pidfile"
)

// instance returns the NAME whose file start reads. A path has none, nor have
// locks that are all named by --lock.
func (o *startOptions) instance(operands []string) (lockName, bool) {
	if len(operands) == 0 || len(o.more) > 0 && o.flags.dashed {
		return lockName{}, false
	}
	name, err := parseLock(operands[0])
	return name, err == nil && name.named
}

// errNoCommand says that there is no command for a NAME, neither given nor in its
// file.
var errNoCommand = errors.New("no command")

// withInstanceFile returns the arguments of start with what the file of a NAME
// adds to them. --no-config is the first: nobody reads the file again.
func withInstanceFile(name lockName, flags *flagSet, args []string) ([]string, error) {
	file, faults := loadInstance(name)
	if len(faults) > 1 {
		return nil, &configError{faults[0].path, faults[0].line, faults[0].text + fmt.Sprintf("; there is more: lockrun check %s", name.given), faults[0].status}
	}
	if len(faults) > 0 {
		return nil, faults[0]
	}
	operands := flags.operands
	given := args[:len(args)-len(operands)]
	if flags.dashed {
		// The -- before LOCK: with a --lock of the file it would mean that all
		// locks are named by flags. A NAME does not begin with a dash.
		given = given[:len(given)-1]
	}
	if len(operands) == 1 && !flags.changed("command") {
		if file == nil || file.argv == nil {
			return nil, fmt.Errorf("%s: there is %w: write lockrun start %s -- COMMAND%s", name.given, errNoCommand, name.given, orItsFile(name))
		}
		operands = append([]string{name.given, "--"}, file.argv...)
	}
	if file == nil {
		return slices.Concat([]string{"--no-config"}, given, operands), nil
	}
	// What is given on the command line wins: the same flag, and those that
	// contradict it. What contradicts is known to the check of the flags alone,
	// which names the flags that it is about.
	dropped := make(map[string]bool)
	for {
		words := file.words(func(key string) bool { return flags.changed(key) || dropped[key] })
		words = slices.Concat([]string{"--no-config"}, words, given, operands)
		merged := newFlags()
		var o startOptions
		o.register(merged)
		err := merged.parse(words)
		if err == nil {
			_, err = o.read(merged.operands)
		}
		if err == nil {
			return words, nil
		}
		more := false
		for _, s := range file.settings {
			if !flags.changed(s.key) && !dropped[s.key] && namesFlag(err.Error(), s.key) {
				dropped[s.key], more = true, true
			}
		}
		if !more {
			return nil, usageError("%v", err)
		}
	}
}

// orItsFile is the end of a message that asks for a command.
func orItsFile(name lockName) string {
	if !name.named {
		return ""
	}
	dir, err := configDir()
	if dir == "" || err != nil {
		return ""
	}
	return fmt.Sprintf(", or put it into %s", filepath.Join(dir, name.given+".toml"))
}

// notConfigured says why an instance can't be started from its file.
func notConfigured(err error) int {
	var e *configError
	if !errors.As(err, &e) {
		return misuse(err)
	}
	complain("%v", err)
	return e.status
}

// startAll is start --all: it starts the instances that have a file and do not
// run, one after the other in the order of their names, so that who depends on
// another one can be named behind it.
func startAll(flags *flagSet) int {
	if len(flags.operands) > 0 {
		return usage("--all starts what has a file; there is a word: %q", flags.operands[0])
	}
	for _, f := range flags.flags {
		if f.changed && f.name != "all" {
			return usage("--all takes the flags from the files, and --%s makes no sense then", f.name)
		}
	}
	names, bad, err := configuredInstances()
	if err != nil {
		return notConfigured(err)
	}
	status := exitOK
	for _, e := range bad {
		complain("%v", e)
		status = exitConfig
	}
	exe, err := os.Executable()
	if err != nil {
		complain("%v", err)
		return exitSystem
	}
	var now starter
	var atExit pidfile.AtExit
	defer atExit.Catch()()
	defer atExit.Run()
	atExit.Push(now.end)
	for _, name := range names {
		if runs(name) {
			continue
		}
		code, text := now.start(exe, name.given)
		if code == exitOK || runs(name) { // somebody else was faster
			continue
		}
		if text != "" {
			os.Stderr.WriteString(text)
		}
		if status == exitOK {
			status = code
		}
	}
	return status
}

// runs reports whether an instance runs, or is about to. One that was told to end
// does not.
func runs(name lockName) bool {
	state := inspect([]lockName{name})[0].state()
	return state == stateRunning || state == stateStarting
}

// starter starts one instance at a time, each by a process of its own: that is
// detach's launcher, which ends when the instance runs.
type starter struct {
	mu    sync.Mutex
	pid   int // 0: nothing is being started
	ended bool
}

// start returns the exit status, and the message with the NAME in it.
//
// Not os/exec, which would be linked for this alone; every run would load it.
func (s *starter) start(exe, name string) (status int, text string) {
	failed := func(err error) (int, string) { return exitSystem, fmt.Sprintf("lockrun: %s: %v\n", name, err) }
	r, w, err := os.Pipe()
	if err != nil {
		return failed(err)
	}
	defer r.Close()
	defer w.Close()
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return exitSystem, ""
	}
	pid, err := syscall.ForkExec(exe, []string{os.Args[0], "start", name}, &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{0, 1, w.Fd()},
	})
	if err == nil {
		s.pid = pid
	}
	s.mu.Unlock()
	if err != nil {
		return failed(err)
	}
	w.Close()
	said, _ := io.ReadAll(r) // until it ends: the daemon has another standard error
	s.mu.Lock()
	s.pid = 0 // before it is reaped: then somebody else can have its number
	s.mu.Unlock()
	var ws syscall.WaitStatus
	for {
		if _, err = syscall.Wait4(pid, &ws, 0, nil); err != syscall.EINTR {
			break
		}
	}
	status = ws.ExitStatus()
	switch {
	case err != nil:
		return failed(err)
	case ws.Signaled():
		status = exitSignalled + int(ws.Signal())
	}
	words, ours := strings.CutPrefix(string(said), "lockrun: ")
	if ours && !strings.HasPrefix(words, name+": ") && !strings.Contains(words, name+".toml:") {
		words = name + ": " + words
	}
	if words != "" {
		words = "lockrun: " + words
	}
	return status, words
}

// end passes on that we were told to die.
func (s *starter) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	if s.pid != 0 {
		syscall.Kill(s.pid, syscall.SIGTERM)
	}
}
