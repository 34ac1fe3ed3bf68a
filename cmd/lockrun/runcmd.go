package main

import (
	"strings"
)

// commandLine is what stands behind the flags: LOCK [--] COMMAND [ARG...], or
// LOCK -c STRING.
type commandLine struct {
	lock lockName
	argv []string
}

// parseOperands reads the operands of run and start. shell is the argument of
// -c, "" without.
func parseOperands(operands []string, shell string, hasShell bool) (commandLine, error) {
	var c commandLine
	if len(operands) == 0 {
		return c, usageError("LOCK is missing")
	}
	lock, rest := operands[0], operands[1:]
	var err error
	if c.lock, err = parseLock(lock); err != nil {
		return c, err
	}
	separated := len(rest) > 0 && rest[0] == "--"
	if separated {
		rest = rest[1:]
	}
	if !separated && !hasShell && len(rest) == 2 && rest[0] == "-c" {
		shell, hasShell, rest = rest[1], true, nil // the order of flock(1)
	}
	switch {
	case hasShell && len(rest) > 0:
		return c, usageError("-c takes the whole command as one word; there is another one: %q", rest[0])
	case hasShell:
		c.argv = []string{"/bin/sh", "-c", shell}
		return c, nil
	case !separated && c.lock.named:
		return c, usageError("%q is no subcommand; to run a command under the lock of that name write: lockrun %s -- COMMAND", lock, lock)
	case len(rest) == 0:
		return c, usageError("COMMAND is missing after %q", lock)
	case !separated && strings.HasPrefix(rest[0], "-"):
		return c, usageError("%s stands behind LOCK: flags go before it, and a command that begins with a dash after --", rest[0])
	}
	c.argv = rest
	return c, nil
}

// runCommand is lockrun LOCK -- COMMAND: it runs the command in the foreground.
func runCommand(args []string) int {
	flags := newFlags()
	var h holdFlags
	h.register(flags)
	shell := flags.StringP("command", "c", "", "")
	showVersion := flags.BoolP("version", "V", false, "")
	if status, done := parse(flags, args); done {
		return status
	}
	if *showVersion {
		return version(nil)
	}
	if len(args) == 0 {
		return usage("LOCK and COMMAND are missing")
	}
	operands := flags.Args()
	if len(operands) > 0 && subcommandOf(operands[0]) != nil {
		return usage("the flags of %s go behind it: lockrun %s %s", operands[0], operands[0], args[0])
	}
	c, err := parseOperands(operands, *shell, flags.Changed("command"))
	if err == nil {
		err = h.check()
	}
	if err != nil {
		return usage("%v", err)
	}
	endWait := h.showWait(c.lock, true)
	held, err := h.acquire(c.lock, true)
	endWait()
	if err != nil {
		return h.refused(c.lock, err)
	}
	status, err := supervise(held, c.argv, nil, func() error { return nil })
	if err != nil {
		complain("%s", supervisionError(c.lock, err))
	}
	return status
}

// refused says why the lock was not to be had and returns the exit status.
func (h *holdFlags) refused(name lockName, err error) int {
	status := exitStatus(err)
	if status == exitHeld {
		return h.heldStatus(refusal(name.given, err))
	}
	complain("%s", refusal(name.given, err))
	return status
}

// supervisionError is the message for an error of supervise.
func supervisionError(name lockName, err error) string {
	if _, ok := err.(*execError); ok {
		return err.Error()
	}
	return refusal(name.given, err)
}
