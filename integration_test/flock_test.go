//go:build linux

package integration_test

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lockrun by the name of flock(1), beside the original.

// flockTools returns two directories with nothing in them but a flock: the
// original, and a link to lockrun.
func flockTools(t *testing.T) (original, ours string) {
	t.Helper()
	dir := t.TempDir()
	os.Chmod(dir, 0o755)
	link := func(name, target string) string {
		bin := filepath.Join(dir, name)
		if err := os.Mkdir(bin, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(bin, "flock")); err != nil {
			t.Fatal(err)
		}
		return bin
	}
	path, err := filepath.EvalSymlinks(need(t, "flock"))
	if err != nil {
		t.Fatal(err)
	}
	return link("original", path), link("lockrun", lockrun)
}

// flockOutcome is all that can be seen of a script.
type flockOutcome struct {
	status         int
	stdout, stderr string
	files          string
}

func (o flockOutcome) String() string {
	return fmt.Sprintf("status %d\nstdout %q\nstderr %q\nfiles\n%s", o.status, o.stdout, o.stderr, o.files)
}

var flockSeconds = regexp.MustCompile(`took \d+\.\d{6} seconds`)

// flockScript runs a script with the flock in the directory bin.
func flockScript(t *testing.T, c flockCase, bin, holder string) flockOutcome {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("/bin/sh", "-c", c.script)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + bin + ":/usr/local/bin:/usr/bin:/bin", "HOLD=" + holder + "/flock", "LC_ALL=C", "SHELL=/bin/sh",
		runVariable + "=" + os.Getenv(runVariable),
	}
	if c.nobody && os.Geteuid() == 0 {
		const nobody = 65534
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		for d := dir; d != os.TempDir(); d = filepath.Dir(d) {
			os.Chmod(d, 0o755)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	// What the script forbade must not keep us from removing it.
	t.Cleanup(func() {
		filepath.WalkDir(dir, func(path string, entry fs.DirEntry, _ error) error {
			if entry != nil && entry.IsDir() {
				os.Chmod(path, 0o755)
			}
			return nil
		})
	})
	r := runCmd(t, cmd)
	mask := func(s string) string {
		return flockSeconds.ReplaceAllString(strings.ReplaceAll(s, dir, "DIR"), "took S seconds")
	}
	return flockOutcome{r.status, mask(r.stdout), mask(r.stderr), mask(flockFiles(t, dir))}
}

// flockFiles describes everything in a directory.
func flockFiles(t *testing.T, dir string) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		var fi fs.FileInfo
		if err == nil {
			fi, err = entry.Info()
		}
		if err != nil { // the script forbade it
			lines = append(lines, strings.TrimPrefix(path, dir)+" can't be read")
			return nil
		}
		st := fi.Sys().(*syscall.Stat_t)
		line := fmt.Sprintf("%s %v %d:%d", strings.TrimPrefix(path, dir), fi.Mode(), st.Uid, st.Gid)
		switch fi.Mode().Type() {
		case 0:
			content, _ := os.ReadFile(path)
			if len(content) < 1000 {
				line += fmt.Sprintf(" %q", content)
			}
		case fs.ModeSymlink:
			target, _ := os.Readlink(path)
			line += " -> " + target
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

// compatibilityRows are the names in the first column of a table of
// docs/compatibility.md.
func compatibilityRows(t *testing.T) map[string]bool {
	t.Helper()
	page, err := os.ReadFile("../docs/compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z]+)` \\|").FindAllStringSubmatch(string(page), -1) {
		rows[m[1]] = true
	}
	return rows
}

func TestFlockIsTheOriginal(t *testing.T) {
	t.Parallel()
	need(t, "python3")
	original, ours := flockTools(t)
	rows, cases := compatibilityRows(t), flockCases()
	seen := map[string]bool{}
	for _, c := range cases {
		if c.row != "" && !rows[c.row] {
			t.Errorf("%s: docs/compatibility.md has no row %q", c.name, c.row)
		}
		seen[c.row] = true
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.row != "" {
				got := flockScript(t, c, ours, ours)
				if s := fmt.Sprintf("%s%s%d\n", got.stdout, got.stderr, got.status); s != c.want {
					t.Errorf("%s\ngot %q\nwant %q", c.script, s, c.want)
				}
				return
			}
			holders := []string{original}
			if strings.Contains(c.script, "$HOLD") {
				holders = append(holders, ours)
			}
			want := flockScript(t, c, original, original)
			for _, holder := range holders {
				for _, bin := range []string{original, ours} {
					if got := flockScript(t, c, bin, holder); got != want {
						t.Errorf("%s\nby %s, holder %s: %v\n\nthe original: %v", c.script, filepath.Base(bin), filepath.Base(holder), got, want)
					}
				}
			}
		})
	}
	for row := range rows {
		if !seen[row] {
			t.Errorf("no case is about the difference %q of docs/compatibility.md", row)
		}
	}
}

