package pidfile

import (
	"context"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process holds on to a process: as long as the descriptor is open, its number
// can't come to mean another one (pidfd_open(2), Linux 5.3).
type process struct {
	pid int
	fd  int
}

// holdOn returns os.ErrProcessDone if there is no such process.
func holdOn(pid int) (*process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	switch err {
	case nil:
		return &process{pid, fd}, nil
	case unix.ESRCH, unix.EINVAL, unix.ENOENT: // the last two: the number of a thread
		return nil, os.ErrProcessDone
	}
	return nil, os.NewSyscallError("pidfd_open", err)
}

// signal does nothing if the process has ended.
func (p *process) signal(sig syscall.Signal) error {
	err := unix.PidfdSendSignal(p.fd, sig, nil, 0)
	if err == unix.ESRCH {
		return nil
	}
	return os.NewSyscallError("pidfd_send_signal", err)
}

func (p *process) ended() bool {
	fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}

// await waits for the end of the process, for at most d or until ctx ends.
func (p *process) await(ctx context.Context, d time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var wake [2]int // closed by the context's end, which poll(2) can't wait for
	if unix.Pipe2(wake[:], unix.O_CLOEXEC) != nil {
		return p.ended()
	}
	defer unix.Close(wake[0])
	stop := context.AfterFunc(ctx, func() { unix.Close(wake[1]) })
	fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}, {Fd: int32(wake[0])}}
	for {
		_, err := unix.Poll(fds, -1)
		if err != unix.EINTR {
			break
		}
	}
	if stop() {
		unix.Close(wake[1])
	}
	return p.ended()
}

func (p *process) close() { unix.Close(p.fd) }
