package main

import (
	"errors"
	"time"

	"github.com/lockrun/lockrun/pidfile"
	"golang.org/x/sys/unix"
)

// limits bound the time of the command.
type limits struct {
	maxTime   duration
	killAfter duration
}

func (l *limits) register(fs *flagSet) {
	l.killAfter.d = 10 * time.Second
	fs.value(&l.maxTime, "max-time")
	fs.value(&l.killAfter, "kill-after")
}

func (l *limits) check() error {
	switch {
	case l.maxTime.set && l.maxTime.d == 0:
		return errors.New("--max-time must be longer than 0")
	case l.killAfter.set && !l.maxTime.set:
		return errors.New("--kill-after is the time between SIGTERM and SIGKILL after --max-time, which is missing")
	}
	return nil
}

// schedule is how a command is ended whose time is up.
func (l *limits) schedule() pidfile.Schedule {
	return pidfile.Schedule{{Signal: unix.SIGTERM, Wait: l.killAfter.d}, {Signal: unix.SIGKILL, Wait: 5 * time.Second}}
}

// limitTime begins to count the time of a command that was launched.
func (s *supervisor) limitTime() {
	if s.policy.maxTime.set {
		s.limit = time.NewTimer(s.policy.maxTime.d)
	}
}

func (s *supervisor) timeIsUp() {
	if s.ending == nil {
		s.timedOut = true
		complain("%s: its time of %v is up", s.name(), s.policy.maxTime.d)
		s.endBy(s.policy.limits.schedule())
	}
}

// due returns the channel of a timer that there may be.
func due(t *time.Timer) <-chan time.Time {
	if t == nil {
		return nil
	}
	return t.C
}

func stopTimer(t **time.Timer) {
	if *t != nil {
		(*t).Stop()
		*t = nil
	}
}
