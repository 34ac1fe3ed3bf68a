//go:build linux

package integration_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lockrun in the place of lockf(1). Debian has no lockf, so it is tested against
// what lockf's manual says.

// asTool is lockrun as it is when it is called by the name of another tool.
func asTool(name string, args ...string) *exec.Cmd {
	return &exec.Cmd{Path: lockrun, Args: append([]string{name}, args...)}
}

// toolWant checks all that a tool says, word by word.
func toolWant(t *testing.T, r result, status int, stdout, stderr string) {
	t.Helper()
	if r.status != status || r.stdout != stdout || r.stderr != stderr {
		t.Errorf("%v; want status %d, stdout %q, stderr %q", r, status, stdout, stderr)
	}
}

// toolFree fails unless flock(2) finds the lock free.
func toolFree(t *testing.T, l string) {
	t.Helper()
	runCmd(t, exec.Command(need(t, "flock"), "-n", l, "true")).want(t, 0, "")
}

// toolHeld fails if flock(2) finds the lock free.
func toolHeld(t *testing.T, l string) {
	t.Helper()
	runCmd(t, exec.Command(need(t, "flock"), "-n", l, "true")).want(t, 1, "")
}

const lockfUsage = `usage: lockf [-knpsTw] [-t seconds] file command [arguments]
       lockf [-s] [-t seconds] fd
`

func TestLockfUsage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ args, stderr string }{
		{"", lockfUsage},
		{"-k", lockfUsage},
		{"-q L true", "lockf: illegal option -- q\n" + lockfUsage},
		{"-kq L true", "lockf: illegal option -- q\n" + lockfUsage},
		{"--keep L true", "lockf: illegal option -- -\n" + lockfUsage},
		{"-t", "lockf: option requires an argument -- t\n" + lockfUsage},
		{"L", "Expected fd, got 'L'\n" + lockfUsage},
		{"/tmp/L", "Expected fd, got '/tmp/L'\n" + lockfUsage},
		{"/dev/fd/x", "Expected fd, got '/dev/fd/x'\n" + lockfUsage},
		{"-- -1", "fd '-1' out of range\n" + lockfUsage},
		{"4294967296", "fd '4294967296' out of range\n" + lockfUsage},
		{"-p 1", "-p takes a file, not a descriptor\n" + lockfUsage},
		{"-t x L true", "lockf: invalid timeout \"x\"\n"},
		{"-t 1.5 L true", "lockf: invalid timeout \"1.5\"\n"},
		{"-t -1 L true", "lockf: invalid timeout \"-1\"\n"},
		{"-t 4294967296 L true", "lockf: invalid timeout \"4294967296\"\n"},
	} {
		dir := t.TempDir()
		cmd := asTool("lockf", strings.Fields(test.args)...)
		cmd.Dir = dir
		toolWant(t, runCmd(t, cmd), 64, "", test.stderr)
		cmd = exec.Command(lockrun, append([]string{"lockf"}, strings.Fields(test.args)...)...)
		cmd.Dir = dir
		toolWant(t, runCmd(t, cmd), 64, "", test.stderr)
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("lockf %s left %v", test.args, left)
		}
	}
}

