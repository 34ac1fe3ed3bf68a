package main

import (
	"os/signal"

	"github.com/lockrun/lockrun/internal/blocking"
	"github.com/lockrun/lockrun/internal/sigaction"
	"golang.org/x/sys/unix"
)

// descriptionLock takes, or gives up, an open file description lock (fcntl(2)) on
// length bytes from start on, or all from there on if length is 0. operation is
// one of flock(2).
func descriptionLock(fd, operation int, wait bool, start, length int64) error {
	request := unix.Flock_t{Type: unix.F_WRLCK, Start: start, Len: length}
	switch operation {
	case unix.LOCK_SH:
		request.Type = unix.F_RDLCK
	case unix.LOCK_UN:
		request.Type = unix.F_UNLCK
	}
	command := unix.F_OFD_SETLK
	if wait {
		command = unix.F_OFD_SETLKW
	}
	return unix.FcntlFlock(uintptr(fd), command, &request)
}

func dup2(from, to int) error {
	if from == to {
		_, err := unix.FcntlInt(uintptr(from), unix.F_SETFD, 0)
		return err
	}
	return unix.Dup3(from, to, 0)
}

// defaultSignals gives every signal its default action, so that one kills us as
// it kills a C program; SIGHUP and SIGINT stay ignored if they were. Left to the
// Go runtime are the signals of its threads and, if a wait has a limit, SIGALRM,
// which does nothing then, and the one that ends the wait (internal/blocking).
func defaultSignals(timed bool) {
	const last = 64
	for s := unix.SIGHUP; s <= last; s++ {
		switch s {
		case unix.SIGKILL, unix.SIGSTOP, unix.SIGURG, 32, 33, 34:
			continue
		case unix.SIGHUP, unix.SIGINT:
			if signal.Ignored(s) {
				continue
			}
		case unix.SIGALRM, blocking.Signal:
			if timed {
				continue
			}
		}
		sigaction.SetDefault(s)
	}
}
