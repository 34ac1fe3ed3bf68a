package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/lockrun/lockrun/lock"
	"github.com/lockrun/lockrun/pidfile"
	"golang.org/x/sys/unix"
)

// presentFlags say what is to be done when nothing runs; the subcommands that
// need something that runs share them.
type presentFlags struct {
	waitFlags
	mustRun bool
}

func (p *presentFlags) register(fs *flagSet) {
	p.waitFlags.register(fs)
	fs.bool(&p.mustRun, "must-run")
}

// outcome turns the error of an operation on an instance into a message and an
// exit status.
func (p *presentFlags) outcome(name lockName, err error) int {
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, pidfile.ErrNotRunning):
		if !p.quiet {
			complain("%s: not running", name.given)
		}
		if p.mustRun {
			return exitStatusNone
		}
		return exitOK
	case errors.Is(err, fs.ErrPermission):
		complain("%s: not permitted to signal it", name.given)
		return exitPermission
	}
	complain("%s", refusal(name.given, err))
	return exitStatus(err)
}

// signalValue is a flag's signal.
type signalValue struct {
	sig syscall.Signal
	set bool
}

func (v *signalValue) String() string { return strings.TrimPrefix(unix.SignalName(v.sig), "SIG") }

func (v *signalValue) Set(s string) (err error) {
	v.sig, err = pidfile.ParseSignal(s)
	v.set = true
	return err
}

// endFlags say how an instance is to be ended; stop and restart share them.
type endFlags struct {
	timeout duration
	first   signalValue
	text    string
	changed func(name string) bool
}

func (e *endFlags) register(fs *flagSet) {
	e.first.sig = syscall.SIGTERM
	e.changed = fs.changed
	fs.value(&e.timeout, "timeout", "t")
	fs.value(&e.first, "signal")
	fs.string(&e.text, "schedule")
}

func (e *endFlags) schedule() (pidfile.Schedule, error) {
	if !e.changed("schedule") {
		return pidfile.DefaultSchedule(e.first.sig), nil
	}
	schedule, err := pidfile.ParseSchedule(e.text, e.first.sig)
	if err != nil {
		return nil, usageError("invalid argument %q for \"--schedule\" flag: %v", e.text, err)
	}
	if e.first.set && schedule[0].Signal != e.first.sig {
		return nil, usageError("--signal %v and --schedule %v contradict each other", &e.first, schedule)
	}
	return schedule, nil
}

// stop ends the instance and returns when its lock is free.
func stop(args []string) int {
	flags := newFlags()
	var present presentFlags
	present.register(flags)
	var end endFlags
	end.register(flags)
	var dryRun bool
	flags.bool(&dryRun, "dry-run")
	var force bool
	flags.bool(&force, "force")
	if status, done := parse(flags, args); done {
		return status
	}
	name, err := oneLock("stop", flags.operands)
	if err != nil {
		return misuse(err)
	}
	schedule, err := end.schedule()
	if err != nil {
		return misuse(err)
	}
	if err := name.prepare(false); err != nil {
		complain("%v", err)
		return exitStatus(err)
	}
	if dryRun {
		return present.outcome(name, tellTargets(name, schedule, force))
	}
	ctx, cancel := end.timeout.context()
	defer cancel()
	endWait := present.show(name, "waiting for the end of", true)
	err = endInstance(ctx, name, schedule)
	if force && errors.Is(err, pidfile.ErrNotRunning) {
		var pid int
		if pid, err = pidfile.UnlockedTarget(name.path); err == nil {
			endWait()
			complain("%s: warning: not locked; --force believes that process %d is meant", name.given, pid)
			err = pidfile.StopUnlocked(ctx, name.path, schedule)
		}
	}
	endWait()
	return present.outcome(name, err)
}

// endInstance ends an instance and returns when its lock is free: its supervisor
// does it, who would start the command again else, or is about to; without one
// the processes that are proven to hold the lock are signalled.
func endInstance(ctx context.Context, name lockName, schedule pidfile.Schedule) error {
	patient, cancel := context.WithTimeout(ctx, patience(schedule))
	defer cancel()
	_, err := askInstance(patient, name, request{Do: doStop, Schedule: schedule.String()})
	var refused *supervisionRefused
	switch {
	case errors.Is(err, errNoSupervisor), err != nil && patient.Err() != nil && ctx.Err() == nil:
		return pidfile.Stop(ctx, name.path, schedule)
	case err != nil && ctx.Err() != nil, errors.As(err, &refused) && refused.status == exitHeld:
		in, _ := lock.Inspect(name.path)
		return &lock.HeldError{Path: name.path, Holder: in.Holder, Deleted: in.Absent, Cause: ctx.Err()}
	}
	return err
}

// patience is how long a supervisor is waited for that was told to stop. One that
// takes longer is stopped, or is another user's program that never means to.
func patience(schedule pidfile.Schedule) time.Duration {
	d := onExitPatience + peerPatience
	for _, step := range schedule {
		if step.Wait == pidfile.Forever {
			return pidfile.Forever
		}
		d += step.Wait
	}
	return d
}

// tellTargets says whom stop would signal.
func tellTargets(name lockName, schedule pidfile.Schedule, force bool) error {
	targets, err := pidfile.Targets(name.path)
	if force && errors.Is(err, pidfile.ErrNotRunning) {
		var pid int
		if pid, err = pidfile.UnlockedTarget(name.path); err == nil {
			targets = []lock.Holder{{PID: pid, UID: -1}}
		}
	}
	for _, h := range targets {
		fmt.Fprintln(os.Stdout, oneLine(fmt.Sprintf("%s: would send %v to %s", name.given, schedule, who(h))))
	}
	return err
}

// context returns a context that ends after the time span, never if none was
// given.
func (d *duration) context() (context.Context, context.CancelFunc) {
	if !d.set {
		return context.Background(), func() {}
	}
	return context.WithTimeout(context.Background(), d.d)
}

// sendSignal is lockrun signal LOCK SIGNAL.
func sendSignal(args []string) int {
	flags := newFlags()
	var present presentFlags
	present.register(flags)
	if status, done := parse(flags, args); done {
		return status
	}
	operands := flags.operands
	if len(operands) < 2 {
		return usage("signal takes LOCK and SIGNAL")
	}
	sig, err := pidfile.ParseSignal(operands[1])
	if err != nil {
		return usage("%v; want a name (HUP) or a number", err)
	}
	name, err := oneLock("signal", append(operands[:1:1], operands[2:]...))
	if err != nil {
		return misuse(err)
	}
	if err := name.prepare(false); err != nil {
		complain("%v", err)
		return exitStatus(err)
	}
	return present.outcome(name, pidfile.Signal(name.path, sig))
}

// oneLock reads the operands of a subcommand that takes one LOCK.
func oneLock(subcommand string, operands []string) (lockName, error) {
	switch len(operands) {
	case 0:
		return lockName{}, usageError("LOCK is missing")
	case 1:
		return parseLock(operands[0])
	}
	return lockName{}, usageError("%s takes one LOCK; there is another word: %q", subcommand, operands[1])
}

func usageError(format string, args ...any) error { return fmt.Errorf(format, args...) }
