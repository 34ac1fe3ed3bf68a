//go:build linux

package integration_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

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
