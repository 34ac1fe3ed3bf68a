package lock

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What /proc tells of locks (proc_pid_fdinfo(5), since Linux 4.1): the file
// fdinfo/N of a process has a line for every lock that the open file
// description of its descriptor N holds, such as
//
//	lock:	1: FLOCK  ADVISORY  WRITE 5577 fe:00:1234567 0 EOF
//
// The 5577 is the process that took the lock, which may be long gone, and
// fe:00 is not always what stat(2) says (btrfs, overlayfs). So the line is only
// read for its being there, and the file is compared by looking at fd/N itself.

// carrier is a process that has a descriptor with a lock.
type carrier struct {
	pid    int
	fd     string // path of the descriptor, /proc/5577/fd/64
	id     fileID // what it was open on
	shared bool
}

// open opens the locked file, even if it was deleted. The error is
// fs.ErrNotExist if the process has it open no more; the number of its
// descriptor can be that of another file by now.
func (c *carrier) open() (*os.File, error) {
	f, err := os.OpenFile(c.fd, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	id, err := idOfDescriptor(int(f.Fd()))
	if err != nil || id != c.id {
		f.Close()
		return nil, pathError(c.fd, fs.ErrNotExist)
	}
	return f, nil
}

// describe names the process that the locked file records, if it is one of
// those that share the lock, else the one that was found. It reports whether
// that one still carries the lock.
func (c *carrier) describe() (h Holder, ok bool) {
	if f, err := c.open(); err == nil {
		defer f.Close()
		if h, ok := recordedHolder(f); ok {
			return h, true
		}
	}
	_, ok, err := carries(c.pid, c.id)
	return describe(c.pid, c.shared, time.Time{}), ok || err != nil
}

// readProc reads a file of /proc. os.ReadFile would tell the poller of it and
// ask for its size first, which is half of the time of a refusal.
func readProc(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	buf := make([]byte, 0, 2048)
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := unix.Read(fd, buf[len(buf):cap(buf)])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		}
		if n == 0 {
			return buf, nil
		}
		buf = buf[:len(buf)+n]
	}
}

// lockLine looks for a flock(2) lock in the content of a fdinfo file.
func lockLine(fdinfo []byte) (shared, ok bool) {
	for line := range bytes.Lines(fdinfo) {
		rest, found := bytes.CutPrefix(line, []byte("lock:"))
		if !found {
			continue
		}
		// "1:", "FLOCK", "ADVISORY", "WRITE", ...
		if f := bytes.Fields(rest); len(f) >= 4 && string(f[1]) == "FLOCK" {
			return string(f[3]) == "READ", true
		}
	}
	return false, false
}

// carries reports whether process pid carries a lock on the file id. Where a
// command inherits it (see firstInherited) is looked at first.
func carries(pid int, id fileID) (shared, ok bool, err error) {
	var st unix.Stat_t
	first := strconv.Itoa(firstInherited)
	fds := "/proc/" + strconv.Itoa(pid) + "/fd"
	if unix.Stat(fds+"/"+first, &st) == nil && (fileID{st.Dev, st.Ino}) == id {
		if shared, ok, _ = descriptorLock(fds, first); ok {
			return shared, true, nil
		}
	}
	err = eachDescriptor(pid, func(dir directory, fd string) (more bool, err error) {
		if got, _, err := idOfEntry(dir, fd); err != nil || got != id {
			return true, err
		}
		shared, ok, err = descriptorLock(dir.path, fd)
		return !ok, err
	})
	return shared, ok, err
}

// carried returns nil if our own descriptor fd carries a lock of that kind.
func carried(fd int, shared bool) error {
	info, err := readProc("/proc/self/fdinfo/" + strconv.Itoa(fd))
	if err != nil {
		return relock(fd, shared)
	}
	if s, ok := lockLine(info); !ok || s != shared {
		return ErrNotCarried
	}
	return nil
}

