//go:build linux

package integration_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What a caller can give lockrun, and what the system can refuse: descriptors,
// limits, signals, file systems that lock badly, a /proc that hides.

func init() {
	helpers["hostile-descriptors"] = hostileDescriptors
	helpers["hostile-calls"] = hostileCalls
}

// hostileDescriptors becomes a program with so many more open descriptors, which
// are not close-on-exec.
func hostileDescriptors(args []string) int {
	n, err := strconv.Atoi(args[0])
	if err == nil {
		err = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(n) + 1000, Max: uint64(n) + 1000})
	}
	for range n {
		if err == nil {
			_, err = unix.Dup(0)
		}
	}
	if err == nil {
		err = hostileBecome(args[1:])
	}
	fmt.Fprintln(os.Stderr, "hostile-descriptors:", err)
	return 2
}

func hostileBecome(argv []string) error {
	env := slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, helperVariable+"=") })
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	return syscall.Exec(path, argv, env)
}

func TestManyOpenDescriptors(t *testing.T) {
	t.Parallel()
	n, spare := 100_000, 1000
	allow := exec.Command(need(t, "prlimit"), fmt.Sprintf("--nofile=%d", n+spare), "true")
	if runCmd(t, allow).status != 0 { // more than the hard limit, and no right to raise it
		var limit unix.Rlimit
		filesMust(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
		n = int(limit.Max) - spare
	}
	t.Logf("%d descriptors", n)
	l := filepath.Join(t.TempDir(), "L")
	many := func(args ...string) *exec.Cmd {
		self := helper(t, "hostile-descriptors", append([]string{strconv.Itoa(n), lockrun}, args...)...)
		cmd := filesCommand(t, self.Path, self.Args[1:]...)
		cmd.Env = self.Env
		return cmd
	}
	// A run's command inherits them all, and the lock too.
	r := filesRunCmd(t, many(l, "--", "sh", "-c", `ls /proc/self/fd | wc -l; exit 3`))
	if seen, _ := strconv.Atoi(strings.TrimSpace(r.stdout)); r.status != 3 || seen < n+4 {
		t.Errorf("run: %v; want status 3, and %d descriptors", r, n)
	}
	// A daemon's inherits none of them.
	filesRunCmd(t, many("start", l, "--", "sleep", "600")).want(t, 0, "")
	command := pidIn(t, l)
	if fds := detSettledDescriptors(t, command); len(fds) != 4 {
		t.Errorf("the daemon has %d descriptors; want 4", len(fds))
	}
	filesRunCmd(t, many(l, "--", "true")).want(t, 75, fmt.Sprintf("held by process %d ", command))
	filesRunCmd(t, many("stop", l)).want(t, 0, "")

	// A holder who has so many is found behind them.
	holder := many("--no-pid", l, "--", "sh", "-c", "echo holds; exec sleep 600")
	holder.Cancel = nil
	out, err := holder.StdoutPipe()
	filesMust(t, err)
	background(t, holder)
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	filesRun(t, l, "--", "true").want(t, 75, "held by process ")
	if r := filesRun(t, "status", l); r.status != 0 || !strings.Contains(r.stdout, "held by process ") {
		t.Errorf("status: %v", r)
	}
}

// With limits that leave nothing to work with there is an answer all the same: ours,
// or that of Go's runtime or of the kernel, which can't even start the program. And
// the next start wins.
func TestTinyLimits(t *testing.T) {
	t.Parallel()
	prlimit, setpriv := need(t, "prlimit"), need(t, "setpriv")
	limits := map[string][]string{
		"nofile": {"3", "4", "5", "6", "8", "10", "12", "16"},
		"as":     {"100000000", "500000000", "700000000"},
		"data":   {"0", "1000000", "10000000"},
		"stack":  {"0", "8192", "65536"},
		"fsize":  {"0", "1"},
		"nproc":  {"0", "2", "4", "6", "8", "10"},
	}
	for limit, values := range limits {
		for _, value := range values {
			t.Run(limit+" "+value, func(t *testing.T) {
				t.Parallel()
				as := []string{prlimit, "--" + limit + "=" + value}
				if limit == "nproc" { // of all that a user runs, but root
					needRoot(t)
					user := "--reuid=" + strconv.Itoa(640_000+len(value)*100+int(value[0])) // nobody else's
					as = append([]string{setpriv, user, "--regid=65534", "--clear-groups"}, as...)
				}
				for _, sub := range []string{"run", "start"} {
					dir := filesDir(t)
					filesMust(t, os.Chmod(dir, 0o777))
					l := filepath.Join(dir, "L")
					filesWrite(t, filepath.Join(dir, "neighbour"), "data", 0o600)
					before := filesSnap(t, filepath.Join(dir, "neighbour"))
					args := slices.Concat(as, []string{lockrun})
					if sub == "start" {
						args = append(args, "start", "--keep")
					}
					args = append(args, l, "--", "mkdir", dir+"/ran") // which fails the second time
					r := filesRunCmd(t, filesCommand(t, args[0], args[1:]...))
					hostileAnswered(t, r)
					if r.status == 0 && sub == "run" && !exists(dir+"/ran") {
						t.Errorf("%v, and the command did not run", r)
					}
					if t.Failed() {
						t.Logf("%q", args)
					}
					// Its lock is free when the command has ended, whoever has died.
					if exists(l) {
						filesMust(t, os.Chown(l, os.Getuid(), -1))
					}
					filesRun(t, "-t", "5", l, "--", "true").want(t, 0, "")
					filesSame(t, sub, before, filesSnap(t, filepath.Join(dir, "neighbour")))
				}
			})
		}
	}
}

// hostileAnswered checks that a start under limits has an answer.
func hostileAnswered(t *testing.T, r result) {
	t.Helper()
	ours := strings.HasPrefix(r.stderr, "lockrun: ")
	goes := strings.Contains(r.stderr, "fatal error: ") || strings.HasPrefix(r.stderr, "runtime: ")
	kernels := r.status == 128+11 || r.status == 128+9 || // not even loaded
		strings.HasPrefix(r.stderr, "prlimit: ")
	launched := r.status == 2 && r.stderr == "lockrun: ended before it was ready: exit status 2\n" // so the daemon did
	commands := strings.HasPrefix(r.stderr, "mkdir: ")
	switch {
	case r.status == 0 && r.stderr == "", kernels, launched, commands && r.status != 0:
	case ours && slices.Contains([]int{71, 73, 126}, r.status):
		filesWantOneLine(t, r)
	case goes && r.status == 2:
	default:
		t.Errorf("%v; want 0, or what there was too little of", r)
	}
}

// With all signals blocked, some ignored, and SIGCHLD among them, lockrun sees the
// end of its command, and its status.
func TestRunInHostileSurroundings(t *testing.T) {
	t.Parallel()
	l := filepath.Join(t.TempDir(), "L")
	in := func(args ...string) *exec.Cmd {
		cmd := exec.Command(lockrun, args...)
		cmd.Env = os.Environ()
		cmd = detSurround(t, cmd, append([]syscall.Signal{syscall.SIGHUP, syscall.SIGINT}, detIgnored...)...)
		bounded := filesCommand(t, cmd.Path, cmd.Args[1:]...)
		bounded.Env = cmd.Env
		return bounded
	}
	filesRunCmd(t, in(l, "--", "sh", "-c", "exit 3")).want(t, 3, "")
	filesRunCmd(t, in(l, "--", "sh", "-c", "kill -KILL $$")).want(t, 137, "")
	filesRunCmd(t, in("--quiet-success", l, "--", "sh", "-c", "echo wrong >&2; exit 4")).want(t, 4, "wrong")
	_, command := filesHeld(t, l)
	filesRunCmd(t, in(l, "--", "true")).want(t, 75, fmt.Sprintf("held by process %d ", command))
	filesRunCmd(t, in("-t", "0.1", l, "--", "true")).want(t, 75, fmt.Sprintf("held by process %d ", command))
	filesRunCmd(t, in("stop", l)).want(t, 0, "")
	filesRunCmd(t, in(l, "--", "true")).want(t, 0, "")
}

// hostileCalls becomes a program of which system calls fail: NAME ERRNO ARGV...
func hostileCalls(args []string) int {
	calls := map[string][]uint32{
		"flock": {unix.SYS_FLOCK},
		"write": {unix.SYS_PWRITE64},
	}
	errno, err := strconv.Atoi(args[1])
	runtime.LockOSThread()
	if err == nil {
		err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	if err == nil {
		err = failCalls(unix.Errno(errno), calls[args[0]]...)
	}
	if err == nil {
		err = hostileBecome(args[2:])
	}
	fmt.Fprintln(os.Stderr, "hostile-calls:", err)
	return 2
}

// What NFS and other file systems answer when they can't lock, or lose the file. It
// is never taken for a lock that was got, nor for one that somebody else has.
func TestLocksThatTheFileSystemRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		call   string
		errno  unix.Errno
		status int
	}{
		{"flock", unix.ENOLCK, 71},
		{"flock", unix.EIO, 73},
		{"flock", unix.ESTALE, 73},
		{"flock", unix.EOPNOTSUPP, 73},
		{"flock", unix.ENOSYS, 73},
		{"write", unix.EIO, 73},
		{"write", unix.ESTALE, 73},
		{"write", unix.EDQUOT, 73},
	} {
		t.Run(fmt.Sprintf("%s %v", c.call, c.errno), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			l, ran := filepath.Join(dir, "L"), filepath.Join(t.TempDir(), "ran")
			failing := func(args ...string) result {
				t.Helper()
				self := helper(t, "hostile-calls", slices.Concat([]string{c.call, strconv.Itoa(int(c.errno)), lockrun}, args)...)
				cmd := filesCommand(t, self.Path, self.Args[1:]...)
				cmd.Env = self.Env
				return filesRunCmd(t, cmd)
			}
			for _, content := range []string{"none", filesNobodysPID} {
				if content != "none" {
					filesWrite(t, l, content, 0o600)
				}
				for _, flags := range []string{"", "-w", "-t 1", "start", "--slots 2", "--reentrant"} {
					r := failing(append(strings.Fields(flags), l, "--", "touch", ran)...)
					r.want(t, c.status, c.errno.Error())
					filesWantOneLine(t, r)
				}
				if content != "none" && filesContent(l) != content {
					t.Errorf("the file holds %q; want %q", filesContent(l), content)
				}
			}
			if exists(ran) {
				t.Error("the command ran")
			}
			if c.call == "flock" {
				if r := failing("status", l); r.status != 4 || !strings.Contains(r.stdout, "unknown: "+c.errno.Error()) {
					t.Errorf("status: %v; want 4, unknown", r)
				}
				failing("stop", l).want(t, c.status, c.errno.Error())
			}
			filesRun(t, l, "--", "true").want(t, 0, "")
		})
	}
}

