package main

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/lockrun/lockrun/lock"
	"github.com/lockrun/lockrun/pidfile"
	"golang.org/x/sys/unix"
)

// Exit statuses. A command's own status is passed on, 128+n when signal n killed
// it. 64 to 78 are from sysexits(3), 124 to 127 as env(1) and timeout(1) have
// them.
const (
	exitOK          = 0
	exitUsage       = 64  // wrong flags or operands
	exitSystem      = 71  // any other refusal of the system
	exitLockFile    = 73  // the lock can't be opened, created or written
	exitHeld        = 75  // another holds the lock, also after a bounded wait (-E changes it)
	exitPermission  = 77  // not permitted, or not verifiable
	exitConfig      = 78  // an instance file is wrong
	exitTimeout     = 124 // not ready in time
	exitCannotExec  = 126 // the command can't be executed
	exitNotFound    = 127 // the command was not found
	exitSignalled   = 128 // plus the signal's number
	exitNotSingle   = 1   // verify: it does not refuse a second start
	exitFaults      = 1   // check: an instance file is wrong
	exitStatusDead  = 1   // status: nothing runs, a PID is left (LSB)
	exitStatusNone  = 3   // status: nothing runs (LSB); stop --must-run
	exitStatusOther = 4   // status: unknown (LSB)
)

// exitStatus returns the status for what went wrong with a lock.
func exitStatus(err error) int {
	var config *configError
	var exec *execError
	switch {
	case errors.As(err, &exec):
		return exec.status
	case errors.As(err, &config):
		return config.status
	case errors.Is(err, lock.ErrHeld), errors.Is(err, context.DeadlineExceeded):
		return exitHeld
	case errors.Is(err, pidfile.ErrOwner), errors.Is(err, pidfile.ErrWritable), errors.Is(err, pidfile.ErrUnverified), errors.Is(err, errInstanceDir):
		return exitPermission
	case mayNotSignal(err):
		return exitPermission
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOMEM), errors.Is(err, unix.ENOLCK):
		return exitSystem
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return exitLockFile
	}
	return exitSystem
}

// mayNotSignal reports whether a holder is somebody else's.
func mayNotSignal(err error) bool {
	var call *os.SyscallError
	return errors.As(err, &call) && call.Syscall == "pidfd_send_signal" && errors.Is(err, fs.ErrPermission)
}