// ownDescriptor returns a close-on-exec duplicate of a descriptor of ours that
// carries a lock of that kind on a file.
func ownDescriptor(id fileID, shared bool) (int, error) {
	dup, err := -1, error(ErrNotCarried)
	walkErr := eachDescriptor(os.Getpid(), func(_ directory, name string) (more bool, _ error) {
		fd, e := strconv.Atoi(name)
		if e != nil {
			return true, nil
		}
		got, e := idOfDescriptor(fd)
		if e != nil && e != unix.EBADF {
			err = e
		}
		if e != nil || got != id {
			return true, nil
		}
		if e := carried(fd, shared); e != nil {
			err = e
			return true, nil
		}
		dup, err = duplicateFrom(uintptr(fd))
		return false, nil
	})
	return dup, cmp.Or(walkErr, err)
}

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

// eachProcess calls do with the PID of every process until it returns false.
//
// Race 1, closed by listing again until no process is new:
//
//  1. We list /proc; the holder P is in it.
//  2. P forks C, which inherits the lock and is not in the list.
//  3. P is killed. We come to P: no descriptors. Nobody seems to hold the lock.
//
// C was there before P was gone, so it is in a list that is made after we came
// to P. C is new even if it was given the number of a process that we came to and
// that has ended since: the kernel gives the directory of each process an inode
// number of its own (proc_pid_make_inode, get_next_ino).
//
// Race 2, closed by listing again if the numbers began anew meanwhile. /proc is
// listed in the order of the numbers, and not all at once:
//
//  1. We list /proc, and are past the low numbers. P is behind them.
//  2. P forks C, whose number is the first one that is free again, and is killed.
//  3. We come to where P was. Neither is in the list.
//
// As long as each C has a higher number than its P, one of them is there when the
// list comes to it. So what is left is that while /proc is listed once all numbers
// are given, and the lock is handed on to a lower one.
func eachProcess(do func(pid int) bool) error {
	err := eachNumber("/proc", lastPID, do)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return errors.Join(errors.ErrUnsupported, err)
	}
	return err
}

// eachNumber calls do with every number that is the name of something in a
// directory, as often as there are new ones, until it returns false. last tells the
// number that was given last.
func eachNumber(path string, last func() int, do func(n int) bool) error {
	seen := make(map[entry]bool)
	for {
		before := last()
		entries, err := list(path)
		if err != nil {
			return err
		}
		again := last() < before
		for _, e := range entries {
			n, err := strconv.Atoi(e.name)
			if err != nil || seen[e] {
				continue
			}
			seen[e], again = true, true
			if !do(n) {
				return nil
			}
		}
		if !again {
			return nil
		}
	}
}

// lastPID returns the number that was given to a process or thread last. It is 0
// where the kernel does not tell (before 3.3, without CONFIG_CHECKPOINT_RESTORE, in a
// /proc of processes alone).
func lastPID() int {
	text, _ := readProc("/proc/sys/kernel/ns_last_pid")
	n, _ := strconv.Atoi(string(bytes.TrimSpace(text)))
	return n
}

func list(path string) ([]entry, error) {
	dir, err := openDirectory(path)
	if err != nil {
		return nil, err
	}
	defer dir.close()
	return dir.entries()
}

// directory is an open directory of /proc. os.File would tell the poller of it,
// which is half of the time of a walk.
type directory struct {
	path string
	fd   int
}

func openDirectory(path string) (directory, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return directory{}, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return directory{path, fd}, nil
}

func (d directory) close() { unix.Close(d.fd) }

// entry is a name in a directory, and the inode that it had when it was listed.
type entry struct {
	name string
	ino  uint64
}

// entries reads the directory from where that ended before.
func (d directory) entries() (entries []entry, err error) {
	buf := make([]byte, 8192)
	for {
		n, err := unix.ReadDirent(d.fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return entries, &fs.PathError{Op: "readdirent", Path: d.path, Err: err}
		}
		if n == 0 {
			return entries, nil
		}
		// struct linux_dirent64, getdents(2): d_ino, d_off, d_reclen, d_type, d_name.
		for rest := buf[:n]; len(rest) > 0; {
			length := binary.NativeEndian.Uint16(rest[16:])
			name, _, _ := bytes.Cut(rest[19:length], []byte{0})
			entries = append(entries, entry{string(name), binary.NativeEndian.Uint64(rest)})
			rest = rest[length:]
		}
	}
}

