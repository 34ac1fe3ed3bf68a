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
// A nil schedule is TERM/10/KILL/5.
// Linux 5.3 or later; elsewhere errors.ErrUnsupported is found.
func Stop(ctx context.Context, path string, schedule Schedule) error {
	if schedule == nil {
		schedule = DefaultSchedule(syscall.SIGTERM)
	}
	f, err := openToSignal(path)
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
			if err := p.end(step.Signal); err != nil {
				return stopError(path, err)
			}
		}
		if free, err := awaitStop(ctx, f, targets, step.Wait); free || err != nil {
			return err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return stillHeld(ctx, path, f)
}

// end sends a signal that is to end the process, and continues it if it is
// stopped, so that it can obey.
func (p *process) end(sig syscall.Signal) error {
	if err := p.signal(sig); err != nil || sig == syscall.SIGKILL {
		return err
	}
	p.signal(syscall.SIGCONT)
	return nil
}

// Targets returns the processes that Stop would signal first. The errors are
// those of Stop.
func Targets(path string) ([]lock.Holder, error) {
	var holders []lock.Holder
	err := eachTarget(path, func(f *os.File, p *process) error {
		all, err := lock.HoldersOf(f)
		for _, h := range all {
			if h.PID == p.pid {
				holders = append(holders, h)
			}
		}
		return err
	})
	return holders, err
}

// Signal sends a signal to the program of the PID file path, to the same
// processes as Stop and after the same proof. It does not wait for anything.
// The errors are those of Stop.
func Signal(path string, sig syscall.Signal) error {
	return eachTarget(path, func(_ *os.File, p *process) error { return p.signal(sig) })
}

// eachTarget calls do with every process that is to be signalled.
func eachTarget(path string, do func(f *os.File, p *process) error) error {
	f, err := openToSignal(path)
	if err != nil {
		return err
	}
	defer f.Close()
	targets, err := holdersToSignal(path, f)
	for _, p := range targets {
		if err == nil {
			err = do(f, p)
		}
		p.close()
	}
	var pe *fs.PathError
	if err != nil && !errors.As(err, &pe) {
		err = stopError(path, err)
	}
	return err
}

// openToSignal opens the lock file whose holders are to be signalled. Without a
// file there are none.
func openToSignal(path string) (*os.File, error) {
	f, err := lock.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, stopError(path, ErrNotRunning)
	}
	return f, err
}

// Wait waits until the lock on the PID file path is free, without taking it: at
// once if there is no such file. If ctx ends first the error is a
// *lock.HeldError in which errors.Is finds the context's error. A program that
// was in the queue for the lock before is waited for too.
func Wait(ctx context.Context, path string) error {
	f, err := lock.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	err = lock.AwaitFree(ctx, f)
	if err != nil && ctx.Err() != nil {
		return stillHeld(ctx, path, f)
	}
	return err
}

