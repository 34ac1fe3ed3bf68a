package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// parseSyslog reads "syslog:FACILITY.PRIORITY". ours is false if the word does
// not begin so: then it is a file.
func parseSyslog(word string) (priority int, ours bool, err error) {
	rest, ours := strings.CutPrefix(word, "syslog:")
	if !ours {
		return 0, false, nil
	}
	// By number, as in syslog(3). The kernel's own facility, 0, is not for us.
	facilities := []string{"", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
		"", "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"}
	priorities := []string{"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"}
	facility, level, _ := strings.Cut(rest, ".")
	f, l := slices.Index(facilities, facility), slices.Index(priorities, level)
	if facility == "" || f < 0 || l < 0 {
		facilities = slices.DeleteFunc(facilities, func(s string) bool { return s == "" })
		return 0, true, usageError("--log %s: want syslog:FACILITY.PRIORITY, such as syslog:daemon.info; the facilities are %s, the priorities %s",
			word, strings.Join(facilities, " "), strings.Join(priorities, " "))
	}
	return f<<3 | l, true, nil
}

// syslogTag is the name that messages have in the log: that of the lock.
func syslogTag(name lockName) string {
	tag := name.given
	if !name.named {
		tag = filepath.Base(tag)
		tag = strings.TrimSuffix(strings.TrimSuffix(tag, ".pid"), ".lock")
	}
	tag = strings.Map(func(r rune) rune {
		if r < '0' && r != '-' && r != '.' || r > 'z' || r == ':' || r == '[' || r == ']' {
			return '_'
		}
		return r
	}, tag)
	return tag[:min(len(tag), 32)] // RFC 3164, 4.1.3
}

// Limits that keep a syslog that is slow, dead or missing from harming us.
const (
	syslogLine     = 2048                   // bytes of a message; a longer line is more than one
	syslogPatience = 100 * time.Millisecond // for messages to be taken, in each syslogRest
	syslogRest     = time.Second
	syslogBusy     = 5 * time.Millisecond // a shorter wait is that of a syslog at work, and does not count
)

// syslogLog sends each line of output as a message to the local syslog, in the
// form of RFC 3164. What is not taken is dropped, and counted when syslog is back.
//
// It is not log/syslog because that has no deadline: a daemon that does not read
// its socket would stop ours.
type syslogLog struct {
	priority int
	tag      string
	pid      atomic.Int64 // of the command
	until    atomic.Int64 // no more is sent after this time (UnixNano); 0 before the command has ended

	mu     sync.Mutex
	conn   net.Conn
	line   []byte        // has begun
	since  time.Time     // when a syslogRest began
	waited time.Duration // in it
	lost   int           // lines
}

// take sends what the command wrote.
func (s *syslogLog) take(p []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(p) > 0 {
		n := bytes.IndexByte(p, '\n')
		whole := n >= 0
		if !whole {
			n = len(p)
		}
		if room := syslogLine - len(s.line); n > room {
			n, whole = room, false
		}
		s.line = append(s.line, p[:n]...)
		p = p[n:]
		if whole {
			p = p[1:]
		}
		if whole || len(s.line) == syslogLine {
			s.flush()
		}
	}
}

// flush sends the line, if there is something in it.
func (s *syslogLog) flush() {
	line := bytes.TrimRight(s.line, "\r")
	for i, c := range line {
		if c < ' ' && c != '\t' || c == 0x7f { // what could move a cursor
			line[i] = '?'
		}
	}
	s.line = s.line[:0]
	if len(line) > 0 {
		s.send(int(s.pid.Load()), line)
	}
}

// complain sends a message of our own.
func (s *syslogLog) complain(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.send(os.Getpid(), []byte(text))
}

func (s *syslogLog) send(pid int, text []byte) {
	now := time.Now()
	if now.Sub(s.since) >= syslogRest {
		s.since, s.waited = now, 0
	}
	until := s.until.Load()
	if s.waited >= syslogPatience || until != 0 && now.UnixNano() > until {
		s.lost++
		return
	}
	err := s.sayLost()
	if err == nil {
		err = s.post(pid, text)
	}
	if took := time.Since(now); took >= syslogBusy {
		s.waited += took
	}
	if err != nil {
		s.lost++
		s.waited = syslogPatience
	}
}

func (s *syslogLog) sayLost() error {
	if s.lost == 0 {
		return nil
	}
	err := s.post(os.Getpid(), fmt.Appendf(nil, "lockrun: %d lines of output are lost here: syslog did not take them", s.lost))
	if err == nil {
		s.lost = 0
	}
	return err
}

// post sends one message; if syslog was started anew, to the new one.
func (s *syslogLog) post(pid int, text []byte) error {
	message := fmt.Appendf(nil, "<%d>%s %s[%d]: %s", s.priority, time.Now().Format(time.Stamp), s.tag, pid, text)
	if s.conn != nil {
		err := s.write(message)
		if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		s.conn.Close()
		s.conn = nil
	}
	var err error
	if s.conn, err = dialSyslog(); err != nil {
		return err
	}
	return s.write(message)
}

func (s *syslogLog) write(message []byte) error {
	s.conn.SetWriteDeadline(time.Now().Add(syslogPatience - s.waited))
	_, err := s.conn.Write(message)
	return err
}

func dialSyslog() (net.Conn, error) {
	conn, first := net.Dial("unixgram", "/dev/log")
	if first == nil {
		return conn, nil
	}
	for _, path := range []string{"/var/run/syslog", "/var/run/log"} { // macOS, the BSDs
		if conn, err := net.Dial("unixgram", path); err == nil {
			return conn, nil
		}
	}
	return nil, first
}

// hurry says that the command has ended: a slow syslog must not hold up the end.
func (s *syslogLog) hurry(until time.Time) { s.until.Store(until.UnixNano()) }

// end sends the last line, though it was not ended, and what is to be said.
func (s *syslogLog) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waited = 0
	s.flush()
	s.sayLost()
}
