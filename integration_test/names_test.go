//go:build linux

package integration_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
	{"run", "run"},
	{"signal", "signal"},
	{"verify", "verify"},
}

// filesWords are all that takes a LOCK: the arguments, in which LOCK stands for
// it, behind "--" wherever it could be a flag or a word.
var filesWords = [][]string{
	{"--", "LOCK", "--", "mkdir", "ran"},
	{"--no-pid", "--", "LOCK", "--", "mkdir", "ran"},
	{"--timeout=0.05", "--", "LOCK", "--", "mkdir", "ran"},
	{"start", "--", "LOCK", "--", "mkdir", "ran"},
	{"restart", "--", "LOCK", "--", "mkdir", "ran"},
	{"stop", "--", "LOCK"},
	{"stop", "--dry-run", "--", "LOCK"},
	{"signal", "--", "LOCK", "HUP"},
	{"wait", "--timeout=0", "--", "LOCK"},
	{"wait", "--ready", "--timeout=0", "--", "LOCK"},
	{"--if-held=queue", "--timeout=0.05", "--", "LOCK", "--", "mkdir", "ran"},
	{"--slots=2", "--", "LOCK", "--", "mkdir", "ran"},
	{"status", "--", "LOCK"},
	{"status", "--json", "--", "LOCK"},
	{"status", "--", "LOCK", "./other"},
}

// filesWord puts the operand into one of filesWords.
func filesWord(word []string, operand string) []string {
	args := slices.Clone(word)
	args[slices.Index(args, "LOCK")] = operand
	return args
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
			for _, word := range filesWords {
				args := filesWord(word, bad.operand)
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

// filesControls is what could fool a terminal: the C0 and C1 controls, the title
// of the window, a line of one's own, text that runs from right to left, and
// what is no UTF-8.
const filesControls = "\x1b[2J\x1b]0;title\a\r\n\b\x7f\u009b31m\u202e\u2028\xff\xfe"

// filesTame checks that nothing in an output moves a cursor but its own newlines
// and tabs.
func filesTame(t *testing.T, what any, output string) {
	t.Helper()
	if !utf8.ValidString(output) {
		t.Errorf("%.200q: %q is no UTF-8", what, output)
	}
	for _, c := range output {
		if c != '\n' && c != '\t' && !unicode.IsPrint(c) {
			t.Errorf("%.200q: %q in %q", what, c, output)
			return
		}
	}
}

// Neither the path of a lock nor the command line of its holder, which that may
// change to whatever it likes, reaches a terminal as it is.
func TestControlCharactersAreNotPrinted(t *testing.T) {
	t.Parallel()
	bash := need(t, "bash")
	l := filepath.Join(t.TempDir(), "L"+filesControls)
	background(t, exec.Command(lockrun, l, "--", bash, "-c", `exec -a "$1" sleep 600`, "bash", filesControls))
	eventually(t, "the command line has changed", func() bool {
		content, _ := os.ReadFile(l)
		line, _ := os.ReadFile("/proc/" + strings.TrimSpace(string(content)) + "/cmdline")
		return string(line) == filesControls+"\x00600\x00"
	})
	words := slices.DeleteFunc(slices.Clone(filesWords), func(word []string) bool {
		return word[0] == "stop" && word[1] == "--" || word[0] == "signal" || word[0] == "restart" // the last thing that is done
	})
	words = append(words, []string{"signal", "--", "LOCK", "WINCH"}, []string{"signal", "--", "LOCK", filesControls}, []string{"stop", "--schedule", filesControls, "--", "LOCK"},
		[]string{"stop", "--", "LOCK", filesControls}, []string{"wait", "--timeout", filesControls, "--", "LOCK"}, []string{"--" + filesControls, "LOCK"}, []string{"stop", "--", "LOCK"},
		[]string{"status", "--", "LOCK"}, []string{"stop", "--", "LOCK"}, []string{"--keep", "--", "LOCK", "--", filesControls})
	for _, word := range words {
		args := filesWord(word, l)
		if word[0] != "stop" || len(word) != 3 { // a terminal first, since stop ends it
			x := ttyStart(t, append([]string{lockrun}, args...)...)
			x.wait()
			said := x.said()
			filesTame(t, args, strings.ReplaceAll(said, "\r\n", "\n"))
			if said == "" && word[0] != "signal" {
				t.Errorf("%q says nothing", args)
			}
		}
		r := filesRun(t, args...)
		filesTame(t, args, r.stdout+r.stderr)
	}
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
	for _, word := range append(filesWords, []string{"list"}, []string{"list", "--all"}, []string{"status"}) {
		args, want := word, 77
		if slices.Contains(word, "LOCK") {
			args = filesWord(word, "name")
			if args[0] == "status" {
				want = 4 // those of an init script: unknown
			}
		}
		cmd := filesCommand(t, lockrun, args...)
		cmd.Dir = parent
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
		if fi, err := os.Lstat("/run/lock"); err == nil && fi.IsDir() && fi.Mode().Perm()&0o002 != 0 && fi.Mode()&fs.ModeSticky != 0 {
			base = "/run/lock"
		}
		check(t, fmt.Sprintf("%s/lockrun-%d", base, uid))
	})
	for mode, base := range map[string]string{"1777": "/run/lock", "0777": "/tmp", "0755": "/tmp"} {
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
