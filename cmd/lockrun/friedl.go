package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lockrun/lockrun/internal/blocking"
	"github.com/lockrun/lockrun/lock"
	"golang.org/x/sys/unix"
)

// There is an older program of our name, lockrun 1.1.3 by Stephen J. Friedl,
// which stands in many crontabs:
//
//	lockrun --lockfile=FILE [options] -- COMMAND [ARG...]
//
// We understand its command line too, without being told to. It is known by
// --lockfile or -L, which it can't do without and we do not have.

// friedlFailed is the exit status of nearly all that can go wrong there.
const friedlFailed = 1

// isFriedl reports whether the flags have a --lockfile. It looks at what stands
// before the first operand or "--", of both programs' flags.
func isFriedl(args []string) bool {
	for i := 0; i < len(args) && strings.HasPrefix(args[i], "-") && args[i] != "--"; i++ {
		name, _, hasValue := strings.Cut(args[i], "=")
		switch name {
		case "-L", "--lockfile":
			return true
		case "-S", "--sleep", "-R", "--retries", "-T", "--maxtime", // his
			"-t", "--timeout", "-E", "--exit-code", "-c", "--command", "--if-held": // ours
			if !hasValue {
				i++
			}
		}
	}
	return false
}

// friedlCall is a command line of that program.
type friedlCall struct {
	file    string
	hasFile bool
	wait    bool
	sleep   int // seconds; how often it says that it waits
	retries int // how many times it would try; 0 is for ever
	maxTime int // seconds; who runs longer is told of
	verbose bool
	quiet   bool
	argv    []string
}

func friedl(program string, args []string) int {
	begin := time.Now()
	c, status := parseFriedl(program, args)
	if c == nil {
		return status
	}
	l, status := c.acquire()
	if l == nil {
		return status
	}
	defer friedlRelease(l)
	// It leads a session of its own, so that all it starts can be signalled at
	// once.
	p, err := startChild(l, c.argv, &syscall.SysProcAttr{Setsid: true}, endingSignals)
	if err != nil {
		var e *execError
		if errors.As(err, &e) && e.status != exitSystem {
			friedlError("cannot execute %s [err=%s]", c.argv[0], reasonOf(e.reason))
			return e.status
		}
		friedlError("cannot fork [%s]", reasonOf(err))
		return friedlFailed
	}
	if c.verbose {
		fmt.Printf("Waiting for process %d\n", p.pid)
	}
	for {
		select {
		case sig := <-p.signals:
			p.signal(sig)
		case reap := <-p.ended:
			ws := reap()
			status := friedlFailed
			if ws.Exited() {
				status = ws.ExitStatus()
			}
			seconds := int64(time.Since(begin) / time.Second)
			if c.verbose || c.maxTime > 0 && seconds > int64(c.maxTime) {
				fmt.Printf("pid %d exited with status %d (time=%d sec)\n", p.pid, status, seconds)
			}
			if c.verbose {
				fmt.Printf("Exiting rc=%d\n", status)
			}
			return status
		}
	}
}

func friedlError(format string, args ...any) {
	os.Stderr.WriteString("ERROR: " + oneLine(fmt.Sprintf(format, args...)) + "\n")
}

// parseFriedl returns nil and the exit status if there is nothing to do.
func parseFriedl(program string, args []string) (*friedlCall, int) {
	c := &friedlCall{sleep: 10}
	for len(args) > 0 && args[0] != "--" {
		name, value, hasValue := strings.Cut(args[0], "=")
		args = args[1:]
		switch name {
		case "-L", "--lockfile", "-S", "--sleep", "-R", "--retries", "-T", "--maxtime":
			if !hasValue {
				if len(args) == 0 {
					friedlError("option %s requires a parameter", name)
					return nil, friedlFailed
				}
				value, args = args[0], args[1:]
			}
		}
		switch name {
		case "--help":
			return nil, help(nil)
		case "--version":
			return nil, version(nil)
		case "-L", "--lockfile":
			c.file, c.hasFile = value, true
		case "-W", "--wait":
			c.wait = true
		case "-S", "--sleep":
			c.sleep = leadingNumber(value)
		case "-R", "--retries":
			c.retries = leadingNumber(value)
		case "-T", "--maxtime":
			c.maxTime = leadingNumber(value)
		case "-V", "--verbose":
			c.verbose = true
		case "-q", "--quiet":
			c.quiet = true
		default:
			if isOwnFlag(name) {
				return nil, usage("%s does not go with --lockfile, which makes this a command line of another program of our name; ours is lockrun [flags] LOCK -- COMMAND", name)
			}
			friedlError("\"%s\" is an invalid cmdline param", name)
			return nil, friedlFailed
		}
	}
	if len(args) < 2 {
		friedlError("missing command to %s (must follow \"--\" marker) ", program)
		return nil, friedlFailed
	}
	if !c.hasFile {
		friedlError("missing --lockfile=F parameter")
		return nil, friedlFailed
	}
	c.argv = args[1:]
	return c, exitOK
}

