//go:build linux

package integration_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestRestart(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	c.run("start", "web", "--", "sleep", "600").want(t, 0, "")
	first := c.pid("web")
	supervisor := nsParent(first)

	c.run("restart", "web").want(t, 0, "")
	second := c.pid("web")
	if second == first || alive(first) || !alive(second) || nsParent(second) != supervisor {
		t.Errorf("first %d (alive %v), second %d of parent %d; want another child of %d", first, alive(first), second, nsParent(second), supervisor)
	}
	if got := detLook(t, second).comm; got != "sleep" {
		t.Errorf("the command is %q", got)
	}

	// Another command, with a path that is relative to here and a word that is
	// not UTF-8.
	script := filepath.Join(t.TempDir(), "script")
	filesWrite(t, script, "#!/bin/sh\nprintf %s \"$1\" >\"$2\"; exec sleep 600\n", 0o700)
	said := script + ".said"
	cmd := c.command("restart", "web", "--", "./script", "a \xff\n", said)
	cmd.Dir = filepath.Dir(script)
	filesRunCmd(t, cmd).want(t, 0, "")
	eventually(t, "the new command's word", func() bool { return filesContent(said) == "a \xff\n" })
	// The same again.
	filesMust(t, os.Remove(said))
	c.run("restart", "web").want(t, 0, "")
	eventually(t, "its word again", func() bool { return filesContent(said) == "a \xff\n" })

	// A command that is not there is known before the old one is ended.
	pid := c.pid("web")
	c.run("restart", "web", "--", "/no/such").want(t, 127, "web: can't execute /no/such: not found")
	c.run("restart", "web", "--", "no-such-command").want(t, 127, "web: no-such-command: not found in PATH")
	if c.pid("web") != pid || !alive(pid) {
		t.Error("the old command did not survive a new one that is not there")
	}
	c.run("stop", "web").want(t, 0, "")
	if alive(pid) || exists(filepath.Join(c.dir, "web.sock")) {
		t.Errorf("after stop: command alive %v, socket there %v", alive(pid), exists(filepath.Join(c.dir, "web.sock")))
	}
	c.run("restart", "web").want(t, 3, "web: not running; to start it give the command")
	c.run("restart", "web", "--", "sleep", "600").want(t, 0, "")
	c.run("restart", "-c", "exec sleep 601", "web").want(t, 0, "")
	eventually(t, "the shell has become sleep 601", func() bool { return strings.Contains(c.run("status", "web").stdout, " (sleep 601)") })
	c.run("stop", "web").want(t, 0, "")
}

// A new command that turns out to be none when the old one has ended.
func TestRestartOfWhatCanNotBeExecuted(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	script := filepath.Join(t.TempDir(), "script")
	filesWrite(t, script, "#!/no/such/interpreter\n", 0o700)
	c.run("start", "web", "--", "sleep", "600").want(t, 0, "")
	c.run("restart", "web", "--", script).want(t, 126, "web: can't execute "+script+": its interpreter is missing")
	eventually(t, "free", func() bool { return c.run("status", "web").status == 3 })
	c.run("web", "--", "true").want(t, 0, "")
}

