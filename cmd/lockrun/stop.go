package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/lockrun/lockrun/pidfile"
)

// stop ends the instance and returns when its lock is free.
func stop(args []string) int {
	flags := newFlags()
	quiet := flags.BoolP("quiet", "q", false, "")
	mustRun := flags.Bool("must-run", false, "")
	if status, done := parse(flags, args); done {
		return status
	}
	name, err := oneLock("stop", flags.Args())
	if err != nil {
		return usage("%v", err)
	}
	if err := name.prepare(false); err != nil {
		complain("%v", err)
		return exitStatus(err)
	}
	err = pidfile.Stop(context.Background(), name.path, nil)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, pidfile.ErrNotRunning):
		if !*quiet {
			complain("%s: not running", name.given)
		}
		if *mustRun {
			return exitStatusNone
		}
		return exitOK
	case errors.Is(err, fs.ErrPermission):
		complain("%s: not permitted to stop it", name.given)
		return exitPermission
	}
	complain("%s", refusal(name.given, err))
	return exitStatus(err)
}

// oneLock reads the operands of a subcommand that takes one LOCK.
func oneLock(subcommand string, operands []string) (lockName, error) {
	switch len(operands) {
	case 0:
		return lockName{}, usageError("LOCK is missing")
	case 1:
		return parseLock(operands[0])
	}
	return lockName{}, usageError("%s takes one LOCK; there is another word: %q", subcommand, operands[1])
}

func usageError(format string, args ...any) error { return fmt.Errorf(format, args...) }