// eachDescriptor calls do with every descriptor of a process until it returns
// false. A process that is gone, or a zombie, has none. dir is the directory
// of the descriptors. do may be called again with one of which it was told.
//
// /proc/PID/fd is that of the first thread. It is empty, or root's, once that thread
// has ended, although the others live on with the descriptors: it has called
// pthread_exit(3), or all of them are being killed, which is done by each for itself.
func eachDescriptor(pid int, do func(dir directory, fd string) (more bool, err error)) error {
	proc := "/proc/" + strconv.Itoa(pid)
	some := false
	err := eachDescriptorIn(proc+"/fd", func(dir directory, fd string) (bool, error) {
		some = true
		return do(dir, fd)
	})
	if some || err != nil && !errors.Is(err, fs.ErrPermission) || !hasThreads(proc) {
		return err
	}
	if parent, _ := parentOf(pid); err != nil && parent != 0 {
		return err // somebody else's
	}
	more := true
	threadsErr := eachNumber(proc+"/task", lastPID, func(thread int) bool {
		if thread == pid {
			return true
		}
		err = eachDescriptorIn(proc+"/task/"+strconv.Itoa(thread)+"/fd", func(dir directory, fd string) (_ bool, err error) {
			more, err = do(dir, fd)
			return more, err
		})
		return more && err == nil
	})
	if gone(threadsErr) {
		return err
	}
	return cmp.Or(err, threadsErr)
}

// hasThreads reports whether a process has more than one thread: its directory of
// them has a link for each.
func hasThreads(proc string) bool {
	var st unix.Stat_t
	return unix.Stat(proc+"/task", &st) == nil && st.Nlink > 2+1
}

// gone reports whether an error says that a process is there no more.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }

// listings is how often the descriptors of a process are listed at most: one that
// opens and closes some all the time is not to keep us.
const listings = 4

