package main

import (
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// listenNotify makes the socket of --ready notify (sd_notify(3)) and returns its
// address for the command's environment. It is an abstract one (unix(7)), since
// the command may be another user's and see other directories; whoever writes to
// it is asked for by his credentials.
func (s *supervisor) listenNotify() (address string, err error) {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram"})
	if err != nil {
		return "", err
	}
	raw, err := conn.SyscallConn()
	if err == nil {
		var e error
		err = raw.Control(func(fd uintptr) { e = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
		if err == nil {
			err = e
		}
	}
	if err != nil {
		conn.Close()
		return "", err
	}
	go s.listenToNotices(conn)
	return conn.LocalAddr().String(), nil
}

func (s *supervisor) listenToNotices(conn *net.UnixConn) {
	text, control := make([]byte, 8192), make([]byte, 4096)
	for {
		n, m, _, _, err := conn.ReadMsgUnix(text, control)
		if err != nil {
			return
		}
		if sender := readControl(control[:m]); sender > 0 {
			s.heard <- heardNotice{sender, parseNotice(string(text[:n]))}
		}
	}
}

// readControl returns the PID of a message's sender, 0 if it is unknown. Descriptors
// that come with it are closed: sd_notify_barrier(3) waits for that.
func readControl(control []byte) (pid int) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		if cred, err := unix.ParseUnixCredentials(&m); err == nil {
			pid = int(cred.Pid)
		}
		if fds, err := unix.ParseUnixRights(&m); err == nil {
			for _, fd := range fds {
				unix.Close(fd)
			}
		}
	}
	return pid
}

// parseNotice reads a message of sd_notify(3): assignments, one in a line.
func parseNotice(text string) (n notice) {
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		switch name {
		case "READY":
			n.ready = value == "1"
		case "STOPPING":
			n.stopping = value == "1"
		case "STATUS":
			n.status = value
		case "ERRNO":
			if e, err := strconv.Atoi(value); err == nil && e > 0 {
				n.status = "error: " + unix.Errno(e).Error()
			}
		case "EXTEND_TIMEOUT_USEC":
			if us, err := strconv.ParseInt(value, 10, 64); err == nil && us > 0 && us < int64(24*time.Hour/time.Microsecond) {
				n.extend = time.Duration(us) * time.Microsecond
			}
		}
	}
	return n
}

// isOurs reports whether a process is the command, or comes from it: in its group,
// or its child, or its child's child.
func (s *supervisor) isOurs(pid int) bool {
	if s.command == 0 {
		return false
	}
	for range 64 {
		if pid == s.command {
			return true
		}
		stat, err := statOf(pid)
		if err != nil || pid <= 1 {
			return false
		}
		if s.ownGroup() && stat.group == s.command {
			return true
		}
		pid = stat.parent
	}
	return false
}
