package main

import (
	"fmt"
	"os"

	"github.com/lockrun/lockrun/pidfile"
)

// status says on standard output whether the instance runs; its exit status is
// that of an init script (Linux Standard Base).
func status(args []string) int {
	flags := newFlags()
	quiet := flags.BoolP("quiet", "q", false, "")
	if status, done := parse(flags, args); done {
		return status
	}
	name, err := oneLock("status", flags.Args())
	if err != nil {
		return usage("%v", err)
	}
	if err := name.prepare(false); err != nil {
		complain("%v", err)
		return exitStatusOther
	}
	s, err := pidfile.Inspect(name.path)
	text, code := describeStatus(s, err)
	if !*quiet {
		fmt.Fprintln(os.Stdout, oneLine(name.given+": "+text))
	}
	return code
}

func describeStatus(s pidfile.Status, err error) (string, int) {
	switch s.State {
	case pidfile.Running:
		if s.PID != 0 && !s.Holder.Recorded {
			return fmt.Sprintf("unknown: process %d is recorded, but the lock is held by %s", s.PID, who(s.Holder)), exitStatusOther
		}
		return "running, held by " + who(s.Holder), exitOK
	case pidfile.Stale:
		return fmt.Sprintf("stale: not running, process %d left its PID behind", s.PID), exitStatusDead
	case pidfile.Absent:
		return "not running", exitStatusNone
	}
	return "unknown: " + hint(err), exitStatusOther
}
