package main

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/lockrun/lockrun/pidfile"
)

// wait is lockrun wait LOCK: it returns when the lock is free, or with --ready
// when an instance is up.
func wait(args []string) int {
	flags := newFlags()
	var timeout duration
	flags.value(&timeout, "timeout", "t")
	var show waitFlags
	show.register(flags)
	var ready bool
	flags.bool(&ready, "ready")
	if status, done := parse(flags, args); done {
		return status
	}
	name, err := oneLock("wait", flags.operands)
	if err != nil {
		return misuse(err)
	}
	if err := name.prepare(false); err != nil {
		complain("%v", err)
		return exitStatus(err)
	}
	ctx, cancel := timeout.context()
	defer cancel()
	endWait := show.show(name, "waiting for", true)
	if ready {
		err = waitReady(ctx, name)
	} else {
		err = pidfile.Wait(ctx, name.path)
	}
	endWait()
	status := exitStatus(err)
	switch {
	case err == nil:
		return exitOK
	case ready && ctx.Err() != nil:
		status = exitTimeout
		if !show.quiet {
			complain("%s: not ready within %v", name.given, timeout.d)
		}
	case !show.quiet || status != exitHeld:
		complain("%s", refusal(name.given, err))
	}
	return status
}

// waitReady waits until an instance is up: its supervisor says so, or, where
// there is none, somebody holds the lock.
func waitReady(ctx context.Context, name lockName) error {
	// Watch first, look then: what happens in between is not missed.
	changes := watchDirectory(filepath.Dir(name.path))
	defer changes.close()
	for {
		_, err := askInstance(ctx, name, request{Do: doReady})
		switch {
		case err == nil, errors.Is(err, errNoSupervisor):
			return nil
		case !errors.Is(err, pidfile.ErrNotRunning):
			return err
		}
		// A lock that is taken without a PID being written changes no file.
		const unseen = time.Second
		if err := changes.wait(ctx, unseen); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
