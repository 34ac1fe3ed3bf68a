package main

import (
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/lockrun/lockrun/internal/sigaction"
	"github.com/lockrun/lockrun/lock"
	"golang.org/x/sys/unix"
)

// supervisor runs a command under a held lock: it hands the lock to the command,
// passes signals on, waits for its end and frees the lock.
//
// The command inherits the locked descriptor, so that it stays locked when the
// supervisor is killed; when the command ends the supervisor unlocks, so that
// nothing the command left behind keeps the lock.
//
// All that happens to the command is done by one goroutine, in supervise: it
// alone starts, signals and reaps. So no signal can hit a number that was reaped
// and given to somebody else.
type supervisor struct {
	hold    *hold
	cmd     command
	policy  policy
	tty     *terminal // nil without a controlling terminal
	control *control  // nil in the foreground
	signals chan os.Signal
	started func() error // is told when the command is up for the first time; then nil

	command  int                    // PID; 0 when none runs
	launches int                    // how many there were
	launched time.Time              // the last one
	ended    chan func() waitStatus // the command has ended, and is reaped by calling it
	children chan os.Signal         // as PID 1: a child has ended

	up         bool        // the command is ready
	tooSlow    bool        // it was not in time
	readyTimer *time.Timer // until it has to be
	endProbe   func()      // nil without a probe
	notices    chan notice // of its readiness
	heard      chan heardNotice
	says       string // what it says of itself
	stopping   bool   // it says so

	limit    *time.Timer // --max-time
	timedOut bool

	requests   []*request // those that may not have got their answer yet
	ending     *ending    // nil unless the command is to end because somebody asked for it
	stops      []*request // those who asked that it stays ended
	restarts   []*request // those who asked for another one
	relaunched []*request // those of them whose command was launched, and is not ready yet
	ready      []*request // those who wait until it runs

	pause    *time.Timer // until it is started again
	delay    time.Duration
	respawns []time.Time
	told     bool            // by a signal, to end for good
	hangup   bool            // we got SIGHUP
	onExit   <-chan struct{} // closed when --on-exit has ended

	status      int   // exit status of the last command
	interrupted bool  // it died of SIGINT
	err         error // why it was not started, or did not become ready
}

// policy is what the supervisor does beside running the command once.
type policy struct {
	limits
	respawn
	readiness
}

// heardNotice is a notice of a process that may be one of ours.
type heardNotice struct {
	sender int
	notice notice
}

type waitStatus = syscall.WaitStatus

// supervise runs the command and returns its exit status. It hears requests by
// control, which may be nil and is closed. started is called when the command is
// up for the first time. The lock is free afterwards, on every path.
func supervise(h *hold, cmd command, policy policy, control *control, started func() error) (status int, err error) {
	s := &supervisor{
		hold:    h,
		cmd:     cmd,
		policy:  policy,
		tty:     controllingTerminal(),
		control: control,
		signals: make(chan os.Signal, 64),
		started: started,
		ended:   make(chan func() waitStatus, 1),
	}
	defer s.release()

	// Our own PID first: a full disk is noticed before anything runs.
	if err := h.write(os.Getpid()); err != nil {
		return exitLockFile, err
	}
	inherited, err := h.inherit()
	defer func() {
		for _, f := range inherited {
			f.Close()
		}
	}()
	if err != nil {
		return exitSystem, err
	}
	if !policy.atOnce() {
		if err := s.prepareReady(); err != nil {
			return exitSystem, err
		}
	}
	if os.Getpid() == 1 {
		s.children = make(chan os.Signal, 1)
		signal.Notify(s.children, unix.SIGCHLD)
	}
	catch(s.signals, endingSignals)
	h.endCatching()
	if s.launch(); s.err != nil {
		return s.status, s.err
	}
	// What came before the command was there, it has not got from anybody.
	for len(s.signals) > 0 {
		s.signal((<-s.signals).(syscall.Signal))
	}
	go func() {
		catch(s.signals, otherSignals)
		if s.tty == nil {
			catch(s.signals, stopSignals)
		}
	}()
	s.awaitReady()
	for s.command != 0 || s.pause != nil || s.onExit != nil {
		select {
		case sig := <-s.signals:
			s.forward(sig.(syscall.Signal))
		case r := <-s.control.requests():
			s.take(r)
		case n := <-s.notices:
			s.hear(n)
		case h := <-s.heard:
			if s.isOurs(h.sender) {
				h.notice.launch = s.launches
				s.hear(h.notice)
			}
		case <-due(s.readyTimer):
			s.notReadyInTime()
		case <-due(s.limit):
			s.timeIsUp()
		case <-s.ending.due():
			s.goOnEnding()
		case <-due(s.pause):
			s.launchAgain()
		case reap := <-s.ended:
			s.commandEnded(reap)
		case <-s.children:
			if s.command == 0 {
				reapOrphans()
			}
		case <-s.onExit:
			s.onExit = nil
		}
	}
	s.hintAtLeftBehind()
	s.release()
	if s.status != exitOK {
		s.cmd.streams.show()
	}
	if s.interrupted {
		dieOf(syscall.SIGINT)
	}
	return s.status, s.err
}

