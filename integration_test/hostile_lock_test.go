//go:build linux

package integration_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What nobody can do with a lock that he can open, and with files of his own that
// root is made to look at.

func init() {
	helpers["hostile-lease"] = hostileLease
}

// hostileStart starts a program of nobody's, which says a line when it is at it,
// and ends it with the test.
func hostileStart(t *testing.T, cmd *exec.Cmd) (pid int, line string) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: filesNobody, Gid: filesNobody}}
	out, err := cmd.StdoutPipe()
	filesMust(t, err)
	background(t, cmd)
	line, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%q: %v", cmd.Args, err)
	}
	return cmd.Process.Pid, strings.TrimSpace(line)
}

// Who may read a lock file may lock it: flock(2) asks for no more. So new files
// can't be read by others; and whoever does it where they can is named, and can be
// ended.
func TestAnotherUserHoldsALockThatHeCanRead(t *testing.T) {
	t.Parallel()
	needRoot(t)
	flock := need(t, "flock")
	for _, how := range []string{"--exclusive", "--shared"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			l := filepath.Join(filesDir(t), "L")
			take := func() *exec.Cmd {
				return exec.Command(flock, how, "--nonblock", "--no-fork", l, "sh", "-c", "echo holds; exec sleep 600")
			}
			filesRun(t, l, "--", "true").want(t, 0, "")
			refused := filesAs(take(), filesNobody)
			if r := runCmd(t, refused); r.status == 0 || !strings.Contains(r.stderr, "Permission denied") {
				t.Errorf("a file that lockrun made can be locked by others: %v", r)
			}

			filesMust(t, os.Chmod(l, 0o644))
			before := filesSnap(t, l)
			pid, _ := hostileStart(t, take())
			named := fmt.Sprintf("held by process %d (sleep 600), user nobody, for ", pid)
			for _, flags := range []string{"", "-t 0.2", "--no-pid", "--shared --no-wait", "start", "--if-held queue -t 0.2", "--if-held wait:0.2"} {
				r := filesRun(t, append(strings.Fields(flags), l, "--", "true")...)
				if how == "--shared" && strings.Contains(flags, "--shared") {
					r.want(t, 0, "")
					continue
				}
				r.want(t, 75, named)
			}
			if r := filesRun(t, "status", l); r.status != 0 || !strings.Contains(r.stdout, "running, "+named) {
				t.Errorf("status: %v; want %s", r, named)
			}
			filesSame(t, "refused", before, filesSnap(t, l))
			// The way out.
			filesRun(t, "stop", l).want(t, 0, "")
			filesRun(t, l, "--", "true").want(t, 0, "")
		})
	}
}

// In a mount namespace of his own, which comes with a user namespace, a user gives
// his files any path, and so the deleted ones the path of root's lock.
func TestDeletedFileOfAnotherUsersNamespace(t *testing.T) {
	t.Parallel()
	nsOwnMounts(t)
	unshare, flock := need(t, "unshare"), need(t, "flock")
	top := filesDir(t)
	nsTmpfs(t, top, "mode=755")
	roots, his := filepath.Join(top, "roots"), filepath.Join(top, "his")
	filesMust(t, os.Mkdir(roots, 0o755))
	filesMust(t, os.Mkdir(his, 0o755))
	filesMust(t, os.Chown(his, filesNobody, filesNobody))
	l := filepath.Join(roots, "L")
	// The mount itself is root's here: not every kernel lets users do it.
	script := `mount --bind "$1" "$2" && exec setpriv --reuid=65534 --regid=65534 --clear-groups \
		"$3" --no-fork "$2/L" sh -c 'rm "$1" && echo deleted; exec sleep 600' sh "$2/L"`
	cmd := exec.Command(unshare, "--mount", "sh", "-c", script, "sh", his, roots, flock)
	out, err := cmd.StdoutPipe()
	filesMust(t, err)
	background(t, cmd)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "deleted\n" {
		t.Fatalf("%q, %v", line, err)
	}
	filesRun(t, l, "--", "true").want(t, 0, "")
	filesMust(t, os.Remove(l))
	filesRun(t, "-t", "0.2", l, "--", "true").want(t, 0, "")
	filesMust(t, os.Remove(l))
	foreignFree.check(t, l, foreignAs(0))

	// In a directory of his own he is believed, as he might well hold it.
	filesRun(t, filepath.Join(his, "L"), "--", "true").want(t, 0, "")
	filesMust(t, os.Remove(filepath.Join(his, "L")))
	holder, _ := hostileStart(t, exec.Command(flock, "--no-fork", filepath.Join(his, "L"), "sh", "-c", `rm "$1" && echo deleted; exec sleep 600`, "sh", filepath.Join(his, "L")))
	filesRun(t, filepath.Join(his, "L"), "--", "true").want(t, 75, fmt.Sprintf("held by process %d (sleep 600), user nobody", holder))
	// So is root, who holds a file that he gave to somebody else.
	filesWrite(t, l, "", 0o600)
	filesMust(t, os.Chown(l, filesNobody, filesNobody))
	_, command := filesHeld(t, "--no-pid", l)
	filesMust(t, os.Remove(l))
	filesRun(t, l, "--", "true").want(t, 75, "though the file was deleted")
	if !alive(command) {
		t.Error("the command is dead")
	}
}

