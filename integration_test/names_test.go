//go:build linux

package integration_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// filesWantOneLine checks that a message is one line which can't move the
// cursor, whatever it quotes.
func filesWantOneLine(t *testing.T, r result) {
	t.Helper()
	if r.status == 0 && r.stderr == "" {
		return
	}
	line, complete := strings.CutSuffix(r.stderr, "\n")
	if !complete || !strings.HasPrefix(line, "lockrun: ") || !utf8.ValidString(line) {
		t.Errorf("stderr %q; want one line, from lockrun", r.stderr)
	}
	for _, c := range line {
		if !unicode.IsPrint(c) {
			t.Errorf("%q in stderr %q", c, r.stderr)
		}
	}
}

var filesBadNames = []struct{ name, operand string }{
	{"newline", "a\nb"},
	{"newline at the end", "a\n"},
	{"carriage return", "a\rb"},
	{"escape sequence", "\x1b[31mred\x1b[0m"},
	{"8-bit escape", "\u009b31mred"},
	{"title of the window", "\x1b]0;title\a"},
	{"right to left", "a\u202eb"},
	{"300 bytes", strings.Repeat("x", 300)},
	{"201 bytes", strings.Repeat("x", 201)},
	{"100,000 bytes", strings.Repeat("x", 100_000)},
	{"not UTF-8", "a\xff\xfeb"},
	{"letters of other scripts", "größe"},
	{"blank", "a b"},
	{"dot", "."},
	{"two dots", ".."},
	{"leading dot", ".hidden"},
	{"leading dash", "-name"},
	{"dash", "-"},
	{"backslash", `a\b`},
	{"glob", "*"},
	{"start", "start"},
	{"stop", "stop"},
	{"status", "status"},
	{"help", "help"},
	{"version", "version"},
	{"restart", "restart"},
	{"wait", "wait"},
	{"list", "list"},
}

func TestBadNames(t *testing.T) {
	t.Parallel()
	for _, bad := range filesBadNames {
		t.Run(bad.name, func(t *testing.T) {
			t.Parallel()
			parent := t.TempDir()
			dir := filepath.Join(parent, "instances")
			filesMust(t, os.Mkdir(dir, 0o700))
			before := filesSnapAll(t, parent)
			// Behind "--" neither a flag nor the word of a subcommand is one.
			for _, args := range [][]string{{"--"}, {"start", "--"}, {"stop", "--"}, {"status", "--"}, {"--no-pid", "--"}} {
				args = append(args, bad.operand)
				if args[0] != "stop" && args[0] != "status" {
					args = append(args, "--", "mkdir", "ran")
				}
				cmd := filesCommand(t, lockrun, args...)
				cmd.Dir = dir
				cmd.Env = append(os.Environ(), "LOCKRUN_DIR="+dir)
				r := filesRunCmd(t, cmd)
				r.want(t, 64, "lockrun: ")
				filesWantOneLine(t, r)
				if r.stdout != "" {
					t.Errorf("%.200q: stdout %q", args, r.stdout)
				}
			}
			filesSame(t, "refused", before, filesSnapAll(t, parent))
		})
	}
}

// A slash makes the operand a path of the working directory, so no word leads
// out of the instance directory by way of it.
func TestSlashesAreNoNames(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	dir, work := filepath.Join(parent, "instances"), filepath.Join(parent, "a", "work")
	filesMust(t, os.Mkdir(dir, 0o700))
	filesMust(t, os.MkdirAll(work, 0o700))
	for operand, file := range map[string]string{
		"x/../../L":       "", // there is no x
		"x/../L":          "",
		"../L":            "a/L",
		"./L":             "a/work/L",
		"./../../a/L":     "a/L",
		"./\x1b[31m\nred": "a/work/\x1b[31m\nred",
		"./-name":         "a/work/-name",
		"./status":        "a/work/status",
		"./not\xffUTF-8":  "a/work/not\xffUTF-8",
	} {
		want, says := 0, ""
		if file == "" {
			want, says = 73, "the directory does not exist"
		}
		for _, sub := range [][]string{nil, {"start", "--keep"}} {
			cmd := filesCommand(t, lockrun, append(sub, operand, "--", "true")...)
			cmd.Dir = work
			cmd.Env = append(os.Environ(), "LOCKRUN_DIR="+dir)
			r := filesRunCmd(t, cmd)
			r.want(t, want, says)
			filesWantOneLine(t, r)
			if file != "" {
				path := filepath.Join(parent, file)
				eventually(t, fmt.Sprintf("%q is free", path), func() bool { return filesRun(t, "status", path).status == 3 })
				if err := os.Remove(path); err != nil {
					t.Errorf("%q: %v", operand, err)
				}
			}
			for _, d := range []string{parent, dir, filepath.Dir(work), work} {
				if entries, _ := os.ReadDir(d); len(entries) != map[string]int{parent: 2, filepath.Dir(work): 1}[d] {
					t.Errorf("%q: %s holds %v", operand, d, entries)
				}
			}
		}
	}
	// What status and a refusal print is a line as well.
	path := filepath.Join(parent, "\x1b[31m\nred\xff")
	filesHeld(t, path)
	r := filesRun(t, path, "--", "true")
	r.want(t, 75, "held by process ")
	filesWantOneLine(t, r)
	r = filesRun(t, "status", path)
	filesWantOneLine(t, result{stderr: "lockrun: " + r.stdout, status: r.status, stdout: " "})
	filesRun(t, "stop", path).want(t, 0, "")
}

