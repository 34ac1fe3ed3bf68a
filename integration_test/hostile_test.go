//go:build linux

package integration_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// What an ordinary user can do to root's locks: docs/security.md is the table of
// what the tests in hostile*_test.go show.

// hostileSettings are those of the kernel that protect sticky directories, with
// the value at which they do most (proc_sys_fs(5)).
var hostileSettings = map[string]string{
	"protected_symlinks": "1", "protected_hardlinks": "1", "protected_fifos": "2", "protected_regular": "2",
}

// hostileProtect sets them until the test ends: all, or none.
func hostileProtect(t *testing.T, protect bool) {
	t.Helper()
	for name, most := range hostileSettings {
		setting := "/proc/sys/fs/" + name
		old, err := os.ReadFile(setting)
		if err != nil || os.WriteFile(setting, old, 0) != nil {
			t.Skipf("can't set %s", setting)
		}
		t.Cleanup(func() {
			if err := os.WriteFile(setting, old, 0); err != nil {
				t.Errorf("%s can't be restored: %v", setting, err)
			}
		})
		value := "0"
		if protect {
			value = most
		}
		filesMust(t, os.WriteFile(setting, []byte(value), 0))
	}
}

// hostileShell runs a script of nobody's.
func hostileShell(t *testing.T, script string, args ...string) result {
	t.Helper()
	return filesRunCmd(t, filesAs(filesShell(t, script, args...), filesNobody))
}

// hostileAttack is something that nobody prepares where root's lock is to be.
type hostileAttack struct {
	name string
	// script is what he does: $1 is the directory, $2 root's, on the same file
	// system, and $3 the PID of a process of root's. The lock is $1/L.
	script string
	lock   string // "L" if empty
	// With and without the settings: the exit status of a run and of start, and
	// what is said.
	open, protected hostileAnswer
	// The same of status, stop and signal, whatever the settings.
	status, signal int
}

type hostileAnswer struct {
	status int
	says   string
}

var hostileNone = hostileAnswer{0, ""}

func hostileAlways(status int, says string, a hostileAttack) hostileAttack {
	a.open = hostileAnswer{status, says}
	a.protected = a.open
	return a
}

var hostileAttacks = []hostileAttack{
	hostileAlways(73, "a symbolic link", hostileAttack{name: "symbolic link to a PID file of root's",
		script: `ln -s "$2/victim" "$1/L"`, status: 4, signal: 73}),
	hostileAlways(73, "a symbolic link", hostileAttack{name: "symbolic link to an empty file of root's",
		script: `ln -s "$2/empty" "$1/L"`, status: 4, signal: 73}),
	hostileAlways(73, "a symbolic link", hostileAttack{name: "symbolic link to what is not there",
		script: `ln -s "$2/new" "$1/L"`, status: 4, signal: 73}),
	hostileAlways(73, "a FIFO", hostileAttack{name: "FIFO", script: `mkfifo "$1/L"; chmod 666 "$1/L"`, status: 4, signal: 73}),
	hostileAlways(73, "a socket", hostileAttack{name: "socket",
		script: `cd "$1" && ` + helperVariable + `=hostile-socket exec "$4" "$1/L"`, status: 4, signal: 73}),
	// The kernel lets him only link what he could write.
	{name: "hard link to a PID file of root's", script: `ln "$2/victim" "$1/L" 2>/dev/null; :`,
		open: hostileAnswer{73, "2 hard links"}, protected: hostileNone, status: -1},
	{name: "hard link to an empty file of root's", script: `ln "$2/empty" "$1/L" 2>/dev/null; :`,
		open: hostileAnswer{73, "2 hard links"}, protected: hostileNone, status: 3},
	hostileAlways(77, "belongs to another user", hostileAttack{name: "file with the PID of a process of root's",
		script: `echo "$3" >"$1/L"; chmod 666 "$1/L"`, status: 1}),
	hostileAlways(77, "belongs to another user", hostileAttack{name: "file with the PID of init",
		script: `echo 1 >"$1/L"`, status: 1}),
	hostileAlways(77, "belongs to another user", hostileAttack{name: "file that he can't open himself",
		script: `: >"$1/L"; chmod 0 "$1/L"`, status: 3}),
	// As one that lockrun has not yet looked for a predecessor of.
	hostileAlways(77, "belongs to another user", hostileAttack{name: "file that looks newborn",
		script: `: >"$1/L"; chmod 1600 "$1/L"`, status: 3}),
	hostileAlways(77, "belongs to another user", hostileAttack{name: "directory",
		script: `mkdir -m 777 "$1/L"`, status: 3}),
	// A directory on the way is what it is: the kernel protects the last name of
	// a path only, and so do we.
	hostileAlways(0, "", hostileAttack{name: "symbolic link on the way", script: `ln -s "$2" "$1/dir"`, lock: "dir/empty", status: 3}),
}

