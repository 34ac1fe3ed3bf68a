package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/lockrun/lockrun/detach"
	"github.com/lockrun/lockrun/lock"
)

// start runs the command in the background, and returns when it really runs.
//
// The process that the terminal started is detach's launcher. The daemon is the
// supervisor: it takes the lock, starts the command as its child and reports.
// It leads its session but never opens a terminal; the command does not lead.
func start(args []string) int {
	flags := newFlags()
	var h holdFlags
	h.register(flags)
	shell := flags.StringP("command", "c", "", "")
	log := flags.String("log", "", "")
	if status, done := parse(flags, args); done {
		return status
	}
	c, err := parseOperands(flags.Args(), *shell, flags.Changed("command"))
	if err == nil {
		err = h.check()
	}
	if err == nil && flags.Changed("log") && *log == "" {
		err = usageError("--log needs the name of a file")
	}
	if err != nil {
		return usage("%v", err)
	}
	// The daemon's working directory is "/".
	if name := c.argv[0]; strings.Contains(name, "/") {
		if c.argv[0], err = filepath.Abs(name); err != nil {
			complain("%s: %v", name, err)
			return exitSystem
		}
	}
	d, err := detach.Detach(&detach.Config{
		Log:           *log,
		SessionLeader: true,
		ReadyTimeout:  -1, // the command was executed or was not; -t bounds the wait for the lock
	})
	if err != nil {
		return h.notStarted(c.lock, err)
	}
	held, err := h.acquire(c.lock, c.lock.named)
	if err != nil {
		status := exitStatus(err)
		d.Fail(status, reason{refusal(c.lock.given, err), err})
	}
	if d.LauncherGone() {
		held.release()
		os.Exit(exitSystem)
	}
	status, err := supervise(held, c.argv, d.Ready)
	if err != nil {
		d.Fail(status, reason{supervisionError(c.lock, err), err})
	}
	return status
}

// notStarted tells the terminal why there is no daemon.
func (h *holdFlags) notStarted(name lockName, err error) int {
	var e *detach.StartError
	switch {
	case !errors.As(err, &e):
		complain("%v", err)
		return exitStatus(err)
	case errors.Is(err, lock.ErrHeld):
		if !h.quiet {
			complain("%s", e.Text)
		}
		return int(h.status)
	}
	complain("%s", e.Text)
	return e.Status
}

// reason is an error with the words for the terminal.
type reason struct {
	text string
	error
}

func (r reason) Error() string { return r.text }
func (r reason) Unwrap() error { return r.error }
