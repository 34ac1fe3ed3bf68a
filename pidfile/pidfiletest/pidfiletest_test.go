//go:build linux

package pidfiletest_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/lockrun/lockrun/pidfile"
	"github.com/lockrun/lockrun/pidfile/pidfiletest"
	"golang.org/x/sys/unix"
)

// helpers are programs that this test binary becomes when it is started with
// their name in the environment.
var helpers = map[string]func(args []string) int{
	"single":    single,
	"verifying": verifying,
}

const helperVariable = "LOCKRUN_PIDFILETEST_TEST_HELPER"

func TestMain(m *testing.M) {
	if name, ok := os.LookupEnv(helperVariable); ok {
		os.Exit(helpers[name](os.Args[1:]))
	}
	os.Exit(m.Run())
}

func helper(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), helperVariable+"="+name)
	return cmd
}

// single is a service that runs once.
func single(args []string) int {
	f, err := pidfile.Hold(args[0], nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 75
	}
	defer f.Close()
	time.Sleep(time.Hour)
	return 0
}

// record is a test in which Verify may fail.
type record struct {
	testing.TB
	log, failed []string
	fatal       bool
}

func (r *record) Log(args ...any)   { r.log = append(r.log, fmt.Sprint(args...)) }
func (r *record) Error(args ...any) { r.failed = append(r.failed, fmt.Sprint(args...)) }
func (r *record) Fatal(args ...any) {
	r.Error(args...)
	r.fatal = true
	runtime.Goexit()
}
func (r *record) Fatalf(format string, args ...any) { r.Fatal(fmt.Sprintf(format, args...)) }

// verify runs Verify in a goroutine, which Fatal ends.
func (r *record) verify(cmd *exec.Cmd, opt *pidfiletest.Options) (ok bool) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		ok = pidfiletest.Verify(r, cmd, opt)
	}()
	<-done
	return ok
}

func TestVerify(t *testing.T) {
	t.Parallel()
	pid := filepath.Join(t.TempDir(), "single.pid")
	r := &record{TB: t}
	if !r.verify(helper(t, "single", pid), &pidfiletest.Options{Starts: 5, Timeout: time.Minute, Refused: new(75)}) || len(r.failed) > 0 {
		t.Errorf("it failed: %q", r.failed)
	}
	if len(r.log) != 6 || !strings.Contains(r.log[0], "5 starts at once: 1 runs, 4 refused with status 75: ") || !strings.Contains(r.log[0], "held by process") {
		t.Errorf("log: %q", r.log)
	}
	gone(t, pid)
}

func TestVerifyFails(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		script  string
		options *pidfiletest.Options
		want    string
	}{
		{`exec sleep 1000`, &pidfiletest.Options{Starts: 3, Timeout: 5 * time.Second}, "3 starts at once: 3 of 3 still run after 5s: "},
		{`echo bye`, nil, `20 starts at once: none runs: 20 ended with status 0: "bye"`},
	} {
		r := &record{TB: t}
		dir := t.TempDir()
		cmd := exec.Command("sh", "-c", test.script, dir)
		ok := r.verify(cmd, test.options)
		if ok || len(r.failed) != 1 || !strings.HasPrefix(r.failed[0], test.want) || r.fatal {
			t.Errorf("%q: %t, %q; want %q", test.script, ok, r.failed, test.want)
		}
		gone(t, dir)
	}
}

// TestVerifyWhatCantBeTried: what is wrong with the call ends the test.
func TestVerifyWhatCantBeTried(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing")
	sleep := exec.Command("sleep", "1000")
	stdin := exec.Command("sleep", "1000")
	stdin.Stdin = os.Stdin
	dir := exec.Command("sleep", "1000")
	dir.Dir = missing
	for _, test := range []struct {
		cmd     *exec.Cmd
		options *pidfiletest.Options
		want    string
	}{
		{exec.Command("no-such-command-anywhere"), nil, "not found"},
		{exec.Command(missing), nil, "exec " + missing + ": no such file"},
		{dir, nil, "no such file"},
		{stdin, nil, "only Path, Args, Env and Dir"},
		{sleep, &pidfiletest.Options{Starts: 1}, "it takes two"},
	} {
		r := &record{TB: t}
		if r.verify(test.cmd, test.options); !r.fatal || len(r.failed) != 1 || !strings.Contains(r.failed[0], test.want) {
			t.Errorf("%v: %q; want %q", test.cmd.Args, r.failed, test.want)
		}
	}
}

