//go:build linux

package integration_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/lockrun/lockrun/lock"
	"golang.org/x/sys/unix"
)

// What is said of a lock by somebody who sees little: another user, a process of
// another PID namespace, one without /proc. What can't be proven must not be
// said, and who is not proven to hold the lock must not be signalled.

const foreignOther = filesNobody - 1 // a user who is neither root nor nobody

// foreignView is how a lock looks from somewhere.
type foreignView struct {
	state  string // as status --json has it
	status int    // of lockrun status
	says   string // lockrun status
	pid    int    // the holder that is named, 0 if nobody may be
	signal int    // exit status of signal and of stop, unless stop would end it
}

var (
	foreignUnseen = foreignView{"unknown", 4, "held by a process that can't be seen from here; process ", 0, 77}
	foreignFree   = foreignView{"stopped", 3, "not running", 0, 0}
	foreignStale  = foreignView{"stale", 1, "stale: not running", 0, 0}
)

// check asks everything there is to ask of the lock l.
func (v foreignView) check(t *testing.T, l string, become func(*exec.Cmd) *exec.Cmd) {
	t.Helper()
	ask := func(args ...string) result {
		t.Helper()
		return filesRunCmd(t, become(filesCommand(t, lockrun, args...)))
	}
	honest := func(r result) {
		t.Helper()
		if named := fmt.Sprintf("held by process %d ", v.pid); v.pid != 0 && !strings.Contains(r.stdout+r.stderr, named) ||
			v.pid == 0 && strings.Contains(r.stdout+r.stderr, "held by process") {
			t.Errorf("%v; want the holder to be %d (0: not named)", r, v.pid)
		}
	}
	r := ask("status", l)
	if r.status != v.status || !strings.HasPrefix(r.stdout, l+": ") || !strings.Contains(r.stdout, v.says) {
		t.Errorf("status: %v; want %d, %s", r, v.status, v.says)
	}
	honest(r)
	if r := ask("status", "-q", l); r.status != v.status || r.stdout != "" {
		t.Errorf("status -q: %v; want %d", r, v.status)
	}
	r = ask("status", l, l)
	if row := strings.Split(r.stdout, "\t"); len(row) < 3 || row[1] != v.state || v.pid == 0 && row[2] != "-" || v.pid != 0 && row[2] != fmt.Sprint(v.pid) {
		t.Errorf("status of two: %v; want %s, process %d", r, v.state, v.pid)
	}
	r = ask("status", "--json", l)
	var objects []map[string]any
	filesMust(t, json.Unmarshal([]byte(r.stdout), &objects))
	pid, named := objects[0]["pid"]
	reason, _ := objects[0]["reason"].(string)
	if objects[0]["state"] != v.state || named != (v.pid != 0) || named && pid != float64(v.pid) || (reason != "") != (v.state == "unknown") {
		t.Errorf("status --json: %v; want %s, process %d", r, v.state, v.pid)
	}
	if v.signal != 0 {
		for _, args := range [][]string{{"stop", l}, {"stop", "--force", l}, {"stop", "--dry-run", l}, {"signal", l, "TERM"}, {"signal", l, "KILL"}} {
			r := ask(args...)
			r.want(t, v.signal, "lockrun: "+l+": ")
			if r.stdout != "" {
				t.Errorf("%v: %v", args, r)
			}
		}
	} else if v.pid == 0 {
		ask("signal", l, "TERM").want(t, 0, "not running")
		ask("stop", l).want(t, 0, "not running")
		ask("wait", "-t", "5", l).want(t, 0, "")
		return
	}
	r = ask("wait", "-t", "0.01", l)
	r.want(t, 75, "held by ")
	honest(r)
}

func foreignAs(uid uint32) func(*exec.Cmd) *exec.Cmd {
	return func(cmd *exec.Cmd) *exec.Cmd {
		if uid == 0 {
			return cmd
		}
		return filesAs(cmd, uid)
	}
}

