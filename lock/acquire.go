package lock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/gofrs/flock"
	"github.com/lockrun/lockrun/internal/blocking"
	"golang.org/x/sys/unix"
)

// request is what a caller asked for.
type request struct {
	path   string // absolute
	shared bool
	mode   fs.FileMode // of a file that has to be created
	access int         // os.O_RDONLY or os.O_WRONLY
}

// safeFlags are the flags of every open here: a symbolic link is refused, a
// FIFO without a peer does not block, a terminal does not become ours, no child
// inherits by accident.
const safeFlags = unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC

// newborn is the mode bit (the sticky bit, which means nothing on a regular
// file) of a lock file whose creator has not yet looked for the holder of a
// deleted predecessor; see race 2.
const newborn = fs.ModeSticky

func isNewborn(file fs.FileInfo) bool {
	return file.Mode().IsRegular() && file.Mode()&newborn != 0 && file.Size() == 0
}

// errAgain says that the file went away between two steps: start afresh.
var errAgain = errors.New("the lock file changed")

// heldBy says that the lock was not to be had. deleted is the holder of a
// deleted predecessor of the file, nil if it is simply locked.
type heldBy struct{ deleted *carrier }

func (heldBy) Error() string { return ErrHeld.Error() }

// once goes through the protocol once. take locks an opened file, waiting or
// not, and reports whether it got the lock.
//
// Race 1, which step 4 closes. Holder H removes the file at release, as it may:
//
//  1. H holds inode 1. W opens the path: inode 1, and waits.
//  2. H deletes the path and releases.
//  3. W gets the lock on inode 1, which has no name any more.
//  4. N comes, finds no file, creates inode 2, gets the lock on it.
//
// Without a second look W and N both run. With it W sees that the path does not
// name what it locked, and starts again.
//
// Race 2, which step 5 closes. Somebody deletes the file of a living holder:
//
//  1. H holds inode 1. M deletes the path.
//  2. N finds no file, creates inode 2, gets the lock on it.
//
// So who creates a file looks whether a process still holds a deleted one of
// that name. No such holder can appear after the look: it would have to pass
// its own step 4, with its file at the path, where N's file is.
//
// N may be killed between creating and looking, and the next one finds a file
// that it did not create. Therefore the file is born with a mark, which is
// taken off after the look, and who gets the lock on a marked file looks too.
// A shared lock does not give way to another shared one, and then leaves the
// mark for those who must.
//
// Race 3, which step 6 closes. H does not see that M was faster:
//
//  1. H, which removes its file at release, verifies that the path names it.
//  2. M deletes the path. N creates inode 2, gets the lock on it, verifies.
//  3. H deletes the path, which is inode 2, and releases.
//  4. N looks, and finds nobody.
//
// N would go on with a file that has no name. Whoever looks next would find it,
// but N can as well start again. After the look nobody is left who could do
// what H did: all this time H holds a deleted file, which the look would find.
//
// internal/model goes through all interleavings of these steps; a step that is
// changed here is to be changed there.
func (r *request) once(take func(*flock.Flock) (bool, error)) (*Lock, error) {
	// 1. Open. O_CREAT only when there is no file: fs.protected_regular
	// (proc_sys_fs(5)) refuses an O_CREAT open of another user's file in a
	// sticky directory.
	flag, perm := r.access|safeFlags, fs.FileMode(0)
	was, err := os.Lstat(r.path)
	created := errors.Is(err, fs.ErrNotExist)
	switch {
	case created:
		flag |= os.O_CREATE | os.O_EXCL
		perm = r.mode | newborn
	case err != nil:
		return nil, err
	default:
		// 2. Only what can be locked is opened at all: to open a FIFO wakes
		// the writer at its other end.
		if err := lockable(was); err != nil {
			return nil, pathError(r.path, err)
		}
	}
	f := flock.New(r.path, flock.SetFlag(flag), flock.SetPermissions(perm))

	// 3. Lock.
	got, err := take(f)
	switch {
	case created && errors.Is(err, fs.ErrExist), !created && errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ELOOP):
		return nil, errAgain
	case err != nil:
		return nil, withPath(r.path, err)
	case !got:
		return nil, heldBy{}
	}

	// 4. Verify.
	file, err := f.Stat()
	if err == nil {
		var now fs.FileInfo
		if now, err = os.Lstat(r.path); err == nil && !os.SameFile(file, now) {
			err = fs.ErrNotExist
		}
	}
	if err == nil {
		err = lockable(file)
	}
	if err != nil {
		f.Unlock()
		if errors.Is(err, fs.ErrNotExist) {
			return nil, errAgain
		}
		return nil, withPath(r.path, err)
	}
	l := r.newLock(&description{own: f}, file, created)
	if !created && !isNewborn(file) {
		return l, nil
	}

	// 5. Look for the holder of a deleted predecessor.
	h, others, unseen := findDeleted(r.path, idOf(file), r.shared)
	if unseen != nil || h != nil {
		var err error
		if created || h != nil { // else the mark stays, for the next one to look
			err = l.Remove()
		}
		l.Release()
		switch {
		case unseen != nil:
			return nil, pathError(r.path, fmt.Errorf("can't look for the holder of a deleted file: %w", unseen))
		case err != nil && !errors.Is(err, ErrMoved):
			return nil, err
		}
		return nil, heldBy{h}
	}

	// 6. Verify again.
	if err := l.Verify(); err != nil {
		l.Release()
		if errors.Is(err, ErrMoved) {
			return nil, errAgain
		}
		return nil, err
	}

	// 7. Take the mark off.
	if err := l.grown(r.mode, others); err != nil {
		if created {
			l.Remove()
		}
		l.Release()
		return nil, err
	}
	return l, nil
}