// TestVerifyPassesEnvAndDir: a service finds what the test prepared for it.
func TestVerifyPassesEnvAndDir(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.Command("sh", "-c", `echo "$SETTING $(pwd) $(cat) ${LOCKRUN_PIDFILETEST_VERIFIER-none}"; exit 7`)
	cmd.Env = []string{"SETTING=value", "PATH=" + os.Getenv("PATH")}
	cmd.Dir = dir
	r := &record{TB: t}
	r.verify(cmd, &pidfiletest.Options{Starts: 2})
	if want := fmt.Sprintf("2 starts at once: none runs: 2 ended with status 7: %q", "value "+dir+"  none"); len(r.failed) != 1 || r.failed[0] != want {
		t.Errorf("%q, want %q", r.failed, want)
	}
}

// TestVerifyDoesNotTakeOthersChildren: the rest of the test binary starts
// programs, and waits for them, as ever; no orphan comes to it.
func TestVerifyDoesNotTakeOthersChildren(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	done := make(chan struct{})
	all.Go(func() {
		defer close(done)
		pid := filepath.Join(t.TempDir(), "single.pid")
		pidfiletest.Verify(t, helper(t, "single", pid), &pidfiletest.Options{Starts: 5, Timeout: time.Minute})
	})
	for n := 0; ; n++ {
		var exit *exec.ExitError
		if err := exec.Command("sh", "-c", "exit 3").Run(); !errors.As(err, &exit) || exit.ExitCode() != 3 {
			t.Errorf("exit 3 = %v", err)
		}
		var subreaper int32
		if err := unix.Prctl(unix.PR_GET_CHILD_SUBREAPER, uintptr(unsafe.Pointer(&subreaper)), 0, 0, 0); err != nil || subreaper != 0 {
			t.Errorf("subreaper %d, %v", subreaper, err)
		}
		select {
		case <-done:
			all.Wait()
			return
		default:
		}
	}
}

// verifying is a test that runs for long.
func verifying(args []string) int {
	t := &record{TB: new(testing.T)}
	t.verify(exec.Command("sh", "-c", `MARK=$1 setsid sleep 1000 & MARK=$1 exec sleep 1000`, "sh", args[0]),
		&pidfiletest.Options{Starts: 3, Timeout: time.Hour})
	return 0
}

// TestKilledTestLeavesNothing: what a test has started, however detached, goes
// when the test binary is killed, as go test does when the time is over.
func TestKilledTestLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := helper(t, "verifying", dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all run", func() bool { return len(processes(dir)) == 1+2*3 }) // and the helper
	cmd.Process.Kill()
	cmd.Wait()
	gone(t, dir)
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
	}
}

// gone checks that no process with that word is left, and leaves none.
func gone(t *testing.T, word string) {
	t.Helper()
	t.Cleanup(func() {
		for _, pid := range processes(word) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	eventually(t, "no process with "+word, func() bool { return len(processes(word)) == 0 })
}

// processes returns those that have the word in their command line or
// environment.
func processes(word string) (pids []int) {
	dirs, _ := fs.Glob(os.DirFS("/proc"), "[0-9]*")
	for _, dir := range dirs {
		words, _ := os.ReadFile("/proc/" + dir + "/cmdline")
		settings, _ := os.ReadFile("/proc/" + dir + "/environ")
		pid, err := strconv.Atoi(dir)
		if err == nil && bytes.Contains(append(words, settings...), []byte(word)) {
			pids = append(pids, pid)
		}
	}
	return pids
}