// isOwnFlag reports whether lockrun has a flag of that name.
func isOwnFlag(name string) bool {
	flags := newFlags()
	var o runOptions
	o.register(flags)
	if long, ok := strings.CutPrefix(name, "--"); ok {
		return flags.lookup(long) != nil
	}
	return len(name) > 1 && name[0] == '-' && flags.lookupLetter(name[1]) != nil
}

// leadingNumber is atoi(3): what is no number counts for nothing.
func leadingNumber(s string) int {
	s = strings.TrimLeft(s, space)
	end := 0
	for end < len(s) && ('0' <= s[end] && s[end] <= '9' || end == 0 && (s[0] == '-' || s[0] == '+')) {
		end++
	}
	n, _ := strconv.Atoi(s[:end])
	return n
}

// acquire returns nil and the exit status if the lock is not to be had.
func (c *friedlCall) acquire() (*lock.Lock, int) {
	path, _, err := lockTarget(c.file, 0o666)
	if err != nil {
		return nil, c.cannotOpen(err)
	}
	opt := &lock.Options{Mode: underUmask(0o666), Write: true}
	now, cancel := context.WithCancel(context.Background())
	cancel()
	l, err := lock.TryAcquire(path, opt)
	if err == nil {
		l, err = withRecordLock(now, l)
	}
	if errors.Is(err, lock.ErrHeld) && c.wait && c.retries != 1 {
		l, err = c.await(path, opt)
	}
	switch {
	case err == nil:
		return l, exitOK
	case !errors.Is(err, lock.ErrHeld):
		return nil, c.cannotOpen(err)
	case c.wait:
		friedlError("cannot launch %s - run is locked (after %d attempts)", c.argv[0], c.retries)
		return nil, friedlFailed
	case c.quiet:
		return nil, exitOK
	}
	friedlError("cannot launch %s - run is locked", c.argv[0])
	return nil, friedlFailed
}

func (c *friedlCall) cannotOpen(err error) int {
	friedlError("cannot open(%s) [err=%s]", c.file, reasonOf(err))
	return friedlFailed
}

// await waits for the lock. The original tries every c.sleep seconds, c.retries
// times in all; we stand in the queue for as long as that takes, so that the
// lock is ours when it is free.
func (c *friedlCall) await(path string, opt *lock.Options) (*lock.Lock, error) {
	pause := time.Duration(max(0, c.sleep)) * time.Second
	ctx := context.Background()
	if c.retries > 0 {
		most := pause * time.Duration(c.retries-1)
		if pause > 0 && most/pause != time.Duration(c.retries-1) {
			most = 1<<63 - 1 // nobody waits that long
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, most)
		defer cancel()
	}
	if c.verbose {
		defer c.sayWaiting(pause)()
	}
	l, err := lock.Acquire(ctx, path, opt)
	if err == nil {
		l, err = withRecordLock(ctx, l)
	}
	return l, err
}

// withRecordLock takes a lock of fcntl(2) too, as far as ctx allows, or gives up
// the one that there is. Early versions of the original take flock(2)'s,
// 1.1.3 takes this one where the C library has lockf(3): whichever of them still
// runs is alone. Where there is no such lock it does without.
func withRecordLock(ctx context.Context, l *lock.Lock) (*lock.Lock, error) {
	err := recordLock(ctx, l)
	if err != nil {
		l.Release()
		return nil, err
	}
	return l, nil
}

func recordLock(ctx context.Context, l *lock.Lock) error {
	f, err := l.File()
	if err != nil {
		return err
	}
	defer f.Close()
	ask := func(wait bool) error { return descriptionLock(int(f.Fd()), unix.LOCK_EX, wait, 0, 0) }
	got, err := blocking.Call(ctx, func() error { return ask(true) }, func() (bool, error) {
		err := ask(false)
		if err == unix.EAGAIN || err == unix.EACCES {
			return false, nil
		}
		return err == nil, err
	})
	switch {
	case err == unix.EINVAL:
		return nil
	case err == nil && !got:
		return lock.ErrHeld
	}
	return err
}

// friedlRelease gives both locks up, also for those to whom the command left the
// descriptor.
func friedlRelease(l *lock.Lock) {
	if f, err := l.File(); err == nil {
		descriptionLock(int(f.Fd()), unix.LOCK_UN, false, 0, 0)
		f.Close()
	}
	l.Release()
}

// sayWaiting says that the lock is waited for, now and as often as the original
// would try again, until the function that it returns is called.
func (c *friedlCall) sayWaiting(pause time.Duration) (stop func()) {
	say := func(attempt int) {
		fmt.Printf("(locked: sleeping %d secs, after attempt #%d)\n", c.sleep, attempt)
	}
	say(1)
	if pause == 0 {
		return func() {}
	}
	ticker := time.NewTicker(pause)
	done := make(chan struct{})
	var saying sync.WaitGroup
	saying.Go(func() {
		for attempt := 2; c.retries <= 0 || attempt < c.retries; attempt++ {
			select {
			case <-ticker.C:
				say(attempt)
			case <-done:
				return
			}
		}
	})
	return func() {
		ticker.Stop()
		close(done)
		saying.Wait()
	}
}
