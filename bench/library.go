package main

import (
	"fmt"
	"os"
	"time"

	"github.com/gofrs/flock"
	"github.com/lockrun/lockrun/lock"
	"github.com/lockrun/lockrun/pidfile"
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
	return b.contest(b.rounds, inMicroseconds,
		contestant{name: "lock", once: batched(func() error { return libraryLock(path) })},
		contestant{name: "open, flock, close", once: batched(func() error { return bareLock(path) })},
		contestant{name: "gofrs/flock", once: batched(func() error { return gofrsLock(path) })},
	)
}

// measurePIDFile compares a held PID file with the system calls that write one.
func measurePIDFile(b *bench) (result, error) {
	path, err := b.newFile("pidfile")
	if err != nil {
		return result{}, err
	}
	keep := &pidfile.Options{Keep: true}
	return b.contest(b.rounds, inMicroseconds,
		contestant{name: "pidfile", once: batched(func() error { return libraryPIDFile(path, keep) })},
		contestant{name: "open, flock, write, truncate, close", once: batched(func() error { return barePIDFile(path) })},
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

func gofrsLock(path string) error {
	l := flock.New(path)
	if got, err := l.TryLock(); err != nil || !got {
		return fmt.Errorf("locked %v: %w", got, err)
	}
	return l.Unlock()
}

func libraryPIDFile(path string, opt *pidfile.Options) error {
	f, err := pidfile.Hold(path, opt)
	if err != nil {
		return err
	}
	return f.Close()
}

func barePIDFile(path string) error {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	if _, err := unix.Pwrite(fd, fmt.Appendln(nil, os.Getpid()), 0); err != nil {
		return err
	}
	return unix.Ftruncate(fd, 0)
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
