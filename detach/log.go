package detach

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// OpenLog opens a file to append to, as Detach opens the Log: it is created with
// mode 0640 (and the umask), and a symbolic link is followed. A daemon can open
// its log anew with it, after somebody renamed that.
//
// It never waits: a FIFO that nobody reads from is an error.
func OpenLog(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOCTTY|unix.O_NONBLOCK, 0o640)
	if errors.Is(err, unix.ENXIO) {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fmt.Errorf("a FIFO that nobody reads from, or a socket: %w", unix.ENXIO)}
	}
	if err != nil {
		return nil, err
	}
	// Programs do not expect a standard output that says "try again".
	if err := unix.SetNonblock(int(f.Fd()), false); err != nil {
		f.Close()
		return nil, os.NewSyscallError("fcntl", err)
	}
	return f, nil
}

// openLogs opens what standard output and error of the daemon go to. If the two
// are the same file they are one description, so that neither overwrites the
// other, whatever the file system makes of O_APPEND.
func (c *Config) openLogs() (stdout, stderr *os.File, err error) {
	open := func(path string) (*os.File, error) {
		if path == "" {
			return os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		}
		return OpenLog(path)
	}
	if stdout, err = open(cmp.Or(c.Stdout, c.Log)); err != nil {
		return nil, nil, err
	}
	if stderr, err = open(c.errorLog()); err != nil {
		stdout.Close()
		return nil, nil, err
	}
	if sameFile(stdout, stderr) {
		stderr.Close()
		stderr = stdout
	}
	return stdout, stderr, nil
}

func sameFile(a, b *os.File) bool {
	ai, err := a.Stat()
	bi, e := b.Stat()
	return err == nil && e == nil && os.SameFile(ai, bi)
}

// errorLog is the path of what standard error goes to.
func (c *Config) errorLog() string { return cmp.Or(c.Stderr, c.Log) }

// seeLog is added to what became of a daemon that did not come up.
func (c *Config) seeLog() string {
	if c.errorLog() == "" {
		return ""
	}
	return ", see " + c.errorLog()
}
