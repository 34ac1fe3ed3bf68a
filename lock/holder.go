package lock

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"time"
	"unicode"

	"github.com/lockrun/lockrun/internal/blocking"
	"github.com/lockrun/lockrun/internal/pidtext"
	"golang.org/x/sys/unix"
)

// Holder is a process that holds a lock: one that has a descriptor of the
// locked open file description. Several processes may share a lock, since a
// child inherits it.
//
// A process can end at any time, and its number can be given to another one;
// who wants to signal a holder must hold on to it first (see pidfile.Stop).
type Holder struct {
	// PID is the process, 0 if unknown.
	PID int

	// UID is its effective user, -1 if unknown.
	UID int

	// Args is its command line, nil if it can't be read. It is whatever the
	// process wants it to be: use CommandLine to print it.
	Args []string

	// Started is when the process was started, to 10 ms; zero if unknown.
	Started time.Time

	// Since is when the lock was taken, as far as can be told: when the PID
	// was written into the file or when the process was started, whichever
	// was later.
	Since time.Time

	// Shared says that the lock is a shared one.
	Shared bool

	// Recorded says that the PID is the one that stands in the lock file: this
	// is the process that the lock was taken for. It has a descriptor of the
	// lock, or had one and closed it, as sudo(8) does: then its parent, the
	// supervisor that recorded it, has one.
	Recorded bool

	// Straggler says that another process than this one is recorded, which is
	// not this one's child either: it only inherited the lock.
	Straggler bool
}

