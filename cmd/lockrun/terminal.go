package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// terminal is our controlling terminal.
type terminal struct{ f *os.File }

func controllingTerminal() *terminal {
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	return &terminal{os.NewFile(uintptr(fd), "/dev/tty")}
}

func (t *terminal) inForeground() bool {
	if t == nil {
		return false
	}
	group, err := unix.IoctlGetInt(int(t.f.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}
