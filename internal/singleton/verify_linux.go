package singleton

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// How long one that is alone must have run to be believed, at least.
	settled = 200 * time.Millisecond
	// How long processes may take to die of SIGKILL.
	dying = 10 * time.Second
)

// verifier starts the command, and keeps account of all processes that come of
// it. It is a child subreaper (prctl(2), Linux 3.4), so a daemon whose parent
// has ended becomes its child and stays below it.
type verifier struct {
	Config
	ctx    context.Context
	report func(Step)
	null   *os.File

	attempts []*attempt // those of which something may be there, as they were started
	started  int        // how many there were in all
	owner    map[identity]*attempt
	foreign  []process // were here before; whoever was exec'ed into this process started them
	alone    bool      // nothing of any attempt is there, at the last look
	marks    string
}

func verify(ctx context.Context, c Config, report func(Step)) (ok bool, err error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return false, os.NewSyscallError("prctl", err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return false, err
	}
	defer null.Close()
	v := &verifier{Config: c, ctx: ctx, report: report, null: null}
	v.marks = fmt.Sprintf("LOCKRUN_VERIFY=%d.%d.", os.Getpid(), time.Now().UnixNano())
	if v.foreign, err = descendants(os.Getpid(), func(process) bool { return false }); err != nil {
		return false, err
	}
	defer func() {
		if e := v.kill(); err == nil {
			err = e
		}
		v.forget()
		ok = ok && err == nil
	}()
	return v.run()
}

// run tries one thing after the other, as long as one instance runs after each.
func (v *verifier) run() (ok bool, err error) {
	ok = true
	// Other starts while it runs: the first one could remove what refuses the
	// second one.
	const others = 2
	survivor, err := v.race(&ok, fmt.Sprintf("%d starts at once", v.Starts))
	for i := 0; i < others && survivor != nil && err == nil; i++ {
		survivor, err = v.another(&ok, survivor, [others]string{"another start", "and another one"}[i])
	}
	if survivor == nil || err != nil {
		return false, err
	}
	if err := v.kill(); err != nil {
		return false, err
	}
	survivor, err = v.race(&ok, fmt.Sprintf("SIGKILL, and %d starts at once", v.Starts))
	if survivor == nil || err != nil {
		return false, err
	}
	ended, err := v.terminate(&ok, survivor)
	if !ended || err != nil {
		return false, err
	}
	survivor, err = v.race(&ok, fmt.Sprintf("and %d starts at once", v.Starts))
	return ok && survivor != nil, err
}

// race starts the command many times at once. It returns the one that runs, nil
// if that is not exactly one.
func (v *verifier) race(ok *bool, tried string) (survivor *attempt, err error) {
	v.forget() // nothing of them is there
	attempts, err := v.start(v.Starts)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	n, since := 0, began
	err = v.watch(func() bool {
		running, _ := split(attempts)
		if len(running) != n {
			n, since = len(running), time.Now()
		}
		// The last one could be about to be refused as well. It gets once more
		// the time that the others took.
		return v.alone || n == 1 && time.Since(since) >= max(settled, since.Sub(began))
	})
	if err != nil {
		return nil, err
	}
	s := Step{Tried: tried}
	running, ended := split(attempts)
	said, silent := quote(ended)
	switch wrong := tally(ended, v.complaint); {
	case len(running) == 0:
		s.Saw = fmt.Sprintf("none runs: %s%s", tally(ended, func(a *attempt) string { return "ended with " + a.outcome() }), said)
	case len(running) > 1:
		s.Saw = fmt.Sprintf("%d of %d still run after %v: %s", len(running), len(attempts), v.Timeout, names(running))
	case running[0].ended && running[0].status != 0:
		s.Saw = fmt.Sprintf("one was refused (%s), but left %v running", running[0].outcome(), running[0].main())
	case wrong != "":
		survivor = running[0]
		s.Saw = fmt.Sprintf("1 runs, but %s%s", wrong, said)
	default:
		survivor = running[0]
		s.OK = true
		s.Saw = fmt.Sprintf("1 runs, %s%s", tally(ended, func(a *attempt) string { return "refused with " + a.outcome() }), said)
		if silent > 0 {
			s.Notes = append(s.Notes, fmt.Sprintf("%d of the refused ones did not say why", silent))
		}
	}
	*ok = *ok && s.OK
	v.report(s)
	return survivor, nil
}

