package lock

import (
	"errors"
	"io/fs"
	"math"
	"os"

	"github.com/lockrun/lockrun/internal/blocking"
	"golang.org/x/sys/unix"
)

// release unlocks what this process opened, and closes.
func (d *description) release() error {
	if d.own == nil {
		return d.adopted.Close()
	}
	return blocking.IgnoringEINTR(d.own.Unlock)
}

// firstInherited is the lowest number of a descriptor that is handed on, unless
// RLIMIT_NOFILE does not allow it.
const firstInherited = 64

func duplicateFrom(fd uintptr) (int, error) {
	dup, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, firstInherited)
	if err == unix.EINVAL {
		dup, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3)
	}
	return dup, os.NewSyscallError("fcntl", err)
}

// duplicate returns a close-on-exec duplicate of the locked descriptor.
//
// gofrs/flock keeps its descriptor to itself. It is the one among ours that is
// open on the locked file and shows the lock; others may be open on that file
// too. Each is duplicated before it is asked, since another goroutine may close
// it meanwhile and the number may name another file.
func (d *description) duplicate(file fs.FileInfo, shared bool) (int, error) {
	if d.own == nil {
		return duplicateFrom(d.adopted.Fd())
	}
	id := idOf(file)
	why := error(ErrNotCarried)
	for fd, limit := 0, descriptorLimit(); fd < limit; fd++ {
		got, err := idOfDescriptor(fd)
		if err != nil && err != unix.EBADF {
			why = os.NewSyscallError("fstat", err)
		}
		if err != nil || got != id {
			continue
		}
		dup, err := duplicateFrom(uintptr(fd))
		if errors.Is(err, unix.EBADF) {
			continue
		}
		if err != nil {
			return -1, err
		}
		got, err = idOfDescriptor(dup)
		if err == nil && got == id {
			if err = isLocked(dup, shared); err == nil {
				return dup, nil
			}
		}
		unix.Close(dup)
		if err != nil && err != ErrNotCarried {
			why = err
		}
	}
	return -1, why
}

// isLocked returns nil if a descriptor of the file that we have locked carries that
// lock. For an exclusive lock it is enough to try; to try a shared one on another
// description would take it a second time.
func isLocked(fd int, shared bool) error {
	if shared {
		return carried(fd, shared)
	}
	return relock(fd, shared)
}

// descriptorLimit is a number that no descriptor reaches.
func descriptorLimit() int {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil || uint64(r.Cur) > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(r.Cur)
}

// fileID tells files apart, as os.SameFile does, in a form that can be compared
// with what /proc and fstat(2) say.
type fileID struct{ dev, ino uint64 }

func idOfDescriptor(fd int) (fileID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fileID{}, err
	}
	return fileID{uint64(st.Dev), uint64(st.Ino)}, nil
}

// relock is the proof of last resort that fd carries a lock: to lock the same
// description again succeeds. It also succeeds on a free lock. To convert a
// shared lock into an exclusive one could lose it (flock(2), "not guaranteed to
// be atomic"), so it is asked for in the kind that it has.
func relock(fd int, shared bool) error {
	how := unix.LOCK_EX
	if shared {
		how = unix.LOCK_SH
	}
	err := blocking.IgnoringEINTR(func() error { return unix.Flock(fd, how|unix.LOCK_NB) })
	if err == unix.EWOULDBLOCK {
		return ErrNotCarried
	}
	return os.NewSyscallError("flock", err)
}
