//go:build linux

package integration_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/lockrun/lockrun/lock"
	"github.com/lockrun/lockrun/pidfile"
	"golang.org/x/sys/unix"
)

func init() {
	helpers["stop-as-it-dies"] = stopAsItDies
}

// againCommands are what stop has to end. $1 is a FIFO that the test holds open:
// who reads from it ends with it.
var againCommands = []struct {
	name, script string
	kill         bool // lockrun is killed before
	schedule     string
}{
	{"dies at once", `exec sleep 600`, false, "TERM/8/KILL/8"},
	{"takes its time", `trap 'sleep 0.02; exit 0' TERM; while :; do sleep 0.01; done`, false, "TERM/8/KILL/8"},
	{"ignores TERM", `trap '' TERM; exec sleep 600`, false, "TERM/0.02/KILL/8"},
	{"leaves children", `(read _) <"$1" & (read _) <"$1" & exec sleep 600`, false, "TERM/8/KILL/8"},
	// Without lockrun nobody takes the lock from the children.
	{"leaves children that have the lock", `(read _) <"$1" & (read _) <"$1" & exec sleep 600`, true, "TERM/0.02/KILL/1/KILL/8"},
}

// When stop has returned 0, the next start wins, if nobody else was in the queue.
func TestEveryStartAfterStopWins(t *testing.T) {
	t.Parallel()
	rounds := sized(2, 5, 1000)
	for _, command := range againCommands {
		for _, operand := range []string{"NAME", "PATH"} {
			t.Run(command.name+", "+operand, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				instances := filepath.Join(dir, "instances")
				l, file := "name", filepath.Join(instances, "name.pid")
				if operand == "PATH" {
					l, file = filepath.Join(dir, "L"), filepath.Join(dir, "L")
				}
				lockrunOn := func(args ...string) result {
					cmd := filesCommand(t, lockrun, args...)
					cmd.Env = append(os.Environ(), "LOCKRUN_DIR="+instances)
					// Not a pipe: what the command leaves behind would keep it.
					stderr, err := os.Create(filepath.Join(dir, "stderr"))
					filesMust(t, err)
					defer stderr.Close()
					cmd.Stderr = stderr
					begin := time.Now()
					cmd.Run()
					said, _ := os.ReadFile(stderr.Name())
					return result{statusOf(cmd.ProcessState), "", string(said), time.Since(begin)}
				}
				fifo := filepath.Join(dir, "fifo")
				filesMust(t, syscall.Mkfifo(fifo, 0o600))
				var held *os.File
				letGo := func() {
					if held != nil {
						held.Close()
					}
				}
				defer func() {
					lockrunOn("stop", "--schedule", "KILL/8", l)
					letGo()
				}()
				begin := time.Now()
				var slowest time.Duration
				for i := range rounds {
					if i%50 == 0 { // what was left behind ends now and then
						letGo()
						var err error
						held, err = os.OpenFile(fifo, os.O_RDWR, 0)
						filesMust(t, err)
					}
					args := []string{"start", l, "--", "sh", "-c", command.script, "sh", fifo}
					if i%4 == 3 {
						args[0] = "--keep"
						args = append([]string{"start"}, args...)
					}
					if r := lockrunOn(args...); r.status != 0 || r.stderr != "" {
						t.Fatalf("round %d: start after stop: %v", i, r)
					}
					if command.kill {
						supervisor := nsParent(pidIn(t, file))
						filesMust(t, syscall.Kill(supervisor, syscall.SIGKILL))
						eventually(t, "lockrun is gone", func() bool { return !alive(supervisor) })
					}
					r := lockrunOn("stop", "--must-run", "--schedule", command.schedule, l)
					if r.status != 0 || r.stderr != "" {
						t.Fatalf("round %d: stop: %v", i, r)
					}
					slowest = max(slowest, r.took)
				}
				t.Logf("%d times stop and start in %v; the slowest stop took %v", rounds, time.Since(begin).Round(time.Millisecond), slowest.Round(time.Millisecond))
			})
		}
	}
}

// Stop must not take a recorded process that dies just then for a new instance:
//
//  1. Stop sees that the recorded process has the lock, when its time is over.
//  2. That process ends. Its children have the lock still.
//  3. Stop sees that whom it signalled has ended, and that the recorded process
//     was seen with the lock.
//
// So stop is held up where it looks who has ended, and the process is killed.
func TestStopOfWhoLeavesTheLockToChildren(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	l, fifo := filepath.Join(dir, "L"), filepath.Join(dir, "fifo")
	filesMust(t, syscall.Mkfifo(fifo, 0o600))
	held, err := os.OpenFile(fifo, os.O_RDWR, 0)
	filesMust(t, err)
	defer held.Close()
	run(t, "start", l, "--", "sh", "-c", `trap '' TERM; (read _) <"$1" & exec sleep 600`, "sh", fifo).want(t, 0, "")
	command := pidIn(t, l)
	defer func() { // also when it fails
		held.Close()
		syscall.Kill(command, syscall.SIGKILL)
	}()
	supervisor := nsParent(command)
	eventually(t, "the command's child has the lock", func() bool {
		holders, _ := lock.Holders(l)
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", command))
		return len(holders) == 3 && string(comm) == "sleep\n"
	})
	filesMust(t, syscall.Kill(supervisor, syscall.SIGKILL))
	eventually(t, "lockrun is gone", func() bool { return !alive(supervisor) })
	r := runCmd(t, helper(t, "stop-as-it-dies", l, fmt.Sprint(command)))
	if r.status == recycleMissing {
		missing(t, "%s", r.stderr)
	}
	r.want(t, 0, "")
	run(t, l, "--", "true").want(t, 0, "")
}

func stopAsItDies(args []string) int {
	command, _ := strconv.Atoi(args[1])
	runtime.LockOSThread()
	g, err := newGate(unix.SYS_PPOLL)
	if err != nil {
		fmt.Fprintln(os.Stderr, "seccomp:", err)
		return recycleMissing
	}
	var came atomic.Bool
	g.set(func(seccompNotif) {
		if came.Load() {
			return
		}
		syscall.Kill(command, syscall.SIGKILL)
		for alive(command) {
			runtime.Gosched()
		}
		came.Store(true)
	})
	schedule := pidfile.Schedule{{Signal: syscall.SIGTERM, Wait: 20 * time.Millisecond}, {Signal: syscall.SIGKILL, Wait: 20 * time.Second}}
	err = pidfile.Stop(context.Background(), args[0], schedule)
	if !came.Load() {
		fmt.Fprintln(os.Stderr, "nobody came to the gate")
		return 1
	}
	if state, _ := pidfile.Inspect(args[0]); err != nil || state.State == pidfile.Running {
		fmt.Fprintf(os.Stderr, "Stop: %v, and then %+v\n", err, state)
		return 1
	}
	return 0
}