// A /proc that hides the processes of others (hidepid=2) shows their numbers as if
// they were free.
func TestHiddenProcesses(t *testing.T) {
	t.Parallel()
	nsOwnMounts(t)
	dir := filesDir(t)
	roots, his, stale := filepath.Join(dir, "roots"), filepath.Join(dir, "his"), filepath.Join(dir, "stale")
	command, hisCommand := foreignHeld(t, roots, 0), foreignHeld(t, his, filesNobody)
	stranger, unhurt := filesStartStranger(t)
	filesWrite(t, stale, fmt.Sprintln(stranger), 0o644)
	if err := unix.Mount("proc", "/proc", "proc", 0, "hidepid=2"); err != nil {
		missing(t, "hidepid=2: %v", err)
	}
	t.Cleanup(func() { unix.Unmount("/proc", unix.MNT_DETACH) })
	hidden := fmt.Sprintf("/proc/%d", command)
	if r := filesRunCmd(t, filesAs(filesCommand(t, "ls", hidden), filesNobody)); r.status == 0 {
		t.Fatalf("%s is not hidden", hidden)
	}
	foreignUnseen.check(t, roots, foreignAs(filesNobody))
	foreignUnseen.check(t, his, foreignAs(foreignOther))
	foreignView{"running", 0, "running, ", hisCommand, 0}.check(t, his, foreignAs(filesNobody))
	foreignView{"running", 0, "running, ", command, 0}.check(t, roots, foreignAs(0))
	foreignStale.check(t, stale, foreignAs(filesNobody))
	if !alive(command) || !alive(hisCommand) {
		t.Error("a holder was signalled")
	}
	unhurt()
}

