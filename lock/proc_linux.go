package lock

import (
	"bytes"
	"cmp"
	"io/fs"
	"os"
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
