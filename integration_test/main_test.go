//go:build linux

// Package integration_test runs lockrun, and programs that use the library, as
// real processes: under real kernels' locks, on real terminals, beside real
// servers.
//
// Tests that count on many rounds do some of them, a few with -short, and as
// many as the project promises with LOCKRUN_TEST_FULL=1, which takes about half
// an hour on two cores:
//
//	LOCKRUN_TEST_FULL=1 go test -v -timeout 2h ./integration_test
//
// With -v they say how many there were.
package integration_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lockrun is the path of the command, built for this test run.
var lockrun string

// helpers are programs that this test binary becomes when it is started with
// its name in LOCKRUN_TEST_HELPER; see helper. Each runs with the remaining
// arguments and returns its exit status.
var helpers = map[string]func(args []string) int{}

const helperVariable = "LOCKRUN_TEST_HELPER"

func TestMain(m *testing.M) {
	if name, ok := os.LookupEnv(helperVariable); ok {
		run := helpers[name]
		if run == nil {
			fmt.Fprintf(os.Stderr, "no test helper %q\n", name)
			os.Exit(2)
		}
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "lockrun-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	defer os.RemoveAll(dir)
	// Other users run it too.
	os.Chmod(dir, 0o755)
	lockrun = filepath.Join(dir, "lockrun")
	build := exec.Command("go", "build", "-o", lockrun, "github.com/lockrun/lockrun/cmd/lockrun")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 2
	}
	// A developer's settings must not reach the tests, and what they do not his
	// instances.
	os.Setenv("LOCKRUN_DIR", filepath.Join(dir, "instances"))
	os.Setenv("LOCKRUN_CONFIG", filepath.Join(dir, "config"))
	os.Unsetenv("LOCKRUN_DETACH")
	// Whatever the tests start, however detached, has this in its environment.
	os.Setenv(runVariable, dir)
	// Nor must nohup(1), or a shell that has put them into the background: what is
	// caught here has its default in what the tests start.
	for _, ignored := range []os.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if signal.Ignored(ignored) {
			signal.Notify(make(chan os.Signal, 1), ignored)
		}
	}
	status := m.Run()
	// A process may be about to exit: a supervisor frees its lock first.
	deadline := time.Now().Add(15 * time.Second)
	for len(leftBehind(dir)) > 0 && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
	for pid, command := range leftBehind(dir) {
		fmt.Fprintf(os.Stderr, "the tests left a process behind: %d %q\n", pid, command)
		syscall.Kill(pid, syscall.SIGKILL)
		status = 1
	}
	return status
}

const runVariable = "LOCKRUN_TEST_RUN"

// sized returns how many rounds a test does: with -short, as a rule, and with
// LOCKRUN_TEST_FULL=1.
func sized(short, rule, full int) int {
	switch {
	case os.Getenv("LOCKRUN_TEST_FULL") == "1":
		return full
	case testing.Short():
		return short
	}
	return rule
}

// leftBehind returns the processes, with their command lines, that this test
// run started and that are still there.
func leftBehind(dir string) map[int]string {
	left := make(map[int]string)
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		var pid int
		if _, err := fmt.Sscanf(entry.Name(), "%d", &pid); err != nil || pid == os.Getpid() {
			continue
		}
		environ, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if bytes.Contains(environ, []byte(runVariable+"="+dir+"\x00")) && alive(pid) {
			command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			left[pid] = string(command)
		}
	}
	return left
}

// helper returns a command that runs one of helpers.
func helper(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	if helpers[name] == nil {
		t.Fatalf("no test helper %q", name)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), helperVariable+"="+name)
	return cmd
}

// need skips a test without a program that it uses; in CI, where everything is
// to be installed, it fails.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		missing(t, "needs the program %s", program)
	}
	return path
}

// needRoot skips a test that only root can run. CI runs the tests as root and
// as an ordinary user.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// missing skips the test, or fails it in CI.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// result is how a command ended.
type result struct {
	status         int // 128+n if signal n killed it
	stdout, stderr string
	took           time.Duration
}

func (r result) String() string {
	return fmt.Sprintf("status %d after %v, stdout %q, stderr %q", r.status, r.took, r.stdout, r.stderr)
}

// run runs lockrun to its end.
func run(t *testing.T, args ...string) result {
	t.Helper()
	return runCmd(t, exec.Command(lockrun, args...))
}

// runCmd runs any command to its end.
func runCmd(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = 10 * time.Second
	begin := time.Now()
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	return result{statusOf(cmd.ProcessState), stdout.String(), stderr.String(), time.Since(begin)}
}

func statusOf(state *os.ProcessState) int {
	ws := state.Sys().(syscall.WaitStatus)
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

// want checks a result: its exit status, and a part of its standard error (""
// means that it must be empty).
func (r result) want(t *testing.T, status int, stderr string) {
	t.Helper()
	if r.status != status {
		t.Errorf("%v; want status %d", r, status)
	}
	if stderr == "" && r.stderr != "" || !strings.Contains(r.stderr, stderr) {
		t.Errorf("stderr %q; want %q in it", r.stderr, stderr)
	}
}

// background starts a command that gets SIGTERM, and SIGKILL if it does not
// obey, when the test ends. (A lockrun that is killed leaves its command.)
func background(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(5*time.Second, func() { cmd.Process.Kill() })
		defer kill.Stop()
		cmd.Wait()
	})
	return cmd
}

// eventually waits until a condition holds. It fails after half a minute, which
// no working program needs.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
	}
}

// exists reports whether there is a file.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// pidIn waits for a PID in a file and returns it.
func pidIn(t *testing.T, path string) int {
	t.Helper()
	var pid int
	eventually(t, "a PID in "+path, func() bool {
		content, _ := os.ReadFile(path)
		_, err := fmt.Sscanf(string(content), "%d\n", &pid)
		return err == nil && pid > 0
	})
	return pid
}

// alive reports whether a process runs; a zombie does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')'):]), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}