// CommandLine returns the command line for people: in one line, with control
// characters and broken UTF-8 escaped, cut after 120 characters. It is "?" when
// unknown.
func (h Holder) CommandLine() string {
	if len(h.Args) == 0 {
		return "?"
	}
	const most = 120
	var b strings.Builder
	n := 0
	for _, r := range strings.Join(h.Args, " ") {
		if n++; n > most {
			b.WriteString("...")
			break
		}
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			b.WriteByte('?')
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Holders returns the processes that hold a lock on the file path, the recorded
// one first. None means that none was seen, which is not proof that the lock is
// free: see [Inspect]. If there is no such file, its deleted predecessor is
// looked for.
//
// Linux only (errors.ErrUnsupported elsewhere): it needs /proc, and sees the
// processes of one's own user (all, for root) in one's PID namespace.
func Holders(path string) ([]Holder, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return HoldersOf(f)
}

// HoldersOf is Holders for an open file, whatever its path is now.
func HoldersOf(f *os.File) ([]Holder, error) {
	file, err := f.Stat()
	if err != nil {
		return nil, err
	}
	carriers, err := findCarriers(idOf(file))
	if err != nil {
		return nil, pathError(f.Name(), err)
	}
	holders := make([]Holder, 0, len(carriers)+1)
	pid, parent := recordedPID(f, file), 0
	if pid != 0 {
		parent, _ = parentOf(pid)
		if h, ok := recordedHolder(f); ok {
			holders = append(holders, h)
		}
	}
	for _, c := range carriers {
		if len(holders) > 0 && holders[0].Recorded && c.pid == pid {
			continue
		}
		h := describe(c.pid, c.shared, time.Time{})
		h.Straggler = pid != 0 && c.pid != parent
		holders = append(holders, h)
	}
	return holders, nil
}

// Carries reports whether process pid holds a lock on the open file f at this
// moment: it has a descriptor of it, or it is recorded and its parent has one
// (see Holder.Recorded). errors.ErrUnsupported and fs.ErrPermission are found in the error
// when that can't be known.
func Carries(pid int, f *os.File) (bool, error) {
	file, err := f.Stat()
	if err != nil {
		return false, err
	}
	_, ok, err := carries(pid, idOf(file))
	if !ok && recordedPID(f, file) == pid {
		_, ok = supervised(pid, file)
	}
	if err != nil && !ok {
		return false, pathError(f.Name(), err)
	}
	return ok && !isThread(pid), nil
}

// supervised reports whether a process that is recorded in a file, and does not
// carry the lock, is the child of one that does, and was started before its
// number was written: a child that was given the number later is not meant.
func supervised(pid int, file fs.FileInfo) (shared, ok bool) {
	parent, started := parentOf(pid)
	// The start is known to 10 ms, and the file's time to a tick of the kernel.
	const precision = 20 * time.Millisecond
	if parent <= 1 || started.After(file.ModTime().Add(precision)) {
		return false, false
	}
	shared, ok, _ = carries(parent, idOf(file))
	return shared, ok
}

// State says whether a lock is held.
type State int

const (
	Unknown State = iota // it can't be told; Inspect's error says why
	Free
	Held
)

func (s State) String() string {
	return [...]string{"unknown", "free", "held"}[s]
}

// Inspection is what Inspect saw.
type Inspection struct {
	State State

	// Holder is one that holds the lock, preferably the recorded one. Its PID
	// is 0 if the lock is free, or held by somebody who can't be seen.
	Holder Holder

	// PID is the number in the file, 0 if there is none that a process can
	// have. A file that is not a PID file has none.
	PID int

	// Absent says that there is no file at the path. It may be Held all the
	// same, see Inspect.
	Absent bool
}

// Inspect tells whether the lock on the file path is held, without changing
// anything. It believes no number in a file: a holder is proven by the kernel's
// record of its locks.
//
// Only if no holder can be seen, the last resort is to take a shared lock for a
// moment; those who are refused by that try again (see TryAcquire).
//
// If the state is Unknown the error says why, a *fs.PathError or ErrFileType;
// otherwise it is nil. An absent file is Free, unless on Linux a process still
// holds the deleted one.
func Inspect(path string) (Inspection, error) {
	in, errs := InspectAll([]string{path})
	return in[0], errs[0]
}

// InspectAll is Inspect for many paths; results and errors stand in the order of
// the paths. All processes are looked at once at most, and not once for each path;
// again only if there are more paths than a quarter of the descriptors that this
// process may have (RLIMIT_NOFILE).
func InspectAll(paths []string) ([]Inspection, []error) {
	batch := max(1, descriptorLimit()/4) // files that are open at a time
	in, errs := make([]Inspection, len(paths)), make([]error, len(paths))
	for from := 0; from < len(paths); from += batch {
		to := min(from+batch, len(paths))
		inspect(paths[from:to], in[from:to], errs[from:to])
	}
	return in, errs
}

func inspect(paths []string, in []Inspection, errs []error) {
	files := make([]*os.File, len(paths))
	wanted := newSearch()
	for i, path := range paths {
		r, err := newRequest("Inspect", path, nil)
		if err == nil {
			files[i], err = openForLook(r.path)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			in[i] = Inspection{State: Free, Absent: true}
			wanted.deleted(i, r.path)
		case err != nil:
			errs[i] = err
		default:
			defer files[i].Close()
			var id fileID
			if in[i], id, errs[i] = inspectRecorded(files[i]); errs[i] == nil && in[i].State == Unknown {
				wanted.file(i, id)
			}
		}
	}
	found, unseen := wanted.findHolders()
	for i, h := range found {
		in[i].State, in[i].Holder = Held, h
	}
	if unseen != nil && !errors.Is(unseen, errors.ErrUnsupported) {
		for i := range in {
			if in[i].Absent && files[i] == nil && in[i].State == Free {
				in[i].State, errs[i] = Unknown, pathError(paths[i], unseen)
			}
		}
	}
	for i, f := range files {
		if f != nil && errs[i] == nil && in[i].State == Unknown {
			in[i].State, errs[i] = tryShared(f)
		}
	}
}

// InspectFile is Inspect for an open file, whatever its path is now. f must not
// carry a lock itself.
func InspectFile(f *os.File) (Inspection, error) {
	in, _, err := inspectRecorded(f)
	if err != nil || in.State != Unknown {
		return in, err
	}
	if holders, _ := HoldersOf(f); len(holders) > 0 {
		in.State, in.Holder = Held, holders[0]
		return in, nil
	}
	in.State, err = tryShared(f)
	return in, err
}

// inspectRecorded looks whether the recorded process holds the lock. If not, the
// state is Unknown.
func inspectRecorded(f *os.File) (Inspection, fileID, error) {
	file, err := f.Stat()
	if err != nil {
		return Inspection{}, fileID{}, err
	}
	in := Inspection{PID: recordedPID(f, file), Absent: linksOf(file) == 0}
	if h, ok := recordedHolder(f); ok {
		in.State, in.Holder = Held, h
	}
	return in, idOf(file), nil
}

// tryShared takes a shared lock for a moment to see whether the lock is free.
func tryShared(f *os.File) (State, error) {
	defer runtime.KeepAlive(f)
	fd := int(f.Fd())
	err := blocking.IgnoringEINTR(func() error { return unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB) })
	switch err {
	case nil:
		return Free, os.NewSyscallError("flock", unix.Flock(fd, unix.LOCK_UN))
	case unix.EWOULDBLOCK:
		return Held, nil
	}
	return Unknown, pathError(f.Name(), err)
}

// holderOf names a holder of the lock on path for a refusal: the recorded one,
// and if walk allows to search all processes, any. Its PID is 0 if none is
// seen. Who holds a newborn file is about to be refused by the holder of a
// deleted predecessor, if there is one; then that is the one to name.
func holderOf(path string, walk bool) (h Holder, deleted bool) {
	f, err := openForLook(path)
	if err != nil {
		return Holder{}, false
	}
	defer f.Close()
	if h, ok := recordedHolder(f); ok || !walk {
		return h, false
	}
	file, err := f.Stat()
	if err != nil {
		return Holder{}, false
	}
	switch holder, d := findAny(path, idOf(file), isNewborn(file)); {
	case d != nil:
		h, _ := d.describe()
		return h, true
	case holder != nil:
		return describe(holder.pid, holder.shared, time.Time{}), false
	}
	return Holder{}, false
}

// recordedHolder returns the process whose PID stands in the file, if it holds
// the lock.
func recordedHolder(f *os.File) (Holder, bool) {
	file, err := f.Stat()
	if err != nil {
		return Holder{}, false
	}
	pid := recordedPID(f, file)
	if pid == 0 {
		return Holder{}, false
	}
	shared, ok, _ := carries(pid, idOf(file))
	if !ok {
		if shared, ok = supervised(pid, file); !ok {
			return Holder{}, false
		}
	}
	h, process := describeProcess(pid)
	h.Since = later(h.Started, file.ModTime())
	h.Shared, h.Recorded = shared, true
	return h, process
}

// Open opens a lock file to look at it, for reading only and without touching
// the lock. If there is no such file, but a process holds the lock on one that
// was deleted from path (Linux only), the deleted file is opened.
//
// Errors are *fs.PathError: ErrFileType for what can't be locked, which is not
// opened, or the system's reason.
func Open(path string) (*os.File, error) {
	r, err := newRequest("Open", path, nil)
	if err != nil {
		return nil, err
	}
	f, err := openForLook(r.path)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	h, _, unseen := findDeleted(r.path, fileID{}, false)
	if unseen != nil {
		return nil, pathError(r.path, unseen)
	}
	if h != nil {
		if f, err := h.open(); err == nil {
			return f, nil
		}
	}
	return nil, err
}

func openForLook(path string) (*os.File, error) {
	file, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if err := lockable(file); err != nil {
		return nil, pathError(path, err)
	}
	return os.OpenFile(path, os.O_RDONLY|safeFlags, 0)
}

// recordedPID returns the PID that stands in the file, 0 if there is none.
func recordedPID(f *os.File, file fs.FileInfo) int {
	if !file.Mode().IsRegular() || file.Size() == 0 || file.Size() > pidtext.MaxSize {
		return 0
	}
	content := make([]byte, file.Size())
	n, err := f.ReadAt(content, 0)
	if err != nil && err != io.EOF {
		return 0
	}
	pid, _ := pidtext.Parse(content[:n])
	return pid
}

// later returns the later of two times, one of which may be zero.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
