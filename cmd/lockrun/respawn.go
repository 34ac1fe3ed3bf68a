package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// respawn says what comes after the command's end.
type respawn struct {
	mode   respawnValue
	most   mostRestarts
	onExit string
}

func (r *respawn) register(fs *flagSet) {
	fs.value(&r.mode, "restart")
	fs.value(&r.most, "max-restarts")
	fs.string(&r.onExit, "on-exit")
}

func (r *respawn) check() error {
	if r.most.n > 0 && !r.wanted() {
		return errors.New("--max-restarts bounds --restart on-failure and always, which is missing")
	}
	return nil
}

// wanted reports whether a command may be started again without being asked.
func (r *respawn) wanted() bool { return r.mode == respawnOnFailure || r.mode == respawnAlways }

// after reports whether a command that ended with that status is started again.
func (r *respawn) after(status int) bool {
	return r.mode == respawnAlways || r.mode == respawnOnFailure && status != 0
}

// respawnValue is a flag's word.
type respawnValue string

const (
	respawnNo        = "no"
	respawnOnFailure = "on-failure"
	respawnAlways    = "always"
)

func (v *respawnValue) Set(s string) error {
	if s != respawnNo && s != respawnOnFailure && s != respawnAlways {
		return errors.New("want no, on-failure or always")
	}
	*v = respawnValue(s)
	return nil
}

// mostRestarts is a flag's N or N/D: at most N restarts, or N within a time.
type mostRestarts struct {
	n      int
	within time.Duration // 0: ever
}

func (v *mostRestarts) String() string {
	if v.within == 0 {
		return strconv.Itoa(v.n)
	}
	return fmt.Sprintf("%d/%v", v.n, v.within)
}

func (v *mostRestarts) Set(s string) error {
	number, span, hasSpan := strings.Cut(s, "/")
	n, err := strconv.Atoi(number)
	var within time.Duration
	if err == nil && hasSpan {
		within, err = parseDuration(span)
	}
	if err != nil || n < 1 || hasSpan && within == 0 {
		return errors.New("want a number, or a number and a time (5/10m)")
	}
	v.n, v.within = n, within
	return nil
}

// The pause before a command is started again: it doubles each time, and begins
// anew after a command that ran for a while.
const (
	firstPause = 100 * time.Millisecond
	longPause  = 30 * time.Second
	healthy    = time.Minute
)

// respawnLater lets the command be started again after a pause, unless that was
// often enough.
func (s *supervisor) respawnLater() {
	now := time.Now()
	if most := s.policy.most; most.n > 0 {
		var recent []time.Time
		for _, t := range s.respawns {
			if most.within == 0 || now.Sub(t) < most.within {
				recent = append(recent, t)
			}
		}
		if s.respawns = recent; len(recent) >= most.n {
			complain("%s: started again %d times; that is enough (--max-restarts %v)", s.name(), len(recent), &most)
			return
		}
	}
	s.respawns = append(s.respawns, now)
	s.delay = min(2*s.delay, longPause)
	if s.delay == 0 || now.Sub(s.launched) >= healthy {
		s.delay = firstPause
	}
	complain("%s: ended with status %d; it is started again in %v", s.name(), s.status, s.delay)
	s.pause = time.NewTimer(s.delay)
	reapOrphans() // those that ended before the command
}

// onExitPatience is how long the last --on-exit command may take.
const onExitPatience = time.Minute

// runOnExit runs the --on-exit command. It gets the status in its environment, and
// the next one waits for it.
func (s *supervisor) runOnExit(status int) {
	if s.policy.onExit == "" {
		return
	}
	before := s.onExit
	done := make(chan struct{})
	s.onExit = done
	c := command{
		argv: []string{"/bin/sh", "-c", s.policy.onExit},
		env: setVariables(os.Environ(), append(s.hold.environment(), "LOCKRUN_STATUS="+strconv.Itoa(status),
			nameVariable+"="+s.hold.name.given, lockVariable+"="+s.hold.name.path)...),
	}
	go func() {
		defer close(done)
		if before != nil {
			<-before
		}
		pid, err := c.start(&syscall.SysProcAttr{Setpgid: true})
		if err != nil {
			complain("%s: --on-exit: %v", s.name(), err)
			return
		}
		kill := time.AfterFunc(onExitPatience, func() { syscall.Kill(-pid, syscall.SIGKILL) })
		reap := awaitChild(pid)
		kill.Stop()
		reap()
	}()
}

// name is what the user calls the lock.
func (s *supervisor) name() string { return s.hold.name.given }
