package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// execError is why a command can't be executed, with the exit status for it.
type execError struct {
	status int
	text   string
	reason syscall.Errno
}

func (e *execError) Error() string { return e.text }

// command is what is run under the lock.
type command struct {
	argv    []string
	env     []string
	process process
	streams *streams

	readyFD   int // of the command, which gets readyPipe there
	readyPipe *os.File
}

// start executes the command as a child with its standard descriptors, and ours
// that are not close-on-exec. It returns when it was really executed. The error is
// an *execError. sys may be nil.
//
// Not os.StartProcess: its first call forks a child to see whether pidfds
// work, which costs a short run several per cent.
func (c *command) start(sys *syscall.SysProcAttr) (pid int, err error) {
	argv := c.argv
	if c.process.given() {
		return c.startByExecutor(argv, sys, false)
	}
	path, err := lookPath(argv[0], c.env)
	if err != nil {
		return 0, err
	}
	attr := &syscall.ProcAttr{
		Env:   c.env,
		Files: c.files(),
		Sys:   sys,
	}
	pid, err = syscall.ForkExec(path, argv, attr)
	if err == unix.ENOEXEC {
		pid, err = syscall.ForkExec("/bin/sh", shellScript(path, argv), attr)
	}
	if err != nil {
		return 0, execFailure(argv[0], path, err)
	}
	return pid, nil
}

// exec executes the command in place of this process. It returns an *execError.
// about is called right before it.
func (c *command) exec(about func()) error {
	runtime.LockOSThread() // some of what is set is the thread's
	if err := c.process.become(); err != nil {
		return err
	}
	about()
	return executeInPlace(c.argv, c.env)
}

// executeInPlace returns only if it can't be done.
func executeInPlace(argv, env []string) error {
	path, err := lookPath(argv[0], env)
	if err != nil {
		return err
	}
	err = syscall.Exec(path, argv, env)
	if err == unix.ENOEXEC {
		err = syscall.Exec("/bin/sh", shellScript(path, argv), env)
	}
	return execFailure(argv[0], path, err)
}

// shellScript is the command line for a script without "#!", which execvp(3) gives
// to the shell too.
func shellScript(path string, argv []string) []string {
	return append([]string{"/bin/sh", path}, argv[1:]...)
}

// files are the command's first descriptors: ours, and the pipe. Those between that
// we were started with and pass on stay what they are.
func (c *command) files() []uintptr {
	files := c.streams.descriptors()
	if c.readyPipe == nil {
		return files
	}
	for fd := len(files); fd < c.readyFD; fd++ {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 {
			files = append(files, ^uintptr(0)) // closed
			continue
		}
		files = append(files, uintptr(fd))
	}
	return append(files, c.readyPipe.Fd())
}

// checkAgain returns why the command, with the words argv if there are any,
// surely can't be executed again.
func (c *command) checkAgain(argv []string) *execError {
	var path string
	var err error
	switch {
	case c.process.given():
		if len(argv) == 0 {
			argv = c.argv
		}
		_, err = c.startByExecutor(argv, nil, true)
	case len(argv) == 0:
		return nil
	default:
		if path, err = lookPath(argv[0], c.env); err == nil {
			err = unix.Access(path, unix.X_OK)
		}
	}
	var e *execError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
		return e
	}
	return execFailure(argv[0], path, err)
}

// execFailure says why a command, found at path, can't be executed.
func execFailure(name, path string, err error) *execError {
	e := &execError{exitCannotExec, fmt.Sprintf("can't execute %s: %v", name, err), unix.EINVAL}
	errors.As(err, &e.reason)
	switch err {
	case unix.ENOENT:
		if _, err := os.Stat(path); err == nil {
			e.text = fmt.Sprintf("can't execute %s: its interpreter is missing (first line or dynamic loader)", name)
		} else {
			e.status, e.text = exitNotFound, fmt.Sprintf("can't execute %s: not found", name)
		}
	case unix.EAGAIN, unix.ENOMEM:
		e.status, e.text = exitSystem, fmt.Sprintf("can't start %s: %v", name, err)
	}
	return e
}

// lookPath finds a command as execvp(3) does, by the PATH in env: an empty element of PATH is the
// working directory, and a file that may not be executed is remembered while
// the search goes on. Unlike there, a directory that may not be searched is not
// taken for such a file: cron and sudo users have root's in their PATH.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	if name == "" {
		return "", &execError{exitNotFound, "the command is an empty word", unix.ENOENT}
	}
	search, ok := variable(env, "PATH")
	if !ok {
		search = "/bin:/usr/bin"
	}
	denied := false
	for _, dir := range strings.Split(search, ":") {
		if dir == "" {
			dir = "."
		}
		path := dir + "/" + name
		if fi, err := os.Stat(path); err != nil || fi.IsDir() {
			continue
		}
		if unix.Access(path, unix.X_OK) == nil {
			return path, nil
		}
		denied = true
	}
	if denied {
		return "", &execError{exitCannotExec, fmt.Sprintf("can't execute %s: permission denied", name), unix.EACCES}
	}
	return "", &execError{exitNotFound, fmt.Sprintf("%s: not found in PATH", name), unix.ENOENT}
}

// wait4 reaps the child pid.
func wait4(pid int) (ws waitStatus) {
	for {
		if _, err := syscall.Wait4(pid, &ws, 0, nil); err != syscall.EINTR {
			return ws
		}
	}
}

// reapOrphans reaps the ended processes that were left to us as PID 1. That is
// awaitEnd's while a command runs.
func reapOrphans() {
	for os.Getpid() == 1 {
		if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 && err != syscall.EINTR {
			return
		}
	}
}