// hostilePlace makes a file system with a directory of that mode, for root's lock
// and for what nobody puts there, and one of root's alone.
func hostilePlace(t *testing.T, mode os.FileMode) (top, dir, roots string) {
	t.Helper()
	nsOwnMounts(t)
	top = filesDir(t)
	nsTmpfs(t, top, "mode=755")
	dir, roots = filepath.Join(top, "dir"), filepath.Join(top, "roots")
	for _, d := range []string{dir, roots} {
		filesMust(t, os.Mkdir(d, 0o755))
	}
	filesMust(t, os.Chmod(dir, mode))
	filesWrite(t, filepath.Join(roots, "empty"), "", 0o644)
	return top, dir, roots
}

// Not parallel: the settings are the whole machine's.
func TestWhatOthersPrepareInAStickyDirectory(t *testing.T) {
	needRoot(t)
	for _, protect := range []bool{false, true} {
		t.Run(fmt.Sprintf("protected %v", protect), func(t *testing.T) {
			hostileProtect(t, protect)
			for _, attack := range hostileAttacks {
				t.Run(attack.name, func(t *testing.T) { attack.check(t, protect) })
			}
		})
	}
}

func (a *hostileAttack) check(t *testing.T, protect bool) {
	top, dir, roots := hostilePlace(t, os.ModeSticky|0o777)
	stranger, unhurt := filesStartStranger(t)
	defer unhurt()
	filesWrite(t, filepath.Join(roots, "victim"), fmt.Sprintln(stranger), 0o644)
	self, err := hostileSelf()
	filesMust(t, err)
	hostileShell(t, a.script, dir, roots, fmt.Sprint(stranger), self).want(t, 0, "")
	l := filepath.Join(dir, "L")
	if a.lock != "" {
		l = filepath.Join(dir, a.lock)
	}
	want := a.open
	if protect {
		want = a.protected
	}
	ran := filepath.Join(t.TempDir(), "ran")
	before := filesSnapAll(t, top)
	// Whoever is asked about the lock, nobody is signalled.
	for _, args := range [][]string{{"stop", "--schedule", "TERM/0.1", l}, {"signal", l, "TERM"}} {
		if r := filesRun(t, args...); r.status != a.signal && (want.status != 0 || r.status != 0) {
			t.Errorf("%q: %v; want %d", args, r, a.signal)
		}
	}
	if r := filesRun(t, "status", l); a.status >= 0 && r.status != a.status {
		t.Errorf("status: %v; want %d", r, a.status)
	}
	before = filesSame(t, "stop, signal, status", before, filesSnapAll(t, top))
	for _, flags := range []string{"", "--keep", "--remove", "-t 0.2", "start --keep", "--if-held queue"} {
		args := append(strings.Fields(flags), l, "--", "touch", ran)
		r := filesRun(t, args...)
		r.want(t, want.status, want.says)
		if want.status != 0 {
			filesWantOneLine(t, r)
			before = filesSame(t, fmt.Sprintf("%q", args), before, filesSnapAll(t, top))
		}
		if flags != "start --keep" && exists(ran) != (want.status == 0) {
			t.Errorf("%q: %v; the command ran: %v", args, r, exists(ran))
		}
		os.Remove(ran)
	}
}

// hostileSelf is a copy of this test binary that other users may execute.
var hostileSelf = sync.OnceValues(func() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	content, err := os.ReadFile(self)
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(lockrun), "tests") // goes with it
	return path, os.WriteFile(path, content, 0o755)
})

