//go:build linux

package integration_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// docs/files.md is the table of what these tests show.

func init() {
	helpers["files-stranger"] = filesStranger
}

// filesSlow is the time above which a refusal is worth a line in the log;
// filesHang is the time after which a command is taken to hang.
const (
	filesSlow = time.Second
	filesHang = 10 * time.Second
)

// filesRun runs lockrun, which must neither hang nor dawdle.
func filesRun(t *testing.T, args ...string) result {
	t.Helper()
	return filesRunCmd(t, filesCommand(t, lockrun, args...))
}

func filesRunCmd(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	r := runCmd(t, cmd)
	if r.took > filesHang-time.Second {
		t.Fatalf("%.300q hung: %v", cmd.Args, r)
	} else if r.took > filesSlow {
		t.Logf("%.300q took %v", cmd.Args, r.took)
	}
	return r
}

// filesCommand is exec.Command for what is killed when it hangs.
func filesCommand(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), filesHang)
	t.Cleanup(cancel)
	return exec.CommandContext(ctx, name, args...)
}

// filesShell is a command that a shell prepares something for, such as its
// umask or its descriptors: script ends in exec "$@".
func filesShell(t *testing.T, script string, argv ...string) *exec.Cmd {
	t.Helper()
	return filesCommand(t, "sh", append([]string{"-c", script, "sh"}, argv...)...)
}

// filesAs makes cmd run as another user; only root can.
func filesAs(cmd *exec.Cmd, uid uint32) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return cmd
}

const filesNobody = 65534

// filesNobodysPID stands in a file as a PID that no process ever has (pid_max is
// at most this number), so that a mistake hits nobody.
const filesNobodysPID = "4194304\n"

// filesSnap says all about a file that lockrun could change: kind, mode, owner,
// links, inode, size, time and content. A directory's time is left out, for a
// file that was created and removed again changes it.
func filesSnap(t *testing.T, path string) string {
	t.Helper()
	fi, err := os.Lstat(path)
	if err != nil {
		return "nothing"
	}
	st := fi.Sys().(*syscall.Stat_t)
	s := fmt.Sprintf("%v owner %d:%d links %d inode %d", fi.Mode(), st.Uid, st.Gid, st.Nlink, st.Ino)
	switch {
	case fi.Mode()&fs.ModeSymlink != 0:
		to, err := os.Readlink(path)
		return fmt.Sprint(s, " to ", to, err)
	case fi.Mode().IsRegular():
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		const most = 60 // in a message
		return fmt.Sprintf("%s changed %v content %.*q, checksum %x", s, fi.ModTime().UTC(), most, content, sha256.Sum256(content))
	}
	return s
}

// filesSnapAll is filesSnap for all that is in a directory.
func filesSnapAll(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		fmt.Fprintf(&b, "%s: %s\n", strings.TrimPrefix(path, dir), filesSnap(t, path))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// filesUntimed takes the times out of what filesSnapAll says: a write that failed,
// or was taken back, changes them.
func filesUntimed(snap string) string { return filesTime.ReplaceAllString(snap, "") }

var filesTime = regexp.MustCompile(`changed [-+.: 0-9]* UTC`)

// filesSame fails with the lines that differ, and returns after.
func filesSame(t *testing.T, what, before, after string) string {
	t.Helper()
	lines := func(sign, of, without string) (b string) {
		for line := range strings.Lines(of) {
			if !strings.Contains(without, line) {
				b += "\n" + sign + strings.TrimSpace(line)
			}
		}
		return b
	}
	if before != after {
		t.Errorf("changed by %s:%s%s", what, lines("- ", before, after), lines("+ ", after, before))
	}
	return after
}

// filesWrite makes a file that was last written a year ago, so that a new time
// can be told from the old one.
func filesWrite(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	old := time.Now().AddDate(-1, 0, 0)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
}

func filesMust(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// filesDir is a directory that other users may look into.
func filesDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for d := dir; strings.HasPrefix(d, os.TempDir()+"/"); d = filepath.Dir(d) {
		filesMust(t, os.Chmod(d, 0o755))
	}
	return dir
}

// filesHeld starts lockrun with these arguments in the background, with a
// command that sleeps, and returns when that command runs.
func filesHeld(t *testing.T, args ...string) (cmd *exec.Cmd, command int) {
	t.Helper()
	cmd = exec.Command(lockrun, append(args, "--", "sh", "-c", "echo $$; exec sleep 60")...)
	out, err := cmd.StdoutPipe()
	filesMust(t, err)
	cmd.Stderr = os.Stderr
	background(t, cmd)
	if _, err := fmt.Fscanln(bufio.NewReader(out), &command); err != nil {
		t.Fatalf("%q: %v", cmd.Args, err)
	}
	return cmd, command
}

// What people have in files that they name by mistake.
var filesForeign = []struct{ name, content string }{
	{"word", "hello"},
	{"word and newline", "abc\n"},
	{"script", "#!/bin/sh\nrm -rf \"$HOME/cache\"\n"},
	{"two numbers", "12 34\n"},
	{"number and word", "1234 ok\n"},
	{"hexadecimal", "0x1F\n"},
	{"plus sign", "+12\n"},
	{"dash", "-\n"},
	{"megabyte", strings.Repeat("0123456789abcde\n", 1<<16)},
	{"megabyte of blanks", strings.Repeat(" ", 1<<20)},
}

// A file that is no PID file is somebody's data: promise 8.
func TestFilesOfOthersAreNotWritten(t *testing.T) {
	t.Parallel()
	for _, foreign := range filesForeign {
		t.Run(foreign.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			l, ran := filepath.Join(dir, "L"), filepath.Join(t.TempDir(), "ran")
			filesWrite(t, l, foreign.content, 0o640)
			before := filesSnapAll(t, dir)
			for _, flags := range []string{"", "--keep", "--remove", "--wait", "--timeout 5", "start", "start --keep", "start --wait"} {
				r := filesRun(t, append(strings.Fields(flags), l, "--", "touch", ran)...)
				r.want(t, 73, "--no-pid")
				r.want(t, 73, l+": ")
				filesWantOneLine(t, r)
			}
			if exists(ran) {
				t.Error("the command ran")
			}
			filesRun(t, "stop", l).want(t, 0, "not running")
			if r := filesRun(t, "status", l); r.status != 3 || !strings.Contains(r.stdout, "not running") {
				t.Errorf("status: %v; want 3, not running", r)
			}
			filesSame(t, "refused", before, filesSnapAll(t, dir))
		})
	}
}

