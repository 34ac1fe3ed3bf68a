package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// execError is why a command can't be executed, with the exit status for it.
type execError struct {
	status int
	text   string
}

func (e *execError) Error() string { return e.text }

// command is what is run under the lock.
type command struct {
	argv []string
	env  []string // beside our own

	readyFD   int // of the command, which gets readyPipe there
	readyPipe *os.File
}

// start executes the command as a child with our standard descriptors, and those
// that are not close-on-exec. It returns when it was really executed. The error is
// an *execError.
//
// Not os.StartProcess: its first call forks a child to see whether pidfds
// work, which costs a short run several per cent.
func (c *command) start(ownGroup bool) (pid int, err error) {
	argv := c.argv
	path, err := lookPath(argv[0])
	if err != nil {
		return 0, err
	}
	attr := &syscall.ProcAttr{
		Env:   c.environment(),
		Files: c.files(),
		Sys:   &syscall.SysProcAttr{Setpgid: ownGroup},
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
func (c *command) exec() error {
	path, err := lookPath(c.argv[0])
	if err != nil {
		return err
	}
	err = syscall.Exec(path, c.argv, c.environment())
	if err == unix.ENOEXEC {
		err = syscall.Exec("/bin/sh", shellScript(path, c.argv), c.environment())
	}
	return execFailure(c.argv[0], path, err)
}

// shellScript is the command line for a script without "#!", which execvp(3) gives
// to the shell too.
func shellScript(path string, argv []string) []string {
	return append([]string{"/bin/sh", path}, argv[1:]...)
}

// files are the command's first descriptors: ours, and the pipe. Those between that
// we were started with and pass on stay what they are.
func (c *command) files() []uintptr {
	files := []uintptr{0, 1, 2}
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

// environment is the command's: ours, without what an outer lockrun told us, and
// what is added.
func (c *command) environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return name == "LOCKRUN_SLOT" || slices.ContainsFunc(c.env, func(own string) bool {
			return strings.HasPrefix(own, name) && own[len(name)] == '='
		})
	})
	return append(env, c.env...)
}

// checkCommand returns why a command surely can't be executed.
func checkCommand(name string) *execError {
	path, err := lookPath(name)
	if err == nil {
		err = unix.Access(path, unix.X_OK)
	}
	var e *execError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
		return e
	}
	return execFailure(name, path, err)
}

// execFailure says why a command, found at path, can't be executed.
func execFailure(name, path string, err error) *execError {
	switch err {
	case unix.ENOENT:
		if _, e := os.Stat(path); e == nil {
			return &execError{exitCannotExec, fmt.Sprintf("can't execute %s: its interpreter is missing (first line or dynamic loader)", name)}
		}
		return &execError{exitNotFound, fmt.Sprintf("can't execute %s: not found", name)}
	case unix.EAGAIN, unix.ENOMEM:
		return &execError{exitSystem, fmt.Sprintf("can't start %s: %v", name, err)}
	}
	return &execError{exitCannotExec, fmt.Sprintf("can't execute %s: %v", name, err)}
}

// lookPath finds a command as execvp(3) does: an empty element of PATH is the
// working directory, and a file that may not be executed is remembered while
// the search goes on. Unlike there, a directory that may not be searched is not
// taken for such a file: cron and sudo users have root's in their PATH.
func lookPath(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	if name == "" {
		return "", &execError{exitNotFound, "the command is an empty word"}
	}
	search, ok := os.LookupEnv("PATH")
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
		return "", &execError{exitCannotExec, fmt.Sprintf("can't execute %s: permission denied", name)}
	}
	return "", &execError{exitNotFound, fmt.Sprintf("%s: not found in PATH", name)}
}
