//go:build linux

package integration_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestWhatTheCommandLeavesBehindDoesNotKeepTheLock(t *testing.T) {
	t.Parallel()
	l := filepath.Join(t.TempDir(), "L")
	h := exclHold(t, `(read _ <&3) & echo $$ >&4; echo $! >&4`, lockrun, l, "--")
	straggler, err := strconv.Atoi(h.line(t))
	if err != nil {
		t.Fatal(err)
	}
	if status := exclEnd(t, h.Cmd).status; status != 0 {
		t.Errorf("status %d", status)
	}
	exclFree(t, l)
	if !alive(straggler) {
		t.Fatal("nothing was left behind")
	}
	h.gate.Close()
	eventually(t, "the end of the straggler", func() bool { return !alive(straggler) })
}

func TestKilledLockrunLeavesCommandLocked(t *testing.T) {
	t.Parallel()
	l := filepath.Join(t.TempDir(), "L")
	h := exclLockrun(t, exclScript, l)
	h.Process.Kill()
	exclEnd(t, h.Cmd).want(t, 137, "")
	run(t, l, "--", "true").want(t, 75, h.refusal())
	waiter := exclStart(t, exec.Command(lockrun, "-w", l, "--", "true"))
	exclAwaitWaiting(t, waiter)
	h.gate.Close()
	exclEnd(t, waiter).want(t, 0, "")
	exclFree(t, l)
}

func TestTermEndsTheCommandAndFreesTheLock(t *testing.T) {
	t.Parallel()
	for script, status := range map[string]int{
		"trap - TERM; kill -TERM $$": 143,
		"exit 5":                     5,
	} {
		l := filepath.Join(t.TempDir(), "L")
		h := exclLockrun(t, fmt.Sprintf(exclTrapper, script), l)
		h.Process.Signal(syscall.SIGTERM)
		if got := h.line(t); got != "TERM" {
			t.Errorf("the command got %s", got)
		}
		exclEnd(t, h.Cmd).want(t, status, "")
		exclFree(t, l)
	}
}

func TestSignalsReachTheCommand(t *testing.T) {
	t.Parallel()
	h := exclLockrun(t, fmt.Sprintf(exclTrapper, ":"), filepath.Join(t.TempDir(), "L"))
	for sig, name := range map[syscall.Signal]string{
		syscall.SIGHUP: "HUP", syscall.SIGTERM: "TERM", syscall.SIGUSR1: "USR1", syscall.SIGUSR2: "USR2",
	} {
		h.Process.Signal(sig)
		if got := h.line(t); got != name {
			t.Errorf("the command got %s, not %s", got, name)
		}
	}
	h.release(t).want(t, 0, "")
}

func TestSignalEndsAWaitingLockrun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := filepath.Join(dir, "L")
	h := exclLockrun(t, exclScript, l)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		for _, flags := range [][]string{{"-w"}, {"-t", "60"}} {
			waiter := exclStart(t, exec.Command(lockrun, append(flags, l, "--", "touch", filepath.Join(dir, "ran"))...))
			exclAwaitWaiting(t, waiter)
			waiter.Process.Signal(sig)
			exclEnd(t, waiter).want(t, 128+int(sig), "")
			if !waiter.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
				t.Errorf("%v: it exited, and did not die of the signal", sig)
			}
		}
	}
	if pid := pidIn(t, l); pid != h.pid {
		t.Errorf("the file names %d, not the holder, %d", pid, h.pid)
	}
	h.release(t).want(t, 0, "")
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 {
		t.Errorf("left in the directory: %v", entries)
	}
	exclFree(t, l)
}

