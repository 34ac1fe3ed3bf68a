//go:build linux

package integration_test

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
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

	"github.com/lockrun/lockrun/detach"
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

// detProcess is what /proc tells everybody of a process.
type detProcess struct {
	pid, ppid, group, session, tty int
	comm, umask                    string
	ignored                        uint64
}

type detDescriptor struct {
	target string
	access int // O_RDONLY, O_WRONLY, O_RDWR
	lock   bool
}

func detLook(t *testing.T, pid int) detProcess {
	t.Helper()
	p := detProcess{pid: pid}
	read := func(name string) string {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	stat := read("stat")
	open, end := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	p.comm = stat[open+1 : end]
	var state string
	if _, err := fmt.Sscan(stat[end+1:], &state, &p.ppid, &p.group, &p.session, &p.tty); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(read("status")) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
		switch key {
		case "Umask":
			p.umask = value
		case "SigIgn":
			p.ignored, _ = strconv.ParseUint(value, 16, 64)
		}
	}
	return p
}

// detLink reads cwd, exe or a descriptor of a process of ours.
func detLink(t *testing.T, pid int, name string) string {
	t.Helper()
	target, err := os.Readlink(fmt.Sprintf("/proc/%d/%s", pid, name))
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// detBlocked returns the signals that all threads of a process block. (Of the
// threads of a Go program one blocks most signals, and each while it starts
// another one.)
func detBlocked(t *testing.T, pid int) uint64 {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("threads of %d: %q, %v", pid, files, err)
	}
	blocked := ^uint64(0)
	for _, file := range files {
		status, _ := os.ReadFile(file)
		_, rest, _ := strings.Cut(string(status), "\nSigBlk:\t")
		mask, err := strconv.ParseUint(rest[:min(len(rest), 16)], 16, 64)
		if err != nil {
			continue // the thread has ended
		}
		blocked &= mask
	}
	return blocked
}

func detDescriptors(t *testing.T, pid int) map[int]detDescriptor {
	t.Helper()
	fds := map[int]detDescriptor{}
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		n, _ := strconv.Atoi(entry.Name())
		target, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, n))
		info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, n))
		if errors.Is(err, fs.ErrNotExist) {
			continue // closed meanwhile
		}
		if err != nil {
			t.Fatal(err)
		}
		d := detDescriptor{target: target}
		for line := range strings.Lines(string(info)) {
			var flags int
			if _, err := fmt.Sscanf(line, "flags:\t%o", &flags); err == nil {
				d.access = flags & unix.O_ACCMODE
			}
			d.lock = d.lock || strings.HasPrefix(line, "lock:")
		}
		fds[n] = d
	}
	return fds
}

// detSettledDescriptors gives a program that was executed a moment ago the time
// to load its libraries.
func detSettledDescriptors(t *testing.T, pid int) map[int]detDescriptor {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		fds := detDescriptors(t, pid)
		if len(fds) == 4 || time.Now().After(deadline) {
			return fds
		}
	}
}

// detOfRuntime reports whether a descriptor is one that every Go program opens
// for itself: for its poller, and to know how many CPUs its cgroup may use.
func detOfRuntime(d detDescriptor) bool {
	return strings.HasPrefix(d.target, "anon_inode:") || strings.HasPrefix(d.target, "/sys/fs/cgroup/")
}

// detOnly checks that the Go program pid has nothing open but the standard
// descriptors and the file path. (It says Ready, and then closes the pipe.)
func detOnly(t *testing.T, pid int, path string) {
	t.Helper()
	stray := func() map[int]detDescriptor {
		fds := detDescriptors(t, pid)
		maps.DeleteFunc(fds, func(fd int, d detDescriptor) bool { return fd <= 2 || d.target == path || detOfRuntime(d) })
		return fds
	}
	for deadline := time.Now().Add(5 * time.Second); len(stray()) > 0; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d has stray descriptors %+v", pid, stray())
		}
	}
}

func detBits(signals ...syscall.Signal) (mask uint64) {
	for _, s := range signals {
		mask |= 1 << (s - 1)
	}
	return mask
}

