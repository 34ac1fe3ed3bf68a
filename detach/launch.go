package detach

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/lockrun/lockrun/pidfile"
	"golang.org/x/sys/unix"
)

// killAfter is how long a daemon that was not ready in time has to obey SIGTERM.
const killAfter = 5 * time.Second

// launch starts the daemon and waits for its word. It returns only without one.
//
// A signal can come at any moment:
//
//  1. the daemon is ready, and says so
//  2. a signal comes: the daemon gets SIGTERM
//  3. the launcher reads that the daemon is ready
//
// To exit with status 0 then would be a lie. So Run stands before the exit too:
// it does not return once a signal was caught.
func (c *Config) launch() error {
	var atExit pidfile.AtExit
	if c.AfterWait != nil {
		atExit.Push(c.AfterWait)
	}
	stopCatching := func() {}
	defer func() { stopCatching() }()
	// Who was told by a signal to die dies of it, whatever the daemon says.
	defer atExit.Run()
	stdin, err := os.OpenFile(os.DevNull, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer stdin.Close()
	stdout, stderr, err := c.openLogs()
	if err != nil {
		return err
	}
	defer stdout.Close()
	defer stderr.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	defer w.Close()

	closeOnExecFrom(3)
	if !c.SessionLeader {
		// An orphan of ours is then our child, whose end we can wait for.
		defer becomeSubreaper()()
	}
	first := leader
	if c.SessionLeader {
		first = daemon
	}
	var g group
	atExit.Push(func() { g.signal(syscall.SIGTERM) })
	g.mu.Lock() // a signal that comes meanwhile waits for the PID
	stopCatching = atExit.Catch()
	pid, err := c.startSelf(first, w, []uintptr{stdin.Fd(), stdout.Fd(), stderr.Fd()}, true)
	g.pid = pid
	g.mu.Unlock()
	if err != nil {
		return &StartError{Status: statusSystem, Text: err.Error()}
	}
	defer g.reap()
	w.Close()

	if t := c.readyTimeout(); t >= 0 {
		r.SetReadDeadline(time.Now().Add(t))
	}
	m, ok, err := hear(r)
	if ok {
		if m.ready {
			g.forget() // from here on a signal does not end the daemon
			if !c.SessionLeader {
				// The daemon is an orphan only when the leader has ended.
				syscall.Wait4(pid, nil, 0, nil)
			}
			atExit.Exit(0)
		}
		return &StartError{Status: m.status, Text: m.text, kind: m.kind}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		g.signal(syscall.SIGTERM)
		r.SetReadDeadline(time.Now().Add(killAfter))
		if _, err := io.Copy(io.Discard, r); err != nil {
			g.signal(syscall.SIGKILL)
			r.SetReadDeadline(time.Now().Add(killAfter))
			io.Copy(io.Discard, r) // its end frees what it holds
		}
		return &StartError{Status: statusTimeout, Text: fmt.Sprintf("not ready within %v%s", c.readyTimeout(), c.seeLog())}
	}
	e := &StartError{Status: statusUnclear, Text: "ended before it was ready"}
	if ws, ok := g.daemonStatus(pid, c.SessionLeader); ok {
		if ws.Signaled() {
			e.Status = statusSignalled + int(ws.Signal())
			e.Text += fmt.Sprintf(": killed by %s", unix.SignalName(ws.Signal()))
		} else {
			e.Status = max(ws.ExitStatus(), statusUnclear)
			e.Text += fmt.Sprintf(": exit status %d", ws.ExitStatus())
		}
	}
	e.Text += c.seeLog()
	return e
}

// lead is all that the session leader does: it starts the daemon and exits.
func (c *Config) lead(pipe *os.File) {
	if _, err := c.startSelf(daemon, pipe, []uintptr{0, 1, 2}, false); err != nil {
		(&Daemon{pipe: pipe}).Fail(statusSystem, err)
	}
	os.Exit(0)
}

// startSelf starts this program again, in that role. It inherits the standard
// descriptors, those to keep and the pipe, and nothing else.
func (c *Config) startSelf(r role, pipe *os.File, standard []uintptr, setsid bool) (int, error) {
	mark, err := marker(r, pipe)
	if err != nil {
		return 0, err
	}
	files := make([]uintptr, max(3, int(pipe.Fd())+1, slices.Max(append(c.Keep, 0))+1))
	for i := range files {
		files[i] = ^uintptr(0) // closed
	}
	copy(files, standard)
	files[pipe.Fd()] = pipe.Fd()
	for _, fd := range c.Keep {
		if fd > 2 {
			files[fd] = uintptr(fd)
		}
	}
	exe, err := executable()
	if err != nil {
		return 0, err
	}
	args := os.Args
	if c.Args != nil {
		args = append(os.Args[:1:1], c.Args...)
	}
	defer defaultSignals()()
	defer runtime.KeepAlive(pipe)
	pid, err := syscall.ForkExec(exe, args, &syscall.ProcAttr{
		Env:   append(os.Environ(), mark),
		Files: files,
		Sys:   &syscall.SysProcAttr{Setsid: setsid},
	})
	if err != nil {
		return 0, &os.PathError{Op: "exec", Path: exe, Err: err}
	}
	return pid, nil
}

// executable returns the path of this program. Its name becomes the name of the
// process, which "/proc/self/exe" would make "exe"; so that is only taken when
// the program at the path is another one by now, as after an upgrade.
func executable() (string, error) {
	path, err := os.Executable()
	if err != nil || runtime.GOOS != "linux" {
		return path, err
	}
	running, err := os.Stat("/proc/self/exe")
	if err != nil {
		return path, nil
	}
	if there, err := os.Stat(path); err != nil || !os.SameFile(there, running) {
		return "/proc/self/exe", nil
	}
	return path, nil
}

// defaultSignals makes the next program that is started begin with no signal
// blocked and none ignored but SIGHUP and SIGINT, and returns what ends that.
//
// The Go runtime has replaced most inherited dispositions by handlers, and a
// handler becomes the default in a new program. It leaves the terminal's stop
// signals alone until somebody asks for them.
func defaultSignals() (restore func()) {
	c := make(chan os.Signal, 1)
	for _, s := range []os.Signal{unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGCONT} {
		if signal.Ignored(s) || ignoredByKernel(s.(syscall.Signal)) {
			signal.Notify(c, s)
		}
	}
	runtime.LockOSThread()
	unblock := unblockSignals()
	return func() {
		unblock()
		runtime.UnlockOSThread()
		signal.Stop(c)
	}
}

// hear waits for what the daemon says. The end of the pipe after executing means
// that it is ready.
func hear(r io.Reader) (m message, ok bool, err error) {
	lines := bufio.NewReaderSize(r, maxMessage)
	line, err := lines.ReadSlice('\n')
	m, ok = decodeMessage(line)
	if !ok || !m.executing {
		return m, ok, err
	}
	line, err = lines.ReadSlice('\n')
	if len(line) == 0 && err == io.EOF {
		return message{ready: true}, true, nil
	}
	m, ok = decodeMessage(line)
	return m, ok && !m.executing, err
}

// group is the process group of the daemon, whose leader is our child. It is
// signalled only before that child is reaped: until then nobody else can have
// its number.
type group struct {
	mu  sync.Mutex
	pid int // 0: not started, or reaped
}

// forget ends the right to signal the group, before somebody is reaped.
func (g *group) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pid = 0
}

