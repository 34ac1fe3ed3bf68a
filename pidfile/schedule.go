package pidfile

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Step is one step of a Schedule: send Signal, and wait up to Wait for the lock
// to be free.
type Step struct {
	Signal syscall.Signal

	// Wait is how long the next step is put off; Forever never comes to it.
	Wait time.Duration
}

// Forever is the Wait of a step that is the last one.
const Forever = time.Duration(math.MaxInt64)

// Schedule is how a program is ended: step by step, until its lock is free.
type Schedule []Step

// DefaultSchedule returns first/10/KILL/5; Stop's own begins with SIGTERM.
func DefaultSchedule(first syscall.Signal) Schedule {
	return Schedule{{first, 10 * time.Second}, {syscall.SIGKILL, 5 * time.Second}}
}

// ParseSchedule reads the notation of start-stop-daemon(8): signals and times
// in turn, separated by slashes. A signal is a name with or without SIG or a
// number, each with or without a dash; a time is seconds, with a fraction if
// need be, a Go duration, or "forever". Two signals in a row have no time
// between them. A single time T stands for first/T/KILL/T.
func ParseSchedule(s string, first syscall.Signal) (Schedule, error) {
	bad := func(item, why string) (Schedule, error) {
		return nil, fmt.Errorf("bad item %q: %s", item, why)
	}
	items := strings.Split(s, "/")
	if len(items) == 1 {
		if d, err := parseWait(items[0]); err == nil {
			return Schedule{{first, d}, {syscall.SIGKILL, d}}, nil
		}
	}
	var schedule Schedule
	timed := true // the last signal has its time, or there is none yet
	for _, item := range items {
		if d, err := parseWait(item); err == nil {
			if len(schedule) == 0 {
				return bad(item, "a schedule begins with a signal")
			}
			if timed {
				return bad(item, "want a signal after a time")
			}
			schedule[len(schedule)-1].Wait = d
			timed = true
			continue
		}
		sig, err := ParseSignal(item)
		if err != nil {
			return bad(item, "want a signal (TERM, -9) or a time (10, 500ms, forever)")
		}
		schedule = append(schedule, Step{Signal: sig})
		timed = false
	}
	if !timed {
		return bad(items[len(items)-1], "want a time after the last signal")
	}
	return schedule, nil
}

// ParseSignal reads the name of a signal, with or without SIG, or its number;
// a dash before it is allowed.
func ParseSignal(s string) (syscall.Signal, error) {
	name := strings.ToUpper(strings.TrimPrefix(s, "-"))
	if n, err := strconv.Atoi(name); err == nil && n > 0 && n < 65 {
		return syscall.Signal(n), nil
	}
	if sig := unix.SignalNum("SIG" + strings.TrimPrefix(name, "SIG")); sig != 0 {
		return sig, nil
	}
	return 0, fmt.Errorf("no signal %q", s)
}

// parseWait reads a time. A number with a dash is a signal.
func parseWait(s string) (time.Duration, error) {
	if s == "forever" {
		return Forever, nil
	}
	if seconds, err := strconv.ParseFloat(s, 64); err == nil {
		if !(seconds >= 0 && seconds < 1e9) {
			return 0, strconv.ErrRange
		}
		return time.Duration(seconds * float64(time.Second)), nil
	}
	d, err := time.ParseDuration(s)
	if err == nil && d < 0 {
		err = strconv.ErrRange
	}
	return d, err
}

func (s Schedule) String() string {
	var items []string
	for _, step := range s {
		wait := "forever"
		if step.Wait != Forever {
			wait = strconv.FormatFloat(step.Wait.Seconds(), 'f', -1, 64)
			if d, err := parseWait(wait); err != nil || d != step.Wait {
				wait = step.Wait.String() // too long, or too exact, for a number of seconds
			}
		}
		name := strings.TrimPrefix(unix.SignalName(step.Signal), "SIG")
		if name == "" {
			name = "-" + strconv.Itoa(int(step.Signal))
		}
		items = append(items, name, wait)
	}
	return strings.Join(items, "/")
}