// detOurIgnored are those of SIGHUP and SIGINT that this test run was started
// with as ignored, and so everything that it starts.
func detOurIgnored(t *testing.T) uint64 {
	t.Helper()
	return detLook(t, os.Getpid()).ignored & detBits(syscall.SIGHUP, syscall.SIGINT)
}

// detAdopter checks that a daemon is left to init or, if there is one, to a
// subreaper above this test: once the session leader has ended, which is a
// moment after the daemon was started.
func detAdopter(t *testing.T, pid int) {
	t.Helper()
	above := []int{1}
	for p := os.Getpid(); p > 1; {
		p = detLook(t, p).ppid
		above = append(above, p)
	}
	eventually(t, "the daemon is left to init or a subreaper", func() bool { return slices.Contains(above, detLook(t, pid).ppid) })
}

// detSurroundings checks what every daemon must have.
func detSurroundings(t *testing.T, p detProcess, output string, ignored uint64) {
	t.Helper()
	if p.tty != 0 {
		t.Errorf("%s: controlling terminal %d; want none", p.comm, p.tty)
	}
	if cwd := detLink(t, p.pid, "cwd"); cwd != "/" {
		t.Errorf("%s: working directory %q; want /", p.comm, cwd)
	}
	if p.umask != "0022" {
		t.Errorf("%s: umask %s; want 0022", p.comm, p.umask)
	}
	if p.ignored != ignored {
		t.Errorf("%s: ignored signals %x; want %x", p.comm, p.ignored, ignored)
	}
	if blocked := detBlocked(t, p.pid); blocked != 0 {
		t.Errorf("%s: blocked signals %x; want none", p.comm, blocked)
	}
	fds := detDescriptors(t, p.pid)
	for fd, want := range []detDescriptor{
		{target: "/dev/null", access: unix.O_RDONLY}, {target: output, access: unix.O_WRONLY}, {target: output, access: unix.O_WRONLY},
	} {
		if got := fds[fd]; got != want {
			t.Errorf("%s: descriptor %d is %+v; want %+v", p.comm, fd, got, want)
		}
	}
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
			detOnly(t, s.pid, path)
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
	if arguments, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); string(arguments) != "sleep\x00601\x00" {
		t.Errorf("the lock is held by %q", arguments)
	}
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

// detDaemon is a program that uses detach.Detach. On SIGTERM it closes the
// daemon and ends.
func detDaemon(args []string) int {
	var c detach.Config
	flags := flag.NewFlagSet("det-daemon", flag.ExitOnError)
	flags.StringVar(&c.PIDFile, "pidfile", "", "")
	flags.StringVar(&c.Log, "log", "", "")
	flags.StringVar(&c.Dir, "dir", "", "")
	flags.DurationVar(&c.ReadyTimeout, "timeout", 0, "")
	flags.BoolVar(&c.SessionLeader, "leader", false, "")
	umask := flags.Uint("umask", 0, "")
	keep := flags.Int("keep", 0, "")
	pid := flags.String("pid", "", "write the daemon's PID into this file")
	touch := flags.String("touch", "", "create this file when Ready, or LauncherGone, was called")
	do := flags.String("do", "ready", "")
	flags.Parse(args)
	c.Umask = fs.FileMode(*umask)
	if *keep != 0 {
		c.Keep = []int{*keep}
	}
	d, err := detach.Detach(&c)
	if err != nil {
		status := 1
		var e *detach.StartError
		if errors.As(err, &e) {
			status = e.Status
		}
		fmt.Fprintf(os.Stderr, "%T held=%t: %v\n", err, errors.Is(err, lock.ErrHeld), err)
		return status
	}
	unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	if *pid != "" {
		os.WriteFile(*pid, fmt.Appendln(nil, os.Getpid()), 0o600)
	}
	switch *do {
	case "ready":
	case "slow":
		time.Sleep(200 * time.Millisecond)
		os.WriteFile(*touch, nil, 0o600)
	case "exit 0":
		os.Exit(0)
	case "exit 3":
		os.Exit(3)
	case "kill":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "segv":
		// The Go runtime has its own idea of a SIGSEGV.
		syscall.Exec("/bin/sh", []string{"sh", "-c", "kill -SEGV $$"}, os.Environ())
	case "panic":
		panic("this is a test")
	case "fail":
		d.Fail(42, errors.New("the port is\ttaken\nby \"another\" \xff server"))
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		fallthrough
	case "hang":
		<-terminate
		d.Close()
		os.Exit(0)
	case "gone":
		for !d.LauncherGone() {
			time.Sleep(time.Millisecond)
		}
		os.WriteFile(*touch, fmt.Appendln(nil, d.Ready()), 0o600)
		os.Exit(0)
	}
	if c.Keep != nil {
		f := os.NewFile(uintptr(c.Keep[0]), "kept")
		fmt.Fprintln(f, "kept")
	}
	child := exec.Command("env")
	child.Stdout = os.Stdout
	if err := child.Run(); err != nil {
		d.Fail(1, err)
	}
	if err := d.Ready(); err != nil {
		d.Fail(1, err)
	}
	<-terminate
	d.Close()
	return 0
}

