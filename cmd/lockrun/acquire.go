package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/lockrun/lockrun/lock"
	"github.com/lockrun/lockrun/pidfile"
	"golang.org/x/sys/unix"
)

// acquire takes the locks, in one order whoever takes them, all or none. keep says
// whether the files stay, unless the flags say otherwise.
func (h *holdFlags) acquire(names []lockName, keep bool) (*hold, error) {
	if h.jitter.d > 0 {
		time.Sleep(rand.N(h.jitter.d))
	}
	begin := time.Now()
	ctx, cancel := h.timeout.context()
	defer cancel()
	held := &hold{name: names[0], tree: h.span == spanTree, endCatching: h.catchWhileWaiting()}
	names = slices.Clone(names)
	slices.SortFunc(names, func(a, b lockName) int { return cmp.Compare(a.path, b.path) })
	for _, name := range names {
		if err := h.acquireOne(ctx, held, name, keep); err != nil {
			held.endCatching()
			held.release()
			var about *lockError
			if !errors.As(err, &about) {
				err = &lockError{name, err}
			}
			return nil, err
		}
	}
	held.waited = time.Since(begin)
	if h.pidFile != "" {
		// It is locked too: whoever asks by it is told the truth.
		f, err := pidfile.TryOpen(h.pidFile, nil)
		if err != nil {
			held.endCatching()
			held.release()
			return nil, errorAbout(h.pidFile, err)
		}
		held.locks = append(held.locks, heldLock{f.Lock(), f})
	}
	return held, nil
}

// catchWhileWaiting asks for the signals that are to be passed on to the command, if
// the lock is waited for: there is time then for what takes the Go runtime 0.3 ms, and
// the command starts the sooner when the lock is free. Until the function that it
// returns is called, they end us as they would have done; one that came before is not
// lost then, and the function does not return. Where a wait is shown on the terminal,
// that sees to the signals.
func (h *holdFlags) catchWhileWaiting() (end func()) {
	if _, isTerminal := terminalWidth(os.Stderr); isTerminal || !h.waits() {
		return func() {}
	}
	signals := make(chan os.Signal, 64)
	catch(signals, endingSignals)
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case sig := <-signals:
				endBy(sig.(syscall.Signal))
			case <-over:
				for len(signals) > 0 {
					endBy((<-signals).(syscall.Signal))
				}
				return
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(over)
		<-done
	}
}

// endBy does what a signal does that a Go program has not asked for.
func endBy(sig syscall.Signal) {
	switch sig {
	case unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM: // nothing
	default:
		dieOf(sig)
		os.Exit(exitSignalled + int(sig)) // as PID 1
	}
}

// lockError is an error with the name of the lock that it is about.
type lockError struct {
	name lockName
	err  error
}

func (e *lockError) Error() string { return e.err.Error() }
func (e *lockError) Unwrap() error { return e.err }

// errorAbout names a file beside LOCK in an error.
func errorAbout(path string, err error) error {
	return &lockError{lockName{given: path, path: path}, err}
}

func (h *holdFlags) acquireOne(ctx context.Context, held *hold, name lockName, keep bool) error {
	if err := name.prepare(true); err != nil {
		return err
	}
	if h.reentrant {
		l, err := lock.Inherit(name.path, &lock.Options{Shared: h.shared})
		switch {
		case err == nil:
			held.locks = append(held.locks, heldLock{lock: l})
			return nil
		case errors.Is(err, lock.ErrNotCarried), errors.Is(err, lock.ErrMoved), errors.Is(err, errors.ErrUnsupported):
		default:
			// We may hold it: who takes it then would be refused by himself.
			return err
		}
	}
	if h.slots > 0 {
		return h.acquireSlot(ctx, held, name, keep)
	}
	var l heldLock
	var err error
	switch h.ifHeld.word {
	case ifHeldReplace:
		l, err = h.replace(ctx, name, keep)
	case ifHeldQueue:
		l, err = h.queue(ctx, name, keep)
	default:
		l, err = h.take(ctx, name, h.waits(), keep)
	}
	if err == nil {
		held.locks = append(held.locks, l)
	}
	return err
}

// take takes one lock, at once or by waiting for it.
func (h *holdFlags) take(ctx context.Context, name lockName, wait, keep bool) (heldLock, error) {
	if !h.noPID && !h.shared {
		f, err := h.takePIDFile(ctx, name.path, wait, h.keeps(keep))
		if err == nil {
			return heldLock{f.Lock(), f}, nil
		}
		if !errors.Is(err, pidfile.ErrDirectory) && !errors.Is(err, pidfile.ErrDevice) {
			return heldLock{}, err
		}
		// These are locked, and never written.
	}
	var l *lock.Lock
	var err error
	opt := &lock.Options{Shared: h.shared, Mode: fs.FileMode(h.mode)}
	if wait {
		l, err = lock.Acquire(ctx, name.path, opt)
	} else {
		l, err = lock.TryAcquire(name.path, opt)
	}
	return heldLock{lock: l}, err
}