// TestRestartLetsNobodyIn: a rival that tries to start all the time does not win
// during restarts, and neither does flock(1).
func TestRestartLetsNobodyIn(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	witness := filepath.Join(t.TempDir(), "W")
	c.run(append([]string{"start", "web", "--"}, c.helper("ctl-witness", witness)...)...).want(t, 0, "")
	var over atomic.Bool
	var tries atomic.Int32
	var rivals sync.WaitGroup
	rival := func(won int, command func() *exec.Cmd) {
		rivals.Go(func() {
			for !over.Load() {
				cmd := command()
				if err := cmd.Run(); cmd.ProcessState == nil {
					t.Error(err)
				} else if status := statusOf(cmd.ProcessState); status == won {
					t.Errorf("%v won during a restart", cmd.Args)
				}
				tries.Add(1)
			}
		})
	}
	rival(0, func() *exec.Cmd { return c.command("start", "-q", "web", "--", "sleep", "1") })
	rival(0, func() *exec.Cmd { return c.command("-q", "web", "--", "true") })
	if flock, err := exec.LookPath("flock"); err == nil {
		rival(0, func() *exec.Cmd { return exec.Command(flock, "-n", filepath.Join(c.dir, "web.pid"), "true") })
	}
	rounds := sized(10, 20, 200)
	for range rounds {
		c.run("restart", "web").want(t, 0, "")
	}
	over.Store(true)
	rivals.Wait()
	c.run("stop", "web").want(t, 0, "")
	if tries.Load() < int32(rounds) {
		t.Errorf("%d tries beside %d restarts", tries.Load(), rounds)
	}
	if exists(witness + ".violations") {
		t.Error(filesContent(witness + ".violations"))
	}
	t.Logf("%d restarts, %d tries to get in, none did", rounds, tries.Load())
}

// TestRestartStartStopAtOnce: whatever is asked for at once, there is never more
// than one command, nothing is left over, and status is right in the end.
func TestRestartStartStopAtOnce(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	witness := filepath.Join(t.TempDir(), "W")
	command := c.helper("ctl-witness", witness)
	const atOnce = 50
	deadline := time.Now().Add(time.Duration(sized(2, 3, 60)) * time.Second)
	allowed := map[string]map[int]bool{
		// 3: not running; 64: it is held by a start that has no socket yet.
		"restart": {0: true, 3: true, 75: true},
		"start":   {0: true, 75: true},
		"stop":    {0: true},
	}
	var counts sync.Map
	var done sync.WaitGroup
	for n := range atOnce {
		done.Go(func() {
			for time.Now().Before(deadline) {
				var cmd *exec.Cmd
				word := []string{"restart", "start", "restart", "stop", "restart"}[n%5]
				switch {
				case n%5 == 4: // with the command
					cmd = c.command(append([]string{"restart", "web", "--"}, command...)...)
				case word == "start":
					cmd = c.command(append([]string{"start", "web", "--"}, command...)...)
				default:
					cmd = c.command(word, "web")
				}
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				cmd.Run()
				status := statusOf(cmd.ProcessState)
				if !allowed[word][status] {
					t.Errorf("%s: status %d, %s", word, status, stderr.String())
				}
				count, _ := counts.LoadOrStore(fmt.Sprintf("%s: %d", word, status), new(atomic.Int32))
				count.(*atomic.Int32).Add(1)
			}
		})
	}
	done.Wait()
	counts.Range(func(what, count any) bool {
		t.Logf("%v %5d times", what, count.(*atomic.Int32).Load())
		return true
	})
	t.Logf("%d commands ran", strings.Count(filesContent(witness+".runs"), "run"))
	if exists(witness + ".violations") {
		t.Errorf("two at once: %s", filesContent(witness+".violations"))
	}

	r := c.run("status", "web")
	running := ctlWitnesses(witness)
	switch {
	case r.status == 0 && len(running) == 1 && strings.Contains(r.stdout, fmt.Sprintf("held by process %d ", running[0])):
	case r.status == 3 && len(running) == 0:
	default:
		t.Errorf("status: %v; witnesses that run: %v", r, running)
	}
	c.run("stop", "web").want(t, 0, map[int]string{0: "", 3: "not running"}[r.status])
	if left := ctlWitnesses(witness); len(left) > 0 {
		t.Errorf("processes %v run after stop", left)
	}
	if r := c.run("status", "web"); r.status != 3 {
		t.Errorf("status in the end: %v; want 3", r)
	}
}

// ctlWitnesses returns the PIDs of the witnesses of that directory.
func ctlWitnesses(dir string) (pids []int) {
	names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range names {
		line, _ := os.ReadFile(name)
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		words := strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")
		if len(words) == 2 && words[1] == dir && alive(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}
