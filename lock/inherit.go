package lock

import (
	"context"
	"errors"
	"os"
	"runtime"

	"github.com/lockrun/lockrun/internal/blocking"
	"golang.org/x/sys/unix"
)

// Inherit makes a Lock of a descriptor that this process has inherited, if one of
// them carries a lock of that kind on the file that path names: who is started
// under a lock can so prove that it is. The descriptor itself is left as it is. The
// error is ErrNotCarried if there is none, else as for Adopt, and a Lock that was
// inherited is one that was adopted.
//
// It does not tell an inherited lock from one that this process took itself.
// Linux only (errors.ErrUnsupported elsewhere).
func Inherit(path string, opt *Options) (*Lock, error) {
	r, err := newRequest("Inherit", path, opt)
	if err != nil {
		return nil, err
	}
	file, err := os.Lstat(r.path)
	if err != nil {
		return nil, moved(err)
	}
	fd, err := ownDescriptor(idOf(file), r.shared)
	if err != nil {
		return nil, pathError(r.path, err)
	}
	f := os.NewFile(uintptr(fd), r.path)
	l, err := r.adopt(f)
	if err != nil {
		f.Close()
	}
	return l, err
}

// AcquireFile takes the lock on an open file, whatever its path is now, and waits
// for it as long as ctx allows; if ctx has ended already, a free lock is taken all
// the same. The lock belongs to the open file description: it is held until every
// process that shares that has closed it, or until one of them unlocks it.
//
// The file is neither verified nor owned. It is for a descriptor that somebody else
// opened, such as the 9 of a shell script's "exec 9>file"; everybody else wants
// Acquire. If somebody else holds the lock the error is a *HeldError, in which the
// context's error is found; flock(2)'s errors are *fs.PathError.
func AcquireFile(ctx context.Context, f *os.File, opt *Options) error {
	defer runtime.KeepAlive(f)
	fd, how := int(f.Fd()), unix.LOCK_EX
	if opt != nil && opt.Shared {
		how = unix.LOCK_SH
	}
	got, err := blocking.Call(ctx,
		func() error { return unix.Flock(fd, how) },
		func() (bool, error) {
			err := blocking.IgnoringEINTR(func() error { return unix.Flock(fd, how|unix.LOCK_NB) })
			if err == unix.EWOULDBLOCK {
				return false, nil
			}
			return err == nil, err
		})
	if err != nil {
		return pathError(f.Name(), err)
	}
	if got {
		return nil
	}
	e := &HeldError{Path: f.Name(), Cause: ctx.Err()}
	if h, ok := recordedHolder(f); ok {
		e.Holder = h
	} else if holders, _ := HoldersOf(f); len(holders) > 0 {
		e.Holder = holders[0]
	}
	return e
}

// TryFile is AcquireFile, but refuses at once.
func TryFile(f *os.File, opt *Options) error {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	err := AcquireFile(over, f, opt)
	var held *HeldError
	if errors.As(err, &held) {
		held.Cause = nil
	}
	return err
}
