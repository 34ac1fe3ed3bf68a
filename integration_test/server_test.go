//go:build linux

package integration_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// srvEnv is a directory for a server and for the instances of lockrun. Its name
// is short, since the name of a socket may have 107 bytes only.
type srvEnv struct {
	t   *testing.T
	dir string
}

func srvNew(t *testing.T) *srvEnv {
	t.Helper()
	dir, err := os.MkdirTemp("", "srv")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ttyEnd(t, "LOCKRUN_DIR="+dir+"/instances")
		// Redis writes its title over its environment, so it is not among
		// those; its working directory tells.
		links, _ := filepath.Glob("/proc/[0-9]*/cwd")
		for _, link := range links {
			if cwd, _ := os.Readlink(link); cwd == dir {
				pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link)))
				t.Errorf("left behind: process %d in %s", pid, dir)
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		os.RemoveAll(dir)
	})
	return &srvEnv{t, dir}
}

func (e *srvEnv) path(name string) string { return filepath.Join(e.dir, name) }

// lockrun is the command lockrun in that directory.
func (e *srvEnv) lockrun(args ...string) *exec.Cmd {
	cmd := exec.Command(lockrun, args...)
	cmd.Dir = e.dir
	cmd.Env = append(os.Environ(), "LOCKRUN_DIR="+e.path("instances"))
	return cmd
}

func (e *srvEnv) run(args ...string) result {
	e.t.Helper()
	// What should have been refused, and runs, would run for ever.
	cmd := e.lockrun(args...)
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-ended:
		case <-time.After(time.Minute):
			for _, pid := range ttyWith("LOCKRUN_DIR=" + e.path("instances")) {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}()
	return runCmd(e.t, cmd)
}

// started makes sure that an instance is ended with the test.
func (e *srvEnv) started(name string) {
	e.t.Cleanup(func() { e.lockrun("stop", "-q", name).Run() })
}

// redis starts redis-server under the NAME redis, and waits until it answers.
func (e *srvEnv) redis() {
	e.t.Helper()
	e.started("redis")
	e.run(e.redisArgs()...).want(e.t, 0, "")
	eventually(e.t, "redis answers", func() bool { return e.ask("PING") == "PONG" })
}

func (e *srvEnv) redisArgs() []string {
	return []string{"start", "--log", e.path("log"), "redis", "--", "redis-server", "--port", "0",
		"--unixsocket", e.path("sock"), "--dir", e.dir, "--save", "3600 1", "--daemonize", "no"}
}

// ask asks redis; "" means that it does not answer.
func (e *srvEnv) ask(words ...string) string {
	out, err := exec.Command("redis-cli", append([]string{"-s", e.path("sock")}, words...)...).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// redisPID is the PID that redis itself tells.
func (e *srvEnv) redisPID() int {
	e.t.Helper()
	_, rest, _ := strings.Cut(e.ask("INFO", "server"), "process_id:")
	digits, _, _ := strings.Cut(rest, "\r")
	pid, err := strconv.Atoi(strings.TrimSpace(digits))
	if err != nil {
		e.t.Fatalf("redis does not tell its PID: %v", err)
	}
	return pid
}

func TestRedis(t *testing.T) {
	t.Parallel()
	need(t, "redis-server")
	need(t, "redis-cli")
	e := srvNew(t)
	e.redis()
	pid := e.redisPID()
	holder := fmt.Sprintf("held by process %d (redis-server ", pid)
	for range 2 {
		e.run(e.redisArgs()...).want(t, 75, "lockrun: redis: "+holder)
	}
	if r := e.run("status", "redis"); r.status != 0 || !strings.Contains(r.stdout, "redis: running, "+holder) {
		t.Errorf("status: %v", r)
	}
	if answer := e.ask("SET", "key", "value"); answer != "OK" {
		t.Fatalf("SET: %q", answer)
	}
	if now := e.redisPID(); now != pid {
		t.Errorf("redis is process %d by now; it was %d", now, pid)
	}

	// SIGTERM makes it save its data. When stop returns that is done.
	e.run("stop", "--must-run", "redis").want(t, 0, "")
	if !exists(e.path("dump.rdb")) {
		t.Error("redis did not save its data")
	}
	if alive(pid) {
		t.Error("redis runs on")
	}
	e.redis()
	if value := e.ask("GET", "key"); value != "value" {
		t.Errorf("GET after the restart: %q", value)
	}
	e.run("stop", "--must-run", "redis").want(t, 0, "")
	if r := e.run("status", "redis"); r.status != 3 {
		t.Errorf("status after stop: %v", r)
	}
}

func TestRedisWhoseSupervisorWasKilled(t *testing.T) {
	t.Parallel()
	need(t, "redis-server")
	need(t, "redis-cli")
	e := srvNew(t)
	e.redis()
	pid := e.redisPID()
	supervisor := ttyStatOf(pid).parent
	if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", supervisor)); string(comm) != "lockrun\n" {
		t.Fatalf("the parent of redis is %q", comm)
	}
	syscall.Kill(supervisor, syscall.SIGKILL)
	eventually(t, "the supervisor is dead", func() bool { return !alive(supervisor) })

	holder := fmt.Sprintf("held by process %d (redis-server ", pid)
	if r := e.run("status", "redis"); r.status != 0 || !strings.Contains(r.stdout, "redis: running, "+holder) {
		t.Errorf("status: %v", r)
	}
	e.run(e.redisArgs()...).want(t, 75, holder)
	if answer := e.ask("SET", "key", "orphan"); answer != "OK" {
		t.Errorf("SET: %q", answer)
	}
	e.run("stop", "--must-run", "redis").want(t, 0, "")
	eventually(t, "redis has ended", func() bool { return !alive(pid) })

	e.redis()
	if value := e.ask("GET", "key"); value != "orphan" {
		t.Errorf("GET after the restart: %q", value)
	}
	e.run("stop", "--must-run", "redis").want(t, 0, "")
}