func TestNoPIDLocksAnyFileAndWritesNone(t *testing.T) {
	t.Parallel()
	flock := need(t, "flock")
	for _, foreign := range filesForeign {
		t.Run(foreign.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			l := filepath.Join(dir, "L")
			filesWrite(t, l, foreign.content, 0o640)
			before := filesSnapAll(t, dir)
			holder, _ := filesHeld(t, "--no-pid", l)
			filesRun(t, "--no-pid", l, "--", "true").want(t, 75, "held by process ")
			filesRun(t, l, "--", "true").want(t, 75, "held by process ")
			filesRun(t, "start", "--no-pid", l, "--", "true").want(t, 75, "held by process ")
			if r := filesRunCmd(t, filesCommand(t, flock, "-n", l, "true")); r.status != 1 {
				t.Errorf("flock: %v; want 1", r)
			}
			filesSame(t, "held", before, filesSnapAll(t, dir))
			holder.Process.Signal(syscall.SIGTERM)
			holder.Wait()
			// The other way round: it is free, and flock's lock keeps us out.
			filesRunCmd(t, filesCommand(t, flock, "-n", l, lockrun, "--no-pid", l, "--", "true")).want(t, 75, "held by process ")
			filesSame(t, "released", before, filesSnapAll(t, dir))
		})
	}
}

// filesOdd is something that is no ordinary lock file.
type filesOdd struct {
	name string
	// make makes it in a directory of its own and returns the operand LOCK.
	make func(t *testing.T, dir string) string
	// The exit statuses of lockrun LOCK -- CMD (with --keep, --remove and so on
	// alike), of start, with --no-pid, of status and of stop.
	run, noPID, status, stop int
	// says is in the messages of those that fail.
	says string
	// untimed says that the file's time may change.
	untimed bool
}

func (odd *filesOdd) snap(t *testing.T, dir string) string {
	t.Helper()
	snap := filesSnapAll(t, dir)
	if odd.untimed {
		return filesUntimed(snap)
	}
	return snap
}

