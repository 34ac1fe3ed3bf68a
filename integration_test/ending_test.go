//go:build linux

package integration_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// When the command has ended, stop and restart end the rest of its group too, by
// the same schedule; nobody else is touched.
func TestStopEndsTheGroup(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		child string // a command that the main process leaves behind
		args  []string
		most  time.Duration
	}{
		"obeys":             {"sleep 600", []string{"stop"}, 5 * time.Second},
		"restart":           {"sleep 600", []string{"restart"}, 5 * time.Second},
		"ignores TERM":      {`trap "" TERM; sleep 600`, []string{"stop", "--schedule", "TERM/0.5/KILL/5"}, 5 * time.Second},
		"resists until end": {`trap "" TERM; sleep 600`, []string{"stop", "--schedule", "TERM/0.5"}, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCtl(t)
			dir := t.TempDir()
			c.run("start", "web", "--", "sh", "-c",
				`sh -c "$1" & echo $! >"$2"; setsid sleep 600 & echo $! >"$3"; mv "$2" "$4"; exec sleep 600`,
				"sh", tt.child, filepath.Join(dir, "a"), filepath.Join(dir, "outside"), filepath.Join(dir, "child")).want(t, 0, "")
			child, command := pidIn(t, filepath.Join(dir, "child")), c.pid("web")
			outside := pidIn(t, filepath.Join(dir, "outside"))
			eventually(t, "a session of its own", func() bool { return ttyStatOf(outside).session == outside })
			r := c.run(append(tt.args, "web")...)
			r.want(t, 0, "")
			if r.took > tt.most {
				t.Errorf("%v; want it within %v", r, tt.most)
			}
			if resists := name == "resists until end"; alive(child) != resists || alive(command) || !alive(outside) {
				t.Errorf("alive: child %v (want %v), command %v, one outside of the group %v", alive(child), resists, alive(command), alive(outside))
			}
			if tt.args[0] == "stop" {
				c.run("web", "--", "true").want(t, 0, "")
			}
			syscall.Kill(outside, syscall.SIGKILL)
			if alive(child) {
				syscall.Kill(-ttyStatOf(child).group, syscall.SIGKILL)
			}
			if tt.args[0] == "restart" {
				eventually(t, "another one outside", func() bool { return pidIn(t, filepath.Join(dir, "outside")) != outside })
				c.run("stop", "web").want(t, 0, "")
				syscall.Kill(pidIn(t, filepath.Join(dir, "outside")), syscall.SIGKILL)
			}
		})
	}
}

// A schedule that ends without the command's end, another one in its place, and
// what is asked for meanwhile.
func TestStopThatIsResisted(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	ready := filepath.Join(t.TempDir(), "ready")
	c.run("start", "web", "--", "sh", "-c", `trap "" TERM HUP; >"$1"; while :; do sleep 600; done`, "sh", ready).want(t, 0, "")
	eventually(t, "TERM and HUP are ignored", func() bool { return exists(ready) })
	pid := c.pid("web")
	for _, word := range []string{"stop", "restart"} {
		c.run(word, "--schedule", "TERM/0.1/HUP/0.1", "web").want(t, 75, fmt.Sprintf("process %d ", pid))
		if c.pid("web") != pid || !alive(pid) {
			t.Fatalf("%s gave up, but %d is not there", word, pid)
		}
	}
	if r := c.run("status", "web"); !strings.Contains(r.stdout, ": running, ") {
		t.Errorf("status after that: %v", r)
	}

	// While it is being stopped.
	stopping := c.command("stop", "--schedule", "TERM/forever", "web")
	background(t, stopping)
	eventually(t, "stopping", func() bool { return strings.Contains(c.run("status", "web").stdout, ": stopping, ") })
	if r := c.run("status", "--json", "web"); !strings.Contains(r.stdout, `"state": "stopping"`) {
		t.Errorf("status --json: %v", r)
	}
	c.run("restart", "web").want(t, 75, "it is being stopped")
	c.run("start", "web", "--", "true").want(t, 75, "held by process ")
	c.run("stop", "-t", "0.1", "--schedule", "TERM/forever", "web").want(t, 75, fmt.Sprintf("held by process %d ", pid))
	// The other schedule ends it, for both.
	c.run("stop", "--schedule", "KILL/5", "web").want(t, 0, "")
	if err := stopping.Wait(); err != nil {
		t.Errorf("the first stop: %v", err)
	}

	// A stop and a TERM end restarts that wait.
	for _, end := range []string{"stop", "TERM"} {
		c.run("start", "web", "--", "sh", "-c", `trap "" TERM; >"$1"; while :; do sleep 0.1; done`, "sh", ready+end).want(t, 0, "")
		eventually(t, "TERM is ignored", func() bool { return exists(ready + end) })
		pid, supervisor := c.pid("web"), nsParent(c.pid("web"))
		var stderr bytes.Buffer
		restart := c.command("restart", "--schedule", "TERM/forever", "web")
		restart.Stderr = &stderr
		filesMust(t, restart.Start())
		eventually(t, "restarting", func() bool { return strings.Contains(c.run("status", "web").stdout, ": stopping, ") })
		if end == "stop" {
			c.run("stop", "--schedule", "KILL/5", "web").want(t, 0, "")
		} else {
			filesMust(t, syscall.Kill(supervisor, syscall.SIGTERM))
		}
		restart.Wait()
		if statusOf(restart.ProcessState) != 75 {
			t.Errorf("%s during a restart: restart has status %d, %q; want 75", end, statusOf(restart.ProcessState), stderr.String())
		}
		if end == "TERM" {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		eventually(t, "ended for good", func() bool { return c.run("status", "web").status == 3 })
	}
}