// another starts the command once while it runs already. It returns the one
// that runs, nil if that is not the one from before.
func (v *verifier) another(ok *bool, survivor *attempt, tried string) (*attempt, error) {
	before := survivor.main()
	attempts, err := v.start(1)
	if err != nil {
		return nil, err
	}
	second, began := attempts[0], time.Now()
	var since time.Time
	err = v.watch(func() bool {
		if second.runs() {
			return false
		}
		if since.IsZero() {
			since = time.Now()
		}
		// It may have told the first one to end.
		return time.Since(since) >= max(settled, since.Sub(began)) || !before.alive()
	})
	if err != nil {
		return nil, err
	}
	s := Step{Tried: tried}
	undisturbed := survivor.runs() && before.alive()
	switch {
	case second.runs() && second.ended && second.status != 0:
		s.Saw = fmt.Sprintf("it was refused (%s), but left %v running", second.outcome(), second.main())
	case second.runs() && undisturbed:
		s.Saw = fmt.Sprintf("it still runs after %v, beside the first one: %s", v.Timeout, names([]*attempt{survivor, second}))
	case second.runs():
		s.Saw = fmt.Sprintf("it runs, and the first one (process %d) has ended", before.pid)
	case !undisturbed:
		s.Saw = fmt.Sprintf("the first one (process %d) has ended, and this one too, with %s", before.pid, second.outcome())
	default:
		said, silent := quote(attempts)
		wrong := v.complaint(second)
		s.OK = wrong == ""
		s.Saw = cmp.Or(wrong, "refused with "+second.outcome()) + said
		if s.OK && silent > 0 {
			s.Notes = append(s.Notes, "it did not say why")
		}
		*ok = *ok && s.OK
		v.report(s)
		return survivor, nil // one runs: there is more to be seen
	}
	*ok = false
	v.report(s)
	return nil, nil
}

// terminate ends the service as an administrator would: SIGTERM to the process
// that was started, or to the daemon.
func (v *verifier) terminate(ok *bool, survivor *attempt) (ended bool, err error) {
	main := survivor.main()
	s := Step{Tried: fmt.Sprintf("SIGTERM to %v", main)}
	began := time.Now()
	if err := main.signal(unix.SIGTERM); err != nil {
		return false, fmt.Errorf("%v: %w", main, err)
	}
	if err := v.watch(func() bool { return v.alone }); err != nil {
		return false, err
	}
	switch {
	case v.alone:
		s.OK = true
		s.Saw = fmt.Sprintf("ended after %v", time.Since(began).Round(time.Millisecond))
	case main.alive():
		s.Saw = fmt.Sprintf("still runs after %v", v.Timeout)
	default:
		s.Saw = fmt.Sprintf("ended, but %v still runs after %v", survivor.main(), v.Timeout)
	}
	*ok = *ok && s.OK
	v.report(s)
	return v.alone, nil
}

// start starts the command n times, as much at the same instant as possible:
// each is stopped when it was just executed, and then all go on.
func (v *verifier) start(n int) ([]*attempt, error) {
	env := v.Env
	if env == nil {
		env = os.Environ()
	}
	first := len(v.attempts)
	for range n {
		out, w, err := newOutput()
		if err != nil {
			return nil, err
		}
		a := &attempt{output: out, mark: v.marks + strconv.Itoa(v.started)}
		a.pid, err = syscall.ForkExec(v.Path, v.Args, &syscall.ProcAttr{
			Dir:   v.Dir,
			Env:   append(slices.Clone(env), a.mark),
			Files: []uintptr{v.null.Fd(), w.Fd(), w.Fd()},
			// The keys of a terminal are for us; who gets Ctrl-C dies of it
			// before we have seen anything.
			Sys: &syscall.SysProcAttr{Setsid: true},
		})
		w.Close()
		if err != nil {
			out.r.Close()
			return nil, &fs.PathError{Op: "exec", Path: v.Path, Err: err}
		}
		v.started++
		// Nobody else reaps it, so the number is its own.
		syscall.Kill(a.pid, unix.SIGSTOP)
		v.attempts = append(v.attempts, a)
		if v.ctx.Err() != nil {
			return nil, v.ctx.Err()
		}
	}
	started := v.attempts[first:]
	for _, a := range started {
		syscall.Kill(a.pid, unix.SIGCONT)
	}
	v.alone = false
	return started, nil
}

func (v *verifier) forget() {
	for _, a := range v.attempts {
		a.output.r.Close()
	}
	v.attempts = nil
}

// watch looks until done says so, or the time is over.
func (v *verifier) watch(done func() bool) error {
	for began := time.Now(); ; {
		look := time.Now()
		if err := v.look(); err != nil {
			return err
		}
		if done() || time.Since(began) > v.Timeout {
			return nil
		}
		// On a machine with many processes a look is not cheap, and it is to
		// be the service that keeps it busy.
		select {
		case <-v.ctx.Done():
			return v.ctx.Err()
		case <-time.After(max(10*time.Millisecond, 3*time.Since(look))):
		}
	}
}

