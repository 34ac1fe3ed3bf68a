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

func (t *terminal) inForeground() bool { return t != nil && inForeground(t.f) }

// inForeground reports whether a file is our controlling terminal, and we are in
// its foreground.
func inForeground(f *os.File) bool {
	group, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// terminalWidth returns the columns of a terminal, 80 if it does not know.
func terminalWidth(f *os.File) (columns int, isTerminal bool) {
	if _, err := unix.IoctlGetTermios(int(f.Fd()), ioctlGetTermios); err != nil {
		return 0, false
	}
	if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 {
		return int(size.Col), true
	}
	return 80, true
}
