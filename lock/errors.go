package lock

import (
	"errors"
	"fmt"
	"io/fs"
)

var (
	// ErrHeld is found by errors.Is in the error of TryAcquire and Acquire
	// when somebody else holds the lock. The error is a [*HeldError].
	ErrHeld = errors.New("held by another process")

	// ErrFileType says that the path is not a regular file, a directory or a
	// device: a symbolic link, a FIFO, a socket.
	ErrFileType = errors.New("not a regular file, directory or device")

	// ErrMoved says that the path does not name the locked file any more: it
	// was deleted, renamed or replaced.
	ErrMoved = errors.New("the path does not name the locked file any more")

	// ErrNotCarried says that a descriptor carries no lock.
	ErrNotCarried = errors.New("the descriptor carries no lock")
)

// HeldError is the error of an attempt that was refused, or of a wait that was
// cancelled, because somebody else held the lock. errors.Is finds ErrHeld and,
// for a cancelled wait, the context's error.
type HeldError struct {
	// Path is the lock's path, absolute.
	Path string

	// Holder is a process that held the lock, proven. Its PID is 0 when none
	// could be seen: the holder belongs to another user or lives in another
	// PID namespace, or the system has no way to tell.
	Holder Holder

	// Deleted says that the file which the holder has locked was deleted from
	// Path. Linux only.
	Deleted bool

	// Cause is the context's error when a wait was cancelled, else nil.
	Cause error
}

func (e *HeldError) Error() string {
	s := "lock " + e.Path + ": held by another process"
	if e.Holder.PID != 0 {
		s = fmt.Sprintf("lock %s: held by process %d (%s)", e.Path, e.Holder.PID, e.Holder.CommandLine())
	}
	if e.Deleted {
		s += ", file deleted"
	}
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Unwrap makes errors.Is find ErrHeld and the cause.
func (e *HeldError) Unwrap() []error {
	if e.Cause == nil {
		return []error{ErrHeld}
	}
	return []error{ErrHeld, e.Cause}
}

func pathError(path string, err error) error {
	return &fs.PathError{Op: "lock", Path: path, Err: err}
}