// flockBoth runs a test with the original and with lockrun.
func flockBoth(t *testing.T, test func(t *testing.T, flock string)) {
	original, ours := flockTools(t)
	for name, bin := range map[string]string{"original": original, "lockrun": ours} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, filepath.Join(bin, "flock"))
		})
	}
}

// flockSignals are those whose default action ends a process.
var flockSignals = []syscall.Signal{
	unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGILL, unix.SIGTRAP, unix.SIGABRT, unix.SIGKILL, unix.SIGUSR1, unix.SIGUSR2,
	unix.SIGPIPE, unix.SIGALRM, unix.SIGTERM, unix.SIGSTKFLT, unix.SIGXCPU, unix.SIGXFSZ, unix.SIGVTALRM, unix.SIGPROF,
	unix.SIGIO, unix.SIGPWR, unix.SIGSYS, unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, 40, 64,
}

// flockCommand starts flock with the signals at their default, also where this
// test run is in the background of a script.
func flockCommand(t *testing.T, flock string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("env", append([]string{"--default-signal", "sh", "-c", `ulimit -c 0; exec "$@"`, "sh", flock}, args...)...)
	cmd.Dir = t.TempDir()
	return cmd
}

// TestFlockDiesOfSignals: while it waits, and while its command runs, which is
// not sent the signal and keeps the lock.
func TestFlockDiesOfSignals(t *testing.T) {
	t.Parallel()
	flockBoth(t, func(t *testing.T, flock string) {
		for _, s := range flockSignals {
			t.Run(fmt.Sprint(int(s), " waiting"), func(t *testing.T) {
				t.Parallel()
				for _, options := range [][]string{nil, {"-w", "100"}} {
					if s == unix.SIGALRM && options != nil {
						continue // it is the timer's
					}
					path := filepath.Join(t.TempDir(), "f")
					release := flockHold(t, path)
					cmd := exclStart(t, flockCommand(t, flock, append(options, path, "true")...))
					exclAwaitWaiting(t, cmd)
					cmd.Process.Signal(s)
					if r := exclEnd(t, cmd); r.status != 128+int(s) || r.stderr != "" {
						t.Errorf("%q: %v; want killed by signal %d", options, r, s)
					}
					release()
				}
			})
			t.Run(fmt.Sprint(int(s), " running"), func(t *testing.T) {
				t.Parallel()
				path := filepath.Join(t.TempDir(), "f")
				h := exclHold(t, exclScript, flockCommand(t, flock, path).Args...)
				// It waits for its command now, or is about to: the command
				// can speak before its parent goes on.
				eventually(t, "it waits for its command", func() bool { return flockInCall(h.Process.Pid, unix.SYS_WAIT4) })
				h.Process.Signal(s)
				if r := exclEnd(t, h.Cmd); r.status != 128+int(s) || r.stderr != "" {
					t.Errorf("%v; want killed by signal %d", r, s)
				}
				if !alive(h.pid) {
					t.Error("the command has ended too")
				}
				if r := runCmd(t, exec.Command("flock", "-n", path, "true")); r.status != 1 {
					t.Errorf("the lock is free: %v", r)
				}
				h.gate.Close()
				runCmd(t, exec.Command("flock", path, "true")).want(t, 0, "")
			})
		}
	})
}

