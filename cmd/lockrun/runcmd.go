package main

import (
	"os"
	"runtime"
	"strconv"
)

// runOptions are the flags of a run in the foreground.
type runOptions struct {
	options
	version bool
	fd      int
}

func (o *runOptions) register(fs *flagSet) {
	o.options.register(fs)
	fs.bool(&o.version, "version", "V")
	o.fd = -1
	fs.int(&o.fd, "fd")
}

// runCommand is lockrun LOCK -- COMMAND: it runs the command in the foreground.
func runCommand(args []string) int {
	flags := newFlags()
	var o runOptions
	o.register(flags)
	if status, done := parse(flags, args); done {
		return status
	}
	if o.version {
		return version(nil)
	}
	if len(args) == 0 {
		return usage("LOCK and COMMAND are missing")
	}
	operands := flags.operands
	if len(operands) > 0 && subcommandOf(operands[0]) != nil {
		return usage("the flags of %s go behind it: lockrun %s %s", operands[0], operands[0], args[0])
	}
	if flags.changed("fd") {
		return o.runDescriptor(o.fd, operands)
	}
	c, err := o.read(operands)
	if err != nil {
		return misuse(err)
	}
	for _, flag := range []string{"log", "stdout", "stderr"} {
		if o.exec && o.changed(flag) {
			return usage("--exec in the foreground leaves the output where it is: --%s is for start, or say > and 2> in the shell", flag)
		}
	}
	if err := o.resolve(false); err != nil {
		complain("%s", err.text)
		return err.status
	}
	if err := o.checkNested(c.locks()); err != nil {
		return o.refused(c.lock, err)
	}
	endWait := o.showWait(c.lock, true)
	held, err := o.acquire(c.locks(), true)
	endWait()
	if err != nil {
		return o.refused(c.lock, err)
	}
	if o.exec {
		err := o.become(c, held, func() {})
		complain("%s", supervisionError(c.lock, err))
		return exitStatus(err)
	}
	o.output.warn()
	cmd := o.command(c, held)
	if cmd.streams, err = o.output.open(c.lock); err != nil {
		held.release()
		complain("%v", err)
		return exitStatus(err)
	}
	var control *control
	if o.wanted() {
		// Who stops it must reach us, who would start it again.
		if control, err = listenControl(c.lock); err != nil {
			complain("%s: no control socket: %v", c.lock.given, err)
		}
	}
	status, err := supervise(held, cmd, o.policy, control, func() error { return nil })
	if err != nil {
		complain("%s", supervisionError(c.lock, err))
	}
	return status
}

// become makes this process the command, and returns only if that can't be done.
// The inherited descriptor is the lock; there is nobody to unlock or to clean up at
// the command's end. about is called when nothing but the execution is left.
func (o *options) become(c commandLine, held *hold, about func()) error {
	err := held.write(os.Getpid())
	var inherited []*os.File
	if err == nil {
		inherited, err = held.inherit()
	}
	if err == nil {
		cmd := o.command(c, held)
		err = cmd.exec(about)
	}
	runtime.KeepAlive(inherited) // collected, they would be closed, and the lock gone
	held.release()
	return err
}

// runDescriptor is lockrun --fd N.
func (o *options) runDescriptor(fd int, operands []string) int {
	for _, flag := range []string{"slots", "lock", "reentrant", "jitter", "no-pid", "keep", "remove", "hold", "command"} {
		if o.changed(flag) {
			return usage("--fd locks a descriptor of the caller, and --%s makes no sense then", flag)
		}
	}
	if err := o.check(); err != nil {
		return misuse(err)
	}
	name := lockName{given: "descriptor " + strconv.Itoa(fd)}
	switch {
	case len(operands) > 0:
		return usage("--fd locks a descriptor of the caller, and runs nothing; there is a word: %q", operands[0])
	case o.ifHeld.word == ifHeldReplace || o.ifHeld.word == ifHeldQueue:
		return usage("--fd and --if-held %s contradict each other", o.ifHeld.word)
	case fd < 0:
		return usage("invalid argument \"%d\" for \"--fd\" flag: want the number of an open descriptor", fd)
	}
	if err := o.lockDescriptor(fd); err != nil {
		return o.refused(name, err)
	}
	return exitOK
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
