package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// listenControl makes the socket of the supervisor that holds a lock. What is
// left of one that was killed is removed: the lock makes the name ours.
func listenControl(name lockName) (*control, error) {
	dir := name
	if !name.named {
		var err error
		if dir, err = parseLock("any"); err != nil {
			return nil, err
		}
	}
	if err := dir.prepare(true); err != nil {
		return nil, err
	}
	path, err := name.controlPath(filepath.Dir(dir.path))
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	// bind(2) gives the file the mode of the socket.
	if err := unix.Fchmod(fd, 0o600); err != nil {
		return nil, os.NewSyscallError("fchmod", err)
	}
	err = shortenPath(path, func(short string) error {
		err := unix.Bind(fd, &unix.SockaddrUnix{Name: short})
		if err != unix.EADDRINUSE {
			return err
		}
		if old, e := os.Lstat(path); e != nil || old.Mode().Type() != os.ModeSocket {
			return err
		}
		if err := os.Remove(path); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrUnix{Name: short})
	})
	if err != nil {
		return nil, &os.PathError{Op: "bind", Path: path, Err: err}
	}
	if err := unix.Listen(fd, 4096); err != nil {
		os.Remove(path)
		return nil, os.NewSyscallError("listen", err)
	}
	file, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	l, err := net.FileListener(f)
	if err != nil {
		os.Remove(path)
		return nil, err
	}
	c := &control{
		listener: l.(*net.UnixListener),
		path:     path,
		file:     file,
		inbox:    make(chan *request),
		closed:   make(chan struct{}),
	}
	go c.serve()
	return c, nil
}

// peerOf tells who called listen(2) or connect(2) at the other end.
func peerOf(conn *net.UnixConn) (peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return peer{}, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, os.NewSyscallError("getsockopt", credErr)); err != nil {
		return peer{}, err
	}
	return peer{int(cred.Pid), int(cred.Uid)}, nil
}

// dialUnix connects to a socket. It waits as long as the queue of those who want
// to connect is full.
func dialUnix(ctx context.Context, path string) (conn *net.UnixConn, err error) {
	for {
		err = shortenPath(path, func(short string) error {
			c, err := (&net.Dialer{}).DialContext(ctx, "unix", short)
			if err == nil {
				conn = c.(*net.UnixConn)
			}
			return err
		})
		if !errors.Is(err, unix.EAGAIN) || ctx.Err() != nil {
			return conn, err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// hungUpOn reports whether the peer has closed its end for good.
func hungUpOn(conn *net.UnixConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return true
	}
	hungUp := false
	err = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd)}}
		_, err := unix.Poll(fds, 0)
		hungUp = err == nil && fds[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
	})
	return hungUp || err != nil
}