// flockInCall reports whether a thread of a process is in a system call.
func flockInCall(pid int, number uintptr) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
	for _, thread := range threads {
		if call, _ := os.ReadFile(thread); strings.HasPrefix(string(call), fmt.Sprint(number, " ")) {
			return true
		}
	}
	return false
}

// flockHold takes a lock in this process and returns what gives it up. That is
// not done by closing: a process that another test is about to start shares the
// descriptor for a moment.
func flockHold(t *testing.T, path string) (release func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	return func() { unix.Flock(int(f.Fd()), unix.LOCK_UN) }
}

// TestFlockQueue: who waits in flock(2) is served in turn, whoever it is.
func TestFlockQueue(t *testing.T) {
	t.Parallel()
	original, ours := flockTools(t)
	waiters := [][]string{
		{original + "/flock"}, {ours + "/flock"}, {lockrun, "-w"}, {original + "/flock", "-w", "100"}, {lockrun, "flock", "-w", "100"}, {lockrun, "-t", "100s"},
		{ours + "/flock", "-F"}, {original + "/flock", "-F"},
	}
	for round := range sized(5, 10, 100) {
		dir := t.TempDir()
		path, order := filepath.Join(dir, "f"), filepath.Join(dir, "order")
		release := flockHold(t, path)
		var queue []*exec.Cmd
		var want []string
		for i := range waiters {
			argv := append(waiters[(i+round)%len(waiters)], path, "sh", "-c", `echo "$1" >>"$2"`, "sh", strconv.Itoa(i), order)
			want = append(want, strconv.Itoa(i))
			cmd := exclStart(t, exec.Command(argv[0], argv[1:]...))
			exclAwaitWaiting(t, cmd)
			queue = append(queue, cmd)
		}
		release()
		for _, cmd := range queue {
			exclEnd(t, cmd).want(t, 0, "")
		}
		got, _ := os.ReadFile(order)
		if strings.Join(want, "\n")+"\n" != string(got) {
			t.Fatalf("round %d: served in the order %q", round, got)
		}
	}
}

// TestFlockTimeoutLeavesNoLock: the descriptor of somebody else is not locked
// when a wait for it is over, however late the lock comes free.
func TestFlockTimeoutLeavesNoLock(t *testing.T) {
	t.Parallel()
	flockBoth(t, func(t *testing.T, flock string) {
		timedOut := 0
		for round := range sized(5, 30, 300) {
			path := filepath.Join(t.TempDir(), "f")
			release := flockHold(t, path)
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(flock, "-w", "0.01", "3")
			cmd.ExtraFiles = []*os.File{f}
			exclStart(t, cmd)
			exclAwaitWaitingOrEnd(t, cmd)
			switch round % 3 {
			case 0:
				release()
			case 1:
				// It comes free and the time is over at once, to a process
				// that has slept through both.
				cmd.Process.Signal(unix.SIGSTOP)
				eventually(t, "stopped", func() bool {
					return strings.HasPrefix(ttyStatOf(cmd.Process.Pid).state, "T") || !alive(cmd.Process.Pid)
				})
				time.Sleep(15 * time.Millisecond)
				release()
				cmd.Process.Signal(unix.SIGCONT)
			}
			r := exclEnd(t, cmd)
			release()
			err = unix.Flock(int(flockOpen(t, path).Fd()), unix.LOCK_EX|unix.LOCK_NB)
			if r.status == 1 {
				timedOut++
			}
			if locked := err == unix.EWOULDBLOCK; locked != (r.status == 0) {
				t.Fatalf("round %d: %v, and locked: %v", round, r, locked)
			}
			f.Close()
		}
		if timedOut == 0 {
			t.Error("no wait was over")
		}
	})
}

