package main

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/lockrun/lockrun/internal/blocking"
	"github.com/lockrun/lockrun/lock"
	"github.com/lockrun/lockrun/pidfile"
	"golang.org/x/sys/unix"
)

// Exit statuses of lockf that lockrun does not have. Those that it has are the
// same: both are from sysexits(3).
const (
	lockfNotExecuted = 1
	lockfNoFile      = 69 // -n, and there is no file
	lockfKilled      = 70 // the command was killed by a signal
)

const lockfUsage = `usage: lockf [-knpsTw] [-t seconds] file command [arguments]
       lockf [-s] [-t seconds] fd
`

// lockfCall is a command line of lockf.
type lockfCall struct {
	keep      bool // -k
	mustExist bool // -n
	writePID  bool // -p
	silent    bool // -s
	bounded   bool // -t
	timeout   time.Duration
	forward   bool // -T
	write     bool // -w

	given string // the file, or the descriptor's number
	fd    int    // -1 without
	argv  []string

	held *heldLock // a file's lock
	link bool      // the file was given by a symbolic link
}

// lockf stands in for lockf(1) of FreeBSD 15.
func lockf(_ string, args []string) int {
	c, status := parseLockf(args)
	if c == nil {
		return status
	}
	if err := c.acquire(); err != nil {
		return c.refused(err)
	}
	if len(c.argv) == 0 {
		return exitOK // the lock stays with the descriptor, which the caller has open
	}
	return c.run()
}

// parseLockf returns nil and the exit status if there is nothing to do.
func parseLockf(args []string) (*lockfCall, int) {
	c := &lockfCall{fd: -1}
	g := newBSDGetopt("lockf", args, "knpst:Tw")
	for {
		opt, arg, ok, err := g.next()
		if err != nil {
			return nil, lockfMisused(err.Error())
		}
		if !ok {
			break
		}
		switch opt {
		case 'k':
			c.keep = true
		case 'n':
			c.mustExist = true
		case 'p':
			c.writePID = true
		case 's':
			c.silent = true
		case 't':
			seconds, err := strconv.ParseInt(strings.TrimLeft(arg, space), 10, 64)
			if err != nil || seconds < 0 || seconds > math.MaxUint32 {
				tell("lockf", "invalid timeout \"%s\"", arg)
				return nil, exitUsage
			}
			c.bounded, c.timeout = true, time.Duration(seconds)*time.Second
		case 'T':
			c.forward = true
		case 'w':
			c.write = true
		}
	}
	operands := g.operands()
	if len(operands) == 0 {
		return nil, lockfMisused("")
	}
	c.given, c.argv = operands[0], operands[1:]
	number, named := strings.CutPrefix(c.given, "/dev/fd/")
	if !named {
		number = c.given
	}
	fd, err := strconv.Atoi(number)
	switch {
	case named && err == nil, len(c.argv) == 0 && err == nil:
	case len(c.argv) == 0:
		return nil, lockfMisused("Expected fd, got '" + c.given + "'")
	default:
		return c, exitOK // a file, and be its name a number
	}
	if fd < 0 || fd > math.MaxInt32 {
		return nil, lockfMisused("fd '" + number + "' out of range")
	}
	if c.writePID {
		return nil, lockfMisused("-p takes a file, not a descriptor")
	}
	c.fd = fd
	return c, exitOK
}

func lockfMisused(why string) int {
	if why != "" {
		os.Stderr.WriteString(oneLine(why) + "\n")
	}
	os.Stderr.WriteString(lockfUsage)
	return exitUsage
}

func (c *lockfCall) acquire() error {
	ctx, cancel := context.Background(), func() {}
	if c.bounded {
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
	}
	defer cancel()
	if c.fd >= 0 {
		return lockDescriptor(ctx, c.fd)
	}
	return c.acquireFile(ctx)
}

// lockDescriptor locks a descriptor that our caller has open and goes on with.
// There is no path to look at. The original asks again and again, without a
// pause.
func lockDescriptor(ctx context.Context, fd int) error {
	if !inherited(fd) {
		return unix.EBADF
	}
	wait := func() error { return unix.Flock(fd, unix.LOCK_EX) }
	got, err := blocking.Call(ctx, wait, func() (bool, error) {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == unix.EWOULDBLOCK || err == unix.EINTR {
			return false, nil
		}
		return err == nil, err
	})
	if err == nil && !got {
		err = lock.ErrHeld
	}
	return err
}

