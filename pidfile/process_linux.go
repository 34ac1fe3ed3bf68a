package pidfile

import (
	"os"
	"syscall"

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

func (p *process) close() { unix.Close(p.fd) }