// StopUnlocked ends the process whose PID stands in a PID file that nobody has
// locked, and waits for its end. It is for programs that do not lock their PID
// file, and it believes the number: if the program has died and its number was
// given to another process, that one is ended. The lock being held is a
// *lock.HeldError; nobody is signalled then, use Stop. Nor is anybody if others
// could have written the number, see UnlockedTarget. The other errors are those of
// Stop.
func StopUnlocked(ctx context.Context, path string, schedule Schedule) error {
	if schedule == nil {
		schedule = DefaultSchedule(syscall.SIGTERM)
	}
	pid, err := UnlockedTarget(path)
	if err != nil {
		return err
	}
	p, err := holdOn(pid)
	if errors.Is(err, os.ErrProcessDone) || err == nil && p.ended() {
		return stopError(path, ErrNotRunning)
	}
	if err != nil {
		return stopError(path, err)
	}
	defer p.close()
	for _, step := range schedule {
		if err := p.end(step.Signal); err != nil {
			return stopError(path, err)
		}
		if p.await(ctx, step.Wait) {
			return nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return &lock.HeldError{Path: path, Holder: lock.Holder{PID: pid, UID: -1}, Cause: ctx.Err()}
}

// UnlockedTarget returns the PID that StopUnlocked would believe. The error is a
// *lock.HeldError if the lock is held, ErrNotRunning if there is no number, and
// ErrOwner, ErrWritable or ErrNotPIDFile if the number can be a trap: who is not
// ourselves or root could have written it, or the file is another one's too.
func UnlockedTarget(path string) (int, error) {
	f, err := openToSignal(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	in, err := lock.InspectFile(f)
	switch {
	case err != nil:
		return 0, err
	case in.State == lock.Held:
		return 0, &lock.HeldError{Path: path, Holder: in.Holder, Deleted: in.Absent}
	case in.PID == 0:
		return 0, stopError(path, ErrNotRunning)
	}
	file, err := f.Stat()
	if err == nil {
		err = checkFile(path, file)
	}
	if err == nil && file.Mode().Perm()&0o002 != 0 {
		err = pathError(path, ErrWritable)
	}
	return in.PID, err
}

func stillHeld(ctx context.Context, path string, f *os.File) error {
	in, _ := lock.InspectFile(f)
	return &lock.HeldError{Path: path, Holder: in.Holder, Deleted: in.Absent, Cause: ctx.Err()}
}

// settle is how long somebody without a recorded PID must be seen with the lock
// before he is taken for a holder that can be stopped. Who only looks whether a lock
// is free (status, stop, flock -n -s) shares it for some microseconds, and on a busy
// machine, where he can lose the CPU in them, for longer: so whoever shares it is
// looked at for longer, time and again.
func settle(shared bool) time.Duration {
	if shared {
		return time.Second
	}
	return 50 * time.Millisecond
}

// unseen is how long a lock must be held by nobody who can be seen, whenever one
// looks, before that is believed. Of a process that ends this is so for a moment,
// and on a busy machine for a long one:
//
//  1. the kernel takes its descriptors from it, /proc shows none
//  2. it is asked who holds the lock: somebody, but nobody is seen
//  3. the kernel closes the descriptors, and the lock is free
//
// If others wait for the lock, the next one has it at once, and comes to the same
// end: so the time is that since somebody was seen, or the lock was free.
const (
	unseen    = time.Second
	lookAgain = 25 * time.Millisecond
)

// holdersToSignal returns the processes that are to be ended, held on to and
// then proven. When the holders change between two looks it looks again.
func holdersToSignal(path string, f *os.File) ([]*process, error) {
	var since time.Time // when nobody was seen for the first time
	for range 100 {
		in, err := lock.InspectFile(f)
		switch {
		case err != nil:
			return nil, err
		case in.State == lock.Free:
			return nil, stopError(path, ErrNotRunning)
		case in.Holder.PID == 0 && !since.IsZero() && time.Since(since) > unseen:
			return nil, stopError(path, ErrUnverified)
		case in.Holder.PID == 0:
			if since.IsZero() {
				since = time.Now()
			}
			wait, cancel := context.WithTimeout(context.Background(), lookAgain)
			if lock.AwaitFree(wait, f) == nil {
				since = time.Time{}
			}
			cancel()
			continue
		}
		since = time.Time{}
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
		var looked time.Duration // a recorded one is not taken for somebody else
		if !in.Holder.Recorded {
			looked = settle(in.Holder.Shared)
		}
		proven = thoseWhoCarry(proven, f, looked)
		if len(proven) > 0 {
			return proven, nil
		}
	}
	return nil, stopError(path, ErrUnverified)
}

// thoseWhoCarry returns the processes that have the lock on f whenever one looks, for
// that long, and lets go of the others.
func thoseWhoCarry(processes []*process, f *os.File, long time.Duration) []*process {
	end := time.Now().Add(long)
	for {
		left := time.Until(end)
		time.Sleep(min(left, settle(false)))
		processes = slices.DeleteFunc(processes, func(p *process) bool {
			ok, err := lock.Carries(p.pid, f)
			if ok && err == nil {
				return false
			}
			p.close()
			return true
		})
		if left <= 0 || len(processes) == 0 {
			return processes
		}
	}
}

// awaitStop waits until the lock on f is free, or is held by a new instance
// that was in the queue for it, for at most d. From time to time it leaves the
// queue to see whether that is so.
//
// Race, closed by looking first whether the targets have ended:
//
//  1. The recorded process, a target, is seen with the lock.
//  2. It ends. Its children have the lock still.
//  3. All targets have ended: the recorded one is taken for a new instance.
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
		ended := !slices.ContainsFunc(targets, func(p *process) bool { return !p.ended() })
		in, err := lock.InspectFile(f)
		if err != nil || in.State == lock.Free {
			return err == nil, err
		}
		if in.Holder.Recorded && ended {
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