// eachDescriptorIn calls do with every descriptor in a directory of them until it
// returns false.
//
// Race, closed by listing again if do says that a descriptor is gone. What is started
// with the lock may give it another number:
//
//  1. P forks C, which has the lock as descriptor 9, as P has, and is killed.
//  2. We list the descriptors of C: 9 is there.
//  3. C gives the lock the number 64 (dup2(2)), and executes a program, which
//     closes 9.
//  4. We come to 9, and it is gone.
func eachDescriptorIn(path string, do func(dir directory, fd string) (more bool, err error)) error {
	dir, err := openDirectory(path)
	if gone(err) {
		if _, err := os.Stat("/proc/self"); err != nil {
			return errors.ErrUnsupported
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.close()
	for range listings {
		entries, err := dir.entries()
		again := false
		for _, e := range entries {
			if e.name == "." || e.name == ".." {
				continue
			}
			more, err := do(dir, e.name)
			if !more {
				return nil
			}
			again = again || gone(err)
		}
		if gone(err) {
			return nil // the process, by now
		}
		if err != nil || !again {
			return err
		}
		if _, err := unix.Seek(dir.fd, 0, io.SeekStart); err != nil {
			return &fs.PathError{Op: "seek", Path: path, Err: err}
		}
	}
	return nil
}

// idOfEntry tells which file a descriptor is open on. It asks the kernel only
// for what it knows already: a hung network file system does not hang it.
func idOfEntry(dir directory, fd string) (id fileID, links uint32, err error) {
	var st unix.Statx_t
	err = unix.Statx(dir.fd, fd, unix.AT_STATX_DONT_SYNC, unix.STATX_INO|unix.STATX_NLINK, &st)
	return fileID{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}, st.Nlink, err
}

// descriptorLock looks for a lock of a descriptor in dir, /proc/5577/fd.
func descriptorLock(dir, fd string) (shared, ok bool, err error) {
	info, err := readProc(dir + "info/" + fd)
	if err != nil {
		return false, false, err
	}
	shared, ok = lockLine(info)
	return shared, ok, nil
}

// describe tells what is to be known of a process. recorded is when its PID
// was written into the lock file, zero if it was not.
func describe(pid int, shared bool, recorded time.Time) Holder {
	h, _ := describeProcess(pid)
	h.Shared = shared
	h.Since = later(h.Started, recorded)
	return h
}

// describeProcess also reports whether the number is that of a process and not
// of one of its threads: /proc/PID answers for those too, though it does not
// list them.
func describeProcess(pid int) (h Holder, process bool) {
	h = Holder{PID: pid, UID: -1}
	proc := "/proc/" + strconv.Itoa(pid)
	if stat, err := readProc(proc + "/stat"); err == nil {
		h.Started = startTime(stat)
	}
	status, err := readProc(proc + "/status")
	if err == nil {
		if uid, ok := statusNumber(status, "Uid:", 1); ok {
			h.UID = uid
		}
	}
	if line := commandLine(pid); len(line) > 0 {
		h.Args = strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")
	}
	group, ok := statusNumber(status, "Tgid:", 0)
	return h, ok && group == pid
}

// commandLine returns the content of /proc/PID/cmdline. In the middle of an
// execve(2) it is empty: the old program's is gone, and its close-on-exec
// descriptors are closed, before the new one's is there. So it is read again for
// some milliseconds. Of a process without one it is empty for good.
func commandLine(pid int) []byte {
	for try := 0; ; try++ {
		line, err := readProc("/proc/" + strconv.Itoa(pid) + "/cmdline")
		if err != nil || len(line) > 0 || try == 10 {
			return line
		}
		if parent, _ := parentOf(pid); parent == 0 {
			return nil // a zombie
		}
		time.Sleep(time.Millisecond)
	}
}

func isThread(pid int) bool {
	status, err := readProc("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return false
	}
	group, ok := statusNumber(status, "Tgid:", 0)
	return ok && group != pid
}

// parentOf returns the parent of a process and when the process was started. The
// parent is 0 if there is no such process, or if it has ended and was not reaped.
func parentOf(pid int) (parent int, started time.Time) {
	stat, err := readProc("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, time.Time{}
	}
	// "5577 (sleep) S 5570 ...", see startTime.
	f := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(f) < 2 || string(f[0]) == "Z" || string(f[0]) == "X" {
		return 0, time.Time{}
	}
	parent, _ = strconv.Atoi(string(f[1]))
	return parent, startTime(stat)
}

// startTime reads the start time from the content of /proc/PID/stat, field 22,
// in ticks of 10 ms since boot (proc_pid_stat(5); USER_HZ is 100 everywhere):
//
//	5577 (sleep) S 5570 5577 5570 34816 5577 4194304 98 0 0 0 0 0 0 0 20 0 1 0 8230931 ...
//
// Field 2 may hold blanks and parentheses; the last ")" ends it.
func startTime(stat []byte) time.Time {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const start = 22 - 3 // fields[0] is field 3
	if len(fields) <= start {
		return time.Time{}
	}
	ticks, err := strconv.ParseInt(string(fields[start]), 10, 64)
	if err != nil {
		return time.Time{}
	}
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(ticks)*10*time.Millisecond - time.Duration(up.Nano())).Round(0)
}

// statusNumber reads a number from a line of /proc/PID/status, counted from 0
// (proc_pid_status(5)). The effective user is number 1 of "Uid:":
//
//	Tgid:	5577
//	Uid:	1000	1000	1000	1000
func statusNumber(status []byte, key string, n int) (int, bool) {
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte(key)); ok {
			if f := bytes.Fields(rest); n < len(f) {
				number, err := strconv.Atoi(string(f[n]))
				return number, err == nil
			}
		}
	}
	return 0, false
}
