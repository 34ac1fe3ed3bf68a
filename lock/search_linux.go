package lock

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// search looks for the locks on many files in one walk over all processes that
// may be inspected.
type search struct {
	files map[fileID][]int
	names map[string]*deletedFile
	asked int
	err   error // why a question can't be answered
}

// deletedFile is what is known of a deleted file that is searched for.
type deletedFile struct {
	questions []int
	dir       unix.Statx_t // where it was
}

func newSearch() *search {
	return &search{files: make(map[fileID][]int), names: make(map[string]*deletedFile)}
}

// file asks for locks on a file; i is the number of the question.
func (s *search) file(i int, id fileID) {
	s.files[id] = append(s.files[id], i)
	s.asked++
}

// deleted asks for locks on a deleted file of that path.
func (s *search) deleted(i int, path string) {
	name, dir, err := kernelName(path)
	switch {
	case err == nil:
	case errors.Is(err, errors.ErrUnsupported), errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return
	default:
		s.err = cmp.Or(s.err, err)
		return
	}
	if s.names[name] == nil {
		s.names[name] = &deletedFile{dir: dir}
	}
	s.names[name].questions = append(s.names[name].questions, i)
	s.asked++
}

// fail takes note of an error. With any other than those that mean nothing, be it
// that no memory is left, "nobody holds it" would be a guess.
func (s *search) fail(err error) {
	if !meansNothing(err) {
		s.err = cmp.Or(s.err, err)
	}
}

