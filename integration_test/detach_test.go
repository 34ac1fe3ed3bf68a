//go:build linux

package integration_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lockrun/lockrun/lock"
	"golang.org/x/sys/unix"
)

func init() {
	helpers["det-hostile"] = detHostile
	helpers["det-daemon"] = detDaemon
}

// detHostile gives a program the worst surroundings: all signals blocked, some
// ignored, umask 0, an open file as descriptors 3 and 200 (few and many are
// closed in different ways) and a locked one as 9.
//
//	FILE LOCK SIGNAL,... PROGRAM ARG...
func detHostile(args []string) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "det-hostile:", err)
		return 2
	}
	for _, s := range strings.FieldsFunc(args[2], func(r rune) bool { return r == ',' }) {
		n, err := strconv.Atoi(s)
		if err != nil {
			return fail(err)
		}
		signal.Ignore(syscall.Signal(n))
	}
	unix.Umask(0)
	for want, name := range map[int]string{3: args[0], 9: args[1], 200: args[0]} {
		fd, err := unix.Open(name, unix.O_RDWR|unix.O_CREAT, 0o600)
		if err == nil && fd != want {
			err = unix.Dup3(fd, want, 0)
			unix.CloseOnExec(fd)
		}
		if err != nil {
			return fail(err)
		}
	}
	if err := unix.Flock(9, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fail(err)
	}
	env := slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, helperVariable+"=") })
	runtime.LockOSThread()
	var all unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, nil); err != nil {
		return fail(err)
	}
	return fail(syscall.Exec(args[3], args[3:], env))
}

// detIgnored are signals that a caller may ignore and a daemon must not.
var detIgnored = []syscall.Signal{
	syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGPIPE, syscall.SIGCHLD,
	syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGALRM,
}

// detSurround is the command cmd in hostile surroundings.
func detSurround(t *testing.T, cmd *exec.Cmd, ignored ...syscall.Signal) *exec.Cmd {
	t.Helper()
	dir := t.TempDir()
	var numbers []string
	for _, s := range ignored {
		numbers = append(numbers, strconv.Itoa(int(s)))
	}
	args := []string{filepath.Join(dir, "stray"), filepath.Join(dir, "outer lock"), strings.Join(numbers, ","), cmd.Path}
	h := helper(t, "det-hostile", append(args, cmd.Args[1:]...)...)
	h.Env = append(slices.Clone(cmd.Env), helperVariable+"=det-hostile")
	h.Dir = cmd.Dir
	return h
}

// detCmd is lockrun with the instance directory dir. Whatever runs NAME there is
// stopped when the test ends.
func detCmd(dir string, args ...string) *exec.Cmd {
	cmd := exec.Command(lockrun, args...)
	cmd.Env = append(os.Environ(), "LOCKRUN_DIR="+dir)
	return cmd
}

// detDir returns an instance directory, which does not exist yet, and ends what
// runs there when the test ends.
func detDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "instances")
	t.Cleanup(func() {
		entries, _ := os.ReadDir(dir)
		for _, entry := range entries {
			name := strings.TrimSuffix(entry.Name(), ".pid")
			runCmd(t, detCmd(dir, "stop", "--quiet", name)).want(t, 0, "")
		}
		detGone(t, dir)
	})
	return dir
}

