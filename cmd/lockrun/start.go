package main

import (
	"errors"
	"os"

	"github.com/lockrun/lockrun/detach"
	"github.com/lockrun/lockrun/lock"
)

// startOptions are the flags of start.
type startOptions struct {
	options
	all      bool
	noConfig bool
}

func (o *startOptions) register(fs *flagSet) {
	o.options.register(fs)
	fs.bool(&o.all, "all")
	fs.bool(&o.noConfig, "no-config")
}

// read reads the operands, and checks the flags taken together.
func (o *startOptions) read(operands []string) (commandLine, error) {
	c, err := o.options.read(operands)
	switch {
	case err != nil:
		return c, err
	case o.exec && o.output.toSyslog:
		return c, usageError("with --exec nobody is left for --log %s: lockrun becomes the command", o.output.log.given)
	case o.output.quietSuccess:
		return c, usageError("--quiet-success is for a run in the foreground: nobody would see what a daemon wrote")
	case o.reentrant:
		return c, usageError("--reentrant runs under the lock that is held already, and start needs one of its own")
	}
	return c, nil
}

// start runs the command in the background, and returns when it really runs.
//
// The process that the terminal started is detach's launcher. The daemon is the
// supervisor: it takes the lock, starts the command as its child and reports.
// It leads its session but never opens a terminal; the command does not lead. With
// --exec the daemon becomes the command, and does not lead either.
//
// An instance file is read once, before there is a launcher, and becomes a part of
// the arguments: what was checked is what runs, whoever changes the file meanwhile.
func start(args []string) int {
	flags := newFlags()
	var o startOptions
	o.register(flags)
	if status, done := parse(flags, args); done {
		return status
	}
	if o.all {
		return startAll(flags)
	}
	if name, ok := o.instance(flags.operands); ok && !o.noConfig {
		words, err := withInstanceFile(name, flags, args)
		if err != nil {
			return notConfigured(err)
		}
		return start(words)
	}
	c, err := o.read(flags.operands)
	if err != nil {
		return misuse(err)
	}
	if err := o.resolve(true); err != nil {
		complain("%s", err.text)
		return err.status
	}
	if !o.moves() { // else the path is seen from that directory
		if err := c.fixPath(); err != nil { // the daemon's working directory is "/"
			complain("%v", err)
			return exitSystem
		}
	}
	if err := o.checkNested(c.locks()); err != nil {
		return o.refused(c.lock, err)
	}
	o.output.warn()
	endWait := o.showWait(c.lock, false) // in the launcher, which is on the terminal
	stdout, stderr := o.output.files()
	d, err := detach.Detach(&detach.Config{
		Args:          append([]string{"start"}, args...),
		Keep:          o.attributes.keep,
		Stdout:        stdout.name(),
		Stderr:        stderr.name(),
		SessionLeader: !o.exec, // the supervisor opens no terminal
		ReadyTimeout:  -1,      // the command was executed or was not; -t bounds the wait for the lock
		AfterWait:     endWait,
	})
	endWait()
	if err != nil {
		return o.notStarted(c.lock, err)
	}
	held, err := o.acquire(c.locks(), c.lock.named)
	if err != nil {
		status := exitStatus(err)
		d.Fail(status, reason{refusal(c.lock.given, err), err})
	}
	if d.LauncherGone() {
		held.release()
		os.Exit(exitSystem)
	}
	if o.exec {
		err := o.become(c, held, func() { d.Executing() })
		d.Fail(exitStatus(err), reason{supervisionError(c.lock, err), err})
	}
	cmd := o.command(c, held)
	o.output.inDaemon = true
	if cmd.streams, err = o.output.open(c.lock); err != nil {
		held.release()
		d.Fail(exitStatus(err), err)
	}
	control, err := listenControl(c.lock)
	if err != nil {
		// Only in the log: the command runs without it too.
		complain("%s: no control socket: %v", c.lock.given, err)
	}
	status, err := supervise(held, cmd, o.policy, control, d.Ready)
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
		return h.heldStatus(e.Text)
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