// hostileLease holds a write lease on its own file: who opens that waits until the
// lease is given back, for 45 seconds.
func hostileLease(args []string) int {
	f, err := os.OpenFile(args[0], os.O_RDWR|os.O_CREATE, 0o666)
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("leased")
	// The SIGIO that asks for it back is not heard.
	time.Sleep(10 * time.Minute)
	return 0
}

func TestLeaseDoesNotHoldUpAnOpen(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := filesDir(t)
	filesMust(t, os.Chmod(dir, os.ModeSticky|0o777))
	leased := filepath.Join(dir, "leased")
	hostileStart(t, hostileHelper(t, "hostile-lease", leased))
	l := filepath.Join(t.TempDir(), "L")
	const says = "resource temporarily unavailable"
	for _, args := range [][]string{
		{leased, "--", "true"}, {"--no-pid", leased, "--", "true"}, {"-w", "--no-pid", leased, "--", "true"}, {"start", leased, "--", "true"},
		{"stop", leased}, {"stop", "--force", leased}, {"signal", leased, "TERM"}, {"wait", leased}, {"--log", leased, l, "--", "true"},
	} {
		r := filesRun(t, args...)
		r.want(t, 73, says)
		filesWantOneLine(t, r)
	}
	if r := filesRun(t, "status", leased); r.status != 4 || !strings.Contains(r.stdout, says) {
		t.Errorf("status: %v; want 4, %s", r, says)
	}
}

// The number in a file that others could have written is a trap, which even
// --force does not go into.
func TestForceBelievesNoFileOfOthers(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := filesDir(t)
	filesMust(t, os.Chmod(dir, os.ModeSticky|0o777))
	stranger, unhurt := filesStartStranger(t)
	for _, c := range []struct {
		name, says string
		status     int
		make       func(path string)
	}{
		{"his", "belongs to another user", 77, func(path string) { hostileShell(t, `echo "$2" >"$1"`, path, fmt.Sprint(stranger)).want(t, 0, "") }},
		{"everybodys", "may be written by everybody", 77, func(path string) {
			filesWrite(t, path, fmt.Sprintln(stranger), 0o600)
			filesMust(t, os.Chmod(path, 0o666))
		}},
		{"linked", "2 hard links", 73, func(path string) {
			filesWrite(t, path+".other", fmt.Sprintln(stranger), 0o600)
			filesMust(t, os.Link(path+".other", path))
		}},
	} {
		path := filepath.Join(dir, c.name)
		c.make(path)
		for _, flags := range []string{"--force", "--force --dry-run", "--force --schedule KILL/0.1"} {
			r := filesRun(t, append(append([]string{"stop"}, strings.Fields(flags)...), path)...)
			r.want(t, c.status, c.says)
			filesWantOneLine(t, r)
			if r.stdout != "" {
				t.Errorf("%s %s: %v", flags, c.name, r)
			}
		}
	}
	unhurt()
}

// The places of a queue, and slots, are files beside the lock: what others have
// there is neither written nor removed.
func TestFilesOfOthersBesideTheLock(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files []string
		flags string
	}{
		"queue":         {[]string{"L.queue.1"}, "--if-held queue"},
		"slots":         {[]string{"L.1"}, "--slots 2"},
		"waits in slot": {[]string{"L.2", "L.1"}, "--slots 2 -w"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filesDir(t)
			l, ran := filepath.Join(dir, "L"), filepath.Join(t.TempDir(), "ran")
			if name == "queue" {
				filesHeld(t, l)
			}
			var before []string
			for _, file := range c.files {
				filesWrite(t, filepath.Join(dir, file), "data\n", 0o600)
				before = append(before, filesSnap(t, filepath.Join(dir, file)))
			}
			for range 2 {
				r := filesRun(t, append(strings.Fields(c.flags), l, "--", "touch", ran)...)
				r.want(t, 73, filepath.Join(dir, "L."))
				r.want(t, 73, "holds something else than a PID")
			}
			for i, file := range c.files {
				filesSame(t, name, before[i], filesSnap(t, filepath.Join(dir, file)))
			}
			if exists(ran) {
				t.Error("the command ran")
			}
			if os.Geteuid() == 0 {
				path := filepath.Join(dir, c.files[len(c.files)-1])
				filesWrite(t, path, "", 0o600)
				filesMust(t, os.Chown(path, filesNobody, -1))
				filesRun(t, append(strings.Fields(c.flags), l, "--", "touch", ran)...).want(t, 77, path+": belongs to another user")
			}
		})
	}
}

// Who was given the descriptor of a lock holds it, like who took it.
func TestStopEndsWhoWasGivenTheLock(t *testing.T) {
	t.Parallel()
	needRoot(t)
	l := filepath.Join(filesDir(t), "L")
	filesWrite(t, l, "", 0o644)
	taker, given := hostileStart(t, exec.Command(need(t, "flock"), "--no-fork", l, "sh", "-c", `sleep 600 >/dev/null & echo $!; wait`))
	r := filesRun(t, "stop", "--dry-run", l)
	for _, pid := range []string{fmt.Sprint(taker), given} {
		if !strings.Contains(r.stdout, fmt.Sprintf("would send TERM/10/KILL/5 to process %s (", pid)) {
			t.Errorf("stop --dry-run: %v; want process %s", r, pid)
		}
	}
	filesRun(t, "stop", l).want(t, 0, "")
	if pid, _ := strconv.Atoi(given); alive(taker) || alive(pid) {
		t.Error("a holder lives")
	}
}