// detProcesses finds the processes that have dir in their environment or
// arguments. A test's temporary directory so finds what it started.
func detProcesses(dir string) (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		environ, _ := os.ReadFile("/proc/" + entry.Name() + "/environ")
		arguments, _ := os.ReadFile("/proc/" + entry.Name() + "/cmdline")
		if bytes.Contains(append(environ, arguments...), []byte(dir)) && alive(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func detGone(t *testing.T, dir string) {
	t.Helper()
	eventually(t, "no process of "+dir, func() bool {
		if len(detProcesses(dir)) == 0 {
			return true
		}
		time.Sleep(20 * time.Millisecond) // a search of all processes is not cheap
		return false
	})
}

func detHeld(t *testing.T, path string, pid int) {
	t.Helper()
	in, err := lock.Inspect(path)
	if err != nil || in.State != lock.Held || in.PID != pid || in.Holder.PID != pid || !in.Holder.Recorded {
		t.Errorf("Inspect(%s) = %+v, %v; want held by the recorded process %d", path, in, err, pid)
	}
}

func detFree(t *testing.T, path string) {
	t.Helper()
	if in, err := lock.Inspect(path); err != nil || in.State != lock.Free || in.PID != 0 {
		t.Errorf("Inspect(%s) = %+v, %v; want free, and no PID", path, in, err)
	}
}

// detRead reads a PID that must stand in a file already.
func detRead(t *testing.T, path string) int {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSuffix(string(content), "\n"))
	if err != nil {
		t.Fatalf("%s holds %q; want a PID", path, content)
	}
	return pid
}

// TestStartDetaches looks at a command that lockrun start has just started.
func TestStartDetaches(t *testing.T) {
	t.Parallel()
	nohup := []syscall.Signal{syscall.SIGHUP, syscall.SIGINT}
	for _, tt := range []struct {
		name    string
		log     bool
		prepare func(t *testing.T, cmd *exec.Cmd) *exec.Cmd
		ignored uint64
	}{
		{name: "plain"},
		{name: "log", log: true},
		{name: "hostile", prepare: func(t *testing.T, cmd *exec.Cmd) *exec.Cmd { return detSurround(t, cmd, detIgnored...) }},
		{name: "hostile log", log: true, prepare: func(t *testing.T, cmd *exec.Cmd) *exec.Cmd { return detSurround(t, cmd) }},
		{name: "nohup", ignored: detBits(nohup...), prepare: func(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
			return detSurround(t, cmd, append(nohup, detIgnored...)...)
		}},
		{name: "standard descriptors closed", prepare: func(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
			c := exec.Command("/bin/sh", append([]string{"-c", `exec "$@" <&- >&- 2>&-`, "sh"}, cmd.Args...)...)
			c.Env = cmd.Env
			return c
		}},
		{name: "forged marker", prepare: func(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
			cmd.Env = append(cmd.Env, "LOCKRUN_DETACH=daemon:3:1:1")
			return cmd
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := detDir(t)
			output, args := "/dev/null", []string{"start"}
			if tt.log {
				output = filepath.Join(t.TempDir(), "log")
				args = append(args, "--log", output)
			}
			cmd := detCmd(dir, append(args, "web", "--", "sleep", "600")...)
			if tt.prepare != nil {
				cmd = tt.prepare(t, cmd)
			}
			r := runCmd(t, cmd)
			r.want(t, 0, "")
			if r.stdout != "" {
				t.Errorf("stdout %q; want silence", r.stdout)
			}

			path := filepath.Join(dir, "web.pid")
			pid := detRead(t, path)
			detHeld(t, path, pid)
			ignored := detOurIgnored(t) | tt.ignored

			p := detLook(t, pid)
			if p.comm != "sleep" {
				t.Errorf("the PID file names the program %q; want sleep", p.comm)
			}
			detSurroundings(t, p, output, ignored)
			if p.group != pid {
				t.Errorf("process group %d; want one of its own, %d", p.group, pid)
			}
			if p.session != p.ppid {
				t.Errorf("session %d; want that of its parent, %d", p.session, p.ppid)
			}
			fds := detSettledDescriptors(t, pid)
			for fd, d := range fds {
				if fd > 2 && (fd < 64 || d != detDescriptor{target: path, access: unix.O_RDONLY, lock: true}) {
					t.Errorf("descriptor %d is %+v; want only the lock, read-only, from 64 on", fd, d)
				}
			}
			if len(fds) != 4 {
				t.Errorf("%d descriptors; want the standard ones and the lock", len(fds))
			}
			environ, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
			if bytes.Contains(environ, []byte("LOCKRUN_DETACH")) {
				t.Error("the marker is in the command's environment")
			}

			s := detLook(t, p.ppid)
			detSurroundings(t, s, output, ignored)
			detAdopter(t, s.pid)
			if detLink(t, s.pid, "exe") != lockrun || s.session != s.pid || s.group != s.pid {
				t.Errorf("the parent is %+v; want a lockrun that leads its session", s)
			}
			detOnly(t, s.pid, path, 1) // the control socket
			for file, want := range map[string]fs.FileMode{path: 0o600, dir: 0o700} {
				if fi, err := os.Stat(file); err != nil || fi.Mode().Perm() != want {
					t.Errorf("mode of %s: %v, %v; want %v", file, fi.Mode(), err, want)
				}
			}

			runCmd(t, detCmd(dir, "stop", "web")).want(t, 0, "")
			detFree(t, path)
			if alive(pid) {
				t.Error("the command lives after stop")
			}
			eventually(t, "supervisor gone", func() bool { return !alive(s.pid) })
		})
	}
}

// TestHostileSurroundings is a test of detHostile: do they arrive?
func TestHostileSurroundings(t *testing.T) {
	t.Parallel()
	cat := exec.Command(need(t, "cat"), "/proc/self/status")
	cat.Env = os.Environ()
	r := runCmd(t, detSurround(t, cat, syscall.SIGTSTP, syscall.SIGCHLD))
	r.want(t, 0, "")
	for _, want := range []string{"Umask:\t0000", "SigBlk:\tfffffff", fmt.Sprintf("SigIgn:\t%016x", detOurIgnored(t)|detBits(syscall.SIGTSTP, syscall.SIGCHLD))} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("%q is not in:\n%s", want, r.stdout)
		}
	}
}

