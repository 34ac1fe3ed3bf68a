//go:build linux

package integration_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// These tests take their goroutine's thread into namespaces of its own: what it
// mounts only it and the processes that it starts see, and its processes have
// PIDs of their own. The thread is never unlocked, so it ends with the test, and
// with it the namespaces. (Subtests run elsewhere: each goes for itself.)

func init() {
	helpers["ns-init"] = nsInit
	helpers["ns-reaper"] = nsReaper
}

// nsOwnMounts gives this goroutine a mount namespace.
func nsOwnMounts(t *testing.T) {
	t.Helper()
	needRoot(t)
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		missing(t, "unshare: %v", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatalf("make mounts private: %v", err)
	}
}

// nsTmpfs mounts a file system; call nsOwnMounts before.
func nsTmpfs(t *testing.T, dir, options string) {
	t.Helper()
	if err := unix.Mount("lockrun-test", dir, "tmpfs", 0, options); err != nil {
		t.Fatalf("mount %s: %v", dir, err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

// nsFullTmpfs mounts a file system on which files can be created, and nothing
// can be written.
func nsFullTmpfs(t *testing.T, dir string) {
	t.Helper()
	nsTmpfs(t, dir, "mode=755,size=4k")
	filesWrite(t, filepath.Join(dir, "fill"), strings.Repeat("x", os.Getpagesize()), 0o600)
	if err := os.WriteFile(filepath.Join(dir, "more"), []byte("x"), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Skipf("the file system is not full: %v", err)
	}
	filesMust(t, os.Remove(filepath.Join(dir, "more")))
}

// nsInit is "unshare --mount-proc" after the fork: it makes /proc that of this
// PID namespace and becomes another program.
func nsInit(argv []string) int {
	os.Unsetenv(helperVariable)
	err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if err == nil {
		var path string
		if path, err = exec.LookPath(argv[0]); err == nil {
			err = syscall.Exec(path, argv, os.Environ())
		}
	}
	fmt.Fprintln(os.Stderr, "ns-init:", err)
	return 1
}

// nsReaper is nsInit for a program that does not reap: SIGCHLD is ignored, which
// the next program inherits and which makes the kernel do it.
func nsReaper(argv []string) int {
	signal.Ignore(syscall.SIGCHLD)
	return nsInit(argv)
}

// nsOwnPIDs gives this goroutine a PID namespace whose PID 1 is argv. From then
// on /proc, and every PID that is read from a file, are those of the namespace;
// those of exec.Cmd are not.
func nsOwnPIDs(t *testing.T, argv ...string) *exec.Cmd {
	t.Helper()
	return nsOwnPIDsUnder(t, "ns-init", argv...)
}

func nsOwnPIDsUnder(t *testing.T, name string, argv ...string) *exec.Cmd {
	t.Helper()
	nsOwnMounts(t)
	if err := unix.Unshare(unix.CLONE_NEWPID); err != nil {
		missing(t, "unshare: %v", err)
	}
	init := helper(t, name, argv...)
	init.Stderr = os.Stderr
	filesMust(t, init.Start())
	// With PID 1 all others go.
	t.Cleanup(func() {
		init.Process.Kill()
		init.Wait()
	})
	eventually(t, "a /proc that this thread is not in", func() bool {
		_, err := os.Stat("/proc/self")
		return errors.Is(err, fs.ErrNotExist)
	})
	return init
}

// nsKill sends a signal to a process of the namespace. If PID 1 ends of it, so
// does at once who sent it.
func nsKill(t *testing.T, signal string, pid int) {
	t.Helper()
	r := filesRunCmd(t, filesCommand(t, "sh", "-c", fmt.Sprintf("kill -%s %d", signal, pid)))
	if r.status != 0 && r.status != 128+9 {
		t.Fatalf("kill -%s %d: %v", signal, pid, r)
	}
}

// nsField returns a field of /proc/PID/stat, which are counted from 3 on: the
// state, then the parent. It is "" if there is no such process.
func nsField(pid, n int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	return strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))[n-3]
}

func nsState(pid int) string { return nsField(pid, 3) }

func nsParent(pid int) int {
	parent, _ := strconv.Atoi(nsField(pid, 4))
	return parent
}

// In a container whose PID 1 does not reap, the dead keep their PIDs for ever.
func TestZombiesDoNotRun(t *testing.T) {
	t.Parallel()
	nsOwnPIDs(t, "sleep", "600")
	l := filepath.Join(t.TempDir(), "L")
	start := func() (supervisor, command int) {
		t.Helper()
		filesRun(t, "start", l, "--", "sleep", "600").want(t, 0, "")
		command = pidIn(t, l)
		return nsParent(command), command
	}
	zombie := func(pid int) {
		t.Helper()
		// Its first thread is one while others still end, and hold the lock.
		eventually(t, fmt.Sprintf("process %d is a zombie", pid), func() bool {
			threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
			return nsState(pid) == "Z" && len(threads) == 1
		})
	}
	status := func(status int, says string) {
		t.Helper()
		if r := filesRun(t, "status", l); r.status != status || !strings.Contains(r.stdout, says) {
			t.Errorf("status: %v; want %d, %s", r, status, says)
		}
	}

	// Both are dead.
	supervisor, command := start()
	if supervisor <= 1 || nsState(command) == "Z" {
		t.Fatalf("supervisor %d, command %d", supervisor, command)
	}
	nsKill(t, "KILL", supervisor)
	zombie(supervisor)
	nsKill(t, "KILL", command)
	zombie(command)
	status(1, "stale: not running")
	filesRun(t, "stop", l).want(t, 0, "not running")
	filesRun(t, l, "--", "true").want(t, 0, "")

	// The supervisor is dead, the command lives, and is locked: promise 3.
	supervisor, command = start()
	nsKill(t, "KILL", supervisor)
	zombie(supervisor)
	status(0, fmt.Sprintf("running, held by process %d ", command))
	filesRun(t, l, "--", "true").want(t, 75, fmt.Sprintf("held by process %d ", command))
	// Nobody reaps the command when it ends, and stop returns all the same.
	filesRun(t, "stop", l).want(t, 0, "")
	zombie(command)
	filesRun(t, l, "--", "true").want(t, 0, "")

	// The command is dead, and its supervisor is stopped and can't reap it.
	supervisor, command = start()
	nsKill(t, "STOP", supervisor)
	eventually(t, "stopped", func() bool { return nsState(supervisor) == "T" })
	nsKill(t, "KILL", command)
	zombie(command)
	status(4, fmt.Sprintf("held by process %d ", supervisor))
	filesRun(t, l, "--", "true").want(t, 75, fmt.Sprintf("held by process %d ", supervisor))
	filesRun(t, "stop", l).want(t, 0, "")
	filesRun(t, l, "--", "true").want(t, 0, "")
}

// Promise 5, with the case that it is about: the PID in the file is a living
// process's, which is another one.
func TestRecycledPID(t *testing.T) {
	t.Parallel()
	nsOwnPIDsUnder(t, "ns-reaper", "sleep", "600")
	const next = "/proc/sys/kernel/ns_last_pid"
	if !exists(next) {
		missing(t, "no %s", next)
	}
	l := filepath.Join(t.TempDir(), "L")
	filesRun(t, "start", l, "--", "sleep", "600").want(t, 0, "")
	command := pidIn(t, l)
	supervisor := nsParent(command)
	nsKill(t, "KILL", supervisor)
	nsKill(t, "KILL", command)
	eventually(t, "both are gone", func() bool { return nsState(command) == "" && nsState(supervisor) == "" })

	// The number is free a moment after /proc has lost the process. (The file
	// counts for the namespace of who writes.)
	var unhurt func()
	eventually(t, "a stranger with the PID", func() bool {
		filesRunCmd(t, filesCommand(t, "sh", "-c", fmt.Sprintf("echo %d > %s", command-1, next))).want(t, 0, "")
		var stranger int
		if stranger, unhurt = filesStartStranger(t); stranger == command {
			return true
		}
		unhurt()
		return false
	})
	if r := filesRun(t, "status", l); r.status != 1 || !strings.Contains(r.stdout, fmt.Sprintf("stale: not running, process %d ", command)) {
		t.Errorf("status: %v; want 1, stale", r)
	}
	filesRun(t, "stop", l).want(t, 0, "not running")
	filesRun(t, l, "--", "true").want(t, 0, "")
	unhurt()
}

// The PIDs of a container mean others outside.
func TestPIDOfAnotherNamespace(t *testing.T) {
	t.Parallel()
	needRoot(t)
	l := filepath.Join(t.TempDir(), "L")
	inside := make(chan int)
	over := make(chan struct{})
	t.Run("inside", func(t *testing.T) {
		t.Parallel()
		defer close(inside)
		nsOwnPIDs(t, "sleep", "600")
		filesRun(t, "start", l, "--", "sleep", "600").want(t, 0, "")
		inside <- pidIn(t, l)
		<-over
		if r := filesRun(t, "status", l); r.status != 3 {
			t.Errorf("status inside, after stop outside: %v; want 3", r)
		}
	})
	t.Run("outside", func(t *testing.T) {
		t.Parallel()
		defer close(over)
		pid, ok := <-inside
		if !ok {
			t.Skip("no PID namespace")
		}
		r := filesRun(t, l, "--", "true")
		r.want(t, 75, "held by process ")
		if strings.Contains(r.stderr, fmt.Sprintf("held by process %d ", pid)) {
			t.Errorf("%q names process %d, which is another one here", r.stderr, pid)
		}
		if r := filesRun(t, "status", l); r.status != 0 || strings.Contains(r.stdout, fmt.Sprintf("held by process %d ", pid)) {
			t.Errorf("status: %v; want running, and not process %d as the holder", r, pid)
		}
		filesRun(t, "stop", l).want(t, 0, "")
		filesRun(t, l, "--", "true").want(t, 0, "")
	})
}

// From inside a container a holder outside can't be seen.
func TestHolderOutsideOfTheNamespace(t *testing.T) {
	t.Parallel()
	needRoot(t)
	l := filepath.Join(t.TempDir(), "L")
	_, command := filesHeld(t, l)
	eventually(t, "recorded", func() bool { return filesContent(l) == fmt.Sprintln(command) })
	before := filesSnap(t, l)
	t.Run("inside", func(t *testing.T) {
		nsOwnPIDs(t, "sleep", "600")
		filesRun(t, l, "--", "true").want(t, 75, "a process that can't be seen from here")
		r := filesRun(t, "status", l)
		if r.status != 0 && r.status != 4 || strings.Contains(r.stdout, "stale") {
			t.Errorf("status: %v; want running or unknown", r)
		}
		filesRun(t, "stop", l).want(t, 77, "can't be verified")
	})
	filesSame(t, "lockrun inside", before, filesSnap(t, l))
}

// Lockrun as the entrypoint of a container.
func TestAsPID1(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, script string
		signal       syscall.Signal
		status       int
	}{
		{"dies of TERM", "exec sleep 600", syscall.SIGTERM, 128 + 15},
		// No signal of its own can kill PID 1.
		{"dies of INT", "exec sleep 600", syscall.SIGINT, 128 + 2},
		{"catches TERM", "trap 'exit 7' TERM; while :; do sleep 0.02; done", syscall.SIGTERM, 7},
		{"catches HUP", "trap 'exit 8' HUP; while :; do sleep 0.02; done", syscall.SIGHUP, 8},
		{"KILL", "exec sleep 600", syscall.SIGKILL, 128 + 9},
		{"ends by itself", `sleep 0.2; exit 9`, 0, 9},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			l := filepath.Join(dir, "L")
			// The trap is set when the word "up" is there; its name says that
			// the file is closed.
			script := strings.Replace(c.script, "; ", `; mkdir "$1"; `, 1)
			if script == c.script {
				script = `mkdir "$1"; ` + script
			}
			init := nsOwnPIDs(t, lockrun, l, "--", "sh", "-c", script, "sh", dir+"/up")
			eventually(t, "up", func() bool { return exists(dir + "/up") })
			if c.signal != 0 {
				var pid int
				eventually(t, "the command's PID", func() bool { pid = pidIn(t, l); return pid != 1 })
				if c.signal == syscall.SIGKILL {
					nsKill(t, "KILL", pid)
				} else {
					filesMust(t, init.Process.Signal(c.signal))
				}
			}
			state := nsWait(t, init)
			if ws := state.Sys().(syscall.WaitStatus); !ws.Exited() || ws.ExitStatus() != c.status {
				t.Errorf("%v; want exit status %d", state, c.status)
			}
			if got := filesContent(l); got != "" {
				t.Errorf("the file holds %q", got)
			}
		})
	}
}