// On an overlay (a container's root) a file can get another inode when it is
// written for the first time.
func TestOverlay(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		separately bool // the lower directory is on another file system
		lower      string
	}{
		{"new file", false, "none"},
		{"new file above a lower directory elsewhere", true, "none"},
		{"file of the lower directory", false, filesNobodysPID},
		{"file of a lower directory elsewhere", true, filesNobodysPID},
		{"empty file of a lower directory elsewhere", true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			nsOwnMounts(t)
			top := t.TempDir()
			nsTmpfs(t, top, "mode=755")
			for _, d := range []string{"lower", "upper", "work", "merged"} {
				filesMust(t, os.Mkdir(filepath.Join(top, d), 0o755))
			}
			if c.separately {
				nsTmpfs(t, filepath.Join(top, "lower"), "mode=755")
			}
			if c.lower != "none" {
				filesWrite(t, filepath.Join(top, "lower", "L"), c.lower, 0o600)
			}
			options := fmt.Sprintf("lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work", top, top, top)
			merged := filepath.Join(top, "merged")
			if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
				if errors.Is(err, unix.ENODEV) {
					missing(t, "no overlay file system")
				}
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Unmount(merged, unix.MNT_DETACH) })
			l := filepath.Join(merged, "L")
			filesRun(t, "status", l)
			filesRun(t, l, "--", "grep", "-q", "[0-9]", l).want(t, 0, "")
			filesRun(t, "start", l, "--", "sleep", "600").want(t, 0, "")
			command := pidIn(t, l)
			named := fmt.Sprintf("held by process %d (sleep 600)", command)
			for _, args := range [][]string{{l, "--", "true"}, {"--no-pid", l, "--", "true"}, {"start", l, "--", "true"}, {"-t", "0.1", l, "--", "true"}} {
				filesRun(t, args...).want(t, 75, named)
			}
			if r := filesRun(t, "status", l); r.status != 0 || !strings.Contains(r.stdout, named) {
				t.Errorf("status: %v; want %s", r, named)
			}
			filesMust(t, os.Remove(l))
			filesRun(t, l, "--", "true").want(t, 75, named)
			filesRun(t, "stop", l).want(t, 0, "")
			filesRun(t, l, "--", "true").want(t, 0, "")
		})
	}
}