// TestStopFreesForStart: when stop has returned, the next start wins.
func TestStopFreesForStart(t *testing.T) {
	t.Parallel()
	dir := detDir(t)
	for range 10 {
		runCmd(t, detCmd(dir, "start", "web", "--", "sleep", "600")).want(t, 0, "")
		runCmd(t, detCmd(dir, "stop", "web")).want(t, 0, "")
	}
	runCmd(t, detCmd(dir, "status", "web")).want(t, 3, "")
}

// TestStartOnPath: a LOCK with a slash is relative to the caller's directory,
// and so is the command.
func TestStartOnPath(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "job"), []byte("#!/bin/sh\npwd\nexec sleep 600\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	start := exec.Command(lockrun, "start", "--log", "log", "./lock", "./job")
	start.Dir = dir
	runCmd(t, start).want(t, 0, "")
	path := filepath.Join(dir, "lock")
	detHeld(t, path, detRead(t, path))
	eventually(t, "/ in the log", func() bool {
		content, _ := os.ReadFile(filepath.Join(dir, "log"))
		return string(content) == "/\n"
	})
	run(t, "stop", path).want(t, 0, "")
	if exists(path) {
		t.Error("the PID file of start PATH is still there")
	}
	detGone(t, dir)
}

// TestStartTellsTheTruth: why there is no daemon stands on the terminal, and
// nothing is left behind.
func TestStartTellsTheTruth(t *testing.T) {
	t.Parallel()
	files := t.TempDir()
	for name, mode := range map[string]fs.FileMode{"interpreter": 0o700, "plain": 0o600} {
		if err := os.WriteFile(filepath.Join(files, name), []byte("#!/nonexistent/interpreter\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		stderr string
	}{
		{"missing in PATH", []string{"web", "--", "no-such-command"}, 127, "lockrun: no-such-command: not found in PATH\n"},
		{"missing file", []string{"web", "--", files + "/none"}, 127, files + "/none: not found\n"},
		{"missing interpreter", []string{"web", "--", files + "/interpreter"}, 126, "its interpreter is missing"},
		{"not executable", []string{"web", "--", files + "/plain"}, 126, "permission denied"},
		{"directory", []string{"web", "--", files}, 126, "permission denied"},
		{"log", []string{"--log", files + "/none/log", "web", "--", "sleep", "600"}, 73, files + "/none/log"},
		{"bad flag", []string{"--nonsense", "web", "--", "sleep", "600"}, 64, "--nonsense"},
		{"lock", []string{files + "/none/lock", "--", "sleep", "600"}, 73, "the directory does not exist"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := detDir(t)
			r := runCmd(t, detCmd(dir, append([]string{"start"}, tt.args...)...))
			r.want(t, tt.status, tt.stderr)
			if !strings.HasPrefix(r.stderr, "lockrun: ") || strings.Count(r.stderr, "\n") != 1 || r.stdout != "" {
				t.Errorf("%v; want one line on stderr", r)
			}
			detGone(t, dir)
			detFree(t, filepath.Join(dir, "web.pid"))
			if content, err := os.ReadFile(filepath.Join(dir, "web.pid")); len(content) > 0 {
				t.Errorf("PID file holds %q, %v; want nothing", content, err)
			}
		})
	}
}

func TestStartRefusesSecond(t *testing.T) {
	t.Parallel()
	dir := detDir(t)
	runCmd(t, detCmd(dir, "start", "web", "--", "sleep", "600")).want(t, 0, "")
	pid := detRead(t, filepath.Join(dir, "web.pid"))
	second := func(flags ...string) result {
		args := append([]string{"start"}, flags...)
		return runCmd(t, detCmd(dir, append(args, "web", "--", "touch", filepath.Join(dir, "ran"))...))
	}
	second().want(t, 75, fmt.Sprintf("lockrun: web: held by process %d (sleep 600)", pid))
	second("-E", "9").want(t, 9, "held by process ")
	second("-q").want(t, 75, "")
	second("-t", "20ms").want(t, 75, fmt.Sprintf("held by process %d ", pid))
	detHeld(t, filepath.Join(dir, "web.pid"), pid)
	if exists(filepath.Join(dir, "ran")) {
		t.Error("the second command ran")
	}
	eventually(t, "only the first and its supervisor", func() bool { return len(detProcesses(dir)) == 2 })
}

// detWaiter starts lockrun start -w on a lock that the test holds, and returns
// when the background process waits in the kernel for it.
func detWaiter(t *testing.T, dir string, command ...string) (held *lock.Lock, launcher *exec.Cmd, waiter int) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "web.pid")
	held, err := lock.TryAcquire(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { held.Release() })
	launcher = background(t, detCmd(dir, append([]string{"start", "-w", "web", "--"}, command...)...))
	eventually(t, "a background process that waits for the lock", func() bool {
		for _, pid := range detProcesses(dir) {
			if pid != launcher.Process.Pid && detBlockedOn(path, pid) {
				waiter = pid
				return true
			}
		}
		time.Sleep(20 * time.Millisecond)
		return false
	})
	return held, launcher, waiter
}

