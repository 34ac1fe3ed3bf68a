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
const patience = 10 * time.Second

// spawn starts a command whose output goes nowhere.
//
// syscall.ForkExec, not os/exec: no goroutines, no descriptors of our own that
// would be measured too.
func (b *bench) spawn(argv ...string) (pid int, err error) {
	return b.spawnTo(b.null.Fd(), false, argv)
}

func (b *bench) spawnTo(stdout uintptr, ownGroup bool, argv []string) (pid int, err error) {
	pid, err = syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{
		Env:   environment,
		Files: []uintptr{b.null.Fd(), stdout, b.null.Fd()},
		Sys:   &syscall.SysProcAttr{Setpgid: ownGroup},
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
	return func() (time.Duration, error) {
		start := time.Now()
		pid, err := b.spawn(argv...)
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
	pid, err := b.spawnTo(b.null.Fd(), true, argv)
	if err != nil {
		return nil, err
	}
	p := &background{pid: pid}
	b.atExit.Push(p.end)
	return p, nil
}

// end ends the group: flock(1) does not pass signals on to its command.
func (p *background) end() {
	p.once.Do(func() {
		syscall.Kill(-p.pid, syscall.SIGTERM)
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
