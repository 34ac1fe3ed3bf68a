package detach

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"

	"github.com/lockrun/lockrun/lock"
	"github.com/lockrun/lockrun/pidfile"
)

// Service gives a program the words of an init script: start, stop, restart,
// status and run.
//
//	func main() {
//		s := detach.Service{
//			Config: detach.Config{PIDFile: "/run/example.pid", Log: "/var/log/example.log"},
//			Run: func(d *detach.Daemon) error {
//				// ... listen, open files ...
//				d.Ready()
//				return serve()
//			},
//		}
//		status, message := s.Command(os.Args[1:])
//		if message != "" {
//			fmt.Fprintln(os.Stderr, message)
//		}
//		os.Exit(status)
//	}
type Service struct {
	// Config says how the program detaches. PIDFile must be set. For run, in
	// the foreground, only PIDFile and PIDFileOptions count: the working
	// directory, the umask and the standard descriptors are the caller's.
	Config

	// Schedule is how stop and restart end the program. nil is TERM/10/KILL/5.
	Schedule pidfile.Schedule

	// Run is the program, and must be set. It is called in the daemon (start,
	// restart) or in the foreground (run), with the PID file held. It calls
	// d.Ready when it is up, in the foreground too, where nobody waits for it,
	// and returns when it ends. The PID file is removed when it returns and
	// when it panics.
	//
	// It should return an error and not call d.Fail or os.Exit: what d.Fail is
	// told nobody hears in the foreground, and os.Exit leaves the PID file
	// behind, which is harmless.
	Run func(d *Daemon) error

	// Handles are the signals that Run handles itself, with signal.Notify: to
	// end in good order on SIGTERM, or to read its configuration again on
	// SIGHUP. On those of SIGINT, SIGTERM, SIGHUP and SIGQUIT that are not
	// among them the PID file is removed and the process dies of the signal, at
	// once, whatever Run does at the moment (see pidfile.AtExit). nil means
	// that Run handles none.
	Handles []os.Signal
}

// Exit statuses of an init script, from the Linux Standard Base, "Init Script
// Actions". Of status some mean something else.
const (
	lsbOK            = 0
	lsbError         = 1
	lsbUsage         = 2
	lsbUnimplemented = 3
	lsbPrivilege     = 4

	lsbStatusRunning = 0
	lsbStatusDead    = 1
	lsbStatusStopped = 3
	lsbStatusUnknown = 4
)

// Command does what the words say, of which there must be one, and returns what
// is to be printed, if it is not empty, and the exit status. Nothing is printed
// here, since only the program knows its name and where its messages belong.
//
//	start    start the daemon; if it runs already, the message says as which
//	         process, and the status is 0
//	stop     end it by the Schedule; the status is 0 when its lock is free, as
//	         it is when nothing ran
//	restart  stop, if it runs, and start
//	status   0 it runs, 1 it is dead and left its PID behind, 3 it does not run,
//	         4 it can't be told, or the lock is held by another process than
//	         the recorded one
//	run      run in the foreground, under the same lock
//
// The statuses are those of the Linux Standard Base: 0, 1 for an error, 2 for
// another word or not exactly one, 3 for what this system can't do (stop and
// restart need Linux 5.3), 4 if it is not permitted, the program's own error
// included. Which status the daemon ended with before it was ready is said in
// the message only: 2, as after a panic, would mean something else.
//
// The process that is to print the result of start or restart is the launcher.
// When the daemon is ready, Command ends it with status 0, as Detach does (see
// Config.AfterWait), and what was said of the program's beginning in Detach
// holds here. The daemon comes here with the same words. Command returns there
// when Run has returned: what Run returned before it called d.Ready is printed
// by the launcher, what it returned later is the message in the daemon, whose
// standard error is the Log.
//
// restart is not one step. The lock is free between its halves, so somebody
// else's start can come first; the result is then his refusal, status 1. If the
// new program does not come up there is none. (lockrun restart never lets go of
// the lock.)
//
// Nobody is promised a clean-up before Run is called or after SIGKILL. A PID
// file that is left behind is harmless: the next start takes it over.
//
// Command panics if PIDFile or Run is missing.
func (s *Service) Command(words []string) (status int, message string) {
	if s.PIDFile == "" {
		panic("detach.Service: empty PIDFile")
	}
	if s.Run == nil {
		panic("detach.Service: nil Run")
	}
	// The words are the launcher's; to stop the others was its part.
	role, pipe, err := readMarker()
	if err != nil {
		return statusSystem, err.Error()
	}
	if role != launcher {
		return s.work(s.play(role, pipe))
	}
	var word string
	if len(words) == 1 {
		word = words[0]
	}
	switch word {
	case "start":
		err := s.launch()
		// With another status it is another lock that Run did not get.
		if e := (*StartError)(nil); errors.As(err, &e) && e.Status == statusHeld && errors.Is(err, lock.ErrHeld) {
			return lsbOK, "already running: " + err.Error()
		}
		return failure(err)
	case "stop":
		return s.stop()
	case "restart":
		if status, message := s.stop(); status != lsbOK {
			return status, message
		}
		return failure(s.launch())
	case "status":
		return s.status()
	case "run":
		f, err := pidfile.Hold(s.PIDFile, &s.PIDFileOptions)
		if err != nil {
			return failure(err)
		}
		return s.work(&Daemon{pidFile: f})
	}
	const want = "want one of start, stop, restart, status, run"
	if len(words) == 0 {
		return lsbUsage, want
	}
	return lsbUsage, fmt.Sprintf("%s; not %q", want, words)
}