// hintAtLeftBehind says it if a command ended well and at once, and left somebody
// behind who would have kept the lock: it went into the background. To look for
// that takes some milliseconds, so it is looked for where somebody will read it.
func (s *supervisor) hintAtLeftBehind() {
	const atOnce = 2 * time.Second
	_, isTerminal := terminalWidth(os.Stderr)
	if s.status != 0 || s.told || s.hold.tree || len(s.stops) > 0 || time.Since(s.launched) > atOnce || s.control == nil && !isTerminal {
		return
	}
	holders, _ := lock.Holders(s.hold.name.path)
	for _, h := range holders {
		if h.PID != os.Getpid() {
			complain("%s: the command ended and left process %d (%s) behind, without the lock; let it stay in the foreground, or use --hold tree",
				s.name(), h.PID, h.CommandLine())
			return
		}
	}
}

// release frees the lock and then tells those who wait for that. While a command
// runs it does nothing: if supervise panics, the lock is the command's, as after
// kill -9.
func (s *supervisor) release() {
	if s.command != 0 {
		return
	}
	// The next one under this lock may write to the same log.
	s.cmd.streams.end()
	s.control.close()
	free := s.hold.release
	if s.hold.tree && s.err == nil {
		free = s.hold.leave
	}
	if err := free(); err != nil {
		complain("%v", err)
	}
	s.lastAnswers()
}

// launch starts the command and records its PID. If that can't be done, s.status
// and s.err say why.
func (s *supervisor) launch() {
	s.launches++
	s.up, s.tooSlow, s.timedOut, s.stopping, s.says = false, false, false, false, ""
	s.err = nil
	pipe, err := s.readyPipe()
	if err != nil {
		s.status, s.err = exitSystem, err
		return
	}
	s.cmd.readyFD, s.cmd.readyPipe = s.policy.ready.fd, pipe
	s.cmd.streams.refresh()
	// In the session of a terminal the command stays in our group, where
	// Ctrl-C, Ctrl-Z and fg reach it; else it gets one of its own.
	pid, err := s.cmd.start(&syscall.SysProcAttr{Setpgid: s.ownGroup()})
	pipe.Close()
	if err != nil {
		var e *execError
		s.status, s.err = exitSystem, err
		if errors.As(err, &e) {
			s.status = e.status
		}
		return
	}
	s.command = pid
	s.launched = time.Now()
	s.cmd.streams.running(pid)
	go func() { s.ended <- awaitEnd(pid) }()
	if err := s.hold.write(pid); err != nil {
		// Ours stands there, and we carry the lock too.
		complain("%v", err)
	}
	s.limitTime()
}

