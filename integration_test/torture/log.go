//go:build linux && (amd64 || arm64)

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// event is something that happened at a lock. All events go through one pipe, also
// those of the storm itself, so they are read in the order in which they were
// written: what a command said is read before the end of the lockrun that waited
// for it.
type event struct {
	what    string
	target  string
	attempt uint64 // whose it is
	pid     int
	at      time.Time
	parent  int           // of begin
	waited  time.Duration // of begin
	text    string
}

const eventFields = 8

// write writes the event with one write(2) that is not torn: it is shorter than
// PIPE_BUF.
func (e *event) write(fd int) {
	text := e.text[:min(len(e.text), 1000)]
	line := fmt.Appendf(nil, "%s %s %d %d %d %d %d %s\n", e.what, e.target, e.attempt, e.pid, e.at.UnixNano(),
		e.parent, e.waited, strings.ReplaceAll(text, "\n", " "))
	for {
		if _, err := unix.Write(fd, line); err != unix.EINTR {
			return
		}
	}
}

func parseEvent(line string) (e event) {
	f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", eventFields)
	if len(f) < eventFields {
		return event{what: "two", text: "torn event: " + line}
	}
	number := func(s string) int64 { n, _ := strconv.ParseInt(s, 10, 64); return n }
	return event{f[0], f[1], uint64(number(f[2])), int(number(f[3])), time.Unix(0, number(f[4])),
		int(number(f[5])), time.Duration(number(f[6])), f[7]}
}

func (e *event) String() string {
	s := fmt.Sprintf("%s %-7s attempt %d", e.at.Format("15:04:05.000000"), e.what, e.attempt)
	if e.pid != 0 {
		s += fmt.Sprintf(", process %d", e.pid)
	}
	if e.parent != 0 {
		s += fmt.Sprintf(" of %d", e.parent)
	}
	return s + ", " + e.text
}

// eventLog is what the storm knows of what happened.
type eventLog struct {
	pipe     *os.File
	mu       sync.Mutex
	last     map[string][]event // of each lock, the latest ones
	running  map[string]event   // of each lock, the command that began last
	counts   map[string]uint64
	waits    waits
	wrong    []string // what must not be, with all that is known of it
	more     int      // those that were not kept
	finished map[uint64]*finish
}

// finish is what the end of a process is compared with.
type finish struct{ began, ended bool }

// waits are the times that those waited who got the lock in the end, and were not
// stopped meanwhile.
type waits struct {
	n       int
	sum     time.Duration
	longest event
}

const (
	kept      = 80 // events of each lock
	keptWrong = 20
)

func (s *storm) openLog() error {
	path := filepath.Join(s.dir, "events")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return err
	}
	// For reading and writing: there is no end while the storm lasts. It is ours to
	// read alone, and big enough for nobody to wait for us.
	pipe, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	unix.FcntlInt(pipe.Fd(), unix.F_SETPIPE_SZ, 1<<20)
	s.log = &eventLog{
		pipe: pipe, last: make(map[string][]event), running: make(map[string]event),
		counts: make(map[string]uint64), finished: make(map[uint64]*finish),
	}
	go s.read()
	return nil
}

// tell adds an event of the storm itself.
func (s *storm) tell(what string, a *attempt, pid int, format string, args ...any) {
	e := event{what: what, target: a.target.name, attempt: a.n, pid: pid, at: time.Now(), text: fmt.Sprintf(format, args...)}
	e.write(int(s.log.pipe.Fd()))
}

func (s *storm) read() {
	r := bufio.NewReaderSize(s.log.pipe, 1<<16)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		s.take(parseEvent(line))
	}
}

func (s *storm) take(e event) {
	l := s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts[e.what]++
	ring := append(l.last[e.target], e)
	l.last[e.target] = ring[max(0, len(ring)-kept):]
	f := l.finished[e.attempt]
	switch e.what {
	case "start":
		l.finished[e.attempt] = &finish{}
	case "begin":
		l.running[e.target] = e
		if f != nil {
			f.began = true
		}
		if e.waited > 0 && !s.wasStopped(e.attempt) {
			l.waits.add(e)
		}
	case "end":
		if f != nil {
			f.ended = true
		}
	case "two":
		l.wrongLocked(s, e.target, e.attempt, "two at once: process %d, which began at %s, is not alone: %s", e.pid, e.at.Format("15:04:05.000000"), e.text)
	case "exit":
		delete(l.finished, e.attempt)
		a := s.forget(e.attempt)
		if a == nil || f == nil {
			break
		}
		if why := a.lie(*f); why != "" {
			l.wrongLocked(s, e.target, e.attempt, "%s", why)
		}
	}
}

func (w *waits) add(e event) {
	w.n++
	w.sum += e.waited
	if e.waited > w.longest.waited {
		w.longest = e
	}
}

// mistake takes note of what must not be.
func (s *storm) mistake(a *attempt, format string, args ...any) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.log.wrongLocked(s, a.target.name, a.n, format, args...)
}

// wrongLocked keeps it with the last events of the lock, and with the command
// lines of those who took part in them.
func (l *eventLog) wrongLocked(s *storm, target string, attempt uint64, format string, args ...any) {
	if len(l.wrong) == keptWrong {
		l.more++
		return
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "lock %s, attempt %d: %s\n", target, attempt, fmt.Sprintf(format, args...))
	told := make(map[uint64]bool)
	for _, e := range append(l.last[target], event{attempt: attempt}) {
		if e.attempt != 0 && !told[e.attempt] {
			told[e.attempt] = true
			fmt.Fprintf(&b, "    attempt %d: %s\n", e.attempt, s.plan(e.attempt))
		}
	}
	for _, e := range l.last[target] {
		fmt.Fprintf(&b, "  %v\n", &e)
	}
	l.wrong = append(l.wrong, b.String())
}

func (l *eventLog) violations() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.wrong) + l.more
}

// count adds to what the report counts.
func (l *eventLog) count(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts[what]++
}

// runs returns the command that began last at a lock.
func (l *eventLog) runs(target string) (event, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.running[target]
	return e, ok
}

// forgive forgets all that was until now.
func (l *eventLog) forgive() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrong = nil
	clear(l.counts)
}
