package main

import (
	"errors"

	"github.com/lockrun/lockrun/lock"
	"github.com/lockrun/lockrun/pidfile"
)

// restart ends the command of an instance and starts it again, or another one.
// Its supervisor does both, under the lock that it never lets go of. Without a
// supervisor the command has to be given, or to be in the instance file, and
// somebody else can take the lock in between.
func restart(args []string) int {
	flags := newFlags()
	var end endFlags
	end.register(flags)
	var show waitFlags
	show.register(flags)
	var shell string
	flags.string(&shell, "command", "c")
	var out output
	out.register(flags)
	if status, done := parse(flags, args); done {
		return status
	}
	var c commandLine
	var err error
	if operands := flags.operands; len(operands) == 1 && !flags.changed("command") {
		c.lock, err = parseLock(operands[0])
	} else {
		c, err = parseOperands(operands, shell, flags.changed("command"))
	}
	var schedule pidfile.Schedule
	if err == nil {
		schedule, err = end.schedule()
	}
	if err == nil {
		err = out.check()
	}
	if err != nil {
		return misuse(err)
	}
	if err := c.lock.prepare(false); err != nil {
		complain("%v", err)
		return exitStatus(err)
	}
	if err := c.fixPath(); err != nil {
		complain("%v", err)
		return exitSystem
	}

	ctx, cancel := end.timeout.context()
	defer cancel()
	endWait := show.show(c.lock, "waiting for the end of", true)
	_, err = askInstance(ctx, c.lock, request{Do: doRestart, Schedule: schedule.String(), Command: c.argv})
	var words []string // for start
	if c.argv == nil && (errors.Is(err, errNoSupervisor) || errors.Is(err, pidfile.ErrNotRunning)) {
		// Before anything is ended: a file that can't be used ends nothing.
		var e error
		if words, e = instanceWords(c.lock, out.words()); e != nil {
			endWait()
			return notConfigured(e)
		}
	} else if c.argv != nil {
		words = append(append(out.words(), c.lock.given, "--"), c.argv...)
	}
	if errors.Is(err, errNoSupervisor) && words != nil {
		if err = pidfile.Stop(ctx, c.lock.path, schedule); err == nil {
			err = pidfile.ErrNotRunning
		}
	}
	endWait()
	var refused *supervisionRefused
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, pidfile.ErrNotRunning) && words != nil:
		return start(words)
	case errors.Is(err, pidfile.ErrNotRunning):
		complain("%s: not running; to start it give the command%s", c.lock.given, orItsFile(c.lock))
		return exitStatusNone
	case errors.As(err, &refused):
		complain("%s: %s", c.lock.given, refused.text)
		return refused.status
	case errors.Is(err, errNoSupervisor):
		in, _ := lock.Inspect(c.lock.path)
		return usage("%s: held by %s, and no supervisor could start its command again; to replace it give the command",
			c.lock.given, who(in.Holder))
	case ctx.Err() != nil:
		complain("%s: not restarted within %v", c.lock.given, end.timeout.d)
		return exitHeld
	}
	return (&presentFlags{}).outcome(c.lock, err)
}

// instanceWords are the words with which start starts a NAME from its file; nil if
// it has none, or no command is in it. given are flags that win over the file's.
func instanceWords(name lockName, given []string) ([]string, error) {
	if !name.named {
		return nil, nil
	}
	flags := newFlags()
	var o startOptions
	o.register(flags)
	args := append(given, name.given)
	if err := flags.parse(args); err != nil {
		return nil, err
	}
	words, err := withInstanceFile(name, flags, args)
	if errors.Is(err, errNoCommand) {
		return nil, nil
	}
	return words, err
}