// foreignHeld has a user hold the lock l, for all to read, and returns the
// command. With record it is in the file.
func foreignHeld(t *testing.T, l string, uid uint32, flags ...string) (command int) {
	t.Helper()
	filesWrite(t, l, "", 0o644)
	filesMust(t, os.Chmod(l, 0o644))
	filesMust(t, os.Chown(l, int(uid), int(uid)))
	start := append(append([]string{"start"}, flags...), "--keep", l, "--", "sleep", "600")
	filesRunCmd(t, foreignAs(uid)(filesCommand(t, lockrun, start...))).want(t, 0, "")
	t.Cleanup(func() { runCmd(t, exec.Command(lockrun, "stop", l)) })
	if command = 0; len(flags) == 0 {
		command = pidIn(t, l)
	}
	return command
}

func TestLockOfAnotherUser(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := filesDir(t)
	for _, c := range []struct {
		owner, viewer uint32
		seen          bool
	}{
		{0, filesNobody, false},
		{filesNobody, foreignOther, false},
		{filesNobody, filesNobody, true},
		{filesNobody, 0, true},
	} {
		t.Run(fmt.Sprintf("%d sees %d", c.viewer, c.owner), func(t *testing.T) {
			t.Parallel()
			l := filepath.Join(dir, fmt.Sprintf("L%d-%d", c.owner, c.viewer))
			command := foreignHeld(t, l, c.owner)
			view := foreignUnseen
			if c.seen {
				view = foreignView{"running", 0, "running, ", command, 0}
			}
			view.check(t, l, foreignAs(c.viewer))
			if !alive(command) {
				t.Fatal("the holder was signalled")
			}
			if c.seen {
				filesRunCmd(t, foreignAs(c.viewer)(filesCommand(t, lockrun, "stop", l))).want(t, 0, "")
			} else {
				filesRun(t, "stop", l).want(t, 0, "")
			}
			foreignFree.check(t, l, foreignAs(c.viewer))
			// Somebody's number is left, who runs.
			filesMust(t, os.WriteFile(l, fmt.Appendln(nil, os.Getpid()), 0))
			foreignStale.check(t, l, foreignAs(c.viewer))
		})
	}
	t.Run("nobody is recorded", func(t *testing.T) {
		t.Parallel()
		l := filepath.Join(dir, "unrecorded")
		foreignHeld(t, l, 0, "--no-pid")
		foreignView{"running", 0, "running, held by a process that can't be seen from here", 0, 77}.check(t, l, foreignAs(filesNobody))
	})
	t.Run("not to be read", func(t *testing.T) {
		t.Parallel()
		l := filepath.Join(dir, "unreadable")
		command := foreignHeld(t, l, 0)
		filesMust(t, os.Chmod(l, 0o600))
		r := filesRunCmd(t, foreignAs(filesNobody)(filesCommand(t, lockrun, "status", l)))
		if r.status != 4 || r.stdout != l+": unknown: permission denied\n" {
			t.Errorf("status: %v; want 4, unknown", r)
		}
		for _, args := range [][]string{{"stop", l}, {"signal", l, "TERM"}} {
			filesRunCmd(t, foreignAs(filesNobody)(filesCommand(t, lockrun, args...))).want(t, 77, "not permitted")
		}
		if !alive(command) {
			t.Error("the holder was signalled")
		}
	})
}

// The holder is outside, and inside somebody else has the number that is
// recorded.
func TestHolderOutsideWithItsNumberInside(t *testing.T) {
	t.Parallel()
	needRoot(t)
	l := filepath.Join(t.TempDir(), "L")
	command := foreignHeld(t, l, 0)
	t.Run("inside", func(t *testing.T) {
		nsOwnPIDs(t, "sleep", "600")
		if !exists(recycleNext) {
			missing(t, "no %s", recycleNext)
		}
		foreignUnseen.check(t, l, foreignAs(0))
		var stranger int
		var unhurt func()
		eventually(t, "a stranger with the number", func() bool {
			filesRunCmd(t, filesCommand(t, "sh", "-c", fmt.Sprintf("echo %d > %s", command-1, recycleNext))).want(t, 0, "")
			if stranger, unhurt = filesStartStranger(t); stranger == command {
				return true
			}
			unhurt()
			return false
		})
		foreignUnseen.check(t, l, foreignAs(0))
		unhurt()
	})
	if !alive(command) {
		t.Error("the holder was signalled")
	}
	foreignView{"running", 0, "running, ", command, 0}.check(t, l, foreignAs(0))
}

