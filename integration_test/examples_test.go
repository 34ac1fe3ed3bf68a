//go:build linux

package integration_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// exBuild builds an example program, once, and returns its path.
func exBuild(t *testing.T, name string) string {
	t.Helper()
	exBuilds.Do(func() {
		build := exec.Command("go", "build", "-o", filepath.Dir(lockrun)+"/", "github.com/lockrun/lockrun/examples/...")
		if out, err := build.CombinedOutput(); err != nil {
			exBuildError = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if exBuildError != nil {
		t.Fatal(exBuildError)
	}
	return filepath.Join(filepath.Dir(lockrun), name)
}

var (
	exBuilds     sync.Once
	exBuildError error
)

// exSingle starts the example and waits until it works: from then on a signal
// makes it clean up.
func exSingle(t *testing.T, path string, prefix ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	argv := append(prefix, exBuild(t, "single"), "-pidfile", path)
	cmd := exec.Command(argv[0], argv[1:]...)
	stderr := new(bytes.Buffer)
	cmd.Stderr = stderr
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Stdout = w
	background(t, cmd)
	w.Close()
	r.SetReadDeadline(time.Now().Add(30 * time.Second))
	line := make([]byte, 100)
	if n, err := r.Read(line); string(line[:n]) != "single: working\n" {
		t.Fatalf("stdout %q, %v", line[:n], err)
	}
	if pid := detRead(t, path); pid != cmd.Process.Pid {
		t.Fatalf("PID file names process %d; want %d", pid, cmd.Process.Pid)
	}
	return cmd, stderr
}

func TestExampleSingle(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "single.pid")
	cmd, _ := exSingle(t, path)
	second := runCmd(t, exec.Command(exBuild(t, "single"), "-pidfile", path))
	second.want(t, 1, fmt.Sprintf("single: lock %s: held by process %d (", path, cmd.Process.Pid))
	detHeld(t, path, cmd.Process.Pid)
	run(t, "status", path).want(t, 0, "")
	run(t, "stop", path).want(t, 0, "")
	if exists(path) {
		t.Error("the PID file is still there")
	}
	// main returns.
	runCmd(t, exec.Command(exBuild(t, "single"), "-pidfile", path, "-work", "1ms")).want(t, 0, "")
	if exists(path) {
		t.Error("the PID file is still there")
	}
}

// TestExampleSingleSignals: the PID file goes away, and the parent sees which
// signal it was. (A Go program left to itself exits with 2 on SIGQUIT, and
// dumps its goroutines.)
func TestExampleSingleSignals(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGKILL} {
		t.Run(unix.SignalName(sig), func(t *testing.T) {
			t.Parallel()
			if detOurIgnored(t)&detBits(sig) != 0 {
				t.Skip("ignored when the tests were started")
			}
			path := filepath.Join(t.TempDir(), "single.pid")
			cmd, stderr := exSingle(t, path)
			cmd.Process.Signal(sig)
			cmd.Wait()
			if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != sig {
				t.Errorf("ended with %v; want death by %v", cmd.ProcessState, sig)
			}
			if stderr.Len() > 0 {
				t.Errorf("stderr: %s; want silence", stderr)
			}
			if left := exists(path); left != (sig == syscall.SIGKILL) {
				t.Errorf("PID file is there: %t", left)
			}
			// Whatever was left: the next one starts.
			exSingle(t, path)
		})
	}
}

func TestExampleSinglePanics(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "single.pid")
	r := runCmd(t, exec.Command(exBuild(t, "single"), "-pidfile", path, "-panic"))
	r.want(t, 2, "panic: this is a test\n")
	r.want(t, 2, "main.go:")
	if exists(path) {
		t.Error("the PID file is still there")
	}
}

// TestExampleSingleNohup: what was ignored when the program started stays so.
func TestExampleSingleNohup(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "single.pid")
	cmd, _ := exSingle(t, path, "/bin/sh", "-c", `trap '' HUP; exec "$@"`, "sh")
	if ignored := detLook(t, cmd.Process.Pid).ignored; ignored&detBits(syscall.SIGHUP) == 0 {
		t.Errorf("ignored signals %x; want SIGHUP among them", ignored)
	}
	cmd.Process.Signal(syscall.SIGHUP)
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait()
	if got := statusOf(cmd.ProcessState); got != 128+int(syscall.SIGTERM) {
		t.Errorf("ended with %d; want death by SIGTERM, not by SIGHUP", got)
	}
	if exists(path) {
		t.Error("the PID file is still there")
	}
}

func TestExampleDaemon(t *testing.T) {
	t.Parallel()
	dir := detDaemonDir(t)
	path, log := filepath.Join(dir, "daemon.pid"), filepath.Join(dir, "daemon.log")
	daemon := func() result {
		return runCmd(t, exec.Command(exBuild(t, "daemon"), "-pidfile", path, "-log", log))
	}
	for i, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL, syscall.SIGQUIT} {
		daemon().want(t, 0, "")
		pid := detRead(t, path)
		detHeld(t, path, pid)
		detAdopter(t, pid)
		if r := run(t, "status", path); r.status != 0 || !strings.Contains(r.stdout, fmt.Sprintf("running, held by process %d (", pid)) {
			t.Errorf("status: %v", r)
		}
		daemon().want(t, 1, fmt.Sprintf("daemon: lock %s: held by process %d (", path, pid))
		eventually(t, "its line in the log", func() bool {
			content, _ := os.ReadFile(log)
			return bytes.Count(content, []byte(" still here\n")) == i+1
		})
		syscall.Kill(pid, sig)
		detGone(t, dir)
		if left := exists(path); left != (sig == syscall.SIGKILL) {
			t.Errorf("after %v the PID file is there: %t", sig, left)
		}
	}
	if content, _ := os.ReadFile(log); bytes.Contains(content, []byte("goroutine")) {
		t.Errorf("log:\n%s\nwant no trace", content)
	}
}

func TestExampleDaemonPanics(t *testing.T) {
	t.Parallel()
	dir := detDaemonDir(t)
	path, log := filepath.Join(dir, "daemon.pid"), filepath.Join(dir, "daemon.log")
	// It was up, and that is what the terminal is told.
	runCmd(t, exec.Command(exBuild(t, "daemon"), "-pidfile", path, "-log", log, "-panic")).want(t, 0, "")
	detGone(t, dir)
	if content, _ := os.ReadFile(log); !bytes.Contains(content, []byte("panic: this is a test\n")) || !bytes.Contains(content, []byte("main.go:")) {
		t.Errorf("log:\n%s\nwant the trace", content)
	}
	if exists(path) {
		t.Error("the PID file is still there")
	}
}