// nsWait waits for the end of PID 1.
func nsWait(t *testing.T, init *exec.Cmd) *os.ProcessState {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		init.Wait()
	}()
	eventually(t, "ended", func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	})
	return init.ProcessState
}

// What the command's children leave behind, PID 1 reaps.
func TestPID1ReapsOrphans(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := filepath.Join(dir, "L")
	// Each subshell ends at once and leaves a child, which writes its PID and
	// ends when it is told to.
	script := `for i in 1 2 3 4 5 6 7 8; do
			(sh -c 'echo $$ > "$1/new.$2"; mv "$1/new.$2" "$1/orphan.$2"; while [ ! -e "$1/end" ]; do sleep 0.02; done' sh "$1" $i &)
		done
		exec sleep 600`
	init := nsOwnPIDs(t, lockrun, l, "--", "sh", "-c", script, "sh", dir)
	var orphans []int
	for i := range 8 {
		pid := pidIn(t, fmt.Sprintf("%s/orphan.%d", dir, i+1))
		eventually(t, "an orphan", func() bool { return nsParent(pid) == 1 })
		orphans = append(orphans, pid)
	}
	filesWrite(t, dir+"/end", "", 0o600)
	for _, pid := range orphans {
		eventually(t, fmt.Sprintf("orphan %d is reaped", pid), func() bool { return nsState(pid) == "" })
	}
	command := pidIn(t, l)
	if nsState(command) != "S" {
		t.Errorf("the command is %q; want it to sleep", nsState(command))
	}
	entries, err := os.ReadDir("/proc")
	filesMust(t, err)
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil && nsState(pid) == "Z" {
			t.Errorf("process %d is a zombie", pid)
		}
	}
	filesMust(t, init.Process.Signal(syscall.SIGTERM))
	if ws := nsWait(t, init).Sys().(syscall.WaitStatus); ws.ExitStatus() != 128+15 {
		t.Errorf("exit status %d; want 143", ws.ExitStatus())
	}
}

