// Package blocking ends a system call that waits when a context ends: flock(2)
// or fcntl(2), in whose queue one has to stay to be served in turn.
package blocking

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// Signal is the real-time signal that ends a wait, on Linux.
const Signal = 61

// Call runs lock, which waits in the kernel, until it succeeds or ctx ends, and
// then reports false. With a context that has ended already, try is all that is
// done; try is also for systems where a wait can't be interrupted.
//
// On Linux a wait with a context that can end uses an own thread and Signal.
func Call(ctx context.Context, lock func() error, try func() (bool, error)) (bool, error) {
	switch {
	case ctx.Err() != nil:
		return try()
	case ctx.Done() == nil:
		err := IgnoringEINTR(lock)
		return err == nil, err
	}
	return interruptible(ctx, lock, try)
}

// poll asks for the lock with growing pauses until ctx ends. It stands outside
// the kernel's queue, so those who block in flock(2) are served before it.
func poll(ctx context.Context, try func() (bool, error)) (bool, error) {
	for pause := time.Millisecond; ; pause = min(2*pause, 25*time.Millisecond) {
		if got, err := try(); got || err != nil {
			return got, err
		}
		select {
		case <-ctx.Done():
			return false, nil
		case <-time.After(pause):
		}
	}
}

// IgnoringEINTR makes a call again that a signal ended.
func IgnoringEINTR(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