// A signal that comes when the lock does ends lockrun or its command, and is not lost
// between the two.
func TestSignalAtTheEndOfAWait(t *testing.T) {
	t.Parallel()
	l := filepath.Join(t.TempDir(), "L")
	filesWrite(t, l, "", 0o600)
	for n := range sized(20, 40, 1000) {
		holder, err := unix.Open(l, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		filesMust(t, err)
		filesMust(t, unix.Flock(holder, unix.LOCK_EX))
		waiter := exclStart(t, exec.Command(lockrun, "-w", l, "--", "sleep", "600"))
		exclAwaitWaiting(t, waiter)
		filesMust(t, unix.Close(holder))
		time.Sleep(time.Duration(n%20) * 100 * time.Microsecond)
		waiter.Process.Signal(syscall.SIGTERM)
		exclEnd(t, waiter).want(t, 128+int(syscall.SIGTERM), "")
		exclFree(t, l)
	}
}

func TestExitStatusIsTheCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := filepath.Join(dir, "L")
	path := func(name string) string { return filepath.Join(dir, name) }
	exclFile(t, path("script"), "[ \"$1\" = word ] && exit 4\n", 0o755)
	exclFile(t, path("plain"), "#!/bin/sh\n", 0o644)
	exclFile(t, path("orphan"), "#!/no/such/interpreter\n", 0o755)
	for _, test := range []struct {
		args   []string
		status int
		stderr string
	}{
		{[]string{l, "--", "true"}, 0, ""},
		{[]string{l, "true"}, 0, ""},
		{[]string{l, "--", "sh", "-c", "exit 3"}, 3, ""},
		{[]string{l, "--", "sh", "-c", "exit 75"}, 75, ""},
		{[]string{"-E", "9", l, "--", "sh", "-c", "exit 75"}, 75, ""},
		{[]string{l, "--", "sh", "-c", "kill -KILL $$"}, 137, ""},
		{[]string{l, "--", "sh", "-c", "kill -TERM $$"}, 143, ""},
		{[]string{l, "--", "sh", "-c", `[ "$1" = -- ]`, "sh", "--"}, 0, ""},
		{[]string{"-c", "exit 6", l}, 6, ""},
		{[]string{l, "-c", "exit 7"}, 7, ""},
		{[]string{l, "--", path("script"), "word"}, 4, ""},
		{[]string{l, "--", "script", "word"}, 4, ""}, // by the empty element of PATH
		{[]string{l, "--", path("plain")}, 126, "can't execute"},
		{[]string{l, "--", "plain"}, 126, "can't execute plain"},
		{[]string{l, "--", dir}, 126, "can't execute"},
		{[]string{l, "--", path("orphan")}, 126, "interpreter"},
		{[]string{l, "--", path("none")}, 127, "not found"},
		{[]string{l, "--", "no-such-command"}, 127, "no-such-command: not found"},
		{[]string{l, "--", ""}, 127, "empty"},
		{[]string{l}, 64, "COMMAND is missing"},
		{[]string{l, "--"}, 64, "COMMAND is missing"},
	} {
		cmd := exec.Command(lockrun, test.args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PATH=:"+os.Getenv("PATH"))
		if r := runCmd(t, cmd); r.status != test.status || (test.stderr == "") != (r.stderr == "") || !strings.Contains(r.stderr, test.stderr) {
			t.Errorf("lockrun %q: %v; want status %d, stderr with %q", test.args, r, test.status, test.stderr)
		}
		// Whatever happened, the lock is free, and no PID is left.
		if content, err := os.ReadFile(l); len(content) > 0 || err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("lockrun %q left %q, %v", test.args, content, err)
		}
		exclFree(t, l)
	}
}

