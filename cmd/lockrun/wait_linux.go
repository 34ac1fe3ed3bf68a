package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// awaitEnd waits for the end of the child pid and returns the function that
// reaps it: until then nobody else is given its number. PID 1 reaps all who are
// left to it on the way.
func awaitEnd(pid int) (reap func() waitStatus) {
	if os.Getpid() != 1 {
		return awaitChild(pid)
	}
	for {
		child, err := waitForEnd(unix.P_ALL, 0, 0)
		switch {
		case err == unix.EINTR:
		case err != nil || child == pid:
			return func() waitStatus { return wait4(pid) }
		default:
			wait4(child)
		}
	}
}

// awaitChild is awaitEnd for another child beside the command.
func awaitChild(pid int) (reap func() waitStatus) {
	reap = func() waitStatus { return wait4(pid) }
	if awaitPIDFD(pid) == nil {
		return reap
	}
	for {
		if _, err := waitForEnd(unix.P_PID, pid, 0); err != unix.EINTR {
			return reap
		}
	}
}

// awaitPIDFD waits in the Go runtime's poller. To block in waitid(2) takes a
// thread, and keeps the runtime's monitor from sleeping: for the first 10 ms it
// wakes up some 15 times a millisecond, on a CPU that the command could use.
//
// It fails if there are no pidfds that can be polled (before Linux 5.10), or no
// descriptor is left.
func awaitPIDFD(pid int) error {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return conn.Read(func(uintptr) bool {
		for {
			// Asked again at once: the poller tells of the end but once.
			ended, err := waitForEnd(unix.P_PID, pid, unix.WNOHANG)
			if err != unix.EINTR {
				return ended != 0 || err != nil
			}
		}
	})
}

// waitForEnd waits until a child has ended, leaves it unreaped and returns its
// PID (waitid(2) with WNOWAIT). With WNOHANG it is 0 if none has.
func waitForEnd(idType, id, options int) (int, error) {
	var info unix.Siginfo
	if err := unix.Waitid(idType, id, &info, unix.WEXITED|unix.WNOWAIT|options, nil); err != nil {
		return 0, err
	}
	// A siginfo_t begins with three ints; si_pid comes next, in a union that
	// is aligned for a pointer.
	const align = unsafe.Alignof(uintptr(0))
	offset := (3*unsafe.Sizeof(int32(0)) + align - 1) &^ (align - 1)
	return int(*(*int32)(unsafe.Add(unsafe.Pointer(&info), offset))), nil
}

// groupIsEmpty reports whether a process group has no member any more but its
// leader, which has ended and is not reaped. If that can't be told it has none.
func groupIsEmpty(leader int) bool {
	proc, err := os.Open("/proc")
	if err != nil {
		return true
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == leader {
			continue
		}
		if s, err := statOf(pid); err == nil && s.group == leader && s.state != "Z" && s.state != "X" {
			return false
		}
	}
	return true
}

// parentOf returns the parent of a process.
func parentOf(pid int) (int, error) {
	s, err := statOf(pid)
	return s.parent, err
}

// processStat is the beginning of /proc/PID/stat (proc_pid_stat(5)):
//
//	5577 (sleep) S 5570 5577 ...
type processStat struct {
	state         string
	parent, group int
}

func statOf(pid int) (s processStat, err error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return s, err
	}
	// The name may hold anything; the last ")" ends it.
	_, err = fmt.Sscan(string(stat[bytes.LastIndexByte(stat, ')')+1:]), &s.state, &s.parent, &s.group)
	return s, err
}