// keeps reports whether the files stay; by default, unless a flag says otherwise.
func (h *holdFlags) keeps(byDefault bool) bool { return h.keep || byDefault && !h.remove }

func (h *holdFlags) takePIDFile(ctx context.Context, path string, wait, keep bool) (*pidfile.File, error) {
	opt := &pidfile.Options{Keep: keep, Mode: fs.FileMode(h.mode)}
	if wait {
		return pidfile.Open(ctx, path, opt)
	}
	return pidfile.TryOpen(path, opt)
}

// replace ends the holder, unless he is too young, and takes the lock. If
// somebody else was faster, he is ended too.
func (h *holdFlags) replace(ctx context.Context, name lockName, keep bool) (heldLock, error) {
	for {
		l, err := h.take(ctx, name, false, keep)
		var held *lock.HeldError
		if !errors.As(err, &held) {
			return l, err
		}
		if min := h.ifHeld.bound; min > 0 && (held.Holder.Since.IsZero() || time.Since(held.Holder.Since) < min) {
			return l, err
		}
		err = endInstance(ctx, name, pidfile.DefaultSchedule(syscall.SIGTERM))
		if err != nil && !errors.Is(err, pidfile.ErrNotRunning) {
			return l, err
		}
	}
}

// errQueueFull says that enough others wait.
var errQueueFull = errors.New("enough others wait for it")

// queue takes the lock, and waits for it if fewer than so many others do. Who
// waits holds one of the PID files LOCK.queue.1, LOCK.queue.2, ...; when he is killed
// his place is free.
func (h *holdFlags) queue(ctx context.Context, name lockName, keep bool) (heldLock, error) {
	l, err := h.take(ctx, name, false, keep)
	if !errors.Is(err, lock.ErrHeld) {
		return l, err
	}
	for n := 1; n <= h.ifHeld.most; n++ {
		path := name.path + ".queue." + strconv.Itoa(n)
		place, e := pidfile.Hold(path, nil) // which removes no file of others
		if errors.Is(e, lock.ErrHeld) {
			continue
		}
		if e != nil {
			return l, errorAbout(path, e)
		}
		l, err = h.take(ctx, name, true, keep)
		place.Close()
		return l, err
	}
	return l, errors.Join(errQueueFull, err)
}

// acquireSlot takes one of the slots, which are the files LOCK.1, LOCK.2, ..., and
// then shares LOCK, which keeps those out who want it for themselves.
//
// Who waits for a slot holds LOCK.0: he waits for all slots at once, and the others
// stand in the kernel's queue behind him.
func (h *holdFlags) acquireSlot(ctx context.Context, held *hold, name lockName, keep bool) error {
	keep = h.keeps(keep)
	slot, n, err := h.takeSlot(ctx, name, keep)
	if err != nil {
		return err
	}
	share := *h
	share.shared = true
	l, err := share.take(ctx, name, h.waits(), true)
	if err != nil {
		slot.release()
		return err
	}
	held.locks = append(held.locks, slot, l)
	held.slot = n
	return nil
}

func (h *holdFlags) takeSlot(ctx context.Context, name lockName, keep bool) (heldLock, int, error) {
	if !h.waits() {
		return h.trySlots(name, keep)
	}
	first, err := lock.Acquire(ctx, name.path+".0", nil)
	if err != nil {
		return heldLock{}, 0, err
	}
	defer first.Release() // the file stays: all who stand behind would have to begin anew
	slot, n, err := h.trySlots(name, keep)
	if errors.Is(err, lock.ErrHeld) {
		return h.awaitSlot(ctx, name, keep)
	}
	return slot, n, err
}

func (h *holdFlags) slotPath(name lockName, n int) string {
	return name.path + "." + strconv.Itoa(n)
}

// trySlots takes the first slot that is free.
func (h *holdFlags) trySlots(name lockName, keep bool) (slot heldLock, n int, err error) {
	for n = 1; n <= int(h.slots); n++ {
		f, e := h.takePIDFile(context.Background(), h.slotPath(name, n), false, keep)
		if e == nil {
			return heldLock{f.Lock(), f}, n, nil
		}
		if !errors.Is(e, lock.ErrHeld) {
			return slot, 0, errorAbout(h.slotPath(name, n), e)
		}
		err = &slotsError{int(h.slots), e}
	}
	return slot, 0, err
}

