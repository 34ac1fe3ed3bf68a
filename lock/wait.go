package lock

import (
	"context"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// AwaitFree waits until nobody holds an exclusive lock on the open file f,
// whatever its path is now, and returns ctx's error if that ends first; if it
// has ended already, AwaitFree looks once. To know, it takes a shared lock for
// a moment, in its turn behind those who came before it.
//
// f must not carry a lock itself: it would be given up. Its flock(2) errors are
// returned as *os.SyscallError.
func AwaitFree(ctx context.Context, f *os.File) error {
	defer runtime.KeepAlive(f)
	fd := int(f.Fd())
	shared := func() error { return unix.Flock(fd, unix.LOCK_SH) }
	try := func() (bool, error) {
		err := unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB)
		if err == unix.EWOULDBLOCK || err == unix.EINTR {
			return false, nil
		}
		return err == nil, err
	}
	got, err := block(ctx, shared, try)
	if err != nil {
		return os.NewSyscallError("flock", err)
	}
	if !got {
		return ctx.Err()
	}
	return os.NewSyscallError("flock", unix.Flock(fd, unix.LOCK_UN))
}

// block runs lock, which waits in flock(2), until it succeeds or ctx ends, and
// then reports false. With a context that has ended already, try is all that is
// done; try is also for systems where a wait can't be interrupted.
func block(ctx context.Context, lock func() error, try func() (bool, error)) (bool, error) {
	switch {
	case ctx.Err() != nil:
		return try()
	case ctx.Done() == nil:
		err := ignoringEINTR(lock)
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

func ignoringEINTR(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
