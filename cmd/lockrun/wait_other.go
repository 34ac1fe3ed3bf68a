//go:build !linux

package main

import (
	"errors"
	"syscall"
)

// awaitEnd waits for the end of the child pid. There is no way here to look at
// the end first, so a signal that is passed on in that moment may hit a process
// that was given the number.
func awaitEnd(pid int) (reap func() waitStatus) {
	for {
		var ws waitStatus
		if _, err := syscall.Wait4(pid, &ws, 0, nil); err != syscall.EINTR {
			return func() waitStatus { return ws }
		}
	}
}

func awaitChild(pid int) (reap func() waitStatus) { return awaitEnd(pid) }

// groupIsEmpty can't tell.
func groupIsEmpty(int) bool { return true }

func parentOf(int) (int, error) { return 0, errors.ErrUnsupported }
