package main

import (
	"time"

	"github.com/lockrun/lockrun/lock"
	"golang.org/x/sys/unix"
)

// batch is how many times a call of some microseconds is done for one sample.
const batch = 50

// measureLibrary compares the library with the bare system calls, in this
// process.
func measureLibrary(b *bench) (result, error) {
	path, err := b.newFile("library")
	if err != nil {
		return result{}, err
	}
	return b.contest(inMicroseconds,
		contestant{name: "lock", once: batched(func() error { return libraryLock(path) })},
		contestant{name: "open, flock, close", once: batched(func() error { return bareLock(path) })},
	)
}

// batched returns the mean time of one call.
func batched(call func() error) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		start := time.Now()
		for range batch {
			if err := call(); err != nil {
				return 0, err
			}
		}
		return time.Since(start) / batch, nil
	}
}

func libraryLock(path string) error {
	l, err := lock.TryAcquire(path, nil)
	if err != nil {
		return err
	}
	return l.Release()
}

func bareLock(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	return unix.Close(fd)
}