// The status, whether the file stays, and what is said.
func TestLockfRunsTheCommand(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args   []string // %L is the file
		before bool     // the file is there
		status int
		stderr string
		stays  bool
	}{
		{[]string{"%L", "true"}, false, 0, "", false},
		{[]string{"%L", "true"}, true, 0, "", false},
		{[]string{"%L", "sh", "-c", "exit 7"}, false, 7, "", false},
		{[]string{"-t", "0", "%L", "true"}, false, 0, "", false},
		{[]string{"-t", " 5", "%L", "true"}, false, 0, "", false},
		{[]string{"-st5", "%L", "true"}, false, 0, "", false},
		{[]string{"-k", "%L", "sh", "-c", "exit 7"}, false, 7, "", true},
		{[]string{"-kw", "%L", "true"}, true, 0, "", true},
		{[]string{"-w", "%L", "true"}, false, 0, "", false},
		{[]string{"-k", "--", "%L", "true"}, true, 0, "", true},
		// 70: the command was signalled.
		{[]string{"%L", "sh", "-c", "kill -KILL $$"}, false, 70, "", false},
		{[]string{"-k", "%L", "sh", "-c", "kill -TERM $$"}, false, 70, "", true},
		{[]string{"%L", "sh", "-c", "kill -INT $$"}, false, 70, "", false},
		// What can't be executed.
		{[]string{"%L", "./none"}, false, 1, "lockf: ./none: No such file or directory\n", false},
		{[]string{"%L", "no-such-command"}, false, 1, "lockf: no-such-command: No such file or directory\n", false},
		{[]string{"-k", "%L", "/etc/passwd"}, false, 1, "lockf: /etc/passwd: Permission denied\n", true},
		{[]string{"-s", "%L", "/etc"}, false, 1, "lockf: /etc: Permission denied\n", false},
		// -n
		{[]string{"-n", "%L", "true"}, false, 69, "lockf: %L: No such file or directory\n", false},
		{[]string{"-sn", "%L", "true"}, false, 69, "", false},
		{[]string{"-n", "%L", "sh", "-c", "exit 7"}, true, 7, "", false},
		{[]string{"-nk", "%L", "sh", "-c", "exit 7"}, true, 7, "", true},
		{[]string{"-np", "%L", "true"}, false, 69, "lockf: %L: No such file or directory\n", false},
		// 73: what can't be opened; -s is about the lock alone.
		{[]string{"%L/x", "true"}, true, 73, "lockf: cannot open %L/x: Not a directory\n", true},
		{[]string{"-s", "%L/x", "true"}, false, 73, "lockf: cannot open %L/x: No such file or directory\n", false},
	} {
		l := filepath.Join(t.TempDir(), "L")
		if test.before {
			filesWrite(t, l, "not mine\n", 0o644)
		}
		var args []string
		for _, arg := range test.args {
			args = append(args, strings.ReplaceAll(arg, "%L", l))
		}
		r := runCmd(t, asTool("lockf", args...))
		toolWant(t, r, test.status, "", strings.ReplaceAll(test.stderr, "%L", l))
		if exists(l) != test.stays {
			t.Errorf("%v: the file is there: %v", args, exists(l))
		}
		if content, _ := os.ReadFile(l); test.before && test.stays && string(content) != "not mine\n" {
			t.Errorf("%v: the file holds %q", args, content)
		}
	}
}

func TestLockfRefusesAHeldLock(t *testing.T) {
	t.Parallel()
	l := filepath.Join(t.TempDir(), "L")
	h := exclHold(t, exclScript, lockrun, "lockf", l)
	before := filesSnap(t, l)
	for _, test := range []struct {
		flags  []string
		stderr string
		least  time.Duration
	}{
		{[]string{"-t", "0"}, "lockf: " + l + ": already locked\n", 0},
		{[]string{"-k", "-t0"}, "lockf: " + l + ": already locked\n", 0},
		{[]string{"-n", "-p", "-w", "-t0"}, "lockf: " + l + ": already locked\n", 0},
		{[]string{"-s", "-t", "0"}, "", 0},
		{[]string{"-t", "1"}, "lockf: " + l + ": already locked\n", time.Second},
		{[]string{"-skt", "1"}, "", time.Second},
	} {
		r := runCmd(t, asTool("lockf", append(test.flags, l, "echo", "ran")...))
		toolWant(t, r, 75, "", test.stderr)
		if r.took < test.least {
			t.Errorf("%v gave up after %v", test.flags, r.took)
		}
	}
	toolHeld(t, l)
	filesSame(t, "refusals", before, filesSnap(t, l))
	h.release(t).want(t, 0, "")
	if exists(l) {
		t.Error("the file is still there")
	}
}

// Who waits runs as soon as the lock is free, however the file is dealt with: the
// holder removes it, or keeps it.
func TestLockfWaits(t *testing.T) {
	t.Parallel()
	for _, holds := range [][]string{{"lockf"}, {"lockf", "-k"}, {"flock"}} {
		for _, flags := range [][]string{nil, {"-k"}, {"-t", "60"}, {"-kt60"}, {"-p"}} {
			l := filepath.Join(t.TempDir(), "L")
			argv := append([]string{lockrun}, append(holds, l)...)
			if holds[0] == "flock" {
				argv = []string{need(t, "flock"), l}
			}
			h := exclHold(t, exclScript, argv...)
			waiter := exclStart(t, asTool("lockf", append(flags, l, "true")...))
			exclAwaitWaiting(t, waiter)
			h.release(t).want(t, 0, "")
			exclEnd(t, waiter).want(t, 0, "")
			toolFree(t, l)
		}
	}
}

