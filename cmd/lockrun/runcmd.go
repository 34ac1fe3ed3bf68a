package main

// runCommand is lockrun LOCK -- COMMAND: it runs the command in the foreground.
func runCommand(args []string) int {
	flags := newFlags()
	var o options
	o.register(flags)
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
	c, err := o.read(operands)
	if err != nil {
		return usage("%v", err)
	}
	endWait := o.showWait(c.lock, true)
	held, err := o.acquire(c.lock, true)
	endWait()
	if err != nil {
		return o.refused(c.lock, err)
	}
	status, err := supervise(held, o.command(c.argv), nil, func() error { return nil })
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