// What others could have prepared is no place for locks.
func TestInstanceDirectoryThatCantBeTrusted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		make func(t *testing.T, dir string)
		says string
	}{
		{"symbolic link", func(t *testing.T, dir string) {
			filesMust(t, os.Mkdir(dir+".real", 0o700))
			filesMust(t, os.Symlink(dir+".real", dir))
		}, "is a symbolic link"},
		{"dangling symbolic link", func(t *testing.T, dir string) {
			filesMust(t, os.Symlink(dir+".real", dir))
		}, "is a symbolic link"},
		{"file", func(t *testing.T, dir string) {
			filesWrite(t, dir, "", 0o600)
		}, "is not a directory"},
		{"FIFO", func(t *testing.T, dir string) {
			filesMust(t, unix.Mkfifo(dir, 0o600))
		}, "is not a directory"},
		{"everybody may write", func(t *testing.T, dir string) {
			filesMust(t, os.Mkdir(dir, 0o700))
			filesMust(t, os.Chmod(dir, 0o777))
		}, "may be written by others"},
		{"everybody may write, sticky", func(t *testing.T, dir string) {
			filesMust(t, os.Mkdir(dir, 0o700))
			filesMust(t, os.Chmod(dir, 0o777|fs.ModeSticky))
		}, "may be written by others"},
		{"group may write", func(t *testing.T, dir string) {
			filesMust(t, os.Mkdir(dir, 0o700))
			filesMust(t, os.Chmod(dir, 0o770))
		}, "may be written by others"},
		{"another user's", func(t *testing.T, dir string) {
			needRoot(t)
			filesMust(t, os.Mkdir(dir, 0o700))
			filesMust(t, os.Chown(dir, filesNobody, filesNobody))
		}, "belongs to user "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			parent := t.TempDir()
			dir := filepath.Join(parent, "instances")
			c.make(t, dir)
			filesRefusesInstances(t, dir, parent, c.says, func(*exec.Cmd) {})
		})
	}
	t.Run("root's", func(t *testing.T) {
		t.Parallel()
		parent := filesDir(t)
		dir := filepath.Join(parent, "instances")
		become := func(cmd *exec.Cmd) { filesAs(cmd, filesNobody) }
		if os.Geteuid() != 0 {
			// Any directory of root's that is always there.
			dir, parent, become = "/usr", t.TempDir(), func(*exec.Cmd) {}
		} else {
			filesMust(t, os.Mkdir(dir, 0o755))
		}
		filesRefusesInstances(t, dir, parent, "belongs to user root", become)
	})
}

// filesRefusesInstances checks that the instance directory dir is refused, and
// that nothing in parent changes.
func filesRefusesInstances(t *testing.T, dir, parent, says string, become func(*exec.Cmd)) {
	t.Helper()
	before := filesSnapAll(t, parent)
	// status has the statuses of an init script, in which 4 is "unknown".
	for sub, want := range map[string]int{"--timeout=0": 77, "--timeout=5": 77, "--no-pid": 77, "start": 77, "stop": 77, "status": 4} {
		args := []string{sub, "name"}
		if sub != "stop" && sub != "status" {
			args = append(args, "--", "true")
		}
		cmd := filesCommand(t, lockrun, args...)
		cmd.Env = append(os.Environ(), "LOCKRUN_DIR="+dir)
		become(cmd)
		r := filesRunCmd(t, cmd)
		r.want(t, want, says)
		r.want(t, want, dir)
		filesWantOneLine(t, r)
	}
	filesSame(t, "refused", before, filesSnapAll(t, parent))
}