// Each of many that wait for a file which each removes runs alone.
func TestLockfIsAloneThoughTheFileIsRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, ran := filepath.Join(dir, "L"), filepath.Join(dir, "ran")
	n := exclRounds(80, 20)
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	filesMust(t, err)
	defer null.Close()
	var all []*exec.Cmd
	for range n {
		cmd := asTool("lockf", l, "sh", "-c", witness)
		cmd.Dir, cmd.ExtraFiles = dir, []*os.File{null}
		all = append(all, exclStart(t, cmd))
	}
	for _, cmd := range all {
		exclEnd(t, cmd).want(t, 0, "")
	}
	if got := exclLines(ran); got != n || exists(filepath.Join(dir, "violation")) || exists(l) {
		t.Errorf("%d of %d ran; two at once: %v; the file is left: %v", got, n, exists(filepath.Join(dir, "violation")), exists(l))
	}
}

// Who has waited for a file that its holder removed holds the lock on the one that
// is there, not on the one that is gone.
func TestLockfHoldsTheFileOfThePath(t *testing.T) {
	t.Parallel()
	flock := need(t, "flock")
	for _, flags := range []string{"-s", "-k"} {
		dir := t.TempDir()
		l, said := filepath.Join(dir, "L"), filepath.Join(dir, "said")
		h := exclHold(t, exclScript, lockrun, "lockf", l)
		waiter := exclStart(t, asTool("lockf", flags, l, "sh", "-c", flock+` -n "$0" true; echo $? >"$1"`, l, said))
		exclAwaitWaiting(t, waiter)
		h.release(t).want(t, 0, "")
		exclEnd(t, waiter).want(t, 0, "")
		if got, _ := os.ReadFile(said); string(got) != "1\n" {
			t.Errorf("lockf %s: flock(1) beside it ended with %s", flags, got)
		}
	}
}

// -n is obeyed by who waits, too: the holder removes the file.
func TestLockfDoesNotCreateWhatWasRemovedMeanwhile(t *testing.T) {
	t.Parallel()
	for _, flags := range []string{"-n", "-nt60", "-np"} {
		l := filepath.Join(t.TempDir(), "L")
		h := exclHold(t, exclScript, lockrun, "lockf", l)
		waiter := exclStart(t, asTool("lockf", flags, l, "true"))
		exclAwaitWaiting(t, waiter)
		h.release(t).want(t, 0, "")
		exclEnd(t, waiter).want(t, 69, "lockf: "+l+": No such file or directory\n")
		if exists(l) {
			t.Error("the file is there")
		}
	}
}

// The form with a descriptor, as the manual's example has it.
func TestLockfLocksADescriptor(t *testing.T) {
	t.Parallel()
	flock := need(t, "flock")
	for _, test := range []struct {
		script string // $L is lockf; descriptor 9 is open on the file l, 8 once more
		stdout string
		stderr string
	}{
		// The lock stays with the shell.
		{`$L 9; echo $?; $F -n l true; echo $?`, "0\n1\n", ""},
		{`$L -s -t 5 9 && $F -n l true; echo $?`, "1\n", ""},
		{`$L /dev/fd/9; $F -n l true; echo $?`, "1\n", ""},
		// Once more is no conflict; from another opening it is one.
		{`$L 9; $L 9; echo $?; $L -t 0 8; echo $?`, "0\n75\n", "lockf: 8: already locked\n"},
		{`$L 9; $L -st0 8; echo $?`, "75\n", ""},
		{`$L 9; $L -t1 /dev/fd/8; echo $?`, "75\n", "lockf: /dev/fd/8: already locked\n"},
		{`$L 9; $L -t0 l true; echo $?`, "75\n", "lockf: l: already locked\n"},
		{`$F 8; $L -t0 9; echo $?`, "75\n", "lockf: 9: already locked\n"},
		// What was refused has not got it afterwards.
		{`$F 8; $L -st1 9; $F -u 8; $F -n l echo free`, "free\n", ""},
		// With a command it is given up afterwards. The file is never removed.
		{`$L /dev/fd/9 $F -n l true; echo $?; $F -n l echo free; ls l`, "1\nfree\nl\n", ""},
		{`$L -n -w /dev/fd/9 sh -c 'exit 6'; echo $?`, "6\n", ""},
		{`$L /dev/fd/9 sh -c 'echo x >&9' 2>/dev/null || echo closed`, "closed\n", ""},
		// A number is a file's name if there is a command.
		{`$L -k 9 true; ls; $F -n l echo free`, "9\nl\nfree\n", ""},
		// Not open: 7, and 3, where the program itself has something.
		{`$L 7; echo $?`, "73\n", "lockf: cannot lock fd 7: Bad file descriptor\n"},
		{`$L 3; echo $?`, "73\n", "lockf: cannot lock fd 3: Bad file descriptor\n"},
	} {
		cmd := exec.Command("sh", "-c", test.script)
		cmd.Dir = t.TempDir()
		cmd.Env = append(os.Environ(), "L="+lockrun+" lockf", "F="+flock)
		cmd.Args[2] = "exec 9>l 8<l; " + test.script
		toolWant(t, runCmd(t, cmd), 0, test.stdout, test.stderr)
	}
}

