package pidfile

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/lockrun/lockrun/lock"
)

var (
	// ErrNotRunning says that there is nothing to stop: the lock is free.
	ErrNotRunning = errors.New("not running")

	// ErrUnverified says that the lock is held, but that no process can be
	// shown to hold it: it belongs to another user or lives in another PID
	// namespace. Nobody was signalled.
	ErrUnverified = errors.New("held by a process that can't be verified")
)

// Step is one step of a Schedule: send Signal, and wait up to Wait for the lock
// to be free.
type Step struct {
	Signal syscall.Signal
	Wait   time.Duration
}

// DefaultSchedule is what Stop does with a nil schedule: TERM/10/KILL/5, as
// start-stop-daemon(8) would write it.
var DefaultSchedule = []Step{{syscall.SIGTERM, 10 * time.Second}, {syscall.SIGKILL, 5 * time.Second}}

// Stop ends the program of the PID file path and returns when its lock is free,
// so that a start that comes after a nil error wins.
//
// It signals the recorded process if that one carries the lock, else every
// process that does. A process is first held on to (pidfd_open(2)), then
// looked at, and only then signalled, so a stranger that was given a recycled
// number is never hit. A stopped process is continued, so that it can obey.
//
// The error is ErrNotRunning when there is nothing to stop and ErrUnverified
// when the holder can't be seen, both in a *fs.PathError; a *lock.HeldError
// when the schedule ended or ctx did (which is found then) and the lock is
// still held; fs.ErrPermission is found when a signal was not permitted.
// Linux 5.3 or later; elsewhere errors.ErrUnsupported is found.
func Stop(ctx context.Context, path string, schedule []Step) error {
	if schedule == nil {
		schedule = DefaultSchedule
	}
	f, err := lock.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return stopError(path, ErrNotRunning)
	}
	if err != nil {
		return err
	}
	defer f.Close()

	var signalled []*process
	defer func() {
		for _, p := range signalled {
			p.close()
		}
	}()
	for _, step := range schedule {
		targets, err := holdersToSignal(path, f)
		if errors.Is(err, ErrNotRunning) && signalled != nil {
			return nil
		}
		if err != nil {
			return err
		}
		signalled = append(signalled, targets...)
		for _, p := range targets {
			if err := p.signal(step.Signal); err != nil {
				return stopError(path, err)
			}
			if step.Signal != syscall.SIGKILL {
				p.signal(syscall.SIGCONT)
			}
		}
		if free, err := awaitStop(ctx, f, targets, step.Wait); free || err != nil {
			return err
		}
		if ctx.Err() != nil {
			break
		}
	}
	in, _ := lock.InspectFile(f)
	return &lock.HeldError{Path: path, Holder: in.Holder, Deleted: in.Absent, Cause: ctx.Err()}
}

// settle is how long somebody without a recorded PID must hold the lock before
// he is taken for a holder that can be stopped: who only looks whether a lock is
// free (status, flock -n) holds it for some microseconds.
const settle = 50 * time.Millisecond

// holdersToSignal returns the processes that are to be ended, held on to and
// then proven. When the holders change between two looks it looks again.
func holdersToSignal(path string, f *os.File) ([]*process, error) {
	for range 100 {
		in, err := lock.InspectFile(f)
		switch {
		case err != nil:
			return nil, err
		case in.State == lock.Free:
			return nil, stopError(path, ErrNotRunning)
		case in.Holder.PID == 0:
			return nil, stopError(path, ErrUnverified)
		}
		candidates := []lock.Holder{in.Holder}
		if !in.Holder.Recorded {
			if candidates, err = lock.HoldersOf(f); err != nil {
				return nil, err
			}
		}
		var proven []*process
		for _, h := range candidates {
			p, err := holdOn(h.PID)
			if errors.Is(err, os.ErrProcessDone) {
				continue
			}
			if err != nil {
				return nil, stopError(path, err)
			}
			proven = append(proven, p)
		}
		if !in.Holder.Recorded {
			time.Sleep(settle)
		}
		proven = slices.DeleteFunc(proven, func(p *process) bool {
			ok, err := lock.Carries(p.pid, f)
			if ok && err == nil {
				return false
			}
			p.close()
			return true
		})
		if len(proven) > 0 {
			return proven, nil
		}
	}
	return nil, stopError(path, ErrUnverified)
}

// awaitStop waits until the lock on f is free, or is held by a new instance
// that was in the queue for it, for at most d. From time to time it leaves the
// queue to see whether that is so.
func awaitStop(ctx context.Context, f *os.File, targets []*process, d time.Duration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for {
		turn, cancel := context.WithTimeout(ctx, 250*time.Millisecond)
		err := lock.AwaitFree(turn, f)
		cancel()
		if err == nil {
			return true, nil
		}
		if turn.Err() == nil {
			return false, err
		}
		in, err := lock.InspectFile(f)
		if err != nil || in.State == lock.Free {
			return err == nil, err
		}
		if in.Holder.Recorded && !slices.ContainsFunc(targets, func(p *process) bool { return !p.ended() }) {
			return true, nil
		}
		if ctx.Err() != nil {
			return false, nil
		}
	}
}

func stopError(path string, err error) error {
	return &fs.PathError{Op: "stop", Path: path, Err: err}
}
