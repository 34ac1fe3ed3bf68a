package lock

import (
	"context"
	"os"
	"runtime"

	"github.com/lockrun/lockrun/internal/blocking"
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
	got, err := blocking.Call(ctx, shared, try)
	if err != nil {
		return os.NewSyscallError("flock", err)
	}
	if !got {
		return ctx.Err()
	}
	return os.NewSyscallError("flock", unix.Flock(fd, unix.LOCK_UN))
}
