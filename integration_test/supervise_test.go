//go:build linux

package integration_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lockrun/lockrun/lock"
)

func TestMaxTime(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	r := c.run("--max-time", "0.2", "job", "--", "sleep", "600")
	r.want(t, 124, "job: its time of 200ms is up")
	c.run("--max-time", "60", "job", "--", "sh", "-c", "exit 3").want(t, 3, "")
	// It is free only when the command is gone, and what it started too.
	dir := t.TempDir()
	child := filepath.Join(dir, "child")
	c.run("--max-time", "0.3", "--kill-after", "0.2", "job", "--", "sh", "-c",
		`trap "" TERM; sleep 600 & echo $! >"$1"; while :; do sleep 0.05; done`, "sh", child).want(t, 124, "its time of 300ms is up")
	if pid := pidIn(t, child); alive(pid) {
		t.Error("a child that ignores SIGTERM lives")
		syscall.Kill(pid, syscall.SIGKILL)
	}
	c.run("job", "--", "true").want(t, 0, "")
	// As a daemon, and with the status passed to the shell.
	c.run("start", "--max-time", "0.2", "job", "--", "sleep", "600").want(t, 0, "")
	eventually(t, "ended", func() bool { return c.run("status", "job").status == 3 })
	c.run("--kill-after", "1", "job", "--", "true").want(t, 64, "--max-time, which is missing")
	c.run("--max-time", "0", "job", "--", "true").want(t, 64, "--max-time must be longer than 0")
}

// supCounts is a command that counts its runs in a file and ends with a status.
func supCounts(file, then string) []string {
	return []string{"sh", "-c", `echo run >>"$1"; ` + then, "sh", file}
}

func supRuns(file string) int { return strings.Count(filesContent(file), "run\n") }

func TestRespawn(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	runs := filepath.Join(t.TempDir(), "runs")
	// A command that fails is started again, under the same lock, with pauses
	// that grow.
	c.run(append([]string{"start", "--restart", "on-failure", "web", "--"}, supCounts(runs, "exit 1")...)...).want(t, 0, "")
	begin := time.Now()
	for supRuns(runs) < 4 { // 0, 0.1, 0.3, 0.7 s
		if r := c.run("web", "--", "true"); r.status != 75 {
			t.Fatalf("somebody else got the lock: %v", r)
		}
		if time.Since(begin) > 30*time.Second {
			t.Fatal("it is not started again")
		}
	}
	if took := time.Since(begin); took < 600*time.Millisecond {
		t.Errorf("the fourth run after %v; want growing pauses", took)
	}
	if r := c.run("status", "web"); r.status != 0 {
		t.Errorf("status between two runs: %v", r)
	}
	eventually(t, "a pause", func() bool { return strings.Contains(c.run("status", "web").stdout, ": starting, ") })
	// Stop ends it for good, at once.
	if r := c.run("stop", "web"); r.status != 0 || r.took > 5*time.Second {
		t.Errorf("stop in the pause: %v", r)
	}
	after := supRuns(runs)
	c.run("web", "--", "true").want(t, 0, "")
	if supRuns(runs) != after {
		t.Error("it was started again after stop")
	}

	// One that ends well is not started again on failure, and always is always.
	filesMust(t, os.Remove(runs))
	c.run(append([]string{"start", "--restart", "on-failure", "web", "--"}, supCounts(runs, "exit 0")...)...).want(t, 0, "")
	eventually(t, "ended", func() bool { return c.run("status", "web").status == 3 })
	c.run(append([]string{"start", "--restart", "always", "web", "--"}, supCounts(runs, "exit 0")...)...).want(t, 0, "")
	eventually(t, "three runs", func() bool { return supRuns(runs) >= 3 })
	c.run("restart", "web").want(t, 0, "") // in the pause, most likely
	c.run("stop", "web").want(t, 0, "")

	// A command that dies of a signal of its own is started again; TERM to the
	// supervisor, or to a command that stop finds, is meant.
	c.run("start", "--restart", "always", "web", "--", "sleep", "600").want(t, 0, "")
	first := c.pid("web")
	supervisor := nsParent(first)
	filesMust(t, syscall.Kill(first, syscall.SIGSEGV))
	eventually(t, "another one", func() bool { pid := c.pid("web"); return pid != first && pid != supervisor })
	filesMust(t, syscall.Kill(supervisor, syscall.SIGTERM))
	eventually(t, "ended for good", func() bool { return c.run("status", "web").status == 3 && !alive(supervisor) })
}

