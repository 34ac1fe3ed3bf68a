//go:build linux

package integration_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// TestScript runs the scripts of testdata/script, which specify the command
// line: what it accepts, prints and returns. Beside the commands of testscript
// they have
//
//	exits N PROGRAM [ARG...]   the program ends with status N (128+n: killed by signal n)
//	signal SIG WORD            send a signal to the one background command that has WORD among its words
//	await FILE                 wait until FILE exists
//	ended FILE                 wait until the process whose PID is in FILE has ended
//	absent FILE...             there is no such file, not even a dangling link
//	mode FILE WANT             the file's permission bits, in octal
func TestScript(t *testing.T) {
	t.Parallel()
	need(t, "sh")
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", filepath.Dir(lockrun)+":"+env.Getenv("PATH"))
			env.Setenv("LOCKRUN_DIR", filepath.Join(env.WorkDir, "instances"))
			env.Setenv("LOCKRUN_CONFIG", filepath.Join(env.WorkDir, "config"))
			// testscript's environment is a clean one, without the mark by
			// which main_test.go finds what was left behind.
			env.Setenv(runVariable, os.Getenv(runVariable))
			env.Defer(func() {
				ttyEnd(t, "WORK="+env.WorkDir)
			})
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":  scriptExits,
			"signal": scriptSignal,
			"await":  scriptAwait,
			"ended":  scriptEnded,
			"absent": scriptAbsent,
			"mode":   scriptMode,
		},
	})
}

func scriptUsage(ts *testscript.TestScript, neg, ok bool, usage string) {
	if neg {
		ts.Fatalf("unsupported: ! %s", usage)
	}
	if !ok {
		ts.Fatalf("usage: %s", usage)
	}
}

// scriptExits is there because "! exec" can't tell one failure from another.
func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	scriptUsage(ts, neg, len(args) >= 2, "exits N PROGRAM [ARG...]")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = statusOf(exit.ProcessState)
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// scriptSignal is there because "kill" knows INT and KILL only.
func scriptSignal(ts *testscript.TestScript, neg bool, args []string) {
	scriptUsage(ts, neg, len(args) == 2, "signal SIG WORD")
	sig := unix.SignalNum("SIG" + args[0])
	if sig == 0 {
		ts.Fatalf("unknown signal %q", args[0])
	}
	var found []*exec.Cmd
	for _, cmd := range ts.BackgroundCmds() {
		if slices.Contains(cmd.Args, args[1]) {
			found = append(found, cmd)
		}
	}
	if len(found) != 1 {
		ts.Fatalf("%d background commands have the word %q, want 1", len(found), args[1])
	}
	ts.Check(found[0].Process.Signal(sig))
}

func scriptAwait(ts *testscript.TestScript, neg bool, args []string) {
	scriptUsage(ts, neg, len(args) == 1, "await FILE")
	path := ts.MkAbs(args[0])
	for deadline := time.Now().Add(30 * time.Second); !exists(path); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("still no file %s", args[0])
		}
	}
}

// scriptEnded is content with a zombie, which "kill -0" is not: an orphan's end
// is seen by init, and that of a container may take its time.
func scriptEnded(ts *testscript.TestScript, neg bool, args []string) {
	scriptUsage(ts, neg, len(args) == 1, "ended FILE")
	pid, err := strconv.Atoi(strings.TrimSpace(ts.ReadFile(args[0])))
	ts.Check(err)
	for deadline := time.Now().Add(30 * time.Second); alive(pid); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("process %d still runs", pid)
		}
	}
}

// scriptAbsent is stricter than "! exists", which follows links.
func scriptAbsent(ts *testscript.TestScript, neg bool, args []string) {
	scriptUsage(ts, neg, len(args) >= 1, "absent FILE...")
	for _, name := range args {
		if exists(ts.MkAbs(name)) {
			ts.Fatalf("%s is there", name)
		}
	}
}

func scriptMode(ts *testscript.TestScript, neg bool, args []string) {
	scriptUsage(ts, neg, len(args) == 2, "mode FILE WANT")
	fi, err := os.Lstat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", fi.Mode().Perm()); got != args[1] {
		ts.Fatalf("mode of %s is %s, want %s", args[0], got, args[1])
	}
}
