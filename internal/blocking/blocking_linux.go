//go:build !mips && !mipsle && !mips64 && !mips64le

package blocking

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// wakeSignal interrupts a thread that waits in flock(2). It is a real-time
// signal that neither the C library (32 to 34) nor the Go runtime uses for
// itself. Go has a handler for it, which does nothing unless the program asked
// for the signal.
const wakeSignal = unix.Signal(Signal)

// interruptible is Call with a context that can end.
//
// Neither closing the descriptor nor a signal ends flock(2) in a Go program:
// the runtime installs its handlers with SA_RESTART. So the waiting thread is
// sent a signal from whose handler that flag was taken off.
//
// Race: the signal may come when the thread is not yet, or no longer, in
// flock(2).
//
//  1. The context ends; the thread is about to enter flock(2).
//  2. The signal's handler runs and returns.
//  3. The thread enters flock(2) and waits for ever.
//
// Therefore the signal is repeated until the thread says that it is out. The
// thread belongs to the goroutine until the last signal was sent, so that no
// other system call of the program is interrupted.
func interruptible(ctx context.Context, lock func() error, try func() (bool, error)) (bool, error) {
	if err := allowInterrupt(); err != nil {
		return poll(ctx, try)
	}
	var cancelled atomic.Bool
	tid := make(chan int, 1)
	out := make(chan error, 1)
	done := make(chan struct{})
	defer close(done)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer unblockWakeSignal()()
		tid <- unix.Gettid()
		err := lock()
		for err == unix.EINTR && !cancelled.Load() {
			err = lock()
		}
		out <- err
		<-done
	}()
	thread := <-tid
	select {
	case err := <-out:
		return err == nil, err
	case <-ctx.Done():
	}
	cancelled.Store(true)
	for pause := 20 * time.Microsecond; ; pause = min(2*pause, 5*time.Millisecond) {
		allowInterrupt()
		unix.Tgkill(unix.Getpid(), thread, wakeSignal)
		select {
		case err := <-out:
			if err == unix.EINTR {
				return false, nil
			}
			return err == nil, err
		case <-time.After(pause):
		}
	}
}

// allowInterrupt takes SA_RESTART off the handler of wakeSignal. It fails if
// there is no handler, as in a C program that links Go. os/signal.Notify for
// that signal puts the flag back, so this is done again before every signal.
//
// The kernel's struct sigaction (rt_sigaction(2)) is read, changed and written
// back: handler, flags, then what differs between architectures. On mips the
// flags come first; there Call is poll.
func allowInterrupt() error {
	var action [16]uintptr
	const setSize = 8 // bytes of a signal mask, on all architectures but mips
	if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(wakeSignal), 0,
		uintptr(unsafe.Pointer(&action)), setSize, 0, 0); errno != 0 {
		return errno
	}
	const sigDefault, sigIgnore = 0, 1
	if action[0] == sigDefault || action[0] == sigIgnore {
		return errors.ErrUnsupported
	}
	const restart = 0x10000000
	if action[1]&restart == 0 {
		return nil
	}
	action[1] &^= restart
	if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(wakeSignal),
		uintptr(unsafe.Pointer(&action)), 0, setSize, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// unblockWakeSignal lets this thread receive the signal, which the parent
// process may have blocked, and returns what puts the old mask back.
func unblockWakeSignal() func() {
	var set, old unix.Sigset_t
	bits := unsafe.Sizeof(set.Val[0]) * 8
	n := uintptr(wakeSignal) - 1
	set.Val[n/bits] |= 1 << (n % bits)
	unix.PthreadSigmask(unix.SIG_UNBLOCK, &set, &old)
	return func() { unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil) }
}