func TestRespawnInTheForeground(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(c *ctl, cmd *exec.Cmd){
		"TERM":                   func(c *ctl, cmd *exec.Cmd) { cmd.Process.Signal(syscall.SIGTERM) },
		"HUP":                    func(c *ctl, cmd *exec.Cmd) { cmd.Process.Signal(syscall.SIGHUP) },
		"stop":                   func(c *ctl, cmd *exec.Cmd) { c.run("stop", "web").want(c.t, 0, "") },
		"TERM in a pause":        func(c *ctl, cmd *exec.Cmd) { cmd.Process.Signal(syscall.SIGTERM) },
		"max-restarts":           nil,
		"max-restarts in a time": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCtl(t)
			runs := filepath.Join(t.TempDir(), "runs")
			then, flags, want, least := "exec sleep 600", []string{"--restart", "always"}, 128+15, 1
			switch name {
			case "HUP":
				want = 128 + 1
			case "TERM in a pause":
				then, least = "exit 9", 5 // then the pause is longer than a second
			case "max-restarts":
				then, flags, want = "exit 9", append(flags, "--max-restarts", "2"), 9
			case "max-restarts in a time":
				then, flags, want = "exit 9", append(flags, "--max-restarts", "2/1h"), 9
			}
			cmd := c.command(append(append(flags, "web", "--"), supCounts(runs, then)...)...)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			filesMust(t, cmd.Start())
			if end != nil {
				eventually(t, "it runs", func() bool { return supRuns(runs) >= least })
				if least > 1 {
					eventually(t, "a pause", func() bool { return c.pid("web") == cmd.Process.Pid })
				} else {
					eventually(t, "recorded", func() bool { return c.pid("web") != cmd.Process.Pid })
				}
				begin := time.Now()
				end(c, cmd)
				cmd.Wait()
				if took := time.Since(begin); took > 5*time.Second {
					t.Errorf("it ended after %v", took)
				}
			} else {
				cmd.Wait()
				if supRuns(runs) != 3 || !strings.Contains(stderr.String(), "web: started again 2 times; that is enough (--max-restarts 2") {
					t.Errorf("%d runs, %q; want 3", supRuns(runs), stderr.String())
				}
			}
			if got := statusOf(cmd.ProcessState); got != want {
				t.Errorf("status %d, %q; want %d", got, stderr.String(), want)
			}
			c.run("web", "--", "true").want(t, 0, "")
		})
	}
}

func TestOnExit(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	log := filepath.Join(t.TempDir(), "log")
	say := `echo "$LOCKRUN_NAME $LOCKRUN_STATUS" >>` + log
	c.run("--on-exit", say, "job", "--", "sh", "-c", "exit 5").want(t, 5, "")
	c.run("--on-exit", say, "job", "--", "sh", "-c", "kill -9 $$").want(t, 137, "")
	c.run("--on-exit", say, "--restart", "on-failure", "--max-restarts", "1", "job", "--", "sh", "-c", "exit 6").want(t, 6, "that is enough")
	c.run("start", "--on-exit", say, "job", "--", "sleep", "600").want(t, 0, "")
	c.run("stop", "job").want(t, 0, "")
	// The lock is held until it has ended.
	if got, want := filesContent(log), "job 5\njob 137\njob 6\njob 6\njob 143\n"; got != want {
		t.Errorf("%q; want %q", got, want)
	}
}