// meansNothing reports whether there is no error, or one that says that a process is
// gone or may not be looked at, or that there is no /proc.
func meansNothing(err error) bool {
	for _, no := range []error{nil, fs.ErrNotExist, fs.ErrPermission, errors.ErrUnsupported, unix.ESRCH} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

// whatOfDeleted is asked of statx(2) of a deleted file and of its directory.
const whatOfDeleted = unix.STATX_UID | unix.STATX_MODE | unix.STATX_MNT_ID

// was reports whether the file of a descriptor, deleted and of the right name, was
// in the directory. A file in another mount namespace, a container's say, can have
// the same name.
//
// So it must be on the same file system, or mount, since the files of an overlay
// can have other devices than their directory. And its owner, or who has it open,
// may put one there: every user can have a mount namespace (user_namespaces(7)),
// mount a directory of his own over any other in it, and keep us out with a file
// of his.
func (d *deletedFile) was(pid int, dir directory, fd string) (bool, error) {
	var st unix.Statx_t
	if err := unix.Statx(dir.fd, fd, unix.AT_STATX_DONT_SYNC, whatOfDeleted, &st); err != nil {
		return false, os.NewSyscallError("statx", err)
	}
	sameMount := st.Mask&d.dir.Mask&unix.STATX_MNT_ID != 0 && st.Mnt_id == d.dir.Mnt_id
	if !sameMount && (st.Dev_major != d.dir.Dev_major || st.Dev_minor != d.dir.Dev_minor) {
		return false, nil
	}
	trusted := func(uid int) bool { return uid == 0 || uid == os.Geteuid() }
	if trusted(int(st.Uid)) || st.Uid == d.dir.Uid || d.dir.Mode&0o022 != 0 {
		return true, nil
	}
	// Of a program that is set-user-ID the real user is who started it.
	status, err := readProc("/proc/" + strconv.Itoa(pid) + "/status")
	real, ok := statusNumber(status, "Uid:", 0)
	return ok && trusted(real), err
}

// each calls do with every lock that is found and the number of the question
// that it answers, until do returns false. An error says that there may be more.
func (s *search) each(do func(i int, c carrier) bool) error {
	if s.asked == 0 {
		return s.err
	}
	err := eachProcess(func(pid int) (more bool) {
		more = true
		s.fail(eachDescriptor(pid, func(dir directory, fd string) (_ bool, err error) {
			more, err = s.look(pid, dir, fd, do)
			s.fail(err)
			return more, err
		}))
		return more
	})
	return cmp.Or(err, s.err)
}

// look is each for one descriptor.
func (s *search) look(pid int, dir directory, fd string, do func(i int, c carrier) bool) (more bool, err error) {
	id, links, err := idOfEntry(dir, fd)
	if err != nil {
		// A file system that is out of order, somebody else's, is not to keep all
		// from starting.
		if !meansNothing(err) && err != unix.ENOMEM {
			if d, nameErr := s.named(dir, fd); d == nil {
				err = nameErr
			}
		}
		return true, err
	}
	questions := s.files[id]
	if links == 0 && len(s.names) > 0 { // a living file can be called "x (deleted)" too
		var d *deletedFile
		was := false
		if d, err = s.named(dir, fd); d != nil {
			was, err = d.was(pid, dir, fd)
		}
		if was {
			questions = append(slices.Clip(questions), d.questions...)
		}
	}
	if len(questions) == 0 {
		return true, err
	}
	shared, ok, lockErr := descriptorLock(dir.path, fd)
	more = true
	for _, i := range questions {
		more = more && (!ok || do(i, carrier{pid, dir.path + "/" + fd, id, shared}))
	}
	return more, cmp.Or(err, lockErr)
}

// named returns the deleted file that the one of a descriptor is by its name, which
// the kernel tells without asking the file system.
func (s *search) named(dir directory, fd string) (*deletedFile, error) {
	link, err := os.Readlink(dir.path + "/" + fd)
	name, _ := strings.CutSuffix(link, " (deleted)")
	return s.names[name], err
}

// findHolders returns one holder for each question that has one, by number.
func (s *search) findHolders() (map[int]Holder, error) {
	found := make(map[int]Holder)
	err := s.each(func(i int, c carrier) bool {
		if _, already := found[i]; !already {
			found[i], _ = c.describe()
		}
		return len(found) < s.asked
	})
	return found, err
}

// findCarriers searches for all processes that carry a lock on a file.
func findCarriers(id fileID) (found []carrier, err error) {
	s := newSearch()
	s.file(0, id)
	err = s.each(func(_ int, c carrier) bool {
		// A process may have several descriptors of it.
		if n := len(found); n == 0 || found[n-1].pid != c.pid {
			found = append(found, c)
		}
		return true
	})
	return found, err
}

// findDeleted searches for a process that holds the lock on a deleted file of
// that path; nil means that none was seen. With shared, those that hold a shared
// lock are not meant: they are in nobody's way who wants such a one too, and
// others says that there are some. Nor is the file own meant, the one that the
// caller has locked. An error says that there may be one that was not seen.
func findDeleted(path string, own fileID, shared bool) (found *carrier, others bool, err error) {
	s := newSearch()
	s.deleted(0, path)
	err = s.each(func(_ int, c carrier) bool {
		switch {
		case c.id == own:
		case c.shared && shared:
			others = true
		default:
			found = &c
		}
		return found == nil
	})
	if found != nil || errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	return found, others, err
}

// findAny searches for one process to name in a refusal: one that holds the
// lock on the file id at path, or on a deleted file of that path. With
// preferDeleted a holder of the latter is searched to the end.
func findAny(path string, id fileID, preferDeleted bool) (holder, deleted *carrier) {
	const living, dead = 0, 1
	s := newSearch()
	s.file(living, id)
	s.deleted(dead, path)
	s.each(func(i int, c carrier) bool {
		if i == dead {
			deleted = &c
		} else {
			holder = &c
		}
		return deleted == nil && (holder == nil || preferDeleted)
	})
	return holder, deleted
}

// kernelName returns the path as /proc prints it, without symbolic links, and
// what its directory is. Without /proc the error is errors.ErrUnsupported.
func kernelName(path string) (name string, dir unix.Statx_t, err error) {
	// With the dot, a symbolic link is one on the way, as in the path itself, which
	// fs.protected_symlinks lets pass (proc_sys_fs(5)).
	fd, err := unix.Open(filepath.Dir(path)+"/.", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", dir, err
	}
	defer unix.Close(fd)
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, whatOfDeleted, &dir); err != nil {
		if err == unix.EPERM { // of a container's filter that does not know it
			err = unix.ENOSYS
		}
		return "", dir, err
	}
	real, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		err = errors.Join(errors.ErrUnsupported, err)
	}
	return strings.TrimSuffix(real, "/") + "/" + filepath.Base(path), dir, err
}