// ownGroup reports whether the command leads a process group.
func (s *supervisor) ownGroup() bool { return s.tty == nil }

// finish reaps the command, and sees to what comes after it.
func (s *supervisor) finish(reap func() waitStatus) {
	if len(s.restarts) > 0 || s.policy.wanted() {
		// In between, the process that the file names is us: its number is
		// never that of a process that was reaped.
		if err := s.hold.write(os.Getpid()); err != nil {
			complain("%v", err)
		}
	}
	ws := reap()
	s.command = 0
	s.interrupted = ws.Signaled() && ws.Signal() == syscall.SIGINT
	s.told = s.told || s.hangup && ws.Signaled() && ws.Signal() == syscall.SIGHUP
	s.status = ws.ExitStatus()
	if ws.Signaled() {
		s.status = exitSignalled + int(ws.Signal())
	}
	if s.timedOut {
		s.status, s.interrupted = exitTimeout, false
	}
	if !s.up {
		s.err = s.readyError()
	}
	s.ending.stop()
	s.ending = nil
	stopTimer(&s.limit)
	stopTimer(&s.readyTimer)
	if s.endProbe != nil {
		s.endProbe()
	}
	s.runOnExit(s.status)
	refuseAll(&s.relaunched, s.status, "%v", s.err)
	switch {
	case len(s.stops) > 0 || s.told:
	case len(s.restarts) > 0:
		s.launchAgain()
	case s.started != nil: // it never was ready
	case s.policy.after(s.status):
		s.respawnLater()
	}
}

// Signals that are passed on. Those that end a program are asked for before the
// command is started, lest one of them kills us in between. To ask takes the Go
// runtime 20 us a signal, so the others have to wait until the command runs.
var (
	endingSignals = []os.Signal{
		unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM,
	}
	otherSignals = []os.Signal{unix.SIGCONT, unix.SIGWINCH}
	stopSignals  = []os.Signal{unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU}
)

// catch asks for signals. SIGHUP and SIGINT stay ignored, for the command too, if
// they were when we were started (nohup, a background job of a script).
func catch(c chan<- os.Signal, signals []os.Signal) {
	for _, sig := range signals {
		if !signal.Ignored(sig) {
			signal.Notify(c, sig)
		}
	}
}

// forward passes a signal on to the command, and to it alone: to what else it
// started, a SIGUSR1 could be deadly.
func (s *supervisor) forward(sig syscall.Signal) {
	switch sig {
	case unix.SIGTERM, unix.SIGINT, unix.SIGQUIT:
		// Who says so does not mean the command alone.
		s.told = true
		s.giveUpRestarts("the supervisor was told to end by " + unix.SignalName(sig))
	case unix.SIGHUP:
		s.hangup = true
	}
	if s.pause != nil && (s.told || s.hangup) {
		stopTimer(&s.pause)
		s.status, s.interrupted = exitSignalled+int(sig), sig == unix.SIGINT
		return
	}
	switch sig {
	case unix.SIGINT, unix.SIGQUIT, unix.SIGWINCH:
		// In the foreground they come from the terminal, which gave them to
		// the command as well.
		if s.tty.inForeground() {
			return
		}
	case unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		s.signal(sig)
		syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		return
	}
	s.signal(sig)
}

func (s *supervisor) signal(sig syscall.Signal) {
	if s.command != 0 {
		syscall.Kill(s.command, sig)
	}
}

// dieOf ends this process by a signal: who started us sees that. A shell, say,
// ends its loop only if the command in it died of Ctrl-C. It returns if that is
// not possible: if the signal is ignored (we run in the background of a script,
// for SIGINT), or as PID 1.
func dieOf(sig syscall.Signal) {
	if signal.Ignored(sig) || os.Getpid() == 1 {
		return
	}
	signal.Reset(sig)
	sigaction.SetDefault(sig)
	syscall.Kill(os.Getpid(), sig)
	select {}
}
