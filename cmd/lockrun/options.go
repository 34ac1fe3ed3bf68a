package main

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"
)

// commandLine is what stands behind the flags: LOCK [--] COMMAND [ARG...], or
// LOCK -c STRING.
type commandLine struct {
	lock lockName
	argv []string
	more []lockName // of --lock
}

// locks are all locks that are to be taken.
func (c *commandLine) locks() []lockName { return append([]lockName{c.lock}, c.more...) }

// options are the flags of run and start.
type options struct {
	holdFlags
	policy
	attributes
	output output
	shell  string // -c
	exec   bool
	flags  *flagSet
}

func (o *options) register(fs *flagSet) {
	o.flags = fs
	o.holdFlags.register(fs)
	o.policy.limits.register(fs)
	o.policy.respawn.register(fs)
	o.policy.readiness.register(fs)
	o.attributes.register(fs)
	o.output.register(fs)
	fs.bool(&o.output.quietSuccess, "quiet-success")
	fs.string(&o.shell, "command", "c")
	fs.bool(&o.exec, "exec")
}

// read reads the operands, and checks the flags taken together.
func (o *options) read(operands []string) (commandLine, error) {
	more := o.more
	if len(more) > 0 && (o.flags.dashed || len(operands) == 0) {
		// All locks are named by flags.
		operands = append([]string{more[0], "--"}, operands...)
		if o.changed("command") {
			operands = operands[:1]
		}
		more = more[1:]
	}
	c, err := parseOperands(operands, o.shell, o.changed("command"))
	if err != nil {
		return c, err
	}
	for _, word := range more {
		name, err := parseLock(word)
		if err != nil {
			return c, err
		}
		if slices.Contains(c.locks(), name) {
			return c, usageError("the lock %q is given twice", word)
		}
		c.more = append(c.more, name)
	}
	if o.pidFile != "" {
		// The daemon's working directory is another one.
		if o.pidFile, err = filepath.Abs(o.pidFile); err != nil {
			return c, err
		}
	}
	if o.exec {
		for _, flag := range []string{"hold", "remove", "pidfile", "max-time", "restart", "ready", "on-exit", "log-rotate", "quiet-success"} {
			if o.changed(flag) {
				return c, usageError("with --exec nobody is left for --%s: lockrun becomes the command", flag)
			}
		}
	}
	return c, cmp.Or(o.holdFlags.check(), o.policy.limits.check(), o.policy.respawn.check(), o.policy.readiness.check(), o.output.check())
}

// command returns what is to be run, under what is held.
func (o *options) command(c commandLine, h *hold) command {
	env := setVariables(o.environment(c.lock), h.environment()...)
	return command{argv: c.argv, env: env, process: o.process}
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

// fixPath makes the path of a command absolute: who executes it has another
// working directory.
func (c *commandLine) fixPath() error {
	if len(c.argv) == 0 || !strings.Contains(c.argv[0], "/") {
		return nil
	}
	abs, err := filepath.Abs(c.argv[0])
	if err == nil {
		c.argv[0] = abs
	}
	return err
}
