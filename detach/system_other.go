//go:build !linux

package detach

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func closeOnExecFrom(first int) {
	var r unix.Rlimit
	limit := 4096
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) == nil && uint64(r.Cur) < 1<<16 {
		limit = int(r.Cur)
	}
	for fd := first; fd < limit; fd++ {
		unix.CloseOnExec(fd)
	}
}

// Without a subreaper the end of an orphan is seen, but not its status.
func becomeSubreaper() (end func()) { return func() {} }

func unblockSignals() (restore func()) { return func() {} }

func ignoredByKernel(syscall.Signal) bool { return true }

func readerGone(pipe *os.File) bool {
	fds := []unix.PollFd{{Fd: int32(pipe.Fd())}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0 && fds[0].Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0
}