// slotsError says that all slots are taken, one by the holder in err.
type slotsError struct {
	slots int
	err   error
}

func (e *slotsError) Error() string { return fmt.Sprintf("all %d slots are taken: %v", e.slots, e.err) }
func (e *slotsError) Unwrap() error { return e.err }

// awaitSlot waits for all slots and takes the first that is free.
func (h *holdFlags) awaitSlot(ctx context.Context, name lockName, keep bool) (heldLock, int, error) {
	type result struct {
		f   *pidfile.File
		n   int
		err error
	}
	enough, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result)
	for n := 1; n <= int(h.slots); n++ {
		go func() {
			path := h.slotPath(name, n)
			f, err := h.takePIDFile(enough, path, true, keep)
			if err != nil && !errors.Is(err, lock.ErrHeld) {
				err = errorAbout(path, err)
			}
			results <- result{f, n, err}
		}()
	}
	var got result
	for range int(h.slots) {
		r := <-results
		switch {
		case r.f == nil && got.f == nil && got.err == nil:
			got.err = r.err
		case r.f != nil && got.f == nil:
			got = r
			cancel()
		case r.f != nil:
			r.f.Close()
		}
	}
	if got.f == nil {
		return heldLock{}, 0, got.err
	}
	return heldLock{got.f.Lock(), got.f}, got.n, nil
}

// nestedError says that the lock is held by the command that we were started by:
// to wait for it would be to wait for ever.
type nestedError struct{ holder lock.Holder }

func (e *nestedError) Error() string {
	return "held by " + who(e.holder) + ", under which this command runs; with --reentrant it runs all the same"
}

func (e *nestedError) Is(target error) bool { return target == lock.ErrHeld }

// checkNested returns a *nestedError if we run under one of the locks: we have
// inherited a descriptor of it, or the command that lockrun runs under it is our
// parent, or his parent, and so on. It looks only where a held lock is waited for.
func (h *holdFlags) checkNested(names []lockName) error {
	if h.reentrant || !h.waits() && h.ifHeld.word != ifHeldReplace {
		return nil
	}
	for _, name := range names {
		f, err := lock.Open(name.path)
		if err != nil {
			continue // there is none, or it is complained of later
		}
		holder, nested := nestedHolder(f)
		f.Close()
		if nested {
			return &lockError{name, &nestedError{holder}}
		}
	}
	return nil
}

// nestedHolder returns who holds the lock on f, if we run under it. Of many who
// wait, each asks its few ancestors first: to find a holder that is not recorded,
// it would have to look at all the others.
func nestedHolder(f *os.File) (holder lock.Holder, nested bool) {
	carries := func(pid int) bool {
		ok, err := lock.Carries(pid, f)
		return ok && err == nil
	}
	inherited := carries(os.Getpid())
	if !inherited && !hasAncestor(carries) {
		return lock.Holder{}, false
	}
	in, err := lock.InspectFile(f)
	if err != nil || in.State != lock.Held {
		return lock.Holder{}, false
	}
	h := in.Holder
	return h, inherited || h.Recorded && hasAncestor(func(pid int) bool { return pid == h.PID }) && isSupervised(h.PID, f)
}

// isSupervised reports whether the parent of a process carries the lock on f, as
// that of lockrun's command does.
func isSupervised(pid int, f *os.File) bool {
	parent, err := parentOf(pid)
	if err != nil {
		return false
	}
	ok, err := lock.Carries(parent, f)
	return ok && err == nil
}

// hasAncestor reports whether our parent, or his parent, and so on is one that is
// wanted.
func hasAncestor(wanted func(pid int) bool) bool {
	for p := os.Getppid(); p > 0; {
		if wanted(p) {
			return true
		}
		parent, err := parentOf(p)
		if err != nil {
			return false
		}
		p = parent
	}
	return false
}

// lockDescriptor is lockrun --fd N: it locks an open file of the caller, a shell
// script. The lock is the caller's, until he closes it.
func (h *holdFlags) lockDescriptor(fd int) error {
	f := os.NewFile(uintptr(fd), "descriptor "+strconv.Itoa(fd))
	if f == nil {
		return fs.ErrInvalid
	}
	ctx, cancel := h.timeout.context()
	defer cancel()
	if !h.waits() {
		return lock.TryFile(f, &lock.Options{Shared: h.shared})
	}
	return lock.AcquireFile(ctx, f, &lock.Options{Shared: h.shared})
}