var filesOddities = []filesOdd{
	{"symbolic link", func(t *testing.T, dir string) string {
		filesWrite(t, dir+"/target", "", 0o600)
		filesMust(t, os.Symlink("target", dir+"/L"))
		return dir + "/L"
	}, 73, 73, 4, 73, "a symbolic link", false},
	{"symbolic link to a PID file", func(t *testing.T, dir string) string {
		filesWrite(t, dir+"/target", filesNobodysPID, 0o600)
		filesMust(t, os.Symlink(dir+"/target", dir+"/L"))
		return dir + "/L"
	}, 73, 73, 4, 73, "a symbolic link", false},
	{"dangling symbolic link", func(t *testing.T, dir string) string {
		filesMust(t, os.Symlink("target", dir+"/L"))
		return dir + "/L"
	}, 73, 73, 4, 73, "a symbolic link", false},
	{"symbolic link to itself", func(t *testing.T, dir string) string {
		filesMust(t, os.Symlink("L", dir+"/L"))
		return dir + "/L"
	}, 73, 73, 4, 73, "a symbolic link", false},
	{"FIFO", func(t *testing.T, dir string) string {
		filesMust(t, unix.Mkfifo(dir+"/L", 0o600))
		return dir + "/L"
	}, 73, 73, 4, 73, "a FIFO", false},
	{"socket", func(t *testing.T, dir string) string {
		// The address of a socket is short; a test's directory need not be.
		short, err := os.MkdirTemp("", "s")
		filesMust(t, err)
		defer os.RemoveAll(short)
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: short + "/L", Net: "unix"})
		filesMust(t, err)
		l.SetUnlinkOnClose(false)
		t.Cleanup(func() { l.Close() })
		filesMust(t, os.Rename(short+"/L", dir+"/L"))
		return dir + "/L"
	}, 73, 73, 4, 73, "a socket", false},
	{"directory", func(t *testing.T, dir string) string {
		filesMust(t, os.Mkdir(dir+"/L", 0o700))
		filesWrite(t, dir+"/L/data", "hello", 0o600)
		return dir + "/L"
	}, 0, 0, 3, 0, "", false},
	{"empty directory", func(t *testing.T, dir string) string {
		filesMust(t, os.Mkdir(dir+"/L", 0o700))
		return dir + "/L/"
	}, 0, 0, 3, 0, "", false},
	{"second hard link", func(t *testing.T, dir string) string {
		filesWrite(t, dir+"/other", filesNobodysPID, 0o600)
		filesMust(t, os.Link(dir+"/other", dir+"/L"))
		return dir + "/L"
	}, 73, 0, 1, 0, "2 hard links", false},
	{"missing directory", func(t *testing.T, dir string) string {
		return dir + "/missing/L"
	}, 73, 73, 3, 0, "the directory does not exist", false},
	{"below a file", func(t *testing.T, dir string) string {
		filesWrite(t, dir+"/file", filesNobodysPID, 0o600)
		return dir + "/file/L"
	}, 73, 73, 4, 73, "not a directory", false},
	{"5,000 characters", func(t *testing.T, dir string) string {
		return dir + "/" + strings.Repeat("x/", 2500) + "L"
	}, 73, 73, 4, 73, "file name too long", false},
	{"component of 300 characters", func(t *testing.T, dir string) string {
		return dir + "/" + strings.Repeat("x", 300)
	}, 73, 73, 4, 73, "file name too long", false},
	{"nothing", func(t *testing.T, dir string) string {
		return ""
	}, 64, 64, 64, 64, "it is empty", false},
}

