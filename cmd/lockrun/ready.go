package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/lockrun/lockrun/pidfile"
	"golang.org/x/sys/unix"
)

// readiness says when the command counts as up: when it was executed, or when it
// says so.
type readiness struct {
	ready   readyValue
	timeout duration
}

func (r *readiness) register(fs *flagSet) {
	r.ready.how = readyExec
	r.timeout.d = 60 * time.Second
	fs.value(&r.ready, "ready")
	fs.value(&r.timeout, "ready-timeout")
}

// atOnce reports whether the command is up when it was executed.
func (r *readiness) atOnce() bool { return r.ready.how == "" || r.ready.how == readyExec }

func (r *readiness) check() error {
	switch {
	case r.timeout.set && r.atOnce():
		return errors.New("--ready-timeout bounds --ready notify, fd or tcp, which is missing")
	case r.timeout.set && r.timeout.d == 0:
		return errors.New("--ready-timeout must be longer than 0")
	}
	return nil
}

// readyValue is a flag's value.
type readyValue struct {
	how     string
	fd      int
	address string
}

const (
	readyExec   = "exec"   // when it was executed
	readyNotify = "notify" // when it says READY=1, as sd_notify(3) does
	readyFD     = "fd"     // when it writes a newline into that descriptor, as s6 wants it
	readyTCP    = "tcp"    // when it accepts connections at that address
)

func (v *readyValue) String() string {
	switch v.how {
	case readyFD:
		return "fd:" + strconv.Itoa(v.fd)
	case readyTCP:
		return "tcp:" + v.address
	}
	return v.how
}

func (v *readyValue) Set(s string) error {
	how, detail, _ := strings.Cut(s, ":")
	switch how {
	case readyExec, readyNotify:
		if how == s {
			*v = readyValue{how: how}
			return nil
		}
	case readyFD:
		// From 64 on there is the lock.
		if n, err := strconv.Atoi(detail); err == nil && n >= 3 && n < 64 {
			*v = readyValue{how: how, fd: n}
			return nil
		}
	case readyTCP:
		host, port, err := net.SplitHostPort(detail)
		if n, e := strconv.Atoi(port); err == nil && e == nil && host != "" && n > 0 && n < 1<<16 {
			*v = readyValue{how: how, address: detail}
			return nil
		}
	}
	return errors.New("want exec, notify, fd:N (3 to 63) or tcp:HOST:PORT")
}

// notice is what is heard of a command's readiness.
type notice struct {
	launch   int // which command it is of
	ready    bool
	stopping bool
	status   string        // what it says of itself
	extend   time.Duration // it needs that much longer
}

// prepareReady makes what a command needs to say that it is up.
func (s *supervisor) prepareReady() error {
	s.notices = make(chan notice)
	if s.policy.ready.how != readyNotify {
		return nil
	}
	s.heard = make(chan heardNotice)
	address, err := s.listenNotify()
	if err == nil {
		s.cmd.env = setVariables(s.cmd.env, "NOTIFY_SOCKET="+address)
	}
	return err
}

// awaitReady begins to wait until the command that was launched is up.
func (s *supervisor) awaitReady() {
	if s.policy.atOnce() {
		s.becomeReady()
		return
	}
	s.readyTimer = time.NewTimer(s.policy.readiness.timeout.d)
	if s.policy.ready.how == readyTCP {
		ctx, cancel := context.WithCancel(context.Background())
		s.endProbe = cancel
		launch := s.launches
		go func() {
			if acceptsConnections(ctx, s.policy.ready.address) {
				s.notices <- notice{launch: launch, ready: true}
			}
		}()
	}
}

// acceptsConnections asks until it does, or ctx ends. There is no way to be told.
func acceptsConnections(ctx context.Context, address string) bool {
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", address)
		if err == nil {
			conn.Close()
			return true
		}
		if pause(ctx, wait) != nil {
			return false
		}
	}
}

// readyPipe makes the pipe of --ready fd:N for the next command. What is returned
// is to be closed when the command was started.
func (s *supervisor) readyPipe() (*os.File, error) {
	if s.policy.ready.how != readyFD {
		return nil, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	launch := s.launches
	go func() {
		defer r.Close()
		if _, err := bufio.NewReader(r).ReadString('\n'); err == nil {
			s.notices <- notice{launch: launch, ready: true}
		}
	}()
	return w, nil
}

// becomeReady takes note that the command is up.
func (s *supervisor) becomeReady() {
	if s.up {
		return
	}
	s.up = true
	stopTimer(&s.readyTimer)
	if started := s.started; started != nil {
		s.started = nil
		if err := started(); err != nil {
			s.signal(unix.SIGTERM)
		}
	}
	for _, r := range s.relaunched {
		r.answer(s.describe())
	}
	s.relaunched = nil
	if len(s.restarts) > 0 {
		s.endBy(s.restarts[0].schedule)
	}
	s.tellReady()
}

// hear takes note of what a command says.
func (s *supervisor) hear(n notice) {
	if n.launch != s.launches || s.command == 0 {
		return
	}
	if n.status != "" {
		s.says = n.status
	}
	s.stopping = s.stopping || n.stopping
	if n.extend > 0 && s.readyTimer != nil {
		s.readyTimer.Reset(n.extend)
	}
	if n.ready {
		s.becomeReady()
	}
}

// notReadyInTime ends a command that was not up in time.
func (s *supervisor) notReadyInTime() {
	stopTimer(&s.readyTimer)
	s.tooSlow = true
	if s.ending == nil {
		s.endBy(pidfile.DefaultSchedule(unix.SIGTERM))
	}
}

// readyError is why a command did not become ready. The status is its own.
func (s *supervisor) readyError() error {
	if s.tooSlow {
		s.status = exitTimeout
		return fmt.Errorf("not ready within %v", s.policy.readiness.timeout.d)
	}
	text := fmt.Sprintf("exit status %d", s.status)
	if s.status > exitSignalled {
		text = "killed by " + unix.SignalName(unix.Signal(s.status-exitSignalled))
	}
	s.status = max(s.status, 1)
	return errors.New("ended before it was ready: " + text)
}