// exclFile writes a file that is to be executed. No other goroutine may fork
// meanwhile: its child would have the file open for writing for a moment, and
// the kernel refuses to execute such a file.
func exclFile(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	syscall.ForkLock.RLock()
	err := os.WriteFile(path, []byte(content), mode)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCommandInheritsTheLockAndNothingElseOfLockrun(t *testing.T) {
	t.Parallel()
	l := filepath.Join(t.TempDir(), "L")
	// cat opens nothing itself. The tests may have been started with more
	// than three descriptors; all cats get those.
	bare, under := exclCat(t, "cat"), exclCat(t, lockrun, l, "--", "cat")
	var cat int
	eventually(t, "the command's PID", func() bool { cat = pidIn(t, l); return cat != under.Process.Pid })
	passed, got := exclDescriptors(t, bare.Process.Pid), exclDescriptors(t, cat)
	if passed[3] != os.DevNull {
		t.Fatalf("descriptor 3 of a command without lockrun is %q", passed[3])
	}
	for fd, path := range passed {
		if got[fd] != path {
			t.Errorf("descriptor %d of the caller, %s, is %q", fd, path, got[fd])
		}
		delete(got, fd)
	}
	if len(got) != 1 {
		t.Errorf("the command has these descriptors of lockrun, not one: %v", got)
	}
	for fd, path := range got {
		if fd < 64 || path != l {
			t.Errorf("the command has descriptor %d, %s", fd, path)
		}
		info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", cat, fd))
		if err != nil {
			t.Fatal(err)
		}
		_, octal, _ := strings.Cut(string(info), "flags:")
		var flags int
		fmt.Sscanf(strings.TrimSpace(octal), "%o", &flags)
		if flags&syscall.O_ACCMODE != os.O_RDONLY {
			t.Errorf("the lock is open for writing: %s", info)
		}
		if !strings.Contains(string(info), "FLOCK  ADVISORY  WRITE") {
			t.Errorf("the descriptor carries no lock: %s", info)
		}
	}
}

// exclCat starts a command that is, or ends in, a cat, with a descriptor 3.
// It returns when the cat reads, and so has all that it was given and no more.
func exclCat(t *testing.T, argv ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	stdin, gate := exclPipe(t)
	output, stdout := exclPipe(t)
	passed, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer passed.Close()
	cmd.Stdin, cmd.Stdout, cmd.ExtraFiles = stdin, stdout, []*os.File{passed}
	background(t, cmd)
	t.Cleanup(func() { gate.Close() })
	gate.Write([]byte("x"))
	output.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := output.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// exclDescriptors returns what a process has open, from descriptor 3 on.
func exclDescriptors(t *testing.T, pid int) map[int]string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	open := map[int]string{}
	for _, entry := range entries {
		fd, _ := strconv.Atoi(entry.Name())
		if path, err := os.Readlink(dir + entry.Name()); err == nil && fd >= 3 {
			open[fd] = path
		}
	}
	return open
}

func TestWaitingAndSupervisingCostNothing(t *testing.T) {
	t.Parallel()
	l := filepath.Join(t.TempDir(), "L")
	h := exclLockrun(t, exclScript, l)
	names := []string{"supervising", "-w", "-t 60"}
	quiet := []*exec.Cmd{h.Cmd, exclStart(t, exec.Command(lockrun, "-w", l, "--", "true")), exclStart(t, exec.Command(lockrun, "-t", "60", l, "--", "true"))}
	for _, waiter := range quiet[1:] {
		exclAwaitWaiting(t, waiter)
	}
	before := make([]int, len(quiet))
	for i, cmd := range quiet {
		before[i] = exclTicks(t, cmd.Process.Pid)
	}
	time.Sleep(2 * time.Second)
	for i, cmd := range quiet {
		if used := exclTicks(t, cmd.Process.Pid) - before[i]; used >= 2 {
			t.Errorf("%s: %d ticks of CPU in 2 s", names[i], used)
		}
		rss := exclRSS(t, cmd.Process.Pid)
		t.Logf("%s: %d kB", names[i], rss)
		if rss > 6144 {
			t.Errorf("%s: %d kB of memory", names[i], rss)
		}
	}
	h.release(t).want(t, 0, "")
	for _, waiter := range quiet[1:] {
		exclEnd(t, waiter).want(t, 0, "")
	}
}

// exclTicks returns the CPU time of a process, in ticks of 10 ms: fields 14 and
// 15 of /proc/PID/stat (proc_pid_stat(5)).
func exclTicks(t *testing.T, pid int) int {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // from field 3 on
	user, _ := strconv.Atoi(string(fields[14-3]))
	system, _ := strconv.Atoi(string(fields[15-3]))
	return user + system
}

// exclRSS returns the resident memory of a process in kB.
func exclRSS(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	var kB int
	fmt.Sscan(rest, &kB)
	if kB == 0 {
		t.Fatalf("no VmRSS in %s", status)
	}
	return kB
}

func TestLockFileRecordsThePIDWhileTheCommandRuns(t *testing.T) {
	t.Parallel()
	for flag, after := range map[string]string{"": "empty", "--keep": "empty", "--remove": "gone"} {
		l := filepath.Join(t.TempDir(), "L")
		argv := []string{lockrun, l, "--"}
		if flag != "" {
			argv = []string{lockrun, flag, l, "--"}
		}
		h := exclHold(t, exclScript, argv...)
		eventually(t, "the command's PID, and nothing else", func() bool {
			content, _ := os.ReadFile(l)
			return string(content) == fmt.Sprintf("%d\n", h.pid)
		})
		h.release(t).want(t, 0, "")
		got := "gone"
		if content, err := os.ReadFile(l); err == nil {
			got = "empty"
			if len(content) > 0 {
				got = string(content)
			}
		}
		if got != after {
			t.Errorf("%q: the file is %s; want it %s", flag, got, after)
		}
	}
}