func flockOpen(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// exclAwaitWaitingOrEnd returns when a process waits in flock(2), or has ended.
func exclAwaitWaitingOrEnd(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	eventually(t, "waiting in flock(2)", func() bool {
		return flockInCall(cmd.Process.Pid, unix.SYS_FLOCK) || !alive(cmd.Process.Pid)
	})
}

// TestFlockRange: --fcntl locks that range, for open file descriptions, and
// meets the locks of fcntl(2) of others. The installed flock(1) may be too old
// to know it; if not, it must say the same.
func TestFlockRange(t *testing.T) {
	t.Parallel()
	original, ours := flockTools(t)
	tools := []string{ours}
	if runCmd(t, exec.Command(original+"/flock", "--fcntl", "-s", "/dev/null", "true")).status == 0 {
		tools = append(tools, original)
	}
	const all = 0
	for _, test := range []struct {
		kind          int16
		start, length int64
		options       string
		want          int
	}{
		{unix.F_WRLCK, 0, all, "--fcntl", 1},
		{unix.F_WRLCK, 0, all, "--fcntl -s", 1},
		{unix.F_RDLCK, 0, all, "--fcntl -s", 0},
		{unix.F_RDLCK, 0, all, "--fcntl", 1},
		{unix.F_WRLCK, 0, all, "", 0}, // flock(2) is another kind of lock
		{unix.F_WRLCK, 10, 5, "--fcntl", 1},
		{unix.F_WRLCK, 10, 5, "--start 15", 0},
		{unix.F_WRLCK, 10, 5, "--start 14", 1},
		{unix.F_WRLCK, 10, 5, "--length 10", 0},
		{unix.F_WRLCK, 10, 5, "--length 11", 1},
		{unix.F_WRLCK, 10, 5, "--length=10 --start=0", 0},
		{unix.F_WRLCK, 10, 5, "--start 0xf --length 1", 0},
		{unix.F_WRLCK, 10, 5, "--start 016", 1},
		{unix.F_WRLCK, 10, 5, "--start 017", 0},
		{unix.F_WRLCK, 1024, 1, "--start 1K --length 1", 1},
		{unix.F_WRLCK, 1024, 1, "--start 1KiB --length 1", 1},
		{unix.F_WRLCK, 1024, 1, "--start 1KB --length 1", 0},
		{unix.F_WRLCK, 1000, 1, "--start 1KB --length 1", 1},
		{unix.F_WRLCK, 1536, 1, "--start 1.5K --length 1", 1},
		{unix.F_WRLCK, 1 << 40, 1, "--sta 1T --len 1", 1},
		{unix.F_WRLCK, 1 << 40, 1, "--sta 1T --len 1 -E 9", 9},
		{unix.F_WRLCK, 0, all, "--fcntl -w 0", 1},
		{unix.F_WRLCK, 0, all, "--fcntl -w .02 -E 7", 7},
		{unix.F_WRLCK, 0, all, "--fcntl -u", 0},
	} {
		for _, bin := range tools {
			path := filepath.Join(t.TempDir(), "f")
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			// Both kinds of a process's locks.
			for _, command := range []int{unix.F_SETLK, unix.F_OFD_SETLK} {
				request := unix.Flock_t{Type: test.kind, Start: test.start, Len: test.length}
				if test.kind == unix.F_RDLCK && command == unix.F_SETLK {
					continue // the descriptor is to write
				}
				if test.kind == unix.F_RDLCK {
					f.Close()
					if f, err = os.Open(path); err != nil {
						t.Fatal(err)
					}
				}
				if err := unix.FcntlFlock(f.Fd(), command, &request); err != nil {
					t.Fatal(err)
				}
				args := append(strings.Fields(test.options), path, "true")
				if !strings.Contains(test.options, "-w") {
					args = append([]string{"-n"}, args...)
				}
				if r := runCmd(t, exec.Command(bin+"/flock", args...)); r.status != test.want || r.stdout+r.stderr != "" {
					t.Errorf("%s: %q beside [%d, +%d) by command %d: %v; want status %d", filepath.Base(bin), args, test.start, test.length, command, r, test.want)
				}
				request.Type = unix.F_UNLCK
				unix.FcntlFlock(f.Fd(), command, &request)
			}
			f.Close()
		}
	}
}

// TestFlockNewOptions are scripts for options that the installed flock(1) need
// not have: each prints what it should, and its exit status.
func TestFlockNewOptions(t *testing.T) {
	t.Parallel()
	_, ours := flockTools(t)
	for _, test := range []struct{ script, want string }{
		// The command keeps the lock as it keeps one of flock(2).
		{`flock --fcntl f sh -c 'flock --fcntl -n f true; echo $?; flock -n f echo other kind'; flock --fcntl -n f echo free`, "1\nother kind\nfree\n0"},
		{`flock --fcntl -F f sh -c 'flock --fcntl -n f true; echo $?'; flock --fcntl -n f echo free`, "1\nfree\n0"},
		{`flock --fcntl -o f sh -c 'flock --fcntl -n f true; echo $?'`, "1\n0"},
		{`flock --start 1 --length 1 f sh -c 'flock --start 2 -n f echo beside; flock --start 1 -n f true; echo $?'`, "beside\n1\n0"},
		{`flock --fcntl f sh -c 'flock --fcntl -u 3; flock --fcntl -n f echo free'`, "free\n0"},
		// An exclusive one is to write, and does not write.
		{`echo keep >f; flock --fcntl f true; cat f`, "keep\n0"},
		{`umask 027; flock --fcntl f true; stat -c %a f`, "640\n0"},
		{`flock --fcntl f sed -n 's/^flags:.*\(.\)$/\1/p' /proc/self/fdinfo/3`, "1\n0"},
		{`: >f; flock --fcntl -s f sed -n 's/^flags:.*\(.\)$/\1/p' /proc/self/fdinfo/3`, "0\n0"},
		{`mkdir d; flock --fcntl d true`, "flock: d: Is a directory\n65"},
		{`mkdir d; flock --fcntl -s d echo hi`, "hi\n0"},
		{`flock --fcntl no/f true`, "flock: cannot open lock file no/f: No such file or directory\n66"},
		{`: >f; exec 9<f; flock --fcntl 9`, "flock: 9: Bad file descriptor\n65"},
		{`: >f; exec 9<f; flock --fcntl -s 9; echo $?; flock --fcntl -n f true`, "0\n1"},
		{`exec 9>f; flock --fcntl -s 9`, "flock: 9: Bad file descriptor\n65"},
		{`exec 9>f; flock --fcntl 9; flock --fcntl -n f true; echo $?; flock --fcntl -u 9; flock --fcntl -n f echo free`, "1\nfree\n0"},
		{`exec 9>f; flock --fcntl 9; flock --fcntl --verbose -n f true`, "flock: failed to get lock\n1"},
		{`exec 9>f; flock --fcntl 9; flock --fcntl --verbose -w .02 f true`, "flock: timeout while waiting to get lock\n1"},
		{`mkfifo go; exec 8>f; flock --fcntl 8; { read x <go; echo >free; flock --fcntl -u 8; } & exec 8>&-; echo >go; flock --fcntl f cat free; wait`, "\n0"},
		// Wrong values.
		{`flock --start x f true`, "flock: invalid as start offset: 'x': Invalid argument\n64"},
		{`flock --start -1 f true`, "flock: invalid as start offset: '-1': Invalid argument\n64"},
		{`flock --start '' f true`, "flock: invalid as start offset: '': Invalid argument\n64"},
		{`flock --start 1.5 f true`, "flock: invalid as start offset: '1.5': Invalid argument\n64"},
		{`flock --start 99999999999999999999 f true`, "flock: invalid as start offset: '99999999999999999999': Numerical result out of range\n64"},
		{`flock --length 1Q f true`, "flock: invalid as length of lock range: '1Q': Invalid argument\n64"},
		{`flock --length 1Z f true`, "flock: invalid as length of lock range: '1Z': Numerical result out of range\n64"},
		{`flock --start 18446744073709551615 f true`, "flock: f: Invalid argument\n65"},
		{`flock --start 9223372036854775807 --length 2 f true`, "flock: f: Value too large for defined data type\n65"},
		{`flock --fcntl=1 f true`, "flock: option '--fcntl' doesn't allow an argument\nTry 'flock --help' for more information.\n64"},
		{`flock --f f true`, "flock: option '--f' is ambiguous; possibilities: '--fcntl' '--fd'\nTry 'flock --help' for more information.\n64"},
		// --fd.
		{`exec 9>f; flock --fd 9 sh -c 'flock -n f true; echo $?'; flock -n f true; echo $?; flock -u 9; flock -n f echo free`, "1\n1\nfree\n0"},
		{`exec 9>f; flock --fd=9 -c 'echo hi; exit 3'`, "hi\n3"},
		{`exec 9>f; flock --fd 9 -n --command 'echo hi'`, "hi\n0"},
		{`exec 9>f; flock -n --fd 9 --command 'echo hi'`, "hi\n0"},
		{`exec 9>f; flock --fd 9 -F sh -c 'echo hi; exit 3'`, "hi\n3"},
		{`exec 9>f; flock --fd 9 -- -c 'echo hi; exit 3'`, "hi\n3"},
		{`exec 9>f; flock -c 'echo hi' --fd 9`, "flock: invalid option -- 'c'\nTry 'flock --help' for more information.\n64"},
		{`exec 9>f; flock -F --fd 9 sh -c 'flock -n f true; echo $?; exit 3'`, "1\n3"},
		{`exec 9>f; flock --fd 9 sh -c 'readlink /proc/$$/fd/9 >/dev/null && echo open; readlink /proc/$$/fd/3 || echo none'`, "open\nnone\n0"},
		{`exec 9>f; flock -o --fd 9 sh -c 'readlink /proc/$$/fd/9 || echo none; flock -n f true; echo $?'`, "none\n1\n0"},
		{`exec 9>f 8>f; flock 8; flock -n -E 5 --fd 9 echo hi`, "5"},
		{`exec 9>f 8>f; flock 8; flock -w .02 -E 5 --fd 9 echo hi`, "5"},
		{`exec 9>f; flock --verbose --fd 9 true | sed 's/took.*/took/'`, "flock: getting lock took\nflock: executing true\n0"},
		{`flock --fd 9 true`, "flock: 9: Bad file descriptor\n65"},
		{`flock --fd x true`, "flock: bad file descriptor: 'x'\n64"},
		{`flock --fd 9`, "flock: missing command\n64"},
		{`flock --fd 9 -c`, "flock: -c requires exactly one command argument\n64"},
		{`flock --fd`, "flock: option '--fd' requires an argument\nTry 'flock --help' for more information.\n64"},
		{`exec 9>f; flock --fcntl --fd 9 sh -c 'flock --fcntl -n f true; echo $?'`, "1\n0"},
		{`exec 9>f; flock --start 5 --length 1 --fd 9 sh -c 'flock --start 5 -n f true; echo $?; flock --start 6 -n f echo beside'`, "1\nbeside\n0"},
		// No room for one more descriptor.
		{`ulimit -n 3; flock f true`, "flock: cannot open lock file f: Too many open files\n71"},
	} {
		t.Run(test.script, func(t *testing.T) {
			t.Parallel()
			o := flockScript(t, flockCase{script: test.script}, ours, ours)
			if got := fmt.Sprintf("%s%s%d", o.stdout, o.stderr, o.status); got != test.want {
				t.Errorf("got %q\nwant %q", got, test.want)
			}
		})
	}
}

// TestFlockFullOrReadOnlyFileSystem needs to mount one.
func TestFlockFullOrReadOnlyFileSystem(t *testing.T) {
	t.Parallel()
	needRoot(t)
	original, ours := flockTools(t)
	for options, want := range map[string]string{
		"ro":          "flock: cannot open lock file d/f: Read-only file system\n73",
		"nr_inodes=1": "flock: cannot open lock file d/f: No space left on device\n73",
	} {
		script := "mkdir d; unshare -m sh -c 'mount -t tmpfs -o " + options + " none d || exit 99; flock d/f true'"
		for _, bin := range []string{original, ours} {
			o := flockScript(t, flockCase{script: script}, bin, bin)
			if o.status == 99 || strings.Contains(o.stderr, "unshare") {
				missing(t, "can't mount: %s", o.stderr)
			}
			if got := fmt.Sprintf("%s%d", o.stderr, o.status); got != want {
				t.Errorf("%s by %s: %q; want %q", options, filepath.Base(bin), got, want)
			}
		}
	}
}

// TestFlockVerboseOnATerminal: at once there, unlike in a pipe.
func TestFlockVerboseOnATerminal(t *testing.T) {
	t.Parallel()
	flockBoth(t, func(t *testing.T, flock string) {
		x := ttyStart(t, flock, "--verbose", "f", "echo", "hi")
		eventually(t, "ended", x.hasEnded)
		var got string
		eventually(t, "all three lines", func() bool {
			x.mu.Lock()
			defer x.mu.Unlock()
			got = flockSeconds.ReplaceAllString(strings.ReplaceAll(x.output.String(), "\r", ""), "took S seconds")
			return strings.Count(got, "\n") == 3
		})
		if want := "flock: getting lock took S seconds\nflock: executing echo\nhi\n"; got != want {
			t.Errorf("%q; want %q", got, want)
		}
	})
}

// TestInstallLinks makes links, finds them, and leaves what is not one of them.
func TestInstallLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	link := filepath.Join(dir, "flock")
	links := func() []string {
		t.Helper()
		r := run(t, "install-links", "--list", dir)
		r.want(t, 0, "")
		var found []string
		for s := bufio.NewScanner(strings.NewReader(r.stdout)); s.Scan(); {
			found = append(found, filepath.Base(s.Text()))
		}
		return found
	}
	names := func() (names []string) {
		entries, _ := os.ReadDir(dir)
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
		return names
	}
	if found := links(); len(found) != 0 {
		t.Errorf("in an empty directory: %q", found)
	}
	run(t, "install-links", dir).want(t, 0, "")
	made := names()
	if found := links(); fmt.Sprint(found) != fmt.Sprint(made) || len(found) == 0 {
		t.Errorf("--list: %q, there are %q", found, made)
	}
	runCmd(t, exec.Command(link, filepath.Join(t.TempDir(), "f"), "sh", "-c", "exit 7")).want(t, 7, "")
	run(t, "install-links", dir).want(t, 0, "") // they are there
	run(t, "install-links", "--remove", dir).want(t, 0, "")
	run(t, "install-links", "--remove", dir).want(t, 0, "")
	if left := names(); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
	run(t, "install-links", dir, "flock").want(t, 0, "")
	run(t, "install-links", "--remove", dir, "flock").want(t, 0, "")

	// What is not ours.
	for what, create := range map[string]func() error{
		"a file":                     func() error { return os.WriteFile(link, []byte("keep"), 0o755) },
		"a directory":                func() error { return os.Mkdir(link, 0o755) },
		"a link to something else":   func() error { return os.Symlink("/bin/true", link) },
		"a link to nowhere":          func() error { return os.Symlink("/no/lockrun", link) },
		"a hard link to lockrun":     func() error { return os.Link(lockrun, link) },
		"a copy with lockrun's name": func() error { return os.Symlink("lockrun", link) },
	} {
		if err := create(); err != nil {
			t.Fatal(err)
		}
		before := flockFiles(t, dir)
		run(t, "install-links", dir).want(t, 73, "flock: not a link to lockrun, and is left alone")
		run(t, "install-links", "--remove", dir).want(t, 0, "")
		run(t, "install-links", "--remove", dir, "flock").want(t, 73, "flock: not a link to lockrun, and is left alone")
		if found := links(); len(found) != 0 {
			t.Errorf("%s: --list: %q", what, found)
		}
		if after := flockFiles(t, dir); after != before {
			t.Errorf("%s:\n%s\nbefore:\n%s", what, after, before)
		}
		os.Remove(link)
	}
	run(t, "install-links").want(t, 64, "DIR is missing")
	run(t, "install-links", dir, "cat").want(t, 64, `"cat" is none of the tools`)
	run(t, "install-links", "--list", "--remove", dir).want(t, 64, "exclude each other")
	run(t, "install-links", filepath.Join(dir, "no")).want(t, 73, "no such file or directory")
	run(t, "install-links", "--list", filepath.Join(dir, "no")).want(t, 73, "no such file or directory")
}
