//go:build linux && (amd64 || arm64)

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// storm is one run.
type storm struct {
	duration time.Duration
	starts   uint64
	seed     uint64
	atOnce   int
	lockrun  string
	self     string
	flock    string // the original, "" if it is not installed

	dir     string
	targets []*target
	log     *eventLog
	null    *os.File
	env     []string
	last    atomic.Uint64 // number of the attempt that was started last
	began   time.Time
	took    time.Duration
	strikes sync.WaitGroup // that are under way

	mu       sync.Mutex
	inFlight map[uint64]*attempt
}

// marker is in the environment of all that the storm starts, however detached. The
// storm itself was started without.
const marker = "LOCKRUN_TORTURE"

// patience is more than any process of the storm needs to end, on a machine with
// a hundred times more to do than it can.
const patience = 10 * time.Minute

// rage starts processes until ctx ends or there were enough, waits for the end of
// all, and looks at what is left.
func (s *storm) rage(ctx context.Context) {
	var err error
	if s.null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
		s.mistake(s.nobody(), "%v", err)
		return
	}
	os.Unsetenv("LOCKRUN_DETACH")
	os.Setenv("LOCKRUN_DIR", s.dir+"/instances")
	os.Setenv("LOCKRUN_CONFIG", s.dir+"/config")
	os.Setenv(marker, s.dir)
	s.env = os.Environ()
	// A file that flock(1) locks must not be one that lockrun makes, and removes
	// again if it can't use it.
	for _, t := range s.targets {
		if !t.deleted {
			os.WriteFile(t.path, nil, 0o600)
		}
	}
	s.checkWitness()
	s.began = time.Now()
	stopProgress := s.showProgress()
	var workers sync.WaitGroup
	for range s.atOnce {
		workers.Go(func() {
			for ctx.Err() == nil {
				n := s.last.Add(1)
				if s.starts > 0 && n > s.starts {
					s.last.Add(^uint64(0))
					return
				}
				s.try(s.plan(n))
			}
		})
	}
	workers.Wait()
	s.strikes.Wait()
	s.took = time.Since(s.began)
	stopProgress()
	s.settle()
}

// nobody is an attempt for what is nobody's.
func (s *storm) nobody() *attempt { return &attempt{target: s.targets[0]} }

// try starts a process and waits for its end.
func (s *storm) try(a *attempt) {
	status, stderr, err := s.execute(a)
	if err != nil {
		s.mistake(a, "can't start it: %v", err)
		time.Sleep(100 * time.Millisecond)
		return
	}
	s.mu.Lock()
	// Who only looks whether a lock is free has it for a moment. If he is stopped
	// in that moment it is he who holds it, and a stop ends him.
	ended := status == 128+int(syscall.SIGTERM) || status == 128+int(syscall.SIGKILL)
	killed := a.killed || (a.told || a.stopped) && ended
	if !killed {
		a.outcome = a.doing.judge(status, stderr)
	}
	outcome := a.outcome
	s.mu.Unlock()
	switch {
	case killed:
		s.log.count("ended: killed by the storm")
	case outcome == nil:
		s.mistake(a, "unexpected exit status %d, or message %q", status, stderr)
	default:
		s.log.count("ended: " + outcome.kind)
	}
	s.tell("exit", a, 0, "%d %q", status, stderr)
}

// forget returns an attempt that has ended.
func (s *storm) forget(n uint64) *attempt {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.inFlight[n]
	delete(s.inFlight, n)
	return a
}

// wasStopped reports whether an attempt that still runs was stopped for a time.
func (s *storm) wasStopped(n uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.inFlight[n]
	return a != nil && a.stopped
}

// execute runs the attempt's program to its end, strikes included.
func (s *storm) execute(a *attempt) (status int, stderr string, err error) {
	said, err := unix.MemfdCreate("stderr", unix.MFD_CLOEXEC)
	if err != nil {
		return 0, "", err
	}
	stderrFile := os.NewFile(uintptr(said), "stderr")
	defer stderrFile.Close()
	s.mu.Lock()
	s.inFlight[a.n] = a
	s.mu.Unlock()
	s.tell("start", a, 0, "%s", a.doing.name)
	p, err := os.StartProcess(a.argv[0], a.argv, &os.ProcAttr{Dir: s.dir, Env: s.env, Files: []*os.File{s.null, s.null, stderrFile}})
	if err != nil {
		s.forget(a.n)
		return 0, "", err
	}
	for _, k := range a.strike {
		s.strikes.Go(func() { s.hit(a, k, p) })
	}
	if a.delete >= 0 {
		s.strikes.Go(func() { s.delete(a) })
	}
	hung := time.AfterFunc(patience, func() {
		where, _ := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", p.Pid))
		s.mistake(a, "process %d runs for %v, in the kernel's %s", p.Pid, patience, where)
		p.Kill()
	})
	defer hung.Stop()
	state, err := p.Wait()
	if err != nil {
		return 0, "", err
	}
	text, _ := io.ReadAll(io.NewSectionReader(stderrFile, 0, 1<<20))
	ws := state.Sys().(syscall.WaitStatus)
	status = ws.ExitStatus()
	if ws.Signaled() {
		status = 128 + int(ws.Signal())
	}
	return status, string(text), nil
}

// hit sends the signals of a strike. The process that was started is our child; of
// the others only the number is known, so they are held on to, and are one of ours
// if the marker is in their environment.
func (s *storm) hit(a *attempt, k strike, itsProcess *os.Process) {
	time.Sleep(k.after)
	pid, send := itsProcess.Pid, itsProcess.Signal
	if k.whom != itself {
		e, ok := s.log.runs(a.target.name)
		if !ok {
			return
		}
		pid = e.pid
		if k.whom == watches {
			pid = e.parent
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return
		}
		defer unix.Close(fd)
		if !s.isOurs(pid) {
			return
		}
		send = func(sig os.Signal) error { return unix.PidfdSendSignal(fd, sig.(syscall.Signal), nil, 0) }
	}
	s.send(a, k.whom, pid, k.signal, send)
	if k.signal == syscall.SIGSTOP {
		time.Sleep(k.pause)
		s.send(a, k.whom, pid, k.then, send)
	}
}

func (s *storm) send(a *attempt, whom string, pid int, sig syscall.Signal, send func(os.Signal) error) {
	if whom == itself {
		// Before: it may be waited for at once.
		s.mu.Lock()
		a.killed = a.killed || sig == syscall.SIGKILL
		a.told = a.told || sig == syscall.SIGTERM
		a.stopped = a.stopped || sig == syscall.SIGSTOP
		s.mu.Unlock()
	}
	if send(sig) == nil {
		name := unix.SignalName(sig)
		s.tell("strike", a, pid, "%s to %s", name, whom)
		s.log.count(name + " to " + whom)
	}
}

func (s *storm) isOurs(pid int) bool {
	environ, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	return bytes.Contains(environ, []byte(marker+"="+s.dir+"\x00"))
}

// delete removes the lock file, whoever has it. Of the files of slots it is any.
func (s *storm) delete(a *attempt) {
	time.Sleep(a.delete)
	path := a.target.path
	if a.target.slots {
		if n := a.n % (mostSlots + 2); n <= mostSlots {
			path += "." + strconv.FormatUint(n, 10)
		}
	}
	if os.Remove(path) == nil {
		s.tell("delete", a, 0, "%s", strings.TrimPrefix(path, s.dir+"/"))
	}
}