// These need root, and a mount namespace: what they name must not be a thing of
// this machine. (A prototype that was run as root on /dev/null removed it.)
var filesRootOddities = []filesOdd{
	{"device", func(t *testing.T, dir string) string {
		nsTmpfs(t, dir, "mode=755")
		filesMust(t, unix.Mknod(dir+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		return dir + "/null"
	}, 0, 0, 3, 0, "", false},
	{"file of another user", func(t *testing.T, dir string) string {
		filesWrite(t, dir+"/L", filesNobodysPID, 0o666)
		filesMust(t, os.Chown(dir+"/L", filesNobody, filesNobody))
		return dir + "/L"
	}, 77, 0, 1, 0, "belongs to another user", false},
	{"read-only file system", func(t *testing.T, dir string) string {
		nsTmpfs(t, dir, "mode=755")
		filesWrite(t, dir+"/L", "99999999999\n", 0o600)
		filesMust(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		return dir + "/L"
	}, 73, 0, 3, 0, "read-only file system", false},
	{"missing on a read-only file system", func(t *testing.T, dir string) string {
		nsTmpfs(t, dir, "mode=755")
		filesMust(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		return dir + "/L"
	}, 73, 73, 3, 0, "read-only file system", false},
	{"directory on a read-only file system", func(t *testing.T, dir string) string {
		nsTmpfs(t, dir, "mode=755")
		filesMust(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		return dir
	}, 0, 0, 3, 0, "", false},
	{"full file system, missing", func(t *testing.T, dir string) string {
		nsFullTmpfs(t, dir)
		return dir + "/L"
	}, 73, 0, 3, 0, "no space left on device", true},
	{"full file system, empty", func(t *testing.T, dir string) string {
		nsFullTmpfs(t, dir)
		filesWrite(t, dir+"/L", "", 0o600)
		return dir + "/L"
	}, 73, 0, 3, 0, "no space left on device", true},
	{"full file system, the PID does not fit", func(t *testing.T, dir string) string {
		nsFullTmpfs(t, dir)
		// A hole is old state that takes no space, so there is none to write
		// into either.
		filesWrite(t, dir+"/L", "", 0o600)
		filesMust(t, os.Truncate(dir+"/L", 100))
		return dir + "/L"
	}, 73, 0, 3, 0, "no space left on device", true},
	{"no inode left", func(t *testing.T, dir string) string {
		nsTmpfs(t, dir, "mode=755,nr_inodes=2")
		filesWrite(t, dir+"/other", "", 0o600)
		return dir + "/L"
	}, 73, 73, 3, 0, "no space left on device", true},
}

// Promise 8: a defined answer at once, never a hang, never damage.
func TestOddLockFiles(t *testing.T) {
	t.Parallel()
	for _, odd := range filesOddities {
		t.Run(odd.name, func(t *testing.T) {
			t.Parallel()
			odd.check(t)
		})
	}
	for _, odd := range filesRootOddities {
		t.Run(odd.name, func(t *testing.T) {
			t.Parallel()
			nsOwnMounts(t)
			odd.check(t)
		})
	}
}

func (odd *filesOdd) check(t *testing.T) {
	dir, ran := t.TempDir(), filepath.Join(t.TempDir(), "ran")
	l := odd.make(t, dir)
	before := odd.snap(t, dir)
	check := func(status int, args ...string) {
		t.Helper()
		r := filesRun(t, args...)
		says := odd.says
		if status == 0 {
			says = ""
		}
		r.want(t, status, says)
		filesWantOneLine(t, r)
		if exists(ran) != (status == 0) {
			t.Errorf("%.200q: status %d; the command ran: %v", args, r.status, exists(ran))
		}
		os.Remove(ran)
		before = filesSame(t, fmt.Sprintf("%.200q", args), before, odd.snap(t, dir))
	}
	// --no-pid keeps a file that it made.
	noPID := func(args ...string) {
		t.Helper()
		missing := !exists(l)
		if missing && odd.noPID == 0 {
			filesRun(t, args...).want(t, 0, "")
			filesMust(t, os.Remove(l))
			os.Remove(ran)
			return
		}
		check(odd.noPID, args...)
	}
	check(odd.run, l, "--", "touch", ran)
	check(odd.run, "--keep", l, "--", "touch", ran)
	check(odd.run, "--remove", l, "--", "touch", ran)
	check(odd.run, "--timeout", "5", l, "--", "touch", ran)
	noPID("--no-pid", l, "--", "touch", ran)
	noPID("--no-pid", "--timeout", "5", l, "--", "touch", ran)

	looked := func(status int) {
		t.Helper()
		r := filesRun(t, "status", l)
		if r.status != status {
			t.Errorf("status: %v; want %d", r, status)
		}
		if status == 4 && !strings.Contains(r.stdout, odd.says) {
			t.Errorf("status: %v; want %q", r, odd.says)
		}
	}
	stopped := func(says string) {
		t.Helper()
		if odd.stop != 0 {
			says = odd.says
		}
		filesRun(t, "stop", l).want(t, odd.stop, says)
	}
	looked(odd.status)
	stopped("not running")
	for _, flag := range []string{"--keep", "--remove", "--timeout=5"} {
		args := []string{"start", flag, l, "--", "sh", "-c", `touch "$1"; exec sleep 60`, "sh", ran}
		r := filesRun(t, args...)
		if odd.run != 0 {
			r.want(t, odd.run, odd.says)
			filesWantOneLine(t, r)
			if exists(ran) {
				t.Error("start refused, and the command ran")
			}
			continue
		}
		r.want(t, 0, "")
		eventually(t, "running", func() bool { return exists(ran) })
		os.Remove(ran)
		looked(0)
		filesRun(t, l, "--", "true").want(t, 75, "held by process ")
		stopped("")
		looked(odd.status)
	}
	filesSame(t, "start, status, stop", before, odd.snap(t, dir))
}

// To open a FIFO wakes who waits at its other end.
func TestFIFOsOtherEndIsLeftAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fifo := dir + "/L"
	filesMust(t, unix.Mkfifo(fifo, 0o600))
	for _, open := range []string{"<", ">"} {
		background(t, exec.Command("sh", "-c", `echo ready > "$1/ready$2"; : `+open+` "$1/L"; echo woken > "$1/woken$2"`, "sh", dir, open))
		eventually(t, "waiting", func() bool { return exists(dir + "/ready" + open) })
		time.Sleep(20 * time.Millisecond) // from the word to the open
		for _, args := range [][]string{{fifo, "--", "true"}, {"--no-pid", fifo, "--", "true"}, {"start", fifo, "--", "true"}, {"status", fifo}, {"stop", fifo}} {
			filesRun(t, args...)
		}
		time.Sleep(20 * time.Millisecond)
		if exists(dir + "/woken" + open) {
			t.Errorf("who waited in open(2) for %s was woken", open)
		}
		// Now it is let go.
		f, err := os.OpenFile(fifo, os.O_RDWR, 0)
		filesMust(t, err)
		eventually(t, "woken", func() bool { return exists(dir + "/woken" + open) })
		f.Close()
	}
}

// fs.protected_regular refuses to open another user's file with O_CREAT in a
// sticky directory, even for root: the answer must not depend on it.
//
// Not parallel: the setting is the whole machine's.
func TestFilesOfOthersInStickyDirectory(t *testing.T) {
	needRoot(t)
	const setting = "/proc/sys/fs/protected_regular"
	old, err := os.ReadFile(setting)
	if err != nil || os.WriteFile(setting, old, 0) != nil {
		t.Skip("can't set fs.protected_regular")
	}
	defer os.WriteFile(setting, old, 0)
	const daemon = 1
	dir := filesDir(t) + "/sticky"
	filesMust(t, os.Mkdir(dir, 0o700))
	filesMust(t, os.Chmod(dir, 0o777|fs.ModeSticky))
	theirs, roots := dir+"/theirs", dir+"/roots"
	filesWrite(t, theirs, filesNobodysPID, 0o600)
	filesMust(t, os.Chown(theirs, filesNobody, filesNobody))
	filesWrite(t, roots, filesNobodysPID, 0o600)
	filesMust(t, os.Chmod(roots, 0o666))
	filesMust(t, os.Chown(dir, daemon, daemon))
	before := filesSnap(t, theirs)
	for _, value := range []string{"0", "1", "2"} {
		filesMust(t, os.WriteFile(setting, []byte(value), 0))
		filesRun(t, theirs, "--", "true").want(t, 77, "belongs to another user")
		filesRun(t, "--remove", theirs, "--", "true").want(t, 77, "belongs to another user")
		filesRun(t, "start", theirs, "--", "true").want(t, 77, "belongs to another user")
		filesRun(t, "--no-pid", theirs, "--", "true").want(t, 0, "")
		if r := filesRun(t, "status", theirs); r.status != 1 {
			t.Errorf("protected_regular %s: status: %v; want 1", value, r)
		}
		filesRun(t, "stop", theirs).want(t, 0, "not running")
		filesSame(t, "protected_regular "+value, before, filesSnap(t, theirs))
		// Root's file that everybody may write is no other user's.
		cmd := filesAs(filesCommand(t, lockrun, roots, "--", "sh", "-c", `test "$(cat "$1")" != "$2"`, "sh", roots, strings.TrimSpace(filesNobodysPID)), filesNobody)
		filesRunCmd(t, cmd).want(t, 0, "")
	}
	// Nothing of another user's is ever removed, nor can it be here.
	filesRunCmd(t, filesAs(filesCommand(t, lockrun, "--remove", roots, "--", "true"), filesNobody)).want(t, 0, "")
	if !exists(roots) {
		t.Error("root's file was removed from a sticky directory")
	}
}

// A file size limit of 0 is a full disk for everybody, and sends SIGXFSZ.
func TestFileSizeLimit(t *testing.T) {
	t.Parallel()
	for _, limited := range []string{`ulimit -f 0; exec "$@"`, `trap "" XFSZ; ulimit -f 0; exec "$@"`} {
		for _, old := range []string{"no file", "", "12345\n", "99999999999\n"} {
			for _, flags := range []string{"", "--keep", "--remove", "start", "start --keep"} {
				t.Run(fmt.Sprintf("%.4s %q %s", limited, old, flags), func(t *testing.T) {
					t.Parallel()
					dir := t.TempDir()
					l := filepath.Join(dir, "L")
					if old != "no file" {
						filesWrite(t, l, old, 0o600)
					}
					before := filesUntimed(filesSnapAll(t, dir))
					args := append([]string{lockrun}, append(strings.Fields(flags), l, "--", "mkdir", dir+"/ran")...)
					r := filesRunCmd(t, filesShell(t, limited, args...))
					r.want(t, 73, "file too large")
					filesWantOneLine(t, r)
					filesSame(t, "refused", before, filesUntimed(filesSnapAll(t, dir)))
					for _, args := range [][]string{{"--no-pid", l, "--", "true"}, {"stop", l}} {
						if r := filesRunCmd(t, filesShell(t, limited, append([]string{lockrun}, args...)...)); r.status != 0 {
							t.Errorf("%q: %v; want 0", args, r)
						}
					}
				})
			}
		}
	}
}

func filesContent(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(content)
}

// filesStranger is a program that has nothing to do with any lock. It says its
// PID, then the name of each signal that it gets, and "bye" when its standard
// input is closed.
func filesStranger([]string) int {
	signals := make(chan os.Signal, 100)
	signal.Notify(signals)
	// The Go runtime's own, the end of a child and of a pipe.
	signal.Reset(syscall.SIGURG, syscall.SIGCHLD, syscall.SIGPIPE)
	fmt.Println(os.Getpid())
	ended := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		time.Sleep(20 * time.Millisecond) // for a signal that is under way
		close(ended)
	}()
	for {
		select {
		case s := <-signals:
			fmt.Println(s)
		case <-ended:
			fmt.Println("bye")
			return 0
		}
	}
}

var filesSelf, _ = os.Executable()

// filesStartStranger starts a stranger, and returns its PID as it sees it
// itself and a function that ends it and fails if it was signalled.
func filesStartStranger(t *testing.T) (pid int, unhurt func()) {
	t.Helper()
	// helper would look into /proc, which may be another namespace's.
	cmd := exec.Command(filesSelf)
	// With -race it would wait for a second before it ends.
	cmd.Env = append(os.Environ(), helperVariable+"=files-stranger", "GORACE=atexit_sleep_ms=0")
	in, err := cmd.StdinPipe()
	filesMust(t, err)
	out, err := cmd.StdoutPipe()
	filesMust(t, err)
	filesMust(t, cmd.Start())
	lines := bufio.NewReader(out)
	_, err = fmt.Fscanln(lines, &pid)
	end := func() string {
		in.Close()
		said, _ := io.ReadAll(lines)
		cmd.Wait()
		return string(said)
	}
	if err != nil {
		t.Fatalf("stranger: %q, %v", end(), err)
	}
	ended := false
	t.Cleanup(func() {
		if !ended {
			end()
		}
	})
	return pid, func() {
		t.Helper()
		ended = true
		if said := end(); said != "bye\n" {
			t.Errorf("the stranger was hit: %q, %v", said, cmd.ProcessState)
		}
	}
}

// filesThread returns the number of a thread of a process that is no process's.
func filesThread(t *testing.T, pid int) int {
	t.Helper()
	var thread int
	eventually(t, "a second thread", func() bool {
		entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		for _, entry := range entries {
			if thread, _ = strconv.Atoi(entry.Name()); thread != 0 && thread != pid {
				return true
			}
		}
		return false
	})
	return thread
}

// filesZombie returns a process that has ended, unreaped until the test ends.
func filesZombie(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("sh", "-c", "echo $$")
	out, err := cmd.StdoutPipe()
	filesMust(t, err)
	filesMust(t, cmd.Start())
	t.Cleanup(func() { cmd.Wait() })
	var pid int
	_, err = fmt.Fscanln(out, &pid)
	filesMust(t, err)
	eventually(t, "a zombie", func() bool { return !alive(pid) })
	return pid
}

// filesWhoever are contents of a PID file whose lock is free. stranger is a
// living process's PID.
var filesWhoever = []struct {
	name    string
	content func(t *testing.T, stranger int) string
	status  int
}{
	{"stranger", func(t *testing.T, stranger int) string { return fmt.Sprintln(stranger) }, 1},
	{"stranger without a newline", func(t *testing.T, stranger int) string { return fmt.Sprint(stranger) }, 1},
	{"stranger in white space", func(t *testing.T, stranger int) string { return fmt.Sprintf("\t %d \r\n\n", stranger) }, 1},
	{"thread of a stranger", func(t *testing.T, stranger int) string { return fmt.Sprintln(filesThread(t, stranger)) }, 1},
	{"stranger, negative", func(t *testing.T, stranger int) string { return fmt.Sprintln(-stranger) }, 3},
	{"zombie", func(t *testing.T, _ int) string { return fmt.Sprintln(filesZombie(t)) }, 1},
	{"init", func(*testing.T, int) string { return "1\n" }, 1},
	{"0", func(*testing.T, int) string { return "0\n" }, 3},
	{"-1", func(*testing.T, int) string { return "-1\n" }, 3},
	{"99999999999", func(*testing.T, int) string { return "99999999999\n" }, 3},
	{"2^64+1", func(*testing.T, int) string { return "18446744073709551617\n" }, 3},
	{"nothing", func(*testing.T, int) string { return "" }, 3},
	{"newline", func(*testing.T, int) string { return "\n" }, 3},
	{"NUL bytes", func(*testing.T, int) string { return strings.Repeat("\x00", 8) }, 3},
	{"page of NUL bytes", func(*testing.T, int) string { return strings.Repeat("\x00", 4096) }, 3},
}

// Promises 2 and 5: whatever stands in a file that nobody has locked, it blocks
// no start, nobody is signalled, and nothing is called running.
func TestWhateverPIDIsInAFreeFile(t *testing.T) {
	t.Parallel()
	for _, whoever := range filesWhoever {
		t.Run(whoever.name, func(t *testing.T) {
			t.Parallel()
			if os.Geteuid() == 0 {
				// Where a signal to -1, by mistake, is not the machine's end.
				nsOwnPIDs(t, "sleep", "600")
			}
			stranger, unhurt := filesStartStranger(t)
			l := filepath.Join(t.TempDir(), "L")
			content := whoever.content(t, stranger)
			fill := func() { filesWrite(t, l, content, 0o600) }

			fill()
			before := filesSnap(t, l)
			r := filesRun(t, "status", l)
			if says := map[int]string{1: "stale: not running", 3: "not running"}[whoever.status]; r.status != whoever.status || !strings.HasPrefix(r.stdout, l+": "+says) {
				t.Errorf("status: %v; want %d, %s", r, whoever.status, says)
			}
			filesRun(t, "stop", l).want(t, 0, "not running")
			filesRun(t, "stop", "--must-run", l).want(t, 3, "not running")
			filesSame(t, "status and stop", before, filesSnap(t, l))

			// The command sees its own PID in the file, alone.
			own := `while ! printf '%d\n' $$ | cmp -s - "$1"; do sleep 0.01; done`
			for _, flag := range []string{"--timeout=0", "--keep", "--remove", "--timeout=5"} {
				fill()
				filesRun(t, flag, l, "--", "sh", "-c", own, "sh", l).want(t, 0, "")
			}
			fill()
			filesRun(t, "start", l, "--", "sleep", "60").want(t, 0, "")
			pid := pidIn(t, l)
			if line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); string(line) != "sleep\x0060\x00" || filesContent(l) != fmt.Sprintln(pid) {
				t.Errorf("the file holds %q, of %q", filesContent(l), line)
			}
			filesRun(t, "stop", l).want(t, 0, "")
			if exists(l) || alive(pid) {
				t.Errorf("after stop: process alive %v, file %s", alive(pid), filesSnap(t, l))
			}
			unhurt()
		})
	}
}

// Who asks can be the one who is named.
func TestOwnPIDInAFreeFile(t *testing.T) {
	t.Parallel()
	hit := make(chan os.Signal, 1)
	signal.Notify(hit, syscall.SIGTERM)
	defer signal.Stop(hit)
	l := filepath.Join(t.TempDir(), "L")
	filesWrite(t, l, fmt.Sprintln(os.Getpid()), 0o600)
	if r := filesRun(t, "status", l); r.status != 1 {
		t.Errorf("status: %v; want 1", r)
	}
	filesRun(t, "stop", l).want(t, 0, "not running")
	// Here the parent of lockrun is the one who is named, and then lockrun and
	// its command themselves.
	filesRunCmd(t, filesCommand(t, "sh", "-c", `echo $$ > "$1" && "$2" stop "$1" && "$2" "$1" -- true && echo fine`, "sh", l, lockrun)).want(t, 0, "not running")
	filesRunCmd(t, filesCommand(t, "sh", "-c", `echo $$ > "$1" && exec "$2" stop "$1"`, "sh", l, lockrun)).want(t, 0, "not running")
	filesRunCmd(t, filesCommand(t, "sh", "-c", `echo $$ > "$1" && exec "$2" "$1" -- true`, "sh", l, lockrun)).want(t, 0, "")
	select {
	case s := <-hit:
		t.Errorf("this test got %v", s)
	case <-time.After(20 * time.Millisecond):
	}
}

// The file of a running instance, too, can name a stranger: somebody wrote it,
// or it comes from a container, which has PIDs of its own.
func TestStrangerInTheFileOfARunningInstance(t *testing.T) {
	t.Parallel()
	for _, held := range []string{"lockrun", "flock"} {
		t.Run(held, func(t *testing.T) {
			t.Parallel()
			stranger, unhurt := filesStartStranger(t)
			l := filepath.Join(t.TempDir(), "L")
			if held == "flock" {
				background(t, exec.Command(need(t, "flock"), l, "sleep", "60"))
				eventually(t, "locked", func() bool { return filesRun(t, "status", l).status == 0 })
			} else {
				filesRun(t, "start", l, "--", "sleep", "60").want(t, 0, "")
			}
			for _, number := range []int{stranger, filesThread(t, stranger), filesZombie(t)} {
				filesWrite(t, l, fmt.Sprintln(number), 0o600)
				r := filesRun(t, "status", l)
				if r.status != 4 || !strings.HasPrefix(r.stdout, l+": unknown: ") {
					t.Errorf("status: %v; want 4, unknown", r)
				}
				r = filesRun(t, l, "--", "true")
				r.want(t, 75, "held by process ")
				if strings.Contains(r.stderr, fmt.Sprintf("process %d ", number)) {
					t.Errorf("%q names process %d, which holds nothing", r.stderr, number)
				}
			}
			filesWrite(t, l, fmt.Sprintln(stranger), 0o600)
			filesRun(t, "stop", l).want(t, 0, "")
			filesRun(t, l, "--", "true").want(t, 0, "")
			unhurt()
		})
	}
}

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

// Who is started without standard descriptors opens the lock file under one of
// their numbers, if nobody takes care, and prints into it.
func TestClosedStandardDescriptors(t *testing.T) {
	t.Parallel()
	for _, closed := range []string{"<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"} {
		t.Run(closed, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			l := filepath.Join(dir, "L")
			shell := func(args ...string) result {
				t.Helper()
				return filesRunCmd(t, filesShell(t, `exec "$@" `+closed, append([]string{lockrun}, args...)...))
			}
			// cmp's own messages, too, would go into the file.
			script := `echo junk; echo junk >&2
				while ! printf '%d\n' $$ | cmp -s - "$1/L"; do sleep 0.01; done
				echo junk; echo junk >&2
				printf '%d\n' $$ | cmp -s - "$1/L" && mkdir "$1/fine"; exec sleep "$2"`
			shell(l, "--", "sh", "-c", script, "sh", dir, "0")
			if !exists(dir+"/fine") || filesContent(l) != "" {
				t.Errorf("lockrun: fine %v, the file holds %q", exists(dir+"/fine"), filesContent(l))
			}
			os.Remove(dir + "/fine")
			if r := shell("start", l, "--", "sh", "-c", script, "sh", dir, "60"); r.status != 0 {
				t.Errorf("start: %v", r)
			}
			eventually(t, "fine", func() bool { return exists(dir + "/fine") })
			before := filesSnap(t, l)
			for _, args := range [][]string{{l, "--", "true"}, {"--no-pid", l, "--", "true"}, {"start", l, "--", "true"}} {
				if r := shell(args...); r.status != 75 {
					t.Errorf("%q: %v; want 75", args, r)
				}
			}
			shell("status", l)
			filesSame(t, "refused", before, filesSnap(t, l))
			if r := shell("stop", l); r.status != 0 {
				t.Errorf("stop: %v", r)
			}
		})
	}
}

// Who may read a lock file may lock it, so its mode does not depend on the
// umask, neither in this direction nor in the other.
func TestUmask(t *testing.T) {
	t.Parallel()
	users := []func(*exec.Cmd) *exec.Cmd{func(cmd *exec.Cmd) *exec.Cmd { return cmd }}
	if os.Geteuid() == 0 {
		// Root may do anything with a file of mode 0000, its owner may not.
		users = append(users, func(cmd *exec.Cmd) *exec.Cmd { return filesAs(cmd, filesNobody) })
	}
	for i, user := range users {
		for _, umask := range []string{"0777", "0", "0027", "0400", "0200"} {
			t.Run(fmt.Sprint(umask, " user ", i), func(t *testing.T) {
				t.Parallel()
				dir := filesDir(t)
				if i > 0 {
					filesMust(t, os.Chown(dir, filesNobody, filesNobody))
				}
				instances := filepath.Join(dir, "instances")
				shell := func(args ...string) {
					t.Helper()
					cmd := user(filesShell(t, "umask "+umask+`; exec "$@"`, append([]string{lockrun}, args...)...))
					cmd.Env = append(os.Environ(), "LOCKRUN_DIR="+instances)
					filesRunCmd(t, cmd).want(t, 0, "")
				}
				mode := func(path, want string) {
					t.Helper()
					if s := filesSnap(t, path); !strings.HasPrefix(s, want) {
						t.Errorf("%s: %s; want %s", path, s, want)
					}
				}
				shell(dir+"/L", "--", "true")
				mode(dir+"/L", "-rw------- ")
				shell("--no-pid", dir+"/no-pid", "--", "true")
				mode(dir+"/no-pid", "-rw------- ")
				shell("start", dir+"/S", "--", "sleep", "60")
				mode(dir+"/S", "-rw------- ")
				shell("stop", dir+"/S")
				shell("name", "--", "true")
				mode(instances, "drwx------ ")
				mode(instances+"/name.pid", "-rw------- ")
			})
		}
	}
}
