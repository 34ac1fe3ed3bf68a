package main

import (
	"context"
	"errors"
	"os"
	"syscall"

	"github.com/lockrun/lockrun/lock"
	"golang.org/x/sys/unix"
)

// Exit statuses of setlock.
const (
	setlockMisused = 100
	setlockFailed  = 111
)

// setlock stands in for setlock(8) of daemontools.
func setlock(_ string, args []string) int {
	wait, failQuietly := true, false
	g := newBSDGetopt("setlock", args, "nNxX")
	for {
		opt, _, ok, err := g.next()
		if err != nil {
			os.Stderr.WriteString(oneLine(err.Error()) + "\n")
			return setlockUsage()
		}
		if !ok {
			break
		}
		switch opt {
		case 'n':
			wait = false
		case 'N':
			wait = true
		case 'x':
			failQuietly = true
		case 'X':
			failQuietly = false
		}
	}
	operands := g.operands()
	if len(operands) < 2 {
		return setlockUsage()
	}
	file, argv := operands[0], operands[1:]
	l, err := setlockAcquire(file, wait)
	if err != nil {
		if failQuietly {
			return exitOK
		}
		verb := "open"
		if errors.Is(err, lock.ErrHeld) {
			verb, err = "lock", unix.EAGAIN
		}
		tell("setlock", "fatal: unable to %s %s: %s", verb, file, djbError(err))
		return setlockFailed
	}
	err = becomeProgram(l, argv)
	tell("setlock", "fatal: unable to run %s: %s", argv[0], djbError(err))
	return setlockFailed
}

func setlockUsage() int {
	tell("setlock", "usage: setlock [ -nNxX ] file program [ arg ... ]")
	return setlockMisused
}

func setlockAcquire(file string, wait bool) (*lock.Lock, error) {
	path, _, err := lockTarget(file, 0o600)
	if err != nil {
		return nil, err
	}
	opt := &lock.Options{Mode: underUmask(0o600), Write: true}
	if wait {
		defaultSignals(false) // one that comes while we wait ends us
		return lock.Acquire(context.Background(), path, opt)
	}
	return lock.TryAcquire(path, opt)
}

// becomeProgram executes a program in our place. It keeps the locked descriptor,
// which appends: the lock is free when the program, and all that it gave the
// descriptor to, have closed it.
func becomeProgram(l *lock.Lock, argv []string) error {
	f, err := l.File()
	if err != nil {
		return err
	}
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_SETFL, flags|unix.O_APPEND)
	}
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_SETFD, 0)
	}
	if err != nil {
		return err
	}
	path, err := lookPath(argv[0], os.Environ())
	if err != nil {
		return err
	}
	return syscall.Exec(path, argv, os.Environ())
}

// djbError words an error as daemontools do, as far as a lock file or a program
// can have it. What can't be locked at all is a device of another kind there.
func djbError(err error) string {
	var e *execError
	if errors.As(err, &e) {
		err = e.reason
	}
	if errors.Is(err, lock.ErrFileType) {
		err = unix.ENXIO
	}
	var errno syscall.Errno
	errors.As(err, &errno)
	switch errno {
	case unix.ENOENT:
		return "file does not exist"
	case unix.EACCES:
		return "access denied"
	case unix.EPERM:
		return "permission denied"
	case unix.EISDIR:
		return "is a directory"
	case unix.ENOTDIR:
		return "not a directory"
	case unix.ELOOP:
		return "symbolic link loop"
	case unix.ENAMETOOLONG:
		return "file name too long"
	case unix.ENXIO:
		return "device not configured"
	case unix.EROFS:
		return "read-only file system"
	case unix.ENOSPC:
		return "out of disk space"
	case unix.EDQUOT:
		return "disk quota exceeded"
	case unix.EMFILE:
		return "process cannot open more files"
	case unix.ENFILE:
		return "system cannot open more files"
	case unix.ENOLCK:
		return "no locks available"
	case unix.EAGAIN:
		return "temporary failure"
	case unix.ENOMEM:
		return "out of memory"
	case unix.EIO:
		return "input/output error"
	case unix.E2BIG:
		return "argument list too long"
	case unix.ENOEXEC:
		return "exec format error"
	case unix.ETXTBSY:
		return "text busy"
	}
	return "unknown error"
}
