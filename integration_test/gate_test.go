//go:build linux

package integration_test

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// gate holds up a thread, and what it starts, at the entry of certain system
// calls (seccomp_unotify(2)). So a test can do something at that instant, where
// it would have to sleep and hope.
type gate struct {
	fd int
	at atomic.Pointer[func(seccompNotif)]
}

// A seccomp filter, struct seccomp_notif and struct seccomp_notif_resp.
const (
	seccompSetModeFilter     = 1
	seccompFilterNewListener = 1 << 3
	seccompRetAllow          = 0x7fff0000
	seccompRetUserNotif      = 0x7fc00000
	seccompRetErrno          = 0x00050000
	seccompUserNotifContinue = 1
	seccompNotifRecv         = 0xc0502100
	seccompNotifSend         = 0xc0182101
)

type seccompNotif struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type seccompResponse struct {
	id    uint64
	value int64
	error int32
	flags uint32
}

// newGate puts a gate before the calling thread, for ever.
func newGate(calls ...uint32) (*gate, error) {
	fd, err := seccompInstall(seccompFilterNewListener, seccompRetUserNotif, calls...)
	if err != nil {
		return nil, err
	}
	g := &gate{fd: fd}
	go g.serve()
	return g, nil
}

// failCalls makes certain system calls of the calling thread, and of what it
// starts, fail for ever.
func failCalls(with unix.Errno, calls ...uint32) error {
	_, err := seccompInstall(0, seccompRetErrno|uint32(with), calls...)
	return err
}

// seccompInstall is for certain system calls, all if none are given.
func seccompInstall(flags uintptr, what uint32, calls ...uint32) (int, error) {
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}} // the number of the call
	for i, nr := range calls {
		filter = append(filter, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: nr, Jt: uint8(len(calls) - i)})
	}
	if len(calls) > 0 {
		filter = append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: seccompRetAllow})
	}
	filter = append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: what})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, seccompSetModeFilter, flags, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

func (g *gate) serve() {
	for {
		var n seccompNotif
		switch _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(g.fd), seccompNotifRecv, uintptr(unsafe.Pointer(&n))); errno {
		case 0:
		case unix.EINTR, unix.ENOENT: // the thread was killed meanwhile
			continue
		default:
			panic(errno)
		}
		go func() {
			if at := g.at.Load(); at != nil {
				(*at)(n)
			}
			answer := seccompResponse{id: n.id, flags: seccompUserNotifContinue}
			seccompAnswer(g.fd, &answer)
		}()
	}
}

// seccompAnswer lets the one who waits go on. The call fails with EINTR if a signal
// comes, and the Go runtime sends some: then nobody would answer.
func seccompAnswer(listener int, answer *seccompResponse) {
	for {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), seccompNotifSend, uintptr(unsafe.Pointer(answer))); errno != unix.EINTR {
			return
		}
	}
}

// set says what is to be done when somebody comes to the gate; he goes on when
// that has returned. He comes again if a signal interrupts him.
func (g *gate) set(at func(seccompNotif)) {
	if at == nil {
		g.at.Store(nil)
		return
	}
	g.at.Store(&at)
}