// A name means one lock, from wherever it is used, in the foreground and in the
// background (whose working directory is "/").
func TestRelativeInstanceDirectory(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	instances := fmt.Sprint("lockrun-test-", os.Getpid())
	filesMust(t, os.Mkdir(filepath.Join(work, instances), 0o700))
	lockrunIn := func(dir string, args ...string) *exec.Cmd {
		cmd := filesCommand(t, lockrun, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "LOCKRUN_DIR="+instances)
		return cmd
	}
	defer func() {
		// Where a daemon finds it that forgot where it came from.
		if exists("/" + instances) {
			t.Errorf("created /%s", instances)
			runCmd(t, lockrunIn("/", "stop", "name"))
			os.RemoveAll("/" + instances)
		}
	}()
	start := filesRunCmd(t, lockrunIn(work, "start", "name", "--", "sleep", "60"))
	if start.status != 0 {
		// To refuse such a directory is an answer too, if all are refused.
		filesRunCmd(t, lockrunIn(work, "name", "--", "true")).want(t, start.status, "lockrun: ")
		return
	}
	filesRunCmd(t, lockrunIn(work, "name", "--", "true")).want(t, 75, "held by process ")
	filesRunCmd(t, lockrunIn(work, "stop", "name")).want(t, 0, "")
}

// Without LOCKRUN_DIR an ordinary user's locks are in lockrun-UID.
func TestInstanceDirectoryOfAnOrdinaryUser(t *testing.T) {
	t.Parallel()
	uid := os.Getuid()
	if uid == 0 {
		uid = filesNobody
	}
	user := func(args ...string) *exec.Cmd {
		cmd := filesCommand(t, lockrun, args...)
		cmd.Env = append(os.Environ(), "LOCKRUN_DIR=")
		if os.Getuid() == 0 {
			filesAs(cmd, uint32(uid))
		}
		return cmd
	}
	check := func(t *testing.T, dir string) {
		if fi, err := os.Lstat(dir); err == nil && (fi.Mode() != 0o700|fs.ModeDir || int(fi.Sys().(*syscall.Stat_t).Uid) != uid) {
			t.Skipf("%s is there: %v", dir, fi.Mode())
		}
		name := fmt.Sprint("lockrun-test-", os.Getpid())
		file, was := filepath.Join(dir, name+".pid"), exists(dir)
		defer func() {
			os.Remove(file)
			if !was {
				os.Remove(dir) // not when somebody else uses it by now
			}
		}()
		filesRunCmd(t, user("stop", name)).want(t, 0, "not running")
		if !was && exists(dir) {
			t.Errorf("stop created %s", dir)
		}
		filesRunCmd(t, user(name, "--", "grep", "-q", ".", file)).want(t, 0, "")
		if s := filesSnap(t, dir); !strings.HasPrefix(s, fmt.Sprintf("drwx------ owner %d:", uid)) {
			t.Errorf("%s: %s", dir, s)
		}
		if s := filesSnap(t, file); !strings.HasPrefix(s, fmt.Sprintf("-rw------- owner %d:", uid)) || filesContent(file) != "" {
			t.Errorf("%s: %s", file, s)
		}
		filesRunCmd(t, user("start", name, "--", "sleep", "60")).want(t, 0, "")
		filesRunCmd(t, user(name, "--", "true")).want(t, 75, "held by process ")
		filesRunCmd(t, user("stop", name)).want(t, 0, "")
	}
	t.Run("as it is here", func(t *testing.T) {
		base := "/tmp"
		if fi, err := os.Lstat("/run/lock"); err == nil && fi.IsDir() && fi.Mode().Perm()&0o002 != 0 {
			base = "/run/lock"
		}
		check(t, fmt.Sprintf("%s/lockrun-%d", base, uid))
	})
	for mode, base := range map[string]string{"1777": "/run/lock", "0755": "/tmp"} {
		t.Run("run lock has mode "+mode, func(t *testing.T) {
			nsOwnMounts(t)
			if !exists("/run/lock") {
				t.Skip("no /run/lock")
			}
			nsTmpfs(t, "/run/lock", "mode="+mode)
			check(t, fmt.Sprintf("%s/lockrun-%d", base, uid))
		})
	}
}
