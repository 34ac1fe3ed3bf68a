// Package pidfiletest proves in a test that a service refuses a second start:
// that of many starts at once one runs, that it is not disturbed by another
// one, that nothing which SIGKILL leaves behind blocks the next start or lets two
// in, and that it ends on SIGTERM.
//
// The service may be a program in any language, and need not use lockrun. It may
// stay in the foreground or detach.
package pidfiletest

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/lockrun/lockrun/internal/singleton"
)

// Options change what Verify does. nil and the zero value mean the defaults.
type Options struct {
	// Starts is how many starts there are at once. 0 means 20.
	Starts int

	// Timeout is the time for whatever is waited for: until all starts but one
	// have ended, until SIGTERM has worked. 0 means 10 seconds.
	Timeout time.Duration

	// Refused is the exit status of a refused start, as in new(75). nil means
	// any but 0.
	Refused *int
}

// Verify starts a service again and again, and fails the test with what it saw
// if the service does not protect itself against a second start. It reports
// whether it does.
//
// cmd is how the service is started. It is not started itself, only its Path,
// Args, Env and Dir are used; no other field may be set. Standard input is
// /dev/null. Each start has a session of its own. No instance may run already:
// give the service a PID file, a port or whatever protects it of its own, such
// as one in t.TempDir.
//
// When Verify returns, every process that came of it has ended, also those that
// detached. So it is if the test binary is killed meanwhile. What a service has
// somebody else start for it (systemd, Docker) is not seen.
//
// It may be called from parallel tests. The work is done by another process,
// the test binary executed once more, so that no orphan or exit status reaches
// the wrong place; a TestMain is not run there. The test is skipped where that is
// not supported, which is everywhere but on Linux.
func Verify(t testing.TB, cmd *exec.Cmd, opt *Options) bool {
	t.Helper()
	switch {
	case cmd.Err != nil:
		t.Fatal(cmd.Err)
	case cmd.Process != nil:
		t.Fatalf("%s was started already", cmd)
	case cmd.Stdin != nil || cmd.Stdout != nil || cmd.Stderr != nil || cmd.ExtraFiles != nil || cmd.SysProcAttr != nil:
		t.Fatalf("%s: only Path, Args, Env and Dir can be set", cmd)
	}
	if opt == nil {
		opt = new(Options)
	}
	if opt.Starts < 0 || opt.Starts == 1 {
		t.Fatalf("%d starts: it takes two to refuse one", opt.Starts)
	}
	ok := true
	err := inVerifier(t, singleton.Config{
		Path:    cmd.Path,
		Args:    cmd.Args,
		Env:     cmd.Environ(),
		Dir:     cmd.Dir,
		Starts:  opt.Starts,
		Timeout: opt.Timeout,
		Refused: opt.Refused,
	}, func(s singleton.Step) {
		t.Helper()
		for _, note := range s.Notes {
			t.Log("note:", note)
		}
		if s.OK {
			t.Log(s)
		} else {
			t.Error(s)
			ok = false
		}
	})
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	return ok
}

// message is what the verifier tells: a step, or that it has ended, with the
// reason if that was not after the last step.
type message struct {
	Step        *singleton.Step `json:",omitempty"`
	Ended       bool            `json:",omitempty"`
	Err         string          `json:",omitempty"`
	Unsupported bool            `json:",omitempty"`
}

// inVerifier executes this program as a verifier and passes on what it reports.
func inVerifier(t testing.TB, c singleton.Config, report func(singleton.Step)) error {
	t.Helper() // so that the log names the line of the test
	self, err := os.Executable()
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	verifier := exec.Command(self)
	verifier.Env = append(os.Environ(), variable+"=1")
	verifier.Stderr = os.Stderr
	verifier.ExtraFiles = []*os.File{w}
	// The terminal's Ctrl-C ends us. The verifier sees that by the end of its
	// input, and cleans up.
	verifier.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	input, err := verifier.StdinPipe()
	if err == nil {
		err = verifier.Start()
	}
	w.Close()
	if err != nil {
		return err
	}
	// Also when the test ends in the middle of a report.
	defer verifier.Wait()
	defer input.Close()
	if err := json.NewEncoder(input).Encode(c); err != nil {
		return err
	}
	for messages := json.NewDecoder(r); ; {
		var m message
		if err := messages.Decode(&m); err != nil {
			return errors.New("the verifier ended in the middle")
		}
		switch {
		case m.Step != nil:
			report(*m.Step)
		case m.Unsupported:
			return errors.ErrUnsupported
		case m.Err != "":
			return errors.New(m.Err)
		case m.Ended:
			return nil
		}
	}
}
