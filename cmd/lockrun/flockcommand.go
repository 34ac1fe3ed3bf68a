package main

import (
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// execute runs the command and returns its exit status.
//
// The lock is not given up at its end: it is gone when the last process that
// has the descriptor has closed it.
func (f *flock) execute() int {
	if f.verbose {
		f.say(f.name + ": executing " + f.command[0] + "\n")
	}
	if f.noFork {
		return f.executeFailure(f.replace())
	}
	defaultSignals(f.timed()) // before the command can send one
	pid, err := f.spawn()
	if err == unix.EAGAIN {
		return f.fail(exOSErr, "fork failed: "+strerror(err))
	}
	if err != nil {
		return f.executeFailure(err)
	}
	var ws syscall.WaitStatus
	for {
		_, err := syscall.Wait4(pid, &ws, 0, nil)
		if err == nil {
			break
		}
		if err != syscall.EINTR {
			return f.fail(1, "waitpid failed: "+strerror(err))
		}
	}
	if ws.Signaled() {
		return exitSignalled + int(ws.Signal())
	}
	return ws.ExitStatus()
}

func (f *flock) executeFailure(err error) int {
	status := exUnavailable
	if err == unix.ENOMEM {
		status = exOSErr
	}
	return f.fail(status, "failed to execute "+f.command[0]+": "+strerror(err))
}

// replace executes the command in our place, and returns why it can't.
func (f *flock) replace() error {
	if f.hasFile {
		// The number is that of a descriptor of the Go runtime, or free.
		if err := dup2(f.fd, lockNumber()); err != nil {
			return err
		}
	}
	f.output = "" // as the original's, it was in a buffer of ours
	env := os.Environ()
	return execvp(f.command, false, func(path string, argv []string) error { return syscall.Exec(path, argv, env) })
}

// spawn executes the command as a child.
func (f *flock) spawn() (pid int, err error) {
	attr := &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}}
	switch {
	case !f.hasFile && f.closeLock:
		unix.CloseOnExec(f.fd)
		if f.fd < len(attr.Files) {
			attr.Files[f.fd] = ^uintptr(0)
		}
	case f.hasFile && !f.closeLock:
		n := lockNumber()
		for fd := len(attr.Files); fd < n; fd++ {
			attr.Files = append(attr.Files, uintptr(fd))
		}
		attr.Files = append(attr.Files, uintptr(f.fd))
	}
	err = execvp(f.command, true, func(path string, argv []string) error {
		pid, err = syscall.ForkExec(path, argv, attr)
		return err
	})
	return pid, err
}

// lockNumber returns the number that the lock's descriptor has in the command,
// which is the lowest that our caller left free: scripts close it by that
// number. Here, one of the Go runtime's may have it.
func lockNumber() int {
	n := 3
	for inherited(n) {
		n++
	}
	return n
}

// execvp executes argv as execvp(3) does: a name without a slash is searched in
// PATH, and what the kernel does not know is given to the shell. forks says that
// an attempt is dear, so that it is not made where the file surely can't be
// executed.
func execvp(argv []string, forks bool, exec func(path string, argv []string) error) error {
	attempt := func(path string) error {
		err := exec(path, argv)
		if err == unix.ENOEXEC {
			err = exec("/bin/sh", append([]string{"/bin/sh", path}, argv[1:]...))
		}
		return err
	}
	name := argv[0]
	if name == "" {
		return unix.ENOENT
	}
	if strings.Contains(name, "/") {
		return attempt(name)
	}
	search, ok := os.LookupEnv("PATH")
	if !ok {
		search = "/bin:/usr/bin"
	}
	failure := error(unix.ENOENT)
	denied := false
	for more := true; more; {
		var dir string
		dir, search, more = strings.Cut(search, ":")
		path := name
		if dir != "" {
			path = dir + "/" + name
		}
		if forks {
			failure = unix.Access(path, unix.X_OK)
		}
		if !forks || failure == nil {
			if failure = attempt(path); failure == nil {
				return nil
			}
		}
		switch failure {
		case unix.EACCES:
			denied = true
		case unix.ENOENT, unix.ESTALE, unix.ENOTDIR, unix.ENODEV, unix.ETIMEDOUT:
		default:
			return failure
		}
	}
	if denied {
		return unix.EACCES
	}
	return failure
}
