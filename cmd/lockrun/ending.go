package main

import (
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/lockrun/lockrun/pidfile"
)

// ending is how the supervisor ends its command because somebody asked for it:
// step by step, as the schedule says.
//
// The command alone gets the signals at first: a server tells its children what
// to do. Once it has ended, those of its process group that it left behind get
// them, so that a new instance does not meet the rest of the old one; and
// SIGKILL goes to the whole group. The command is not reaped before that, lest
// its number, which is the group's, become that of strangers.
type ending struct {
	schedule pidfile.Schedule
	next     int            // the step that comes next
	signal   syscall.Signal // of the step before
	until    time.Time      // when the next step is due; zero: never
	timer    *time.Timer
	reap     func() waitStatus // nil while the command runs
	look     time.Duration     // how long to wait before looking whether its group has ended too
}

// Nobody tells the end of a group to who is not the parent of all, so it is looked
// for again and again, for a short time. A look costs some milliseconds.
const (
	firstLook = 2 * time.Millisecond
	longLook  = 100 * time.Millisecond
)

// due is sent to when there is something to do. A nil *ending has nothing to do.
func (e *ending) due() <-chan time.Time {
	if e == nil {
		return nil
	}
	return e.timer.C
}

func (e *ending) stop() {
	if e != nil {
		e.timer.Stop()
	}
}

// endBy begins to end the command. If it is being ended by the same schedule,
// that goes on; another one takes its place.
func (s *supervisor) endBy(schedule pidfile.Schedule) {
	e := &ending{schedule: schedule, timer: time.NewTimer(0), look: firstLook}
	if old := s.ending; old != nil {
		if slices.Equal(old.schedule, schedule) {
			return
		}
		e.reap = old.reap
		old.stop()
	}
	s.ending = e
	s.nextStep()
}

func (s *supervisor) nextStep() {
	e := s.ending
	if e.next == len(e.schedule) {
		s.giveUpEnding()
		return
	}
	step := e.schedule[e.next]
	e.next++
	e.signal = step.Signal
	e.until = time.Time{}
	if step.Wait != pidfile.Forever {
		e.until = time.Now().Add(step.Wait)
	}
	s.signalEnd()
	s.sleepUntilDue()
}

// signalEnd sends the signal of the step, and continues who is stopped, so that
// he can obey.
func (s *supervisor) signalEnd() {
	target := s.command
	if s.ownGroup() && (s.ending.reap != nil || s.ending.signal == syscall.SIGKILL) {
		target = -target
	}
	syscall.Kill(target, s.ending.signal)
	if s.ending.signal != syscall.SIGKILL {
		syscall.Kill(target, syscall.SIGCONT)
	}
}

func (s *supervisor) sleepUntilDue() {
	e := s.ending
	e.timer.Stop()
	d := time.Until(e.until)
	switch {
	case e.reap != nil && (e.until.IsZero() || d > e.look):
		d = e.look
		e.look = min(2*e.look, longLook)
	case e.until.IsZero():
		return
	}
	e.timer.Reset(max(0, d))
}

func (s *supervisor) goOnEnding() {
	e := s.ending
	switch {
	case e.reap != nil && groupIsEmpty(s.command):
		s.finish(e.reap)
	case e.until.IsZero() || time.Now().Before(e.until):
		s.sleepUntilDue()
	default:
		s.nextStep()
	}
}

// commandEnded takes note of the end of the command, which can be reaped.
func (s *supervisor) commandEnded(reap func() waitStatus) {
	if s.ending == nil || !s.ownGroup() || groupIsEmpty(s.command) {
		s.finish(reap)
		return
	}
	s.ending.reap = reap
	s.signalEnd()
	s.sleepUntilDue()
}

// giveUpEnding comes after the last step.
func (s *supervisor) giveUpEnding() {
	if s.ending.reap == nil {
		text := fmt.Sprintf("process %d still runs after %v", s.command, s.ending.schedule)
		refuseAll(&s.stops, exitHeld, "%s", text)
		refuseAll(&s.restarts, exitHeld, "%s", text)
	}
	s.leaveAlone()
}

// giveUpRestarts refuses the restarts that are under way.
func (s *supervisor) giveUpRestarts(why string) {
	if len(s.restarts) > 0 {
		refuseAll(&s.restarts, exitHeld, "%s", why)
		if s.ending != nil { // it may wait for the one before to be ready
			s.leaveAlone()
		}
	}
}

// leaveAlone ends the ending: of a command that has ended, nobody cares for the
// rest of its group any more.
func (s *supervisor) leaveAlone() {
	reap := s.ending.reap
	s.ending.stop()
	s.ending = nil
	if reap != nil {
		s.finish(reap)
	}
	s.tellReady()
}