// grown takes the newborn mark off, and gives the file the mode that was asked
// for, which the umask may have cut. With others, who hold a deleted file and
// are in somebody else's way, the mark stays. So it does on somebody else's file,
// which is not even root's to change, and the next one looks again.
func (l *Lock) grown(mode fs.FileMode, others bool) error {
	if !l.created && ownerOf(l.file) != os.Geteuid() {
		return nil
	}
	f, err := l.File() // by the descriptor: a umask can cut our own right to open it
	if err != nil {
		return err
	}
	defer f.Close()
	if !l.created {
		mode = l.file.Mode().Perm()
	}
	if others {
		mode |= newborn
	}
	if err := f.Chmod(mode); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// lockable returns nil for what can be locked.
func lockable(file fs.FileInfo) error {
	var kind string
	switch mode := file.Mode(); {
	case mode&fs.ModeSymlink != 0:
		kind = "a symbolic link"
	case mode&fs.ModeNamedPipe != 0:
		kind = "a FIFO"
	case mode&fs.ModeSocket != 0:
		kind = "a socket"
	default:
		return nil
	}
	return fmt.Errorf("%s: %w", kind, ErrFileType)
}

// withPath gives a bare errno, as flock(2) returns it, the path.
func withPath(path string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return err
	}
	return pathError(path, err)
}

func (r *request) tryLock(f *flock.Flock) (bool, error) {
	for {
		var got bool
		var err error
		if r.shared {
			got, err = f.TryRLock()
		} else {
			got, err = f.TryLock()
		}
		if err != unix.EINTR {
			return got, err
		}
	}
}

// patience is how long a refused attempt without a holder to name is repeated,
// and in which steps. Those who look at a lock (status, flock -n) hold it for
// some microseconds; a holder records its PID within some more. The walk over
// all processes comes after the first steps, since it is dear.
var patience = []time.Duration{
	200 * time.Microsecond, 500 * time.Microsecond, time.Millisecond, 2 * time.Millisecond,
	4 * time.Millisecond, 8 * time.Millisecond, 8 * time.Millisecond,
}

// walkAfter is the step of patience from which on all processes are searched.
const walkAfter = 2

func (r *request) try() (*Lock, error) {
	for refusals := 0; ; {
		l, err := r.once(r.tryLock)
		if err == errAgain {
			continue
		}
		held, ok := err.(heldBy)
		if !ok {
			return l, err
		}
		refusal := r.refusal(held, refusals >= walkAfter)
		if settled(refusal.Holder) || refusals == len(patience) {
			return nil, refusal
		}
		time.Sleep(patience[refusals])
		refusals++
	}
}

// settled reports whether a holder is in the way for longer than a moment. A
// shared lock that nobody recorded may be that of one who only looks (see
// Inspect) and had to wait for the CPU meanwhile.
func settled(h Holder) bool {
	return h.PID != 0 && (h.Recorded || !h.Shared)
}

// refusal finds out who refuses. With walk all processes are searched.
//
// The holder of a deleted file that is not the one recorded in it may be about
// to let go: it removes its file at release, or it is a starter that looks
// itself. It counts from the third refusal on, and if it still holds the file:
// two starters that look at the same time would else name each other, and both
// be gone.
func (r *request) refusal(held heldBy, walk bool) *HeldError {
	e := &HeldError{Path: r.path}
	if held.deleted == nil {
		e.Holder, e.Deleted = holderOf(r.path, walk)
		return e
	}
	if h, ok := held.deleted.describe(); ok && (h.Recorded || walk) {
		e.Holder, e.Deleted = h, true
	}
	return e
}

func (r *request) wait(ctx context.Context) (*Lock, error) {
	for {
		l, err := r.once(func(f *flock.Flock) (bool, error) { return r.blockingLock(ctx, f) })
		if err == errAgain {
			continue
		}
		held, ok := err.(heldBy)
		if !ok {
			return l, err
		}
		if ctx.Err() == nil {
			err := r.awaitDeleted(ctx, held.deleted)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, withPath(r.path, err) // not to be waited for; to ask again and again is no way
			}
		}
		if ctx.Err() != nil {
			e := r.refusal(held, true)
			e.Cause = ctx.Err()
			return nil, e
		}
	}
}

// awaitDeleted waits until the holder of a deleted file lets go of it, or ctx
// ends. The error is fs.ErrNotExist if it has done so already.
func (r *request) awaitDeleted(ctx context.Context, c *carrier) error {
	f, err := c.open() // the file has no name; /proc has it
	if err != nil {
		return err
	}
	defer f.Close()
	// By our own descriptor, which nobody else changes.
	name := "/proc/self/fd/" + strconv.Itoa(int(f.Fd()))
	l := flock.New(name, flock.SetFlag(os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC))
	if got, err := r.blockingLock(ctx, l); !got {
		return err
	}
	return l.Unlock()
}

// blockingLock waits for the lock in the kernel's queue. It reports false if
// ctx ended first.
func (r *request) blockingLock(ctx context.Context, f *flock.Flock) (bool, error) {
	lock := f.Lock
	if r.shared {
		lock = f.RLock
	}
	return blocking.Call(ctx, lock, func() (bool, error) { return r.tryLock(f) })
}

func (r *request) adopt(f *os.File) (*Lock, error) {
	file, err := f.Stat()
	if err != nil {
		return nil, err
	}
	now, err := os.Lstat(r.path)
	if err != nil {
		return nil, moved(err)
	}
	if !os.SameFile(file, now) {
		return nil, pathError(r.path, ErrMoved)
	}
	if err := carried(int(f.Fd()), r.shared); err != nil {
		return nil, pathError(r.path, err)
	}
	unix.CloseOnExec(int(f.Fd()))
	return r.newLock(&description{adopted: f}, file, false), nil
}
