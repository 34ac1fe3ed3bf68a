package detach

import (
	"bytes"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// closeOnExecFrom makes the descriptors from first on close-on-exec
// (close_range(2), Linux 5.11), one by one where the kernel can't.
func closeOnExecFrom(first int) {
	if unix.CloseRange(uint(first), ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, name := range names {
		if fd, err := strconv.Atoi(name.Name()); err == nil && fd >= first {
			unix.CloseOnExec(fd)
		}
	}
}

// becomeSubreaper makes orphans among our descendants our children, and
// returns what ends that (PR_SET_CHILD_SUBREAPER, prctl(2), Linux 3.4).
func becomeSubreaper() (end func()) {
	if unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != nil {
		return func() {}
	}
	return func() { unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) }
}

// unblockSignals unblocks all signals in this thread.
func unblockSignals() (restore func()) {
	var none, old unix.Sigset_t
	if unix.PthreadSigmask(unix.SIG_SETMASK, &none, &old) != nil {
		return func() {}
	}
	return func() { unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil) }
}

// ignoredByKernel reads the disposition itself: the Go runtime knows only of
// signals that it was asked about. The line in /proc/self/status is
//
//	SigIgn:	0000000000300000
func ignoredByKernel(s syscall.Signal) bool {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return true // to be asked for is harmless
	}
	_, rest, _ := bytes.Cut(status, []byte("\nSigIgn:\t"))
	mask, _, _ := bytes.Cut(rest, []byte("\n"))
	ignored, err := strconv.ParseUint(string(mask), 16, 64)
	return err != nil || ignored&(1<<(s-1)) != 0
}

// readerGone reports whether nobody can read from the pipe any more.
func readerGone(pipe *os.File) bool {
	fds := []unix.PollFd{{Fd: int32(pipe.Fd())}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0 && fds[0].Revents&(unix.POLLERR|unix.POLLNVAL) != 0
}