// failure returns what is to be said of an error, which may be nil.
func failure(err error) (status int, message string) {
	switch {
	case err == nil:
		return lsbOK, ""
	case errors.Is(err, fs.ErrPermission), errors.Is(err, pidfile.ErrUnverified):
		return lsbPrivilege, err.Error()
	case errors.Is(err, errors.ErrUnsupported):
		return lsbUnimplemented, err.Error()
	}
	return lsbError, err.Error()
}

func (s *Service) stop() (status int, message string) {
	err := pidfile.Stop(context.Background(), s.PIDFile, s.Schedule)
	if errors.Is(err, pidfile.ErrNotRunning) {
		return lsbOK, "not running"
	}
	return failure(err)
}

func (s *Service) status() (status int, message string) {
	st, err := pidfile.Inspect(s.PIDFile)
	switch st.State {
	case pidfile.Running:
		held := &lock.HeldError{Path: s.PIDFile, Holder: st.Holder}
		if st.PID != 0 && st.Holder.PID != 0 && !st.Holder.Recorded {
			return lsbStatusUnknown, fmt.Sprintf("unknown: process %d is recorded, but %v", st.PID, held)
		}
		return lsbStatusRunning, "running: " + held.Error()
	case pidfile.Stale:
		return lsbStatusDead, fmt.Sprintf("not running: process %d left its PID behind", st.PID)
	case pidfile.Absent:
		return lsbStatusStopped, "not running"
	}
	return lsbStatusUnknown, "unknown: " + err.Error()
}

// work runs the program.
//
// On a signal and on a panic the PID file is removed but not closed, which
// would free the lock while goroutines of Run still work:
//
//  1. a signal comes, the PID file is closed, the lock is free
//  2. stop returns, another instance starts
//  3. Run writes another line
//  4. the process dies
//
// So the lock ends with the process then.
func (s *Service) work(d *Daemon) (status int, message string) {
	var atExit pidfile.AtExit
	atExit.Push(func() { d.pidFile.Remove() })
	if dieOf := s.dieOf(); len(dieOf) > 0 {
		stopCatching := atExit.Catch(dieOf...)
		defer stopCatching()
	}
	defer atExit.Run()
	err := s.Run(d)
	atExit.Run() // if a signal was caught meanwhile, that is how the process ends
	if err != nil && d.awaited() {
		d.Fail(lsbError, err)
	}
	d.Close()
	return failure(err)
}

// dieOf returns the signals that Run does not handle.
func (s *Service) dieOf() []os.Signal {
	all := []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}
	return slices.DeleteFunc(all, func(sig os.Signal) bool { return slices.Contains(s.Handles, sig) })
}

// awaited reports whether the launcher waits for the daemon's word.
func (d *Daemon) awaited() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pipe != nil
}