// The marker of detach is believed with its pipe, which only the caller himself can
// have put there. What he gets is the daemon's part of a start in his own process,
// and no second instance.
func TestForgedMarkerWithAPipe(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"daemon", "leader"} {
		for _, reader := range []string{"reads", "does not read", "is gone"} {
			t.Run(role+" "+reader, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				l := filepath.Join(dir, "L")
				r, w, err := os.Pipe()
				filesMust(t, err)
				defer r.Close()
				var st unix.Stat_t
				filesMust(t, unix.Fstat(int(w.Fd()), &st))
				cmd := exec.Command(lockrun, "start", "--keep", l, "--", "sleep", "600")
				cmd.Env = append(os.Environ(), fmt.Sprintf("LOCKRUN_DETACH=%s:3:%d:%d", role, st.Dev, st.Ino))
				cmd.ExtraFiles = []*os.File{w}
				if reader == "is gone" {
					r.Close()
				}
				background(t, cmd)
				w.Close()
				t.Cleanup(func() { runCmd(t, exec.Command(lockrun, "stop", l)) })
				if reader == "is gone" {
					// A start whose launcher has died does not leave a daemon.
					cmd.Wait()
					if want := map[string]int{"daemon": 71, "leader": 0}[role]; statusOf(cmd.ProcessState) != want {
						t.Errorf("%v; want exit status %d", cmd.ProcessState, want)
					}
					eventually(t, "free", func() bool { return filesRun(t, "status", l).status == 3 })
					return
				}
				if reader == "reads" {
					r.SetReadDeadline(time.Now().Add(filesHang))
					if _, err := bufio.NewReader(r).ReadString('\n'); err != nil {
						t.Errorf("no report: %v", err)
					}
				}
				var command int
				eventually(t, "runs", func() bool {
					command = pidIn(t, l)
					line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", command))
					return string(line) == "sleep\x00600\x00"
				})
				filesRun(t, "start", l, "--", "true").want(t, 75, fmt.Sprintf("held by process %d ", command))
				filesRun(t, "stop", l).want(t, 0, "")
			})
		}
	}
}

// What lockrun tells a command, a caller can say too. It is no proof of a lock.
func TestForgedVariables(t *testing.T) {
	t.Parallel()
	l := filepath.Join(t.TempDir(), "L")
	_, command := filesHeld(t, l)
	for _, args := range [][]string{{l, "--", "true"}, {"--reentrant", l, "--", "true"}, {"-t", "0.1", "--reentrant", l, "--", "true"}, {"start", l, "--", "true"}} {
		cmd := filesCommand(t, lockrun, args...)
		cmd.Env = append(os.Environ(), "LOCKRUN_LOCK="+l, "LOCKRUN_NAME=L", "LOCKRUN_SLOT=1", "LOCKRUN_WAITED=0", "LOCKRUN_STATUS=0",
			"LOCKRUN_DETACH=daemon:1:1:1", "LOCKRUN_EXECUTOR=1:1:1", "NOTIFY_SOCKET=@x", "LISTEN_PID=1", "LISTEN_FDS=3")
		filesRunCmd(t, cmd).want(t, 75, fmt.Sprintf("held by process %d ", command))
	}
}