// detDaemonDir returns a directory; when the test ends, all that was started
// with files in it is ended.
func detDaemonDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		for _, pid := range detProcesses(dir) {
			syscall.Kill(pid, syscall.SIGTERM)
		}
		detGone(t, dir)
	})
	return dir
}

func TestDaemonDetaches(t *testing.T) {
	t.Parallel()
	for _, hostile := range []bool{false, true} {
		for _, leads := range []bool{false, true} {
			t.Run(fmt.Sprintf("hostile %t leader %t", hostile, leads), func(t *testing.T) {
				t.Parallel()
				dir := detDaemonDir(t)
				path, log := filepath.Join(dir, "pid"), filepath.Join(dir, "log")
				cmd := helper(t, "det-daemon", "-pidfile", path, "-log", log, fmt.Sprintf("-leader=%t", leads))
				if hostile {
					// The helper that makes the surroundings takes its own name
					// out of the environment.
					self := exec.Command("/usr/bin/env", append([]string{helperVariable + "=det-daemon", cmd.Path}, cmd.Args[1:]...)...)
					self.Env = os.Environ()
					cmd = detSurround(t, self, detIgnored...)
				}
				runCmd(t, cmd).want(t, 0, "")
				pid := detRead(t, path)
				detHeld(t, path, pid)
				if holders, err := lock.Holders(path); err != nil || len(holders) != 1 {
					t.Errorf("Holders = %+v, %v; want the daemon alone", holders, err)
				}
				p := detLook(t, pid)
				detSurroundings(t, p, log, detOurIgnored(t))
				detAdopter(t, p.pid)
				if leads != (p.session == pid) {
					t.Errorf("process %d in session %d; leader %t", pid, p.session, leads)
				}
				if !leads && alive(p.session) {
					t.Errorf("the session leader %d is still there", p.session)
				}
				if p.session == detLook(t, os.Getpid()).session {
					t.Error("the daemon is in our session")
				}
				if self := filepath.Base(detLink(t, pid, "exe")); p.comm != self[:min(len(self), 15)] {
					t.Errorf("the process is called %q; want %q", p.comm, self)
				}
				detOnly(t, pid, path)
				environ, err := os.ReadFile(log) // of a child
				if err != nil || !strings.Contains(string(environ), runVariable+"=") || strings.Contains(string(environ), "LOCKRUN_DETACH") {
					t.Errorf("environment of a child: %s, %v", environ, err)
				}
				run(t, "stop", path).want(t, 0, "")
				if exists(path) {
					t.Error("the PID file is still there")
				}
			})
		}
	}
}