// hostileHelper is one of helpers, to be run as nobody.
func hostileHelper(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := hostileSelf()
	filesMust(t, err)
	cmd := filesAs(filesCommand(t, self, args...), filesNobody)
	cmd.Env = append(os.Environ(), helperVariable+"="+name)
	cmd.Stderr = os.Stderr
	return cmd
}

func init() {
	helpers["hostile-socket"] = hostileSocket
}

// hostileSocket leaves a socket behind.
func hostileSocket(args []string) int {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: "/proc/self/cwd/" + filepath.Base(args[0]), Net: "unix"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	l.SetUnlinkOnClose(false)
	return 0
}

// A log is opened as the shell does it: it is the kernel that protects it.
//
// Not parallel: the settings are the whole machine's.
func TestLogThatOthersPrepare(t *testing.T) {
	needRoot(t)
	for _, protect := range []bool{false, true} {
		t.Run(fmt.Sprintf("protected %v", protect), func(t *testing.T) {
			hostileProtect(t, protect)
			for _, c := range []struct {
				name, script string
				open         int // protected it is 73
				to           string
			}{
				{"symbolic link", `ln -s "$2/empty" "$1/log"`, 0, "roots/empty"},
				{"file", `: >"$1/log"`, 0, "dir/log"},
				{"FIFO", `mkfifo "$1/log"`, 73, ""},
				{"directory", `mkdir "$1/log"`, 73, ""},
			} {
				t.Run(c.name, func(t *testing.T) {
					top, dir, roots := hostilePlace(t, os.ModeSticky|0o777)
					hostileShell(t, c.script, dir, roots).want(t, 0, "")
					l, log := filepath.Join(roots, "L"), filepath.Join(dir, "log")
					filesRun(t, l, "--", "true").want(t, 0, "")
					before := filesUntimed(filesSnapAll(t, top))
					want := c.open
					if protect {
						want = 73
					}
					for _, args := range [][]string{{"--log", log, l, "--", "echo", "line"}, {"start", "--keep", "--log", log, l, "--", "echo", "line"}} {
						r := filesRun(t, args...)
						if r.status != want {
							t.Errorf("%q: %v; want %d", args, r, want)
						}
						if want == 73 {
							filesWantOneLine(t, r)
						}
					}
					filesRun(t, "-w", l, "--", "true").want(t, 0, "")
					if want == 0 {
						if got := filesContent(filepath.Join(top, c.to)); got != "line\nline\n" {
							t.Errorf("%s holds %q", c.to, got)
						}
						return
					}
					filesSame(t, "refused", before, filesUntimed(filesSnapAll(t, top)))
				})
			}
		})
	}
}

// In a directory that all may write, and that is not sticky, others can do to
// root's file what they like, but one thing.
func TestOthersMayWriteTheDirectory(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"deleted":  `rm -f "$1/L"`,
		"replaced": `rm -f "$1/L"; echo $$ >"$1/L"`,
		"linked":   `rm -f "$1/L"; ln -s "$2/empty" "$1/L"`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, dir, roots := hostilePlace(t, 0o777)
			l, ran := filepath.Join(dir, "L"), filepath.Join(t.TempDir(), "ran")
			holder, command := filesHeld(t, l)
			hostileShell(t, script, dir, roots).want(t, 0, "")
			before := filesSnapAll(t, roots)
			want := map[string]hostileAnswer{
				"deleted":  {75, fmt.Sprintf("held by process %d (sleep 60)", command)},
				"replaced": {77, "belongs to another user"},
				"linked":   {73, "a symbolic link"},
			}[name]
			for _, flags := range []string{"", "-t 0.2", "start"} {
				filesRun(t, append(strings.Fields(flags), l, "--", "touch", ran)...).want(t, want.status, want.says)
			}
			theirs := filesSnap(t, l)
			holder.Process.Signal(syscall.SIGTERM)
			holder.Wait()
			filesSame(t, "the end of the run", theirs, filesSnap(t, l))
			filesSame(t, "all that", before, filesSnapAll(t, roots))
			if exists(ran) {
				t.Error("a second one ran")
			}
		})
	}
}