// The original asks for a descriptor's lock again and again without a pause.
func TestLockfWaitsForADescriptorAtNoCost(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{{"3"}, {"-t", "60", "3"}, {"/dev/fd/3", "true"}} {
		l := filepath.Join(t.TempDir(), "L")
		held := exclFlock(t, l)
		f, err := os.Open(l)
		filesMust(t, err)
		defer f.Close()
		cmd := asTool("lockf", flags...)
		cmd.ExtraFiles = []*os.File{f}
		waiter := exclStart(t, cmd)
		exclAwaitWaiting(t, waiter)
		held.Close()
		exclEnd(t, waiter).want(t, 0, "")
	}
}

// -w opens the file for writing, and without it only for reading.
func TestLockfOpensForWriting(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		flags  string
		access int
	}{{"-k", os.O_RDONLY}, {"-kw", os.O_WRONLY}} {
		l := filepath.Join(t.TempDir(), "L")
		h := exclHold(t, exclScript, lockrun, "lockf", test.flags, l)
		found := false
		for _, d := range detDescriptors(t, h.pid) {
			if d.target == l && d.lock {
				found = true
				if d.access != test.access {
					t.Errorf("lockf %s: access %d; want %d", test.flags, d.access, test.access)
				}
			}
		}
		if !found {
			t.Errorf("lockf %s: the command does not carry the lock", test.flags)
		}
		h.release(t).want(t, 0, "")
	}
}

func TestLockfOfAFileThatMayNotBeWritten(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := filesDir(t)
	l := filepath.Join(dir, "L")
	filesWrite(t, l, "", 0o444)
	as := func(args ...string) *exec.Cmd { return filesAs(asTool("lockf", args...), filesNobody) }
	toolWant(t, runCmd(t, as("-k", "-t", "0", l, "echo", "ran")), 0, "ran\n", "")
	toolWant(t, runCmd(t, as("-w", "-t", "0", l, "echo", "ran")), 73, "", "lockf: cannot open "+l+": Permission denied\n")
	// Nor may the directory be written: the file stays, as it would by rm.
	toolWant(t, runCmd(t, as(l, "echo", "ran")), 0, "ran\n", "")
	if !exists(l) {
		t.Error("the file was removed")
	}
}

// -p writes the command's PID into the file.
func TestLockfWritesThePID(t *testing.T) {
	t.Parallel()
	for _, flags := range []string{"-p", "-kp"} {
		l := filepath.Join(t.TempDir(), "L")
		h := exclHold(t, exclScript, lockrun, "lockf", flags, l)
		eventually(t, "the command's PID in the file", func() bool { return pidIn(t, l) == h.pid })
		h.release(t).want(t, 0, "")
		if content, _ := os.ReadFile(l); exists(l) != (flags == "-kp") || len(content) > 0 {
			t.Errorf("lockf %s: afterwards the file is there: %v, with %q", flags, exists(l), content)
		}
	}
	// Without it nothing is written.
	l := filepath.Join(t.TempDir(), "L")
	filesWrite(t, l, "text\n", 0o644)
	before := filesSnap(t, l)
	runCmd(t, asTool("lockf", "-k", l, "true")).want(t, 0, "")
	filesSame(t, "lockf -k", before, filesSnap(t, l))
	// What is no PID is not overwritten.
	for _, flags := range []string{"-p", "-kp", "-pt0"} {
		r := runCmd(t, asTool("lockf", flags, l, "true"))
		toolWant(t, r, 73, "", "lockf: cannot open "+l+": holds something else than a PID: not a PID file\n")
		filesSame(t, "lockf "+flags, before, filesSnap(t, l))
	}
}