// memcached runs in the foreground, as a container or another supervisor has it.
func TestMemcachedInTheForeground(t *testing.T) {
	t.Parallel()
	need(t, "memcached")
	e := srvNew(t)
	args := []string{"./memcached.pid", "--", "memcached", "-s", e.path("sock"), "-m", "8", "-t", "1"}
	if os.Geteuid() == 0 {
		args = append(args, "-u", "root")
	}
	memcached := func() (*exec.Cmd, int) {
		cmd := e.lockrun(args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		background(t, cmd)
		var pid int
		eventually(t, "memcached answers", func() bool {
			pid = srvMemcachedPID(e.path("sock"))
			return pid != 0
		})
		// It can answer before lockrun has come to record its PID.
		eventually(t, "memcached is recorded", func() bool { return pidIn(t, e.path("memcached.pid")) == pid })
		return cmd, pid
	}
	for range 2 {
		cmd, pid := memcached()
		if parent := ttyStatOf(pid).parent; parent != cmd.Process.Pid {
			t.Errorf("memcached's parent is %d, want lockrun %d", parent, cmd.Process.Pid)
		}
		for range 2 {
			e.run(args...).want(t, 75, fmt.Sprintf("held by process %d (memcached ", pid))
		}
		cmd.Process.Signal(syscall.SIGTERM)
		state, err := cmd.Process.Wait()
		if err != nil {
			t.Fatal(err)
		}
		if status := statusOf(state); status != 0 && status != 143 {
			t.Errorf("status %d; want memcached's own", status)
		}
		if alive(pid) {
			t.Error("memcached runs on")
		}
		if left, _ := os.ReadFile(e.path("memcached.pid")); len(left) > 0 {
			t.Errorf("%q was left in the file", left)
		}
	}
	cmd, pid := memcached()
	cmd.Process.Kill()
	cmd.Process.Wait()
	e.run(args...).want(t, 75, fmt.Sprintf("held by process %d (memcached ", pid))
	e.run("stop", "--must-run", "./memcached.pid").want(t, 0, "")
	eventually(t, "memcached has ended", func() bool { return !alive(pid) })
	memcached()
}

// srvMemcachedPID asks memcached for its PID; 0 means that it does not answer.
func srvMemcachedPID(socket string) (pid int) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return 0
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprint(conn, "stats\r\n")
	for lines := bufio.NewScanner(conn); lines.Scan() && lines.Text() != "END"; {
		fmt.Sscanf(lines.Text(), "STAT pid %d", &pid)
	}
	return pid
}

