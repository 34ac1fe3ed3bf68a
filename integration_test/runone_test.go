//go:build linux

package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// lockrun in the place of run-one(1) and run-this-one(1). Debian has no run-one,
// so it is tested against what its manual says.
//
// They know a command by its words alone, so each test has a script of its own.

func runOneScript(t *testing.T, script string) string { return script + "\n# " + t.TempDir() }

func TestRunOneRunsOne(t *testing.T) {
	t.Parallel()
	script := runOneScript(t, exclScript)
	h := exclHold(t, script, lockrun, "run-one", "env", "A=a b", "B=c")
	// The same is refused, in silence.
	for _, words := range [][]string{{"run-one"}, {"run-one", "--"}} {
		cmd := exec.Command(lockrun, append(words, "env", "A=a b", "B=c", "sh", "-c", script)...)
		toolWant(t, runCmd(t, cmd), 1, "", "")
	}
	toolWant(t, runCmd(t, asTool("run-one", "env", "A=a b", "B=c", "sh", "-c", script)), 1, "", "")
	// Others are not, though one looks alike: the original takes it for the same.
	for _, words := range [][]string{{"A=a", "b B=c"}, {"A=a b"}, {"A=a b", "B=d"}} {
		other := exclHold(t, script, append([]string{lockrun, "run-one", "env"}, words...)...)
		other.release(t).want(t, 0, "")
	}
	h.release(t).want(t, 0, "")
	// It can run again.
	h = exclHold(t, script, lockrun, "run-one", "env", "A=a b", "B=c")
	h.release(t).want(t, 0, "")
}

func TestRunOneStatus(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	filesWrite(t, plain, "", 0o644)
	for _, tool := range []string{"run-one", "run-this-one"} {
		for _, test := range []struct {
			args   []string
			status int
			stdout string
			stderr string
		}{
			{nil, 1, "", tool + ": no command was given\n"},
			{[]string{"--"}, 1, "", tool + ": no command was given\n"},
			{[]string{"sh", "-c", "echo ran; exit 7", dir}, 7, "ran\n", ""},
			{[]string{"sh", "-c", "kill -KILL $$", dir}, 137, "", ""},
			{[]string{dir + "/none"}, 69, "", tool + ": failed to execute " + dir + "/none: No such file or directory\n"},
			{[]string{plain}, 69, "", tool + ": failed to execute " + plain + ": Permission denied\n"},
			// A shell string, as flock(1) has it, whom run-one calls.
			{[]string{"-c", "echo $((1+1)) # " + dir}, 0, "2\n", ""},
		} {
			toolWant(t, runCmd(t, asTool(tool, test.args...)), test.status, test.stdout, test.stderr)
		}
	}
}

// The lock is one of an instance: it has a NAME, and the other subcommands know
// it.
func TestRunOneIsAnInstance(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := runOneScript(t, exclScript)
	h := exclHold(t, script, "env", "LOCKRUN_DIR="+dir, lockrun, "run-one")
	ours := func(args ...string) result {
		cmd := exec.Command(lockrun, args...)
		cmd.Env = append(os.Environ(), "LOCKRUN_DIR="+dir)
		return runCmd(t, cmd)
	}
	r := ours("list")
	name := strings.TrimSpace(r.stdout)
	if r.status != 0 || !strings.HasPrefix(name, "run-one-sh-") || strings.Contains(name, "\n") {
		t.Fatalf("list: %v", r)
	}
	if r := ours("status", name); r.status != 0 || !strings.Contains(r.stdout, fmt.Sprintf("held by process %d (sh -c ", h.pid)) {
		t.Errorf("status: %v", r)
	}
	ours("stop", name).want(t, 0, "")
	exclEnd(t, h.Cmd).want(t, 143, "")
}

// A signal that is sent to run-one ends its command. (The original's flock(1)
// dies of it, and the command goes on.)
func TestRunOneSignalled(t *testing.T) {
	t.Parallel()
	script := runOneScript(t, exclScript)
	h := exclHold(t, script, lockrun, "run-one")
	h.Process.Signal(syscall.SIGTERM)
	exclEnd(t, h.Cmd).want(t, 143, "")
	if alive(h.pid) {
		t.Error("the command runs")
	}
	exclHold(t, script, lockrun, "run-one").release(t).want(t, 0, "")
}

// Killed, it leaves its command locked.
func TestKilledRunOneLeavesCommandLocked(t *testing.T) {
	t.Parallel()
	script := runOneScript(t, exclScript)
	h := exclHold(t, script, lockrun, "run-one")
	h.Process.Kill()
	exclEnd(t, h.Cmd).want(t, 137, "")
	toolWant(t, runCmd(t, asTool("run-one", "sh", "-c", script)), 1, "", "")
	// run-this-one ends it nevertheless.
	second := exclHold(t, script, lockrun, "run-this-one")
	if alive(h.pid) {
		t.Error("the former one runs")
	}
	second.release(t).want(t, 0, "")
}

// run-this-one ends the former instance, however that was started, and only it:
// not another process with the same words.
func TestRunThisOneEndsTheFormerOne(t *testing.T) {
	t.Parallel()
	script := runOneScript(t, exclScript)
	stranger := exclHold(t, script, "env")
	former := exclHold(t, script, lockrun, "run-one")
	for range 3 {
		h := exclHold(t, script, lockrun, "run-this-one")
		exclEnd(t, former.Cmd).want(t, 143, "")
		if alive(former.pid) {
			t.Error("the former one runs")
		}
		toolWant(t, runCmd(t, asTool("run-one", "sh", "-c", script)), 1, "", "")
		former = h
	}
	former.release(t).want(t, 0, "")
	if !alive(stranger.pid) {
		t.Error("a stranger was ended")
	}
	stranger.release(t).want(t, 0, "")
}

// It waits until the former one has ended, and repeats SIGTERM.
func TestRunThisOneInsists(t *testing.T) {
	t.Parallel()
	script := runOneScript(t, fmt.Sprintf(exclTrapper, "trap - TERM"))
	former := exclHold(t, script, lockrun, "run-one")
	second := exclHold(t, script, lockrun, "run-this-one")
	if got := former.line(t); got != "TERM" {
		t.Errorf("the former one got %s", got)
	}
	exclEnd(t, former.Cmd).want(t, 143, "")
	second.release(t).want(t, 0, "")
}

// It does not hide that it can't know whether another one runs.
func TestRunOneWithoutADirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	instances := filepath.Join(dir, "instances")
	filesMust(t, os.Symlink(dir, instances))
	for _, tool := range []string{"run-one", "run-this-one"} {
		cmd := asTool(tool, "echo", "ran")
		cmd.Env = append(os.Environ(), "LOCKRUN_DIR="+instances)
		r := runCmd(t, cmd)
		r.want(t, 77, "can't be trusted")
		if r.stdout != "" || !strings.HasPrefix(r.stderr, tool+": ") {
			t.Errorf("%v", r)
		}
	}
}
