package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/lockrun/lockrun/lock"
	"golang.org/x/sys/unix"
)

// What the tools that we stand in for have in common: how they name and create
// a lock file, how they put an error into words, and how they run a command.
// What differs from the tools themselves stands in docs/compatibility.md.

// tell prints a message of a tool, which begins with its name, to standard
// error.
func tell(tool, format string, args ...any) {
	os.Stderr.WriteString(tool + ": " + oneLine(fmt.Sprintf(format, args...)) + "\n")
}

// reasonOf is the system's reason in an error, as the C library words it, or what
// package lock has against a file.
func reasonOf(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return strerror(errno)
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return err.Error()
}

// lockTarget returns the file that a tool's user means by path. Those tools
// follow a symbolic link, which package lock does not; if it leads nowhere they
// create the file, with mode perm. link reports whether there was one.
//
// The system follows it, not we alone: it knows which link in /tmp is a trap
// (protected_symlinks in proc_sys_fs(5)).
func lockTarget(path string, perm fs.FileMode) (target string, link bool, err error) {
	if path == "" {
		return "", false, unix.ENOENT
	}
	if file, err := os.Lstat(path); err != nil || file.Mode()&fs.ModeSymlink == 0 {
		return path, false, nil
	}
	if _, err = os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		var f *os.File
		if f, err = os.OpenFile(path, os.O_RDONLY|os.O_CREATE|unix.O_NONBLOCK|unix.O_NOCTTY, perm); err == nil {
			f.Close()
		}
	}
	if err == nil {
		target, err = filepath.EvalSymlinks(path)
	}
	return target, true, err
}

// underUmask returns the mode that a file gets which is created with perm. The
// tools obey the umask; package lock, by itself, does not.
func underUmask(perm fs.FileMode) fs.FileMode {
	mask := syscall.Umask(0)
	syscall.Umask(mask)
	return perm &^ fs.FileMode(mask)
}

// child is a tool's command, and we its parent. It is signalled and reaped by
// one goroutine alone, so that no signal hits a number that was given away.
type child struct {
	pid     int
	signals chan os.Signal
	ended   chan func() waitStatus // it has ended, and is reaped by calling it
}

// startChild starts a tool's command and catches signals from then on. The
// command inherits the lock, if l is not nil: if we are killed it stays locked.
// Those tools close the descriptor, and let the next one in then.
func startChild(l *lock.Lock, argv []string, sys *syscall.SysProcAttr, signals []os.Signal) (*child, error) {
	if l != nil {
		inherited, err := l.File()
		if err != nil {
			return nil, err
		}
		defer inherited.Close()
		if _, err := unix.FcntlInt(inherited.Fd(), unix.F_SETFD, 0); err != nil {
			return nil, os.NewSyscallError("fcntl", err)
		}
	}
	c := &child{signals: make(chan os.Signal, 16), ended: make(chan func() waitStatus, 1)}
	catch(c.signals, signals)
	var err error
	if c.pid, err = (&command{argv: argv, env: os.Environ()}).start(sys); err != nil {
		signal.Stop(c.signals)
		return nil, err
	}
	go func() { c.ended <- awaitEnd(c.pid) }()
	return c, nil
}

func (c *child) signal(sig os.Signal) { syscall.Kill(c.pid, sig.(syscall.Signal)) }
