package detach

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/lockrun/lockrun/lock"
	"github.com/lockrun/lockrun/pidfile"
)

// Config says how to detach. A nil *Config means the zero value, a daemon
// without a PID file whose output goes nowhere.
type Config struct {
	// PIDFile is the path of a PID file that the daemon locks and writes. It
	// is removed by Daemon.Close. "" means none.
	PIDFile string

	// PIDFileOptions are its details.
	PIDFileOptions pidfile.Options

	// Log is the path of a file that standard output and error are appended
	// to; see OpenLog. "" means /dev/null.
	Log string

	// Stdout and Stderr are for one of the two alone, instead of Log.
	Stdout, Stderr string

	// Dir is the daemon's working directory. "" means "/", so that no file
	// system is kept busy. PIDFile, the logs and Dir itself are looked up in
	// the caller's working directory.
	Dir string

	// Umask is the daemon's file mode creation mask. Zero means 022: files
	// that everybody may write are seldom meant.
	Umask fs.FileMode

	// Keep are descriptors, by number, that the daemon inherits beside the
	// standard ones, under the same numbers. All others are closed.
	Keep []int

	// Args are the arguments that the daemon is started with, without the
	// program's name. Nil means those of the caller. The daemon must come to
	// the same Detach with them.
	Args []string

	// ReadyTimeout is how long the launcher waits for Daemon.Ready. Zero means
	// 60 seconds, a negative one for ever.
	ReadyTimeout time.Duration

	// SessionLeader leaves one restart out: the daemon stays the leader of its
	// session. For a program that never opens a terminal.
	SessionLeader bool

	// AfterWait is called in the launcher, once, when it has done with waiting:
	// before it ends the process, be it with status 0 or by a signal, and
	// before Detach returns an error. Deferred functions do not run when the
	// process is ended; this is the place to erase a line of progress from the
	// terminal. It may run in another goroutine than Detach. nil means nothing.
	AfterWait func()
}

func (c *Config) readyTimeout() time.Duration {
	if c.ReadyTimeout == 0 {
		return 60 * time.Second
	}
	return c.ReadyTimeout
}

// Exit statuses of a StartError, from sysexits(3) and timeout(1).
const (
	statusHeld      = 75  // EX_TEMPFAIL: somebody else holds the PID file
	statusPIDFile   = 73  // EX_CANTCREAT: the PID file can't be opened, created or written
	statusSystem    = 71  // EX_OSERR
	statusTimeout   = 124 // not ready in time
	statusUnclear   = 1   // ended with status 0 before it was ready
	statusSignalled = 128 // plus the signal's number
)

// StartError says why there is no daemon. It is what the daemon itself said, or
// what became of it.
type StartError struct {
	// Status is the exit status that fits: 75 if the PID file is held by
	// another process, 73 if it can't be used, 124 if the daemon was not ready
	// in time, its own status (1 if that was 0), or 128+n for a signal, if it
	// ended before it was ready, what Fail was given, and 71 otherwise.
	Status int

	// Text is the reason, in one line.
	Text string

	kind error // one of kinds
}

func (e *StartError) Error() string { return e.Text }

// Is makes errors.Is find lock.ErrHeld if the daemon was refused because its
// PID file is held, and fs.ErrPermission if it was not permitted to do
// something: if that is found in the error that the daemon met.
func (e *StartError) Is(target error) bool { return e.kind != nil && target == e.kind }

// Daemon is the running program, detached.
type Daemon struct {
	pidFile *pidfile.File

	mu   sync.Mutex
	pipe *os.File // to the launcher; nil once it knows
}