// SIGTERM ends lockf and frees the lock, and the command goes on without it.
func TestLockfTerminated(t *testing.T) {
	t.Parallel()
	for _, flags := range []string{"-s", "-k", "-p"} {
		l := filepath.Join(t.TempDir(), "L")
		h := exclHold(t, exclScript, lockrun, "lockf", flags, l)
		h.Process.Signal(syscall.SIGTERM)
		exclEnd(t, h.Cmd).want(t, 143, "")
		if !h.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
			t.Error("it exited, and did not die of the signal")
		}
		if exists(l) != (flags == "-k") {
			t.Errorf("lockf %s: the file is there: %v", flags, exists(l))
		}
		toolFree(t, l)
		if !alive(h.pid) {
			t.Error("the command was ended")
		}
		h.gate.Close()
		eventually(t, "the end of the command", func() bool { return !alive(h.pid) })
	}
}

// With -T it goes on to the command, and the lock is held until that has ended.
func TestLockfForwardsSIGTERM(t *testing.T) {
	t.Parallel()
	for then, status := range map[string]int{"exit 5": 5, "trap - TERM; kill -TERM $$": 70} {
		l := filepath.Join(t.TempDir(), "L")
		h := exclHold(t, fmt.Sprintf(exclTrapper, "wait $!; "+then), lockrun, "lockf", "-T", l)
		h.Process.Signal(syscall.SIGTERM)
		if got := h.line(t); got != "TERM" {
			t.Errorf("the command got %s", got)
		}
		toolHeld(t, l)
		h.release(t).want(t, status, "")
		if exists(l) {
			t.Error("the file is there")
		}
	}
}

// SIGINT and SIGQUIT are the command's business.
func TestLockfIgnoresTheKeyboard(t *testing.T) {
	t.Parallel()
	l := filepath.Join(t.TempDir(), "L")
	h := exclHold(t, exclScript, lockrun, "lockf", l)
	h.Process.Signal(syscall.SIGINT)
	h.Process.Signal(syscall.SIGQUIT)
	// The command has them at their default.
	if p := detLook(t, h.pid); p.ignored&detBits(syscall.SIGINT, syscall.SIGQUIT)&^detOurIgnored(t) != 0 {
		t.Errorf("the command ignores signals: %x", p.ignored)
	}
	toolHeld(t, l)
	h.release(t).want(t, 0, "")
}