// kill -9 of lockrun in a container, which is its PID 1 or has an init that reaps
// nobody, seen from outside and from another container.
func TestLockrunIsKilledInAContainer(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for _, pid1 := range []string{"init", "lockrun"} {
		t.Run(pid1, func(t *testing.T) {
			t.Parallel()
			dir := filesDir(t)
			l := filepath.Join(dir, "L")
			filesWrite(t, l, "", 0o644)
			script := `"$1" start --keep "$2" -- sleep 600; exec sleep 600`
			if pid1 == "lockrun" {
				script = `exec "$1" --keep "$2" -- sleep 600`
			}
			background(t, exec.Command(need(t, "unshare"), "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", script, "sh", lockrun, l))
			// From outside both are seen, by other numbers.
			var supervisor, command int
			eventually(t, "lockrun and its command have the lock", func() bool {
				holders, err := lock.Holders(l)
				if err != nil || len(holders) != 2 {
					return false
				}
				supervisor, command = holders[0].PID, holders[1].PID
				if nsParent(supervisor) == command {
					supervisor, command = command, supervisor
				}
				comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", command))
				inner, _ := strconv.Atoi(strings.TrimSpace(filesContent(l)))
				return string(comm) == "sleep\n" && inner == foreignInner(command)
			})
			filesMust(t, syscall.Kill(supervisor, syscall.SIGKILL))
			eventually(t, "lockrun is dead", func() bool { return !alive(supervisor) })
			if pid1 == "lockrun" {
				eventually(t, "all are dead", func() bool { return !alive(command) })
				foreignStale.check(t, l, foreignAs(0))
				foreignStale.check(t, l, foreignAs(filesNobody))
				run(t, l, "--", "true").want(t, 0, "")
				return
			}
			foreignUnseen.check(t, l, foreignAs(filesNobody))
			t.Run("seen from another container", func(t *testing.T) {
				nsOwnPIDs(t, "sleep", "600")
				foreignUnseen.check(t, l, foreignAs(0))
			})
			if !alive(command) {
				t.Fatal("the command was signalled")
			}
			// Root outside sees all: who holds it is not the number that is
			// recorded, as it is understood here.
			foreignView{"stragglers", 4, "stragglers: ", command, 0}.check(t, l, foreignAs(0))
			run(t, "stop", l).want(t, 0, "")
			run(t, l, "--", "true").want(t, 0, "")
		})
	}
}

// foreignInner returns the number of a process in its own PID namespace.
func foreignInner(pid int) (inner int) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		if numbers, ok := strings.CutPrefix(line, "NSpid:"); ok {
			f := strings.Fields(numbers)
			inner, _ = strconv.Atoi(f[len(f)-1])
		}
	}
	return inner
}

func TestWithoutProc(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	l, free, stale := filepath.Join(dir, "L"), filepath.Join(dir, "free"), filepath.Join(dir, "stale")
	command := foreignHeld(t, l, 0)
	unrecorded := filepath.Join(dir, "unrecorded")
	foreignHeld(t, unrecorded, 0, "--no-pid")
	filesWrite(t, free, "", 0o600)
	t.Run("inside", func(t *testing.T) {
		nsOwnMounts(t)
		stranger, unhurt := filesStartStranger(t)
		filesWrite(t, stale, fmt.Sprintln(stranger), 0o600)
		nsTmpfs(t, "/proc", "mode=755")
		foreignUnseen.check(t, l, foreignAs(0))
		foreignView{"running", 0, "running, held by a process that can't be seen from here", 0, 77}.check(t, unrecorded, foreignAs(0))
		foreignFree.check(t, free, foreignAs(0))
		foreignFree.check(t, filepath.Join(dir, "absent"), foreignAs(0))
		foreignStale.check(t, stale, foreignAs(0))
		filesRun(t, l, "--", "true").want(t, 75, "held by a process that can't be seen from here")
		filesRun(t, stale, "--", "true").want(t, 0, "")
		unhurt()
		filesMust(t, unix.Unmount("/proc", unix.MNT_DETACH))
	})
	if syscall.Kill(command, 0) != nil || !alive(command) {
		t.Error("the holder was signalled")
	}
}
