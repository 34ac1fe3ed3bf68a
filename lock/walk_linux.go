package lock

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

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
