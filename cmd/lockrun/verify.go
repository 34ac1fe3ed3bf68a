package main

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/lockrun/lockrun/internal/singleton"
	"github.com/lockrun/lockrun/pidfile"
	"golang.org/x/sys/unix"
)

// verify is lockrun verify COMMAND: it finds out, by trying, whether the command
// refuses a second start.
func verify(args []string) int {
	flags := newFlags()
	starts := singleton.DefaultStarts
	flags.int(&starts, "starts")
	timeout := duration{d: singleton.DefaultTimeout}
	flags.value(&timeout, "timeout", "t")
	var refused statusValue
	flags.value(&refused, "refused")
	var quiet bool
	flags.bool(&quiet, "quiet", "q")
	if status, done := parse(flags, args); done {
		return status
	}
	argv := flags.operands
	switch {
	case len(argv) == 0:
		return usage("COMMAND is missing")
	case starts < 2:
		return usage("--starts %d: it takes two to refuse one", starts)
	case timeout.d == 0:
		return usage("--timeout 0: a start takes some time")
	}
	path, err := lookPath(argv[0], os.Environ())
	if err != nil {
		return verifyError(argv[0], err)
	}
	c := singleton.Config{Path: path, Args: argv, Starts: starts, Timeout: timeout.d}
	if flags.changed("refused") {
		c.Refused = new(int(refused))
	}

	// Who is told to end takes everything along that it has started.
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	var atExit pidfile.AtExit
	atExit.Push(func() {
		cancel()
		<-ended
	})
	atExit.Catch()
	say := func(line string) {
		if !quiet {
			os.Stdout.WriteString(oneLine(line) + "\n")
		}
	}
	report := func(s singleton.Step) {
		verdict := "ok: "
		if !s.OK {
			verdict = "FAILED: "
		}
		say(verdict + s.String())
		for _, note := range s.Notes {
			say("note: " + note)
		}
	}
	ok, err := singleton.Verify(ctx, c, report)
	if errors.Is(err, unix.ENOEXEC) {
		// A script without "#!", which execvp(3) gives to the shell too.
		c.Path, c.Args = "/bin/sh", append([]string{"/bin/sh", path}, argv[1:]...)
		ok, err = singleton.Verify(ctx, c, report)
	}
	close(ended)
	atExit.Run() // which does not return if we are to die of a signal
	switch {
	case err != nil:
		return verifyError(argv[0], err)
	case !ok:
		say("FAILED")
		return exitNotSingle
	}
	say("ok")
	return exitOK
}

// verifyError says why it could not be tried and returns the exit status.
func verifyError(command string, err error) int {
	var ee *execError
	var pe *fs.PathError
	if !errors.As(err, &ee) && errors.As(err, &pe) && pe.Op == "exec" {
		ee = execFailure(command, pe.Path, pe.Err)
	}
	if ee != nil {
		complain("%v", ee)
		return ee.status
	}
	complain("%v", err)
	if errors.Is(err, fs.ErrPermission) {
		return exitPermission
	}
	return exitSystem
}
