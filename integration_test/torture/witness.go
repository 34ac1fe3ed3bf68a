//go:build linux && (amd64 || arm64)

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/lockrun/lockrun/lock"
	"github.com/lockrun/lockrun/pidfile"
	"golang.org/x/sys/unix"
)

// programs are what this program is when it is executed again with their name.
var programs = map[string]func(args []string) int{
	"command": command,
	"library": library,
	"remove":  func(args []string) int { return takeAway(args, os.Remove) },
	"rename":  func(args []string) int { return takeAway(args, renameAndRemove) },
	"linger":  linger,
}

// duty is what a program of the storm does while it has the lock. It is passed on
// the command line.
type duty struct {
	dir     string // the storm's
	target  string
	attempt uint64
	kind    string        // exclusive, shared, or slot
	hold    time.Duration // for how long it runs
	status  int           // its exit status
	temper  string
}

const (
	exclusive = "exclusive"
	shared    = "shared"
	slot      = "slot"

	deaf   = "deaf"   // to SIGTERM
	slow   = "slow"   // to end by it
	parent = "parent" // of a process that outlives it
)

func (d *duty) words() []string {
	return []string{d.dir, d.target, strconv.FormatUint(d.attempt, 10), d.kind, d.hold.String(), strconv.Itoa(d.status), "temper=" + d.temper}
}

const dutyWords = 7

func readDuty(args []string) (d duty) {
	d.dir, d.target, d.kind, d.temper = args[0], args[1], args[3], args[6][len("temper="):]
	d.attempt, _ = strconv.ParseUint(args[2], 10, 64)
	d.hold, _ = time.ParseDuration(args[4])
	d.status, _ = strconv.Atoi(args[5])
	return d
}

// How a program ends that has something to say.
const (
	statusNotAlone = 99
	statusBroken   = 98
)

// command is what runs under a lock.
func command(args []string) int {
	d := readDuty(args)
	waited, _ := strconv.ParseFloat(os.Getenv("LOCKRUN_WAITED"), 64)
	end, status := d.begin(time.Duration(waited * float64(time.Second)))
	if end == nil {
		return status
	}
	told := make(chan os.Signal, 1)
	switch d.temper {
	case deaf:
		signal.Ignore(syscall.SIGTERM)
	case slow:
		signal.Notify(told, syscall.SIGTERM)
	}
	select {
	case <-time.After(d.hold):
	case <-told:
		time.Sleep(15 * time.Millisecond)
		end()
		return 128 + int(syscall.SIGTERM)
	}
	if d.temper == parent {
		// It inherits the lock, if we have a descriptor of it.
		p, err := os.StartProcess(os.Args[0], []string{os.Args[0], "linger"}, &os.ProcAttr{})
		if err == nil {
			p.Release()
		}
	}
	end()
	return d.status
}

func linger([]string) int {
	time.Sleep(40 * time.Millisecond)
	return 0
}

// begin takes the witness, and says so. If somebody has it who must not be there
// at the same time, that is a violation, and end is nil.
func (d *duty) begin(waited time.Duration) (end func(), status int) {
	// Not by package os, which would tell the poller of it.
	events, err := unix.Open(filepath.Join(d.dir, "events"), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, statusBroken // the storm is over
	}
	w, err := openWitness(d.witness())
	if err != nil {
		fmt.Fprintln(os.Stderr, "witness:", err)
		return nil, statusBroken
	}
	say := func(e event) {
		e.target, e.attempt, e.pid, e.at = d.target, d.attempt, os.Getpid(), time.Now()
		e.write(events)
	}
	number, _ := strconv.Atoi(os.Getenv("LOCKRUN_SLOT"))
	if d.kind == slot && (number < 1 || number > mostSlots) {
		say(event{what: "two", text: fmt.Sprintf("its slot is %d of %d", number, mostSlots)})
		return nil, statusNotAlone
	}
	give, err := w.take(d.kind, number)
	if err != nil {
		say(event{what: "two", text: err.Error()})
		return nil, statusNotAlone
	}
	say(event{what: "begin", waited: waited, parent: os.Getppid()})
	return func() {
		say(event{what: "end"})
		give()
	}, 0
}

// witness is the path of the file that names it.
func (d *duty) witness() string { return filepath.Join(d.dir, "witness", d.target) }

// library is a Go program that uses the packages: it holds the lock itself.
func library(args []string) int {
	d, path, how := readDuty(args), args[dutyWords], args[dutyWords+1]
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	began := time.Now()
	var release func() error
	var err error
	switch how {
	case "hold": // removes the file at the end
		var f *pidfile.File
		if f, err = pidfile.Hold(path, nil); err == nil {
			release = f.Close
		}
	case "open": // waits, and removes the file
		var f *pidfile.File
		if f, err = pidfile.Open(ctx, path, nil); err == nil {
			release = f.Close
			err = f.Write(os.Getpid())
		}
	case "acquire":
		var l *lock.Lock
		if l, err = lock.Acquire(ctx, path, nil); err == nil {
			release = l.Release
		}
	case "try":
		var l *lock.Lock
		if l, err = lock.TryAcquire(path, &lock.Options{Shared: d.kind == shared}); err == nil {
			release = l.Release
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "library:", err)
		if errors.Is(err, lock.ErrHeld) {
			return 75
		}
		return statusBroken
	}
	end, status := d.begin(time.Since(began))
	if end != nil {
		time.Sleep(d.hold)
		end()
		status = d.status
	}
	// Whoever deleted the file, it was ours to hold.
	if err := release(); err != nil && !errors.Is(err, lock.ErrMoved) {
		fmt.Fprintln(os.Stderr, "library:", err)
		return statusBroken
	}
	return status
}

// takeAway holds the lock by a bare flock(2), as programs do that know nothing of
// us, and takes its file away before it lets go. Those who wait for it must not
// run on what they get then.
func takeAway(args []string, away func(path string) error) int {
	d, path := readDuty(args), args[dutyWords]
	var id, now unix.Stat_t
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	}
	if err == nil {
		err = errors.Join(unix.Fstat(fd, &id), unix.Lstat(path, &now))
	}
	// On a file with the mark of a newborn, its creator was killed before he had
	// looked for the holder of a deleted one; to look is beyond a bare flock(2).
	if err != nil || id.Ino != now.Ino || id.Mode&unix.S_ISVTX != 0 {
		return 75
	}
	end, status := d.begin(0)
	if end == nil {
		return status
	}
	end()
	if err := away(path); err == nil { // else somebody was faster
		time.Sleep(d.hold)
	}
	return 0
}

func renameAndRemove(path string) error {
	aside := path + ".aside"
	if err := os.Rename(path, aside); err != nil {
		return err
	}
	return os.Remove(aside)
}

// mostSlots is the number of slots, where there are some.
const mostSlots = 3