// So it does while no command runs, in the pause of --restart.
func TestPID1ReapsOrphansInThePause(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := filepath.Join(dir, "L")
	// The first run leaves a child behind, which ends when it is told to. The pause
	// after the fifth is 1.6 s.
	script := `echo run >>"$1/runs"
		[ -e "$1/orphan" ] || (sh -c 'echo $$ >"$1/new"; mv "$1/new" "$1/orphan"; while [ ! -e "$1/end" ]; do sleep 0.02; done' sh "$1" &)
		exit 1`
	init := nsOwnPIDs(t, lockrun, "--restart", "always", l, "--", "sh", "-c", script, "sh", dir)
	runs := func() int { return strings.Count(filesContent(dir+"/runs"), "\n") }
	eventually(t, "the fifth run has ended", func() bool { return runs() == 5 && pidIn(t, l) == 1 })
	orphan := pidIn(t, dir+"/orphan")
	if nsParent(orphan) != 1 {
		t.Fatalf("process %d is not left to PID 1", orphan)
	}
	filesWrite(t, dir+"/end", "", 0o600)
	eventually(t, "it is reaped", func() bool { return nsState(orphan) == "" })
	if runs() != 5 {
		t.Error("it was reaped when the pause was over")
	}
	filesMust(t, init.Process.Signal(syscall.SIGTERM))
	if ws := nsWait(t, init).Sys().(syscall.WaitStatus); ws.ExitStatus() != 128+15 {
		t.Errorf("exit status %d; want 143", ws.ExitStatus())
	}
}