// TestDaemonStart goes through the ways in which a daemon comes up or does not,
// and what the terminal hears of it.
func TestDaemonStart(t *testing.T) {
	t.Parallel()
	for _, leads := range []bool{false, true} {
		for _, tt := range []struct {
			do     string
			args   []string
			status int
			stderr string // DIR is the test's directory
			up     bool
		}{
			{do: "ready", status: 0, up: true},
			{do: "slow", args: []string{"-touch", "DIR/ready"}, status: 0, up: true},
			{do: "exit 3", status: 3, stderr: "*detach.StartError held=false: ended before it was ready: exit status 3, see DIR/log\n"},
			{do: "exit 0", status: 1, stderr: "*detach.StartError held=false: ended before it was ready: exit status 0, see DIR/log\n"},
			{do: "kill", status: 137, stderr: "ended before it was ready: killed by SIGKILL, see DIR/log\n"},
			{do: "segv", status: 139, stderr: "ended before it was ready: killed by SIGSEGV, see DIR/log\n"},
			{do: "panic", status: 2, stderr: "ended before it was ready: exit status 2, see DIR/log\n"},
			{do: "fail", status: 42, stderr: "held=false: the port is\ttaken\nby \"another\" \xff server\n"},
			{do: "hang", args: []string{"-timeout", "300ms", "-pid", "DIR/up"}, status: 124, stderr: "not ready within 300ms, see DIR/log\n"},
			{do: "ready", args: []string{"-pidfile", "DIR/none/pid"}, status: 73, stderr: "DIR/none/pid: no such file or directory\n"},
			{do: "ready", args: []string{"-pidfile", "DIR"}, status: 73, stderr: "not a PID file\n"},
			{do: "ready", args: []string{"-log", "DIR/none/log"}, status: 1, stderr: "*fs.PathError held=false: open DIR/none/log: no such file or directory\n"},
			{do: "ready", args: []string{"-dir", "DIR/none"}, status: 71, stderr: "chdir DIR/none: no such file or directory\n"},
			{do: "ready", args: []string{"-keep", "77"}, status: 71, stderr: "bad file descriptor\n"},
		} {
			t.Run(fmt.Sprintf("%s %s leader %t", tt.do, strings.Join(tt.args, " "), leads), func(t *testing.T) {
				t.Parallel()
				dir := detDaemonDir(t)
				args := []string{"-pidfile", dir + "/pid", "-log", dir + "/log", "-do", tt.do, fmt.Sprintf("-leader=%t", leads)}
				for _, arg := range tt.args {
					args = append(args, strings.Replace(arg, "DIR", dir, 1))
				}
				r := runCmd(t, helper(t, "det-daemon", args...))
				// Before all else: had it been ready when the launcher ended?
				if tt.do == "slow" && !exists(dir+"/ready") {
					t.Error("the launcher did not wait for Ready")
				}
				r.want(t, tt.status, strings.ReplaceAll(tt.stderr, "DIR", dir))
				if tt.up {
					detHeld(t, dir+"/pid", detRead(t, dir+"/pid"))
					return
				}
				detGone(t, dir)
				if in, err := lock.Inspect(dir + "/pid"); err != nil || in.State != lock.Free {
					t.Errorf("Inspect = %+v, %v; want free", in, err)
				}
				// Those that end in good order remove the PID file; up says that
				// a handler for SIGTERM was there in time.
				if (tt.do == "fail" || tt.do == "ready" || exists(dir+"/up")) && exists(dir+"/pid") {
					t.Error("the PID file is still there")
				}
				log, _ := os.ReadFile(dir + "/log")
				if trace := strings.Contains(string(log), "panic: this is a test\n") && strings.Contains(string(log), "detach_test.go:"); trace != (tt.do == "panic") {
					t.Errorf("log: %s", log)
				}
			})
		}
	}
}

// TestDaemonIgnoresTerm: not ready in time, and it does not go either.
func TestDaemonIgnoresTerm(t *testing.T) {
	t.Parallel()
	dir := detDaemonDir(t)
	runCmd(t, helper(t, "det-daemon", "-pidfile", dir+"/pid", "-do", "stubborn", "-timeout", "100ms")).want(t, 124, "not ready within 100ms\n")
	detGone(t, dir)
}

func TestDaemonRefusesSecond(t *testing.T) {
	t.Parallel()
	dir := detDaemonDir(t)
	daemon := func() result { return runCmd(t, helper(t, "det-daemon", "-pidfile", dir+"/pid")) }
	daemon().want(t, 0, "")
	pid := detRead(t, dir+"/pid")
	daemon().want(t, 75, fmt.Sprintf("*detach.StartError held=true: lock %s/pid: held by process %d (", dir, pid))
	detHeld(t, dir+"/pid", pid)
	if log := detLink(t, pid, "fd/1"); log != "/dev/null" {
		t.Errorf("output goes to %s; want /dev/null", log)
	}
}