func TestStopOfACommandThatObeys(t *testing.T) {
	t.Parallel()
	e := srvNew(t)
	e.started("web")
	e.run("start", "web", "--", "sh", "-c", `trap 'echo TERM >"$0"; exit 0' TERM; while :; do sleep 0.01; done`, e.path("got")).want(t, 0, "")
	pid := pidIn(t, e.path("instances/web.pid"))
	// The trap may not be set yet: then TERM simply kills it. So wait for that.
	eventually(t, "the trap is set", func() bool { return srvCatches(pid, syscall.SIGTERM) })
	r := e.run("stop", "web")
	r.want(t, 0, "")
	if got, _ := os.ReadFile(e.path("got")); string(got) != "TERM\n" {
		t.Errorf("the command got %q, want TERM", got)
	}
	if r.took >= 10*time.Second {
		t.Errorf("stop took %v: it came to KILL", r.took)
	}
	if alive(pid) {
		t.Error("the command runs on")
	}
}

// srvCatches reports whether a process has a handler for a signal.
func srvCatches(pid int, sig syscall.Signal) bool {
	return srvSignalBit(pid, "SigCgt", sig)
}

func srvSignalBit(pid int, set string, sig syscall.Signal) bool {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(status), "\n"+set+":\t")
	mask, _, _ := strings.Cut(rest, "\n")
	bits, err := strconv.ParseUint(mask, 16, 64)
	return err == nil && bits&(1<<(sig-1)) != 0
}

// TERM, 10 s, KILL: the default schedule.
func TestStopOfACommandThatIgnoresTERM(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 10 seconds")
	}
	t.Parallel()
	e := srvNew(t)
	e.started("web")
	e.run("start", "web", "--", "sh", "-c", `trap '' TERM; touch "$0"; exec sleep 600`, e.path("up")).want(t, 0, "")
	eventually(t, "TERM is ignored", func() bool { return exists(e.path("up")) })
	pid := pidIn(t, e.path("instances/web.pid"))
	r := e.run("stop", "web")
	r.want(t, 0, "")
	if r.took < 10*time.Second {
		t.Errorf("stop took %v; want that the command has 10 s to obey", r.took)
	}
	eventually(t, "the command has ended", func() bool { return !alive(pid) })
	e.run("web", "--", "true").want(t, 0, "")
}

// A stopped command can't obey: stop continues it.
func TestStopOfAStoppedCommand(t *testing.T) {
	t.Parallel()
	e := srvNew(t)
	e.started("web")
	e.run("start", "web", "--", "sleep", "600").want(t, 0, "")
	pid := pidIn(t, e.path("instances/web.pid"))
	syscall.Kill(pid, syscall.SIGSTOP)
	ttyInState(t, "T", pid)
	r := e.run("stop", "--must-run", "web")
	r.want(t, 0, "")
	if r.took >= 10*time.Second {
		t.Errorf("stop took %v: it came to KILL", r.took)
	}
}

// After stop has returned 0, start must win, every time.
func TestStartAfterStopWins(t *testing.T) {
	rounds := 200
	if testing.Short() {
		rounds = 20
	}
	t.Parallel()
	for _, lock := range []string{"web", "./web.pid"} {
		t.Run(strings.Trim(lock, "./"), func(t *testing.T) {
			t.Parallel()
			e := srvNew(t)
			e.started(lock)
			for i := range rounds {
				if r := e.run("start", lock, "--", "sleep", "600"); r.status != 0 || r.stderr != "" {
					t.Fatalf("start %d: %v", i, r)
				}
				if r := e.run("stop", "--must-run", lock); r.status != 0 || r.stderr != "" {
					t.Fatalf("stop %d: %v", i, r)
				}
			}
		})
	}
}

// start answers for the command's execution, not for its success.
func TestStartOfACommandThatEndsAtOnce(t *testing.T) {
	t.Parallel()
	e := srvNew(t)
	for i := range 50 {
		e.run("start", "-w", "job", "--", "sh", "-c", "exit "+strconv.Itoa(i)).want(t, 0, "")
	}
	e.run("-w", "job", "--", "true").want(t, 0, "")
	if r := e.run("status", "job"); r.status != 3 || r.stdout != "job: not running\n" {
		t.Errorf("status: %v", r)
	}
}