func TestReady(t *testing.T) {
	t.Parallel()
	newDir := func(t *testing.T) (c *ctl, gate string) {
		c = newCtl(t)
		gate = filepath.Join(t.TempDir(), "gate")
		filesMust(t, syscall.Mkfifo(gate, 0o600))
		return c, gate
	}
	port := func(t *testing.T) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		filesMust(t, err)
		defer l.Close()
		return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	}
	// Each waits until the test opens the gate, and then says that it is ready.
	for name, tt := range map[string]func(t *testing.T, gate string) (flag string, command []string){
		"fd": func(t *testing.T, gate string) (string, []string) {
			return "fd:7", []string{"sh", "-c", `read _ <"$1"; echo >&7; exec sleep 600 7>&-`, "sh", gate}
		},
		"notify": func(t *testing.T, gate string) (string, []string) {
			return "notify", append([]string{"env", helperVariable + "=sup-notify", supSelf(t)}, gate)
		},
		"notify of a child": func(t *testing.T, gate string) (string, []string) {
			return "notify", append([]string{"sh", "-c", `"$@" & wait`, "sh", "env", helperVariable + "=sup-notify", supSelf(t)}, gate)
		},
		"tcp": func(t *testing.T, gate string) (string, []string) {
			p := port(t)
			return "tcp:127.0.0.1:" + p, []string{"env", helperVariable + "=sup-listen", supSelf(t), gate, "127.0.0.1:" + p}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, gate := newDir(t)
			flag, command := tt(t, gate)
			start := c.command(append([]string{"start", "--ready", flag, "web", "--"}, command...)...)
			background(t, start)
			eventually(t, "starting", func() bool { return strings.Contains(c.run("status", "web").stdout, ": starting, ") })
			c.run("wait", "--ready", "-t", "0.1", "web").want(t, 124, "not ready")
			waiting := background(t, c.command("wait", "--ready", "web"))
			if r := c.run("status", "--json", "web"); !strings.Contains(r.stdout, `"state": "starting"`) {
				t.Errorf("status --json: %v", r)
			}
			filesWrite(t, gate, "\n", 0o600)
			filesMust(t, start.Wait())
			filesMust(t, waiting.Wait())
			r := c.run("status", "web")
			if r.status != 0 || !strings.Contains(r.stdout, "web: running") {
				t.Errorf("status: %v", r)
			}
			if strings.HasPrefix(name, "notify") && !strings.Contains(r.stdout, "running (all is well), held by") {
				t.Errorf("status: %v; want what it says of itself", r)
			}
			// A restart returns when the new one is ready.
			restart := c.command("restart", "web")
			background(t, restart)
			eventually(t, "starting again", func() bool { return strings.Contains(c.run("status", "web").stdout, ": starting, ") })
			filesWrite(t, gate, "\n", 0o600)
			filesMust(t, restart.Wait())
			c.run("stop", "web").want(t, 0, "")
		})
	}
	t.Run("never", func(t *testing.T) {
		t.Parallel()
		c, _ := newDir(t)
		c.run("start", "--ready", "notify", "--ready-timeout", "0.2", "web", "--", "sleep", "600").want(t, 124, "web: not ready within 200ms")
		c.run("--ready", "fd:3", "--ready-timeout", "0.2", "web", "--", "sleep", "600").want(t, 124, "web: not ready within 200ms")
		c.run("web", "--", "true").want(t, 0, "")
		c.run("start", "--ready", "fd:5", "web", "--", "sh", "-c", "exit 9").want(t, 9, "web: ended before it was ready: exit status 9")
		c.run("start", "--ready", "fd:5", "web", "--", "true").want(t, 1, "ended before it was ready: exit status 0")
		c.run("start", "--ready", "notify", "--restart", "always", "web", "--", "sh", "-c", "kill -9 $$").want(t, 137, "ended before it was ready: killed by SIGKILL")
		c.run("start", "--ready", "notify", "web", "--", "no-such-command").want(t, 127, "not found")
		// A restart whose command does not come up says so.
		c.run("start", "--ready", "fd:5", "web", "--", "sh", "-c", "echo >&5; sleep 600").want(t, 0, "")
		c.run("restart", "web", "--", "sh", "-c", "exit 9").want(t, 9, "ended before it was ready")
		for flag, why := range map[string]string{"x": "want exec, notify", "fd:2": "want exec", "fd:64": "want exec", "fd:": "want exec", "tcp:1": "want exec", "tcp:h:0": "want exec", "notify:1": "want exec"} {
			c.run("start", "--ready", flag, "web", "--", "true").want(t, 64, why)
		}
		c.run("start", "--ready-timeout", "5", "web", "--", "true").want(t, 64, "--ready notify, fd or tcp, which is missing")
	})
	// Who is not of the command's family is not believed.
	t.Run("forged", func(t *testing.T) {
		t.Parallel()
		c, gate := newDir(t)
		address := gate + ".address"
		start := c.command("start", "--ready", "notify", "web", "--", "sh", "-c", `echo "$NOTIFY_SOCKET" >"$2.x"; mv "$2.x" "$2"; exec sleep 600`, "sh", gate, address)
		background(t, start)
		eventually(t, "its address", func() bool { return exists(address) })
		conn, err := net.Dial("unixgram", strings.TrimSpace(filesContent(address)))
		filesMust(t, err)
		defer conn.Close()
		fmt.Fprint(conn, "READY=1\nSTATUS=it is a lie")
		c.run("wait", "--ready", "-t", "0.2", "web").want(t, 124, "not ready")
		if r := c.run("status", "web"); strings.Contains(r.stdout, "it is a lie") {
			t.Errorf("status: %v", r)
		}
		c.run("stop", "web").want(t, 0, "")
	})
}