// look reaps what has ended and finds out what lives.
//
// Reaping comes first. The other way round a daemon could be missed:
//
//  1. The processes are listed.
//  2. A start forks its daemon, and ends.
//  3. It is reaped, and nothing of it was seen.
func (v *verifier) look() error {
	childless := v.reap()
	living, err := v.living()
	if err != nil {
		return err
	}
	// The list can miss a process whose parent ends while it is made. The
	// kernel does not.
	v.alone = len(living) == 0 && (childless || len(v.foreign) > 0)
	for _, a := range v.attempts {
		a.left = nil
		v.alone = v.alone && a.ended
	}
	owner := make(map[identity]*attempt)
	byPID := make(map[int]*attempt)
	var strays []process
	for _, p := range living {
		a := v.ownerOf(p, byPID[p.parent])
		if a == nil {
			strays = append(strays, p)
			continue
		}
		owner[p.identity], byPID[p.pid] = a, a
		a.left = append(a.left, p)
	}
	for _, p := range strays {
		a := byPID[p.parent]
		if a == nil {
			a = v.ownerOfStray()
		}
		if a != nil {
			owner[p.identity], byPID[p.pid] = a, a
			a.left = append(a.left, p)
		}
	}
	v.owner = owner
	return nil
}

// ownerOf finds the attempt that a process comes from, nil if nothing tells.
func (v *verifier) ownerOf(p process, ofParent *attempt) *attempt {
	if a := v.owner[p.identity]; a != nil {
		return a
	}
	if ofParent != nil {
		return ofParent
	}
	environ := p.environ()
	for _, a := range v.attempts {
		if p.pid == a.pid && !a.ended || bytes.Contains(environ, []byte("\x00"+a.mark+"\x00")) {
			return a
		}
	}
	for _, a := range slices.Backward(v.attempts) {
		if p.session == a.pid {
			return a
		}
	}
	return nil
}

// ownerOfStray guesses. The stray's parent ended before it was seen, and it led
// a session of its own and hid its environment before it was seen. So it is the
// daemon of a start that ended with 0, and of one that has none yet.
func (v *verifier) ownerOfStray() *attempt {
	if len(v.foreign) > 0 {
		return nil
	}
	for _, a := range slices.Backward(v.attempts) {
		if a.ended && a.status == 0 && len(a.left) == 0 {
			return a
		}
	}
	return v.attempts[len(v.attempts)-1]
}

// reap takes note of those that have ended, and reports whether no child is
// left.
func (v *verifier) reap() (childless bool) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil || pid <= 0:
			return err == syscall.ECHILD
		}
		for _, a := range v.attempts {
			if a.pid == pid && !a.ended {
				a.ended, a.status = true, status
			}
		}
	}
}

// living returns the processes that come of attempts and have not ended.
func (v *verifier) living() ([]process, error) {
	below, err := descendants(os.Getpid(), func(p process) bool {
		return slices.ContainsFunc(v.foreign, func(q process) bool { return p.identity == q.identity })
	})
	return slices.DeleteFunc(below, func(p process) bool { return p.dead }), err
}

// kill kills everything, as if at one instant: all are stopped first. It
// returns when nothing is left.
//
// Race, closed by stopping:
//
//  1. A supervisor and its worker are to be killed. The worker is.
//  2. The supervisor starts another one.
//  3. The supervisor is killed; it was not a crash of all.
func (v *verifier) kill() error {
	stopped := make(map[identity]bool)
	for {
		living, err := v.living()
		if err != nil {
			return err
		}
		fresh := slices.DeleteFunc(living, func(p process) bool { return stopped[p.identity] })
		if len(fresh) == 0 {
			break
		}
		for _, p := range fresh {
			stopped[p.identity] = true
			p.signal(unix.SIGSTOP) // if it can't be signalled, SIGKILL shows it
		}
	}
	for began := time.Now(); ; time.Sleep(2 * time.Millisecond) {
		if err := v.look(); err != nil || v.alone {
			return err
		}
		living, err := v.living()
		if err != nil {
			return err
		}
		for _, p := range living {
			if e := p.signal(unix.SIGKILL); e != nil {
				err = fmt.Errorf("%v can't be killed: %w", p, e)
			}
		}
		if err != nil {
			return err
		}
		if time.Since(began) > dying {
			return errors.New("killed, but not gone: " + join(living))
		}
	}
}

// names names what runs.
func names(running []*attempt) string {
	var main []process
	for _, a := range running {
		main = append(main, a.main())
	}
	return join(main)
}

func join(processes []process) string {
	const most = 3
	var s []string
	for _, p := range processes[:min(len(processes), most)] {
		s = append(s, p.String())
	}
	if len(processes) > most {
		s = append(s, "...")
	}
	return strings.Join(s, ", ")
}