// TestDaemonSettings: Dir, Umask, Keep and relative paths.
func TestDaemonSettings(t *testing.T) {
	t.Parallel()
	dir := detDaemonDir(t)
	if err := os.Mkdir(dir+"/home", 0o700); err != nil {
		t.Fatal(err)
	}
	var files []*os.File
	for i := range 5 { // descriptors 3 to 7
		f, err := os.Create(fmt.Sprintf("%s/file%d", dir, 3+i))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	cmd := helper(t, "det-daemon", "-pidfile", "pid", "-log", "log", "-dir", "home", "-umask", "0077", "-keep", "7")
	cmd.Dir = dir
	cmd.ExtraFiles = files
	runCmd(t, cmd).want(t, 0, "")
	pid := detRead(t, dir+"/pid")
	detHeld(t, dir+"/pid", pid)
	p := detLook(t, pid)
	if cwd := detLink(t, pid, "cwd"); cwd != dir+"/home" || p.umask != "0077" {
		t.Errorf("working directory %q, umask %s", cwd, p.umask)
	}
	fds := detDescriptors(t, pid)
	if fds[1].target != dir+"/log" || fds[7].target != dir+"/file7" {
		t.Errorf("descriptors %+v; want log and 7", fds)
	}
	for fd, d := range fds {
		if strings.Contains(d.target, "/file") && fd != 7 {
			t.Errorf("descriptor %d is %s; want only 7 to be kept", fd, d.target)
		}
	}
	if content, _ := os.ReadFile(dir + "/file7"); string(content) != "kept\n" {
		t.Errorf("through descriptor 7 came %q", content)
	}
	syscall.Kill(pid, syscall.SIGTERM)
	eventually(t, "PID file gone", func() bool { return !exists(dir + "/pid") })
}

// TestDaemonLauncherDies: a terminal that gives up takes the daemon with it, and
// one that is killed is noticed.
func TestDaemonLauncherDies(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		sig syscall.Signal
		do  string
	}{
		{syscall.SIGTERM, "hang"},
		{syscall.SIGQUIT, "hang"},
		{syscall.SIGKILL, "gone"},
	} {
		for _, leads := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s leader %t", unix.SignalName(tt.sig), leads), func(t *testing.T) {
				t.Parallel()
				dir := detDaemonDir(t)
				cmd := background(t, helper(t, "det-daemon", "-pidfile", dir+"/pid", "-pid", dir+"/up", "-touch", dir+"/gone", "-do", tt.do, fmt.Sprintf("-leader=%t", leads)))
				pid := pidIn(t, dir+"/up")
				if !alive(cmd.Process.Pid) {
					t.Fatal("the launcher did not wait")
				}
				cmd.Process.Signal(tt.sig)
				cmd.Wait()
				if got := statusOf(cmd.ProcessState); got != 128+int(tt.sig) {
					t.Errorf("launcher ended with %d; want %d", got, 128+int(tt.sig))
				}
				eventually(t, "daemon gone", func() bool { return !alive(pid) })
				if tt.do != "gone" {
					return
				}
				if said, _ := os.ReadFile(dir + "/gone"); !strings.HasPrefix(string(said), "detach: launcher is gone: ") {
					t.Errorf("Ready = %q; want an error", said)
				}
			})
		}
	}
}

// TestDaemonForgedMarker: a variable that somebody set makes nobody a daemon.
func TestDaemonForgedMarker(t *testing.T) {
	t.Parallel()
	for _, forged := range []string{"", "leader", "daemon:0:1:1", "daemon:3:1:1", "leader:3:0:0"} {
		t.Run(forged, func(t *testing.T) {
			t.Parallel()
			dir := detDaemonDir(t)
			cmd := helper(t, "det-daemon", "-pidfile", dir+"/pid", "-log", dir+"/log")
			cmd.Env = append(cmd.Env, "LOCKRUN_DETACH="+forged)
			runCmd(t, cmd).want(t, 0, "")
			p := detLook(t, detRead(t, dir+"/pid"))
			detAdopter(t, p.pid)
			if p.session == p.pid {
				t.Error("the daemon leads its session")
			}
			if environ, _ := os.ReadFile(dir + "/log"); bytes.Contains(environ, []byte("LOCKRUN_DETACH")) {
				t.Error("the variable is in the environment of a child")
			}
		})
	}
}