// take does what a request asks for, or begins to.
func (s *supervisor) take(r *request) {
	s.requests = append(slices.DeleteFunc(s.requests, (*request).gone), r)
	switch r.Do {
	case doState:
		r.answer(s.describe())
	case doReady:
		s.takeReady(r)
	case doStop, doRestart:
		schedule := pidfile.DefaultSchedule(syscall.SIGTERM)
		if r.Schedule != "" {
			var err error
			if schedule, err = pidfile.ParseSchedule(r.Schedule, syscall.SIGTERM); err != nil {
				r.refuse(exitUsage, "schedule: %v", err)
				return
			}
		}
		if r.Do == doStop {
			s.takeStop(r, schedule)
		} else {
			s.takeRestart(r, schedule)
		}
	default:
		r.refuse(exitUsage, "the request %q is not known", r.Do)
	}
}

func (s *supervisor) takeReady(r *request) {
	s.ready = slices.DeleteFunc(s.ready, (*request).gone)
	switch {
	case s.state() == stateRunning:
		r.answer(s.describe())
	case len(s.ready) == maxReadyPeers:
		r.refuse(exitSystem, "%d others wait for that already", maxReadyPeers)
	default:
		s.ready = append(s.ready, r)
	}
}

func (s *supervisor) takeStop(r *request, schedule pidfile.Schedule) {
	refuseAll(&s.restarts, exitHeld, "it is being stopped")
	s.stops = append(s.stops, r)
	if s.command == 0 {
		stopTimer(&s.pause)
		return
	}
	s.endBy(schedule)
}

func (s *supervisor) takeRestart(r *request, schedule pidfile.Schedule) {
	switch {
	case len(s.stops) > 0:
		r.refuse(exitHeld, "it is being stopped")
		return
	case s.command == 0 && s.pause == nil:
		r.refuse(exitStatusNone, "it has ended")
		return
	}
	// While the old one still runs, if it can be known.
	if err := s.cmd.checkAgain(r.Command); err != nil {
		r.refuse(err.status, "%s", err.text)
		return
	}
	r.schedule = schedule
	s.restarts = append(s.restarts, r)
	switch {
	case s.command == 0:
		s.launchAgain()
	case s.ending == nil && len(s.relaunched) == 0:
		s.endBy(schedule)
	}
}

// launchAgain starts a command, the same or the one that is asked for, under the
// lock that was never let go of. Who asks for a restart wants a command that was
// started after he asked; so one start does for all who are there by now, up to
// the first one who wants another command.
func (s *supervisor) launchAgain() {
	stopTimer(&s.pause)
	n := 0
	for n < len(s.restarts) && (n == 0 || len(s.restarts[n].Command) == 0) {
		n++
	}
	s.relaunched, s.restarts = s.restarts[:n:n], s.restarts[n:]
	if n > 0 && len(s.relaunched[0].Command) > 0 {
		s.cmd.argv = s.relaunched[0].Command
	}
	s.launch()
	if s.err == nil {
		s.awaitReady()
		return
	}
	refuseAll(&s.relaunched, s.status, "%v", s.err)
	refuseAll(&s.restarts, s.status, "%v", s.err)
	if s.policy.wanted() {
		complain("%s: %v", s.name(), s.err)
		s.respawnLater()
	}
}

// tellReady answers those who wait until the command runs, if it does.
func (s *supervisor) tellReady() {
	if s.state() != stateRunning {
		return
	}
	for _, r := range s.ready {
		r.answer(s.describe())
	}
	s.ready = nil
}

// state is that of the instance, as status prints it.
func (s *supervisor) state() string {
	switch {
	case s.ending != nil || s.stopping:
		return stateStopping
	case !s.up || s.command == 0:
		return stateStarting
	}
	return stateRunning
}

func (s *supervisor) describe() answer {
	return answer{State: s.state(), Supervisor: os.Getpid(), PID: s.command, Command: s.cmd.argv, Message: s.says}
}

// lastAnswers are given when the lock is free.
func (s *supervisor) lastAnswers() {
	for _, r := range s.stops {
		r.answer(answer{State: stateStopped, Supervisor: os.Getpid()})
	}
	s.stops = nil
	refuseAll(&s.restarts, exitStatusNone, "it has ended")
	refuseAll(&s.relaunched, exitStatusNone, "it has ended")
	refuseAll(&s.ready, exitStatusNone, "it has ended")
	for _, r := range s.requests {
		<-r.done
	}
}

// refuseAll refuses requests, and forgets them.
func refuseAll(requests *[]*request, status int, format string, args ...any) {
	for _, r := range *requests {
		r.refuse(status, format, args...)
	}
	*requests = nil
}
