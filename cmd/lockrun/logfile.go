package main

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/lockrun/lockrun/detach"
	"golang.org/x/sys/unix"
)

// logFile is a file that output is appended to. Others rename it, logrotate say;
// then it can be opened anew, in the same descriptors.
type logFile struct {
	*os.File
	path   string     // absolute
	others []*os.File // descriptors of ours that are the same file
}

func (l *logFile) same(other *logFile) bool {
	a, err := l.Stat()
	b, e := other.Stat()
	return err == nil && e == nil && os.SameFile(a, b)
}

// renamed reports whether the path names another file by now, or none.
func (l *logFile) renamed() bool {
	there, err := os.Stat(l.path)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	ours, err := l.Stat()
	return err == nil && !os.SameFile(there, ours)
}

// reopen opens what the path names now. If that can't be done all stays as it is.
func (l *logFile) reopen() error {
	f, err := detach.OpenLog(l.path)
	if err != nil {
		return err
	}
	defer f.Close()
	// A command that is started in between would inherit a descriptor that is
	// not close-on-exec yet.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	for _, old := range append([]*os.File{l.File}, l.others...) {
		fd := int(old.Fd())
		if err := unix.Dup2(int(f.Fd()), fd); err != nil {
			return os.NewSyscallError("dup2", err)
		}
		if fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