// detBlockedOn reports whether process pid is queued for the lock, by the line
//
//	5: -> FLOCK  ADVISORY  WRITE 5577 fe:00:1234567 0 EOF
//
// of /proc/locks.
func detBlockedOn(path string, pid int) bool {
	fi, err := os.Stat(path)
	if err != nil {
		return false
	}
	f, err := os.Open("/proc/locks")
	if err != nil {
		return false
	}
	defer f.Close()
	inode := fmt.Sprintf(":%d", fi.Sys().(*syscall.Stat_t).Ino)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) > 6 && f[1] == "->" && f[5] == strconv.Itoa(pid) && strings.HasSuffix(f[6], inode) {
			return true
		}
	}
	return false
}

func TestStartWaits(t *testing.T) {
	t.Parallel()
	dir := detDir(t)
	held, launcher, _ := detWaiter(t, dir, "sleep", "601")
	time.Sleep(50 * time.Millisecond)
	if !alive(launcher.Process.Pid) {
		t.Fatal("start -w has returned while the lock was held")
	}
	held.Release()
	if err := launcher.Wait(); err != nil {
		t.Errorf("start -w: %v", err)
	}
	path := filepath.Join(dir, "web.pid")
	pid := detRead(t, path)
	detHeld(t, path, pid)
	eventually(t, "the command holds the lock", func() bool { return filesContent(fmt.Sprintf("/proc/%d/cmdline", pid)) == "sleep\x00601\x00" })
}

// TestStartWaitInterrupted: whoever gives up waiting on the terminal does not
// get the command later.
func TestStartWaitInterrupted(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGKILL} {
		t.Run(unix.SignalName(sig), func(t *testing.T) {
			t.Parallel()
			if detOurIgnored(t)&detBits(sig) != 0 {
				t.Skip("ignored when the tests were started")
			}
			dir := detDir(t)
			ran := filepath.Join(dir, "ran")
			held, launcher, waiter := detWaiter(t, dir, "touch", ran)
			path := filepath.Join(dir, "web.pid")
			before, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			launcher.Process.Signal(sig)
			launcher.Wait()
			if got := statusOf(launcher.ProcessState); got != 128+int(sig) {
				t.Errorf("launcher ended with %d; want %d", got, 128+int(sig))
			}
			if sig != syscall.SIGKILL { // of which nobody can tell it
				eventually(t, "waiter gone", func() bool { return !alive(waiter) })
			}
			held.Release()
			detGone(t, dir)
			if exists(ran) {
				t.Error("the command ran")
			}
			// Nor was it started and ended at once: no PID was written.
			if after, err := os.Stat(path); err != nil || !after.ModTime().Equal(before.ModTime()) || after.Size() > 0 {
				t.Errorf("the PID file was written: %v, %v", after, err)
			}
			detFree(t, path)
		})
	}
}

// TestStartKeepsNoDescriptor: $(lockrun start ...) and pipes see the end of the
// output when start returns.
func TestStartKeepsNoDescriptor(t *testing.T) {
	t.Parallel()
	dir := detDir(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := detCmd(dir, "start", "web", "--", "sh", "-c", "echo noise; exec sleep 600")
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = w, w, []*os.File{w}
	err = cmd.Run()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	r.SetReadDeadline(time.Now().Add(10 * time.Second))
	if got, err := io.ReadAll(r); err != nil || len(got) > 0 {
		t.Errorf("read %q, %v; want the end of the output at once", got, err)
	}
	shell := exec.Command("/bin/sh", "-c", `x=$("$0" start job -- sleep 600) && "$0" start job2 -- sleep 600 | cat && echo done`, lockrun)
	shell.Env = cmd.Env
	hang := time.AfterFunc(20*time.Second, func() { shell.Process.Kill() })
	defer hang.Stop()
	if got := runCmd(t, shell); got.status != 0 || got.stdout != "done\n" {
		t.Errorf("%v; want done", got)
	}
}
