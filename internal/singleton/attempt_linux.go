package singleton

import (
	"fmt"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// attempt is one start of the command.
type attempt struct {
	pid    int
	mark   string // a setting of its environment, which no other start has
	output *output

	ended  bool // the process pid itself
	status syscall.WaitStatus
	left   []process // its processes that live, at the last look
}

// runs reports whether anything of it runs: the command, or what it left behind
// when it ended, such as a daemon.
func (a *attempt) runs() bool { return !a.ended || len(a.left) > 0 }

// main is the process that an administrator would stop.
func (a *attempt) main() process {
	if p, ok := readProcess(a.pid); ok && !a.ended {
		return p // not reaped, so the number is its own
	}
	return mainOf(a.left)
}

// outcome says how it ended.
func (a *attempt) outcome() string {
	if a.status.Signaled() {
		return "killed by " + unix.SignalName(a.status.Signal())
	}
	return fmt.Sprintf("status %d", a.status.ExitStatus())
}

// complaint says why its end does not count as a refusal, "" if it does.
func (v *verifier) complaint(a *attempt) string {
	status := a.status.ExitStatus()
	switch {
	case a.status.Signaled():
		return "killed by " + unix.SignalName(a.status.Signal())
	case v.Refused != nil && status != *v.Refused:
		return fmt.Sprintf("ended with status %d, not %d", status, *v.Refused)
	case v.Refused == nil && status == 0:
		return "ended with status 0, as if started"
	}
	return ""
}

// tally counts what was said of each: "18 with status 75, 1 with status 1".
func tally(attempts []*attempt, say func(*attempt) string) string {
	var said []string
	count := make(map[string]int)
	for _, a := range attempts {
		s := say(a)
		if s == "" {
			continue
		}
		if count[s]++; count[s] == 1 {
			said = append(said, s)
		}
	}
	for i, s := range said {
		said[i] = fmt.Sprintf("%d %s", count[s], s)
	}
	return strings.Join(said, ", ")
}

// quote returns what one of them said at its end, and how many said nothing.
func quote(attempts []*attempt) (line string, silent int) {
	for _, a := range attempts {
		switch said := a.output.lastLine(); {
		case said == "":
			silent++
		case line == "":
			line = fmt.Sprintf(": %q", said)
		}
	}
	return line, silent
}

// split separates those that run from those that have ended.
func split(attempts []*attempt) (running, ended []*attempt) {
	running = slices.DeleteFunc(slices.Clone(attempts), func(a *attempt) bool { return !a.runs() })
	ended = slices.DeleteFunc(slices.Clone(attempts), (*attempt).runs)
	return running, ended
}
