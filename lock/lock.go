package lock

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"
)

// Options are the details of a lock. A nil *Options means the zero value.
type Options struct {
	// Shared asks for a shared lock, which excludes only exclusive ones. The
	// zero value asks for an exclusive lock.
	Shared bool

	// Mode is the permission of the file if it has to be created, whatever the
	// umask. Zero means 0600: a user who may read a lock file may lock it and
	// so keep everybody out for ever.
	Mode fs.FileMode

	// Write opens the file for writing instead of reading: for a file system
	// that asks for that (NFSv4), and for a child that is to write by the
	// descriptor that it is handed (see Lock.File). What may not be written, a
	// directory say, can't be locked then. Adopt ignores it.
	Write bool
}

// Lock is a held lock. There is one as long as the lock is held: until Release,
// or until the process and every process that it handed the lock to have ended.
// Forgetting a Lock does not release it.
//
// The methods may be called from several goroutines.
type Lock struct {
	path    string
	shared  bool
	created bool
	file    fs.FileInfo // the locked file's identity; the inode can't be reused while it is open

	mu sync.Mutex
	d  *description // nil once released
}

// description is an open file description that carries a lock, and the one
// place that knows whether this process opened it. Only an owner may unlock it
// (LOCK_UN takes the lock away from every process that shares the description)
// or remove the file.
type description struct {
	own     *flock.Flock // opened and locked by this process, or
	adopted *os.File     // handed in by another one
}

// held keeps every held lock reachable. Without it a Lock that its owner drops
// would be collected, its file closed and the lock lost in silence.
var held struct {
	sync.Mutex
	locks map[*Lock]struct{}
}

// TryAcquire takes the lock on the file path, or refuses at once.
//
// The file is created if it is missing, with an existing directory; it is never
// written or truncated. A regular file, a directory or a device can be locked.
// The path is made absolute, so that a later chdir does not matter.
//
// Somebody else's lock is a [*HeldError] (errors.Is ErrHeld). Since others may
// hold it for a moment only to see whether it is free, a refusal without a
// holder to name, or because of a shared lock, is tried again for up to 25 ms. Other errors are *fs.PathError
// with the system's reason, ErrFileType among them.
//
// It panics when path is empty.
func TryAcquire(path string, opt *Options) (*Lock, error) {
	r, err := newRequest("TryAcquire", path, opt)
	if err != nil {
		return nil, err
	}
	return r.try()
}

// Acquire takes the lock on the file path and waits for it, as long as ctx
// allows. Those who wait are served in the order in which they came, but
// somebody who asks with TryAcquire in the very moment of a release can be
// faster.
//
// When ctx ends first, the error is a [*HeldError] that errors.Is finds the
// context's error in. If ctx has ended already, a free lock is taken all the
// same. For the rest see TryAcquire.
//
// On Linux a wait with a context that can end uses an own thread and the
// real-time signal 61; a program that handles that signal itself still works.
func Acquire(ctx context.Context, path string, opt *Options) (*Lock, error) {
	r, err := newRequest("Acquire", path, opt)
	if err != nil {
		return nil, err
	}
	return r.wait(ctx)
}

// Adopt makes a Lock of a descriptor that was handed in by another process,
// after proof that it carries a lock on the file that path names.
//
// On success the Lock owns f, which is made close-on-exec: do not use or close
// it. On an error f stays the caller's. The error is ErrMoved when f is not the
// file of that path and ErrNotCarried when it has no lock of the kind that
// opt.Shared asks for.
//
// A Lock that was adopted is never unlocked or removed by Release: those who
// share it keep it.
//
// Without /proc the proof is to take the lock again, which also succeeds when
// it was free.
func Adopt(f *os.File, path string, opt *Options) (*Lock, error) {
	r, err := newRequest("Adopt", path, opt)
	if err != nil {
		return nil, err
	}
	return r.adopt(f)
}

// Path returns the absolute path of the lock file.
func (l *Lock) Path() string { return l.path }

// Shared reports whether the lock is a shared one.
func (l *Lock) Shared() bool { return l.shared }

// Created reports whether taking the lock created the file.
func (l *Lock) Created() bool { return l.created }

// Info describes the locked file as it was when the lock was taken.
func (l *Lock) Info() fs.FileInfo { return l.file }

// Release gives the lock up and closes its file. If this process took the lock,
// it is free afterwards, even when other processes still have the descriptor:
// a background process that a command left behind does not keep it.
//
// The file stays; see Remove. A second Release is fs.ErrClosed.
func (l *Lock) Release() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.d == nil {
		return pathError(l.path, fs.ErrClosed)
	}
	err := l.d.release()
	if err != nil {
		return pathError(l.path, err)
	}
	l.d = nil
	held.Lock()
	delete(held.locks, l)
	held.Unlock()
	return nil
}