func (g *group) signal(s syscall.Signal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pid != 0 {
		syscall.Kill(-g.pid, s)
	}
}

// daemonStatus waits for the end of the daemon, which has closed its pipe. It
// is our child, or as an orphan has become it (see becomeSubreaper).
func (g *group) daemonStatus(first int, isDaemon bool) (syscall.WaitStatus, bool) {
	type result struct {
		ws syscall.WaitStatus
		ok bool
	}
	c := make(chan result, 1)
	g.forget()
	go func() {
		for {
			var ws syscall.WaitStatus
			pid, err := syscall.Wait4(-first, &ws, 0, nil)
			if err == syscall.EINTR {
				continue
			}
			if err != nil {
				c <- result{}
				return
			}
			if isDaemon || pid != first {
				c <- result{ws, true}
				return
			}
			// The leader's own end tells something only if it failed.
			if ws.Signaled() || ws.ExitStatus() != 0 {
				c <- result{ws, true}
				return
			}
		}
	}()
	select {
	case r := <-c:
		return r.ws, r.ok
	case <-time.After(time.Second): // it closed the pipe and lives on
		return 0, false
	}
}

// reap waits for those of the group that have ended.
func (g *group) reap() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pid == 0 {
		return
	}
	for {
		pid, err := syscall.Wait4(-g.pid, nil, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if pid <= 0 || err != nil {
			break
		}
	}
	g.pid = 0
}