// acquireFile takes the lock on a file. The original first waits until the lock
// is free and then takes it, if it is to remove the file: who has waited on a
// file that is removed must not run. Package lock looks after it has the lock
// whether the file is still that of the path, which does the same and is fair.
func (c *lockfCall) acquireFile(ctx context.Context) error {
	if c.mustExist {
		if _, err := os.Stat(c.given); err != nil {
			return err
		}
	}
	path, link, err := lockTarget(c.given, 0o666)
	if err != nil {
		return err
	}
	c.link = link
	// A directory can be locked, but not by who would create it as a file.
	if file, err := os.Stat(path); err == nil && file.IsDir() && (!c.mustExist || c.write || c.writePID) {
		return unix.EISDIR
	}
	wait := !c.bounded || c.timeout > 0
	if c.writePID {
		c.held, err = lockfPIDFile(ctx, path, wait, c.keep || link)
	} else {
		opt := &lock.Options{Mode: underUmask(0o666), Write: c.write}
		var l *lock.Lock
		if wait {
			l, err = lock.Acquire(ctx, path, opt)
		} else {
			l, err = lock.TryAcquire(path, opt)
		}
		c.held = &heldLock{lock: l}
	}
	if err == nil && c.mustExist && c.held.lock.Created() {
		// It was there when we looked: who held it removed it.
		c.held.lock.Remove()
		c.held.release()
		return &fs.PathError{Op: "open", Path: c.given, Err: unix.ENOENT}
	}
	return err
}

func lockfPIDFile(ctx context.Context, path string, wait, keep bool) (*heldLock, error) {
	opt := &pidfile.Options{Mode: underUmask(0o666), Keep: keep}
	var f *pidfile.File
	var err error
	if wait {
		f, err = pidfile.Open(ctx, path, opt)
	} else {
		f, err = pidfile.TryOpen(path, opt)
	}
	if err != nil {
		return nil, err
	}
	return &heldLock{f.Lock(), f}, nil
}

// refused says why the lock was not to be had, and returns the exit status.
func (c *lockfCall) refused(err error) int {
	switch {
	case errors.Is(err, lock.ErrHeld):
		if !c.silent {
			tell("lockf", "%s: already locked", c.given)
		}
		return exitHeld
	case c.mustExist && errors.Is(err, fs.ErrNotExist):
		if !c.silent {
			tell("lockf", "%s: %s", c.given, reasonOf(err))
		}
		return lockfNoFile
	case c.fd >= 0:
		tell("lockf", "cannot lock fd %d: %s", c.fd, reasonOf(err))
	default:
		tell("lockf", "cannot open %s: %s", c.given, reasonOf(err))
	}
	return exitLockFile
}

// run runs the command and returns the exit status.
func (c *lockfCall) run() int {
	defer c.release()
	var handed *lock.Lock
	if c.fd >= 0 {
		// The command does not get it, but the caller keeps it open.
		unix.CloseOnExec(c.fd)
	} else {
		handed = c.held.lock
		// Ours first: a full disk is noticed before anything runs.
		if err := c.held.write(os.Getpid()); err != nil {
			return c.refused(err)
		}
	}
	p, err := startChild(handed, c.argv, nil, []os.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGQUIT})
	if err != nil {
		var e *execError
		if !errors.As(err, &e) || e.status == exitSystem {
			tell("lockf", "cannot fork: %s", reasonOf(err))
			return exitSystem
		}
		tell("lockf", "%s: %s", c.argv[0], reasonOf(e.reason))
		return lockfNotExecuted
	}
	if c.fd < 0 {
		if err := c.held.write(p.pid); err != nil {
			tell("lockf", "%s: %s", c.given, reasonOf(err)) // ours stands there, and we run as long as it
		}
	}
	// Whoever reads what the command prints sees the end when the command
	// closes it, though we are still here.
	os.Stdin.Close()
	os.Stdout.Close()
	os.Stderr.Close()
	for {
		select {
		case sig := <-p.signals:
			switch {
			case sig != unix.SIGTERM: // the terminal gave it to the command as well
			case c.forward:
				p.signal(sig)
			default:
				c.release()
				dieOf(syscall.SIGTERM)
				return exitSignalled + int(syscall.SIGTERM)
			}
		case reap := <-p.ended:
			ws := reap()
			if !ws.Exited() {
				return lockfKilled
			}
			return ws.ExitStatus()
		}
	}
}

// release frees the lock and removes the file. The lock is free then, whoever
// has the descriptor. Errors are nobody's business: the file can have been
// removed, or be in a directory that we may not write.
func (c *lockfCall) release() {
	switch {
	case c.fd >= 0:
		unix.Flock(c.fd, unix.LOCK_UN)
	case c.held.file == nil && !c.keep && !c.link:
		c.held.lock.Remove()
		fallthrough
	default:
		c.held.release()
	}
}