func init() {
	helpers["sup-notify"] = supNotify
	helpers["sup-listen"] = supListen
}

func supSelf(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	filesMust(t, err)
	return self
}

// supNotify says that it is ready when its gate opens.
func supNotify(args []string) int {
	os.ReadFile(args[0])
	conn, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprint(conn, "STATUS=all is well\nREADY=1\n")
	time.Sleep(10 * time.Minute)
	return 0
}

// supListen listens when its gate opens.
func supListen(args []string) int {
	os.ReadFile(args[0])
	l, err := net.Listen("tcp", args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for {
		if conn, err := l.Accept(); err == nil {
			conn.Close()
		}
	}
}

// redis with --supervised systemd says that it is ready exactly when it accepts
// connections.
func TestReadyOfRedis(t *testing.T) {
	t.Parallel()
	redis, cli := need(t, "redis-server"), need(t, "redis-cli")
	c := newCtl(t)
	socket := filepath.Join(filepath.Dir(c.dir), "redis.sock")
	for range sized(2, 3, 100) {
		c.run("start", "--ready", "notify", "redis", "--", redis, "--supervised", "systemd", "--port", "0", "--unixsocket", socket, "--save", "", "--dir", filepath.Dir(c.dir)).want(t, 0, "")
		if r := filesRunCmd(t, exec.Command(cli, "-s", socket, "ping")); r.stdout != "PONG\n" {
			t.Fatalf("redis is ready, but: %v", r)
		}
		c.run("stop", "redis").want(t, 0, "")
	}
}

func TestExec(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	cmd := c.command("--exec", "job", "--", "sleep", "600")
	background(t, cmd)
	eventually(t, "it became the command", func() bool { return detLook(t, cmd.Process.Pid).comm == "sleep" })
	if pid := c.pid("job"); pid != cmd.Process.Pid {
		t.Errorf("the file names %d; want %d", pid, cmd.Process.Pid)
	}
	c.run("job", "--", "true").want(t, 75, fmt.Sprintf("held by process %d (sleep 600)", cmd.Process.Pid))
	c.run("stop", "job").want(t, 0, "")
	c.run("--exec", "job", "--", "sh", "-c", "exit 4").want(t, 4, "")
	c.run("--exec", "job", "--", "no-such-command").want(t, 127, "not found in PATH")
	c.run("--exec", "job", "--", "/").want(t, 126, "can't execute /")
	c.run("--exec", "--restart", "always", "job", "--", "true").want(t, 64, "with --exec nobody is left for --restart")
	c.run("--exec", "--log", "x", "job", "--", "true").want(t, 64, "--log is for start")
}

// A daemon without a supervisor: the started process is the command, and what stop,
// status and signal know comes from the lock alone.
func TestStartExec(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	log := filepath.Join(t.TempDir(), "log")
	c.run("start", "--exec", "--log", log, "web", "--", "sh", "-c", "echo up; exec sleep 600").want(t, 0, "")
	pid := c.pid("web")
	eventually(t, "it is the command", func() bool { return detLook(t, pid).comm == "sleep" })
	look := detLook(t, pid)
	if look.session == pid || look.session == detLook(t, os.Getpid()).session || look.tty != 0 || filesContent(log) != "up\n" {
		t.Errorf("%+v, log %q; want a session of its own that it does not lead", look, filesContent(log))
	}
	if holders, err := lock.Holders(filepath.Join(c.dir, "web.pid")); err != nil || len(holders) != 1 || holders[0].PID != pid {
		t.Errorf("holders %v, %v; want the command alone", holders, err)
	}
	c.run("start", "--exec", "web", "--", "true").want(t, 75, fmt.Sprintf("held by process %d (sleep 600)", pid))
	c.run("status", "web").want(t, 0, "")
	c.run("stop", "web").want(t, 0, "")
	// What can't be executed is known on the terminal, and leaves no PID there.
	c.run("start", "--exec", "web", "--", "no-such-command").want(t, 127, "no-such-command: not found in PATH")
	c.run("start", "--exec", "web", "--", "/etc/passwd").want(t, 126, "can't execute /etc/passwd: permission denied")
	c.run("start", "--exec", "--chdir", "/no/such", "web", "--", "true").want(t, 71, "/no/such")
	c.run("status", "web").want(t, 3, "")
	for flag, value := range map[string]string{"--ready": "notify", "--log": "syslog:daemon.info", "--max-time": "1", "--on-exit": "true"} {
		c.run("start", "--exec", flag, value, "web", "--", "true").want(t, 64, "with --exec nobody is left for "+flag)
	}
	// The execution, not the process: while it waits for the lock, start waits.
	_, holder := c.held("web")
	start := c.command("start", "--exec", "-w", "web", "--", "sleep", "600")
	background(t, start)
	eventually(t, "it waits", func() bool {
		return slices.ContainsFunc(detProcesses(c.dir), func(pid int) bool { return detBlockedOn(filepath.Join(c.dir, "web.pid"), pid) })
	})
	filesMust(t, syscall.Kill(holder, syscall.SIGTERM))
	filesMust(t, start.Wait())
	c.run("stop", "--must-run", "web").want(t, 0, "")
}

func TestSecondPIDFile(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	dir := t.TempDir()
	cmd := c.command("start", "--pidfile", "other.pid", "web", "--", "sleep", "600")
	cmd.Dir = dir
	filesRunCmd(t, cmd).want(t, 0, "")
	other := filepath.Join(dir, "other.pid")
	if pid := pidIn(t, other); pid != c.pid("web") {
		t.Errorf("%d and %d", pid, c.pid("web"))
	}
	c.run("restart", "web").want(t, 0, "")
	if pid := pidIn(t, other); pid != c.pid("web") {
		t.Errorf("after restart: %d and %d", pid, c.pid("web"))
	}
	c.run("--pidfile", other, "x", "--", "true").want(t, 75, other+": held by process ")
	c.run("stop", "web").want(t, 0, "")
	if exists(other) {
		t.Error("it is left")
	}
	filesWrite(t, other, "hello", 0o600)
	c.run("--pidfile", other, "x", "--", "true").want(t, 73, "not a PID file")
	if filesContent(other) != "hello" {
		t.Error("it was written")
	}
}

// A command that puts itself into the background is not under the lock any more,
// and that is said where somebody reads it.
func TestHintAtWhatIsLeftBehind(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	dir := t.TempDir()
	log, child := filepath.Join(dir, "log"), filepath.Join(dir, "child")
	// It ends when the child has executed sleep: the shell is another one to name.
	script := `sleep 600 </dev/null >/dev/null 2>&1 & until read name </proc/$!/comm && [ "$name" = sleep ]; do :; done; echo $! >"$1"`
	end := func() (pid int) {
		pid = pidIn(t, child)
		syscall.Kill(pid, syscall.SIGKILL)
		eventually(t, "the child's end", func() bool { return !alive(pid) }) // with --hold tree it has the lock until then
		filesMust(t, os.Remove(child))
		return pid
	}
	c.run("start", "--log", log, "web", "--", "sh", "-c", script, "sh", child).want(t, 0, "")
	eventually(t, "ended", func() bool { return c.run("status", "web").status == 3 })
	pid := end()
	want := fmt.Sprintf("lockrun: web: the command ended and left process %d (sleep 600) behind, without the lock; let it stay in the foreground, or use --hold tree\n", pid)
	if got := filesContent(log); got != want {
		t.Errorf("log %q; want %q", got, want)
	}
	// Not without a terminal, nor of a command that fails, or holds it all the same.
	c.run("web", "--", "sh", "-c", script, "sh", child).want(t, 0, "")
	end()
	x := ttyShell(t)
	for flags, hints := range map[string]bool{"": true, "--hold tree": false} {
		for _, then := range []string{"exit 0", "exit 1"} {
			x.line("lockrun %s ./lock -- sh -c '%s; %s' sh %s", flags, script, then, child)
			x.atPrompt()
			pid := end()
			x.line("echo ov''er %d", pid)
			x.shows(fmt.Sprintf("over %d", pid)) // maybe behind the prompt
			hint := strings.Contains(strings.Join(x.screen(), "\n"), fmt.Sprintf("left process %d (sleep 600) behind", pid))
			if hint != (hints && then == "exit 0") {
				t.Errorf("flags %q, %s: hint %v", flags, then, hint)
			}
		}
	}
}
