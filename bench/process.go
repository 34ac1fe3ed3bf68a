package main

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
)

// environment is the same for everybody: what a GODEBUG or a long PATH costs is
// not to be measured.
var environment = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}

// patience is how long something is waited for that should be there at once.
const patience = time.Minute

// spawning is what a process gets beside its arguments.
type spawning struct {
	stdin, stdout int // nothing goes there if they are 0
	ownGroup      bool
	env           []string // more than environment
}

// spawn starts a process.
//
// syscall.ForkExec, not os/exec: no goroutines, no descriptors of our own that
// would be measured too.
func (b *bench) spawn(how spawning, argv ...string) (pid int, err error) {
	null := b.null.Fd()
	files := []uintptr{null, null, null}
	if how.stdin != 0 {
		files[0] = uintptr(how.stdin)
	}
	if how.stdout != 0 {
		files[1] = uintptr(how.stdout)
	}
	pid, err = syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{
		Env:   append(how.env, environment...),
		Files: files,
		Sys:   &syscall.SysProcAttr{Setpgid: how.ownGroup},
	})
	if err != nil {
		err = &os.PathError{Op: "exec", Path: argv[0], Err: err}
	}
	return pid, err
}

// waitFor reaps a child, which has to exit with status want.
func waitFor(pid, want int) error {
	var ws syscall.WaitStatus
	for {
		_, err := syscall.Wait4(pid, &ws, 0, nil)
		if err == nil {
			break
		}
		if err != syscall.EINTR {
			return os.NewSyscallError("wait4", err)
		}
	}
	if ws.ExitStatus() != want {
		return fmt.Errorf("ended with wait status %#x, want exit status %d", int(ws), want)
	}
	return nil
}

// timed returns what runs a command to its end and tells the time that took.
func (b *bench) timed(want int, argv ...string) func() (time.Duration, error) {
	return b.timedWith(spawning{}, want, argv...)
}

func (b *bench) timedWith(how spawning, want int, argv ...string) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		start := time.Now()
		pid, err := b.spawn(how, argv...)
		if err != nil {
			return 0, err
		}
		err = waitFor(pid, want)
		return time.Since(start), err
	}
}

// background is a process that runs beside the measured ones, with a group of
// its own.
type background struct {
	pid  int
	once sync.Once
}

// launch starts one. It is ended at the latest when the program ends.
func (b *bench) launch(argv ...string) (*background, error) {
	pid, err := b.spawn(spawning{ownGroup: true}, argv...)
	if err != nil {
		return nil, err
	}
	p := &background{pid: pid}
	b.atExit.Push(p.end)
	return p, nil
}

// end ends the group: flock(1) does not pass signals on to its command.
func (p *background) end() { p.endBy(syscall.SIGTERM) }

func (p *background) kill() { p.endBy(syscall.SIGKILL) }

func (p *background) endBy(sig syscall.Signal) {
	p.once.Do(func() {
		syscall.Kill(-p.pid, sig)
		for {
			if _, err := syscall.Wait4(p.pid, nil, 0, nil); err != syscall.EINTR {
				return
			}
		}
	})
}

var errPatience = errors.New("did not happen in time")

// await asks until something is true.
func await(what string, ask func() bool) error {
	for deadline := time.Now().Add(patience); !ask(); time.Sleep(200 * time.Microsecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: %w", what, errPatience)
		}
	}
	return nil
}

// tool is a program of this machine, "" if it is not installed.
type tool string

// contestant returns a run of the tool with those arguments.
func (t tool) contestant(b *bench, name string, want int, args ...string) contestant {
	return contestant{name: name, missing: t.missing(), once: b.timed(want, append([]string{string(t)}, args...)...)}
}

func (t tool) missing() string {
	if t == "" {
		return "not installed"
	}
	return ""
}