// Detach turns the program into a daemon. There, and only there, it returns a
// Daemon.
//
// In the launcher, the process that called Detach first, it waits until the
// daemon is ready and then ends the process with status 0. If no daemon comes
// up it returns the reason, mostly a *StartError: print it and exit. A daemon
// that ends, or is not ready in time (it gets SIGTERM, and SIGKILL 5 seconds
// later), is a reason too. If the launcher gets SIGINT, SIGTERM, SIGHUP or
// SIGQUIT while it waits, the daemon gets SIGTERM and the launcher dies of its
// signal.
//
// Detach makes all descriptors above 2 of the launcher close-on-exec.
//
// What goes wrong in the daemon before Detach returns is reported to the
// launcher, and the daemon exits.
func Detach(c *Config) (*Daemon, error) {
	if c == nil {
		c = &Config{}
	}
	role, pipe, err := readMarker()
	if err != nil {
		return nil, err
	}
	if role != launcher {
		return c.play(role, pipe), nil
	}
	return nil, c.launch()
}

// play makes this process what it was started as.
func (c *Config) play(r role, pipe *os.File) *Daemon {
	if r == leader {
		c.lead(pipe) // does not return
	}
	return c.become(pipe)
}

// become makes this process, which was started as one, the daemon of c.
func (c *Config) become(pipe *os.File) *Daemon {
	d := &Daemon{pipe: pipe}
	if c.Umask == 0 {
		syscall.Umask(0o022)
	} else {
		syscall.Umask(int(c.Umask.Perm()))
	}
	if c.PIDFile != "" {
		f, err := pidfile.Hold(c.PIDFile, &c.PIDFileOptions)
		if errors.Is(err, lock.ErrHeld) {
			d.Fail(statusHeld, err)
		}
		if err != nil {
			d.Fail(statusPIDFile, err)
		}
		d.pidFile = f
	}
	dir := c.Dir
	if dir == "" {
		dir = "/"
	}
	if err := os.Chdir(dir); err != nil {
		d.Fail(statusSystem, err)
	}
	return d
}

// PIDFile returns the held PID file, nil if there is none.
func (d *Daemon) PIDFile() *pidfile.File { return d.pidFile }

// Ready tells the launcher that the daemon is up: the terminal gets its prompt
// back, with status 0. Only the first call does something. An error means that
// the launcher is gone, so nobody knows that the daemon runs.
func (d *Daemon) Ready() error { return d.tell(message{ready: true}) }

// Executing tells the launcher that this process is about to execute another
// program in its own place (syscall.Exec). The launcher takes its success, which
// closes the pipe, for Ready. If it can't be executed, call Fail. A process that is
// killed in between is taken for one that was executed.
func (d *Daemon) Executing() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pipe == nil {
		return nil
	}
	return d.write(message{executing: true})
}

// Fail tells the launcher why the daemon can't start and with which status it
// is to end, closes the daemon, and exits with that status; 1 if it is not from
// 1 to 255. After Ready nobody hears the reason.
func (d *Daemon) Fail(status int, reason error) {
	if status < 1 || status > 255 {
		status = statusUnclear
	}
	d.Close()
	d.tell(message{status: status, kind: kindOf(reason), text: reason.Error()})
	os.Exit(status)
}

// LauncherGone reports whether the launcher has ended without waiting for
// Ready: it was killed.
func (d *Daemon) LauncherGone() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pipe != nil && readerGone(d.pipe)
}

// Close removes the PID file and releases its lock. It does not end the
// process. A second Close does nothing.
func (d *Daemon) Close() error {
	d.mu.Lock()
	f := d.pidFile
	d.mu.Unlock()
	if f == nil {
		return nil
	}
	if err := f.Close(); !errors.Is(err, fs.ErrClosed) {
		return err
	}
	return nil
}

func (d *Daemon) tell(m message) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pipe == nil {
		return nil
	}
	err := d.write(m)
	d.pipe.Close()
	d.pipe = nil
	return err
}

func (d *Daemon) write(m message) error {
	if _, err := d.pipe.Write(m.encode()); err != nil {
		return fmt.Errorf("detach: launcher is gone: %w", err)
	}
	return nil
}
