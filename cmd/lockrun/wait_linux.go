package main

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reap waits for the end of the child pid, calls ended, and only then reaps it.
// PID 1 reaps all who are left to it on the way.
func reap(pid int, ended func()) (ws syscall.WaitStatus) {
	idType, id := unix.P_PID, pid
	if os.Getpid() == 1 {
		idType, id = unix.P_ALL, 0
	}
	for {
		child, err := waitForEnd(idType, id)
		if err == unix.EINTR {
			continue
		}
		if err != nil || child == pid {
			ended()
		}
		for {
			if _, err = syscall.Wait4(child, &ws, 0, nil); err != syscall.EINTR {
				break
			}
		}
		if err != nil || child == pid {
			return ws
		}
	}
}

// waitForEnd waits until a child has ended, leaves it unreaped and returns its
// PID (waitid(2) with WNOWAIT).
func waitForEnd(idType, id int) (int, error) {
	var info unix.Siginfo
	if err := unix.Waitid(idType, id, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		return id, err
	}
	// A siginfo_t begins with three ints; si_pid comes next, in a union that
	// is aligned for a pointer.
	const align = unsafe.Alignof(uintptr(0))
	offset := (3*unsafe.Sizeof(int32(0)) + align - 1) &^ (align - 1)
	return int(*(*int32)(unsafe.Add(unsafe.Pointer(&info), offset))), nil
}
