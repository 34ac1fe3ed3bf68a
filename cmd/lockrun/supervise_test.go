package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/lockrun/lockrun/lock"
)

// A supervisor that panics runs its deferred release: while the command lives, the
// lock is the command's.
func TestPanicLeavesTheLockToTheCommand(t *testing.T) {
	path := filepath.Join(t.TempDir(), "L")
	held, err := (&holdFlags{}).acquire([]lockName{{given: path, path: path}}, true)
	if err != nil {
		t.Fatal(err)
	}
	isHeld := func() bool {
		l, err := lock.TryAcquire(path, nil)
		if err == nil {
			l.Release()
		}
		return errors.Is(err, lock.ErrHeld)
	}
	s := &supervisor{hold: held, command: os.Getpid()}
	func() {
		defer func() { recover() }()
		defer s.release()
		panic("while the command lives")
	}()
	if !isHeld() {
		t.Error("the lock is free, and the command lives")
	}
	s.command = 0
	s.release()
	if isHeld() {
		t.Error("the lock is held, and the command has ended")
	}
}