// Remove deletes the lock file. It is to be called while the lock is held and
// before Release: whoever waits for the lock then finds that the file is gone
// and starts afresh. Programs that do not look again after they got the lock,
// flock(1) among them, would run beside the next holder: keep a file that they
// wait for too.
//
// It does nothing and returns ErrMoved if the path names another file by now
// (fs.ErrNotExist is found too, if it names none), ErrFileType if the file is
// not a regular one, and fs.ErrPermission if the Lock was adopted.
func (l *Lock) Remove() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.d == nil:
		return pathError(l.path, fs.ErrClosed)
	case l.d.own == nil:
		return pathError(l.path, fs.ErrPermission)
	case !l.file.Mode().IsRegular():
		return pathError(l.path, ErrFileType)
	}
	if err := l.verify(); err != nil {
		return err
	}
	if err := os.Remove(l.path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return &movedError{pathError(l.path, fs.ErrNotExist)}
}

// Verify returns nil if the path still names the locked file, and an error in which
// errors.Is finds ErrMoved if not; another one says why it can't be known. A process
// that runs for long can ask now and then: a file renamed under its holder lets a
// second one in.
func (l *Lock) Verify() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.d == nil {
		return pathError(l.path, fs.ErrClosed)
	}
	return l.verify()
}

func (l *Lock) verify() error {
	now, err := os.Lstat(l.path)
	if err != nil {
		return moved(err)
	}
	if !os.SameFile(now, l.file) {
		return pathError(l.path, ErrMoved)
	}
	return nil
}

// moved returns what it means that the path can't be looked at.
func moved(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return &movedError{err}
	}
	return err
}

// movedError is ErrMoved with the reason why there is nothing at the path.
type movedError struct{ error }

func (e *movedError) Unwrap() []error { return []error{ErrMoved, e.error} }

// File returns a duplicate of the locked descriptor, to hand the lock to a
// child: as long as any process has a duplicate open, the lock is held, until
// this process's Release. It is open for reading only (on NFS perhaps for
// writing too), or for writing only with Options.Write, close-on-exec, and its
// number is 64 or more, so that a shell script's "exec 3>file" does not close
// it. Closing it is up to the caller and does not release the lock.
func (l *Lock) File() (*os.File, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.d == nil {
		return nil, pathError(l.path, fs.ErrClosed)
	}
	fd, err := l.d.duplicate(l.file, l.shared)
	if err != nil {
		return nil, pathError(l.path, err)
	}
	return os.NewFile(uintptr(fd), l.path), nil
}

// OpenFile opens the locked file once more, with the given flags of
// os.OpenFile, as an independent description: closing it does not touch the
// lock. It fails with ErrMoved unless the path still names the locked file. It
// never creates or truncates.
func (l *Lock) OpenFile(flag int) (*os.File, error) {
	f, err := os.OpenFile(l.path, flag&^(os.O_CREATE|os.O_EXCL|os.O_TRUNC)|safeFlags, 0)
	if err != nil {
		return nil, err
	}
	now, err := f.Stat()
	if err == nil && !os.SameFile(now, l.file) {
		err = pathError(l.path, ErrMoved)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (r *request) newLock(d *description, file fs.FileInfo, created bool) *Lock {
	l := &Lock{path: r.path, shared: r.shared, created: created, file: file, d: d}
	held.Lock()
	if held.locks == nil {
		held.locks = make(map[*Lock]struct{})
	}
	held.locks[l] = struct{}{}
	held.Unlock()
	return l
}

func newRequest(caller, path string, opt *Options) (*request, error) {
	if path == "" {
		panic("lock." + caller + ": empty path")
	}
	if opt == nil {
		opt = &Options{}
	}
	// Not filepath.Abs: it would drop "dir/.." even where dir is a symbolic link.
	if !filepath.IsAbs(path) {
		wd, err := os.Getwd()
		if err != nil {
			return nil, pathError(path, err)
		}
		path = wd + "/" + strings.TrimPrefix(path, "./")
	}
	mode := opt.Mode.Perm()
	if opt.Mode == 0 {
		mode = 0o600
	}
	access := os.O_RDONLY
	if opt.Write {
		access = os.O_WRONLY
	}
	return &request{path: path, shared: opt.Shared, mode: mode, access: access}, nil
}