// Who reads the command's output sees its end when the command closes it, though
// the command and lockf go on.
func TestLockfKeepsNoPipeOpen(t *testing.T) {
	t.Parallel()
	l := filepath.Join(t.TempDir(), "L")
	wait, gate := exclPipe(t)
	out, in := exclPipe(t)
	cmd := asTool("lockf", l, "sh", "-c", "echo said; exec >/dev/null 2>&1; read _ <&3; exit 0")
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = in, in, []*os.File{wait}
	background(t, cmd)
	t.Cleanup(func() { gate.Close() })
	in.Close()
	wait.Close()
	out.SetReadDeadline(time.Now().Add(30 * time.Second))
	said, err := io.ReadAll(out)
	if err != nil || string(said) != "said\n" {
		t.Errorf("%q, %v", said, err)
	}
	toolHeld(t, l)
	gate.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// The original frees the lock when it is killed, and leaves the command alone.
func TestKilledLockfLeavesCommandLocked(t *testing.T) {
	t.Parallel()
	for _, flags := range []string{"-s", "-k", "-p"} {
		l := filepath.Join(t.TempDir(), "L")
		h := exclHold(t, exclScript, lockrun, "lockf", flags, l)
		h.Process.Kill()
		exclEnd(t, h.Cmd).want(t, 137, "")
		runCmd(t, asTool("lockf", "-t0", l, "true")).want(t, 75, "already locked")
		h.gate.Close()
		runCmd(t, asTool("lockf", "-t30", l, "true")).want(t, 0, "")
	}
}

// What the command leaves behind does not keep the lock.
func TestLockfLeavesNoLockBehind(t *testing.T) {
	t.Parallel()
	l := filepath.Join(t.TempDir(), "L")
	h := exclHold(t, `(read _ <&3) & echo $$ >&4`, lockrun, "lockf", "-k", l)
	exclEnd(t, h.Cmd).want(t, 0, "")
	toolFree(t, l)
}

// What is no file: the original opens a FIFO, locks it and removes it. A
// symbolic link is followed, by the original too, which removes the link.
func TestLockfOnOddFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	filesMust(t, syscall.Mkfifo(path("fifo"), 0o600))
	filesMust(t, os.Mkdir(path("dir"), 0o700))
	filesMust(t, os.Symlink("target", path("link")))
	filesMust(t, os.Symlink("born", path("dangling")))
	filesMust(t, os.Symlink("loop", path("loop")))
	filesWrite(t, path("target"), "text\n", 0o644)
	before := filesSnapAll(t, dir)
	for name, why := range map[string]string{
		"fifo": "a FIFO: not a regular file, directory or device",
		"dir":  "Is a directory",
		"loop": "Too many levels of symbolic links",
	} {
		for _, flags := range []string{"-s", "-k", "-w", "-t1"} {
			r := runCmd(t, asTool("lockf", flags, path(name), "true"))
			toolWant(t, r, 73, "", "lockf: cannot open "+path(name)+": "+why+"\n")
		}
	}
	h := exclHold(t, exclScript, lockrun, "lockf", path("link"))
	toolHeld(t, path("target"))
	runCmd(t, asTool("lockf", "-t0", path("target"), "true")).want(t, 75, "already locked")
	h.release(t).want(t, 0, "")
	// As root: a directory that exists can be locked.
	runCmd(t, asTool("lockf", "-n", path("dir"), "true")).want(t, 0, "")
	filesSame(t, "lockf", before, filesSnapAll(t, dir))
	runCmd(t, asTool("lockf", "-n", path("dangling"), "true")).want(t, 69, "No such file or directory")
	runCmd(t, asTool("lockf", path("dangling"), "true")).want(t, 0, "")
	if !exists(path("born")) || !exists(path("dangling")) {
		t.Error("the link or its file is gone")
	}
}

// A new file has the mode that the umask leaves of 0666.
func TestLockfObeysTheUmask(t *testing.T) {
	t.Parallel()
	for mask, want := range map[string]os.FileMode{"022": 0o644, "077": 0o600, "000": 0o666} {
		l := filepath.Join(t.TempDir(), "L")
		runCmd(t, exec.Command("sh", "-c", "umask "+mask+`; exec "$@"`, "sh", lockrun, "lockf", "-k", l, "true")).want(t, 0, "")
		if fi, err := os.Stat(l); err != nil || fi.Mode() != want {
			t.Errorf("umask %s: %v, %v; want mode %v", mask, fi.Mode(), err, want)
		}
	}
}

// lockf, flock(1) and lockrun exclude each other on a file.
func TestLockfBesideOthers(t *testing.T) {
	t.Parallel()
	l := filepath.Join(t.TempDir(), "L")
	flock := need(t, "flock")
	h := exclHold(t, exclScript, lockrun, "lockf", "-k", l)
	toolHeld(t, l)
	run(t, l, "--", "true").want(t, 75, "held by process")
	h.release(t).want(t, 0, "")
	h = exclHold(t, exclScript, flock, l)
	runCmd(t, asTool("lockf", "-t0", l, "true")).want(t, 75, "already locked")
	h.release(t).want(t, 0, "")
	h = exclLockrun(t, exclScript, l)
	runCmd(t, asTool("lockf", "-t0", l, "true")).want(t, 75, "already locked")
	// A lock file that was deleted is one still.
	filesMust(t, os.Remove(l))
	runCmd(t, asTool("lockf", "-t0", l, "true")).want(t, 75, "already locked")
	h.release(t).want(t, 0, "")
}
