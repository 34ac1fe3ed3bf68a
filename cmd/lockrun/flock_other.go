//go:build !linux

package main

import "golang.org/x/sys/unix"

// descriptionLock says what a kernel says that does not know such locks.
func descriptionLock(int, int, bool, int64, int64) error { return unix.EINVAL }

func dup2(from, to int) error {
	if from == to {
		_, err := unix.FcntlInt(uintptr(from), unix.F_SETFD, 0)
		return err
	}
	return unix.Dup2(from, to)
}

// defaultSignals leaves the signals to the Go runtime.
func defaultSignals(bool) {}
