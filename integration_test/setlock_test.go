//go:build linux

package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// lockrun in the place of setlock(8), and setlock itself beside it: whatever the
// manual names is asked of both.

// setlocks are the original and ours.
func setlocks(t *testing.T) map[string]func(args ...string) *exec.Cmd {
	original := need(t, "setlock")
	return map[string]func(args ...string) *exec.Cmd{
		"setlock": func(args ...string) *exec.Cmd {
			return &exec.Cmd{Path: original, Args: append([]string{"setlock"}, args...)}
		},
		"lockrun": func(args ...string) *exec.Cmd { return asTool("setlock", args...) },
	}
}

// setlockState is what is in a directory: names, kinds, modes, contents.
func setlockState(t *testing.T, dir string) string {
	t.Helper()
	return setlockOwn.ReplaceAllString(filesUntimed(filesSnapAll(t, dir)), "")
}

var setlockOwn = regexp.MustCompile(`inode \d+`)

// TestSetlockIsSetlock compares exit status, both outputs and what is left in
// the directory.
func TestSetlockIsSetlock(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args   []string
		before string // a shell script that prepares the directory
	}{
		// Usage.
		{nil, ""},
		{[]string{"-"}, ""},
		{[]string{"-", "true"}, ""},
		{[]string{"-n"}, ""},
		{[]string{"L"}, ""},
		{[]string{"-nNxX", "L"}, ""},
		{[]string{"-q", "L", "true"}, ""},
		{[]string{"-nq", "L", "true"}, ""},
		{[]string{"-x", "-q", "L", "true"}, ""},
		{[]string{"-n-x", "L", "true"}, ""},
		{[]string{"", "true"}, ""},
		// The program's own status, arguments and environment.
		{[]string{"L", "true"}, ""},
		{[]string{"L", "sh", "-c", "exit 7"}, ""},
		{[]string{"-n", "L", "sh", "-c", "kill -KILL $$"}, ""},
		{[]string{"-x", "L", "sh", "-c", "exit 7"}, ""},
		{[]string{"--", "L", "true"}, ""},
		{[]string{"-n", "--", "L", "true"}, ""},
		{[]string{"L", "echo", "-n", "x", "--", "-q"}, ""},
		{[]string{"L", "sh", "-c", `echo "$0 $1 $2 $V"`, "a b", "", "c"}, ""},
		{[]string{"L", "sh", "-c", "trap '' PIPE; echo >/dev/full; pwd >&2; umask"}, ""},
		// The file: it is created, with the umask, and never changed.
		{[]string{"L", "ls", "-l", "L"}, ""},
		{[]string{"L", "true"}, "umask 0; echo text >L"},
		{[]string{"L", "true"}, "echo text >T; ln -s T L"},
		{[]string{"L", "true"}, "ln -s T L"},
		{[]string{"/dev/null", "echo", "ran"}, ""},
		// It can't be opened.
		{[]string{"no/L", "true"}, ""},
		{[]string{"-x", "no/L", "echo", "ran"}, ""},
		{[]string{"-nx", "no/L", "echo", "ran"}, ""},
		{[]string{"-xX", "no/L", "true"}, ""},
		{[]string{"L/x", "true"}, "touch L"},
		{[]string{"L", "true"}, "mkdir L"},
		{[]string{"-x", "L", "true"}, "mkdir L"},
		{[]string{"L", "true"}, "ln -s L L"},
		{[]string{"L", "true"}, "ln -s no/T L"},
		{[]string{"-n", "L", "true"}, "mkfifo L"},
		{[]string{"-N", "L", "true"}, "mkfifo L"},
		{[]string{strings.Repeat("L", 300), "true"}, ""},
		// The program can't be run.
		{[]string{"L", "no-such-program"}, ""},
		{[]string{"L", "./none"}, ""},
		{[]string{"-x", "L", "./none"}, ""},
		{[]string{"L", "/etc"}, ""},
		{[]string{"L", "/etc/passwd"}, ""},
		{[]string{"L", "./P"}, "echo no program >P; chmod 755 P"},
		{[]string{"L", "./P"}, "echo '#!/none' >P; chmod 755 P"},
		{[]string{"L", "P"}, "echo 'echo ran' >P; chmod 644 P"},
		{[]string{"L", "./L"}, "echo exit 3 >L; chmod 755 L"},
	} {
		results := map[string]string{}
		for name, setlock := range setlocks(t) {
			dir := filesDir(t)
			if out, err := exec.Command("sh", "-c", "umask 022; cd "+dir+"; "+test.before).CombinedOutput(); err != nil {
				t.Fatalf("%v %s", err, out)
			}
			cmd := setlock(test.args...)
			// Not our PATH: a directory that we may not search is one more difference.
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "V=v", "PATH="+dir+":/usr/bin:/bin")
			r := runCmd(t, cmd)
			r.took = 0
			results[name] = strings.ReplaceAll(r.String(), dir, "DIR") + "\n" + setlockState(t, dir)
		}
		if results["setlock"] != results["lockrun"] {
			t.Errorf("%q after %q: setlock has\n%s\nlockrun has\n%s", test.args, test.before, results["setlock"], results["lockrun"])
		}
	}
}

// Somebody else holds the lock: setlock, lockrun in its place, flock(1), lockrun.
func TestSetlockRefusesAHeldLock(t *testing.T) {
	t.Parallel()
	flock := need(t, "flock")
	for _, holder := range [][]string{
		{need(t, "setlock")}, {lockrun, "setlock"}, {flock}, {lockrun, "--no-pid"},
	} {
		l := filepath.Join(t.TempDir(), "L")
		h := exclHold(t, exclScript, append(holder, l)...)
		before := filesSnap(t, l)
		for name, setlock := range setlocks(t) {
			for _, test := range []struct {
				flags  string
				status int
				stderr string
			}{
				{"-n", 111, "setlock: fatal: unable to lock " + l + ": temporary failure\n"},
				{"-Nn", 111, "setlock: fatal: unable to lock " + l + ": temporary failure\n"},
				{"-xnX", 111, "setlock: fatal: unable to lock " + l + ": temporary failure\n"},
				{"-nx", 0, ""},
				{"-xn", 0, ""},
			} {
				r := runCmd(t, setlock(test.flags, l, "echo", "ran"))
				if r.status != test.status || r.stdout != "" || r.stderr != test.stderr {
					t.Errorf("%s, holder %s: %v; want status %d, stderr %q", name, holder, r, test.status, test.stderr)
				}
			}
			for _, flags := range [][]string{nil, {"-N"}, {"-nN"}, {"-x"}} {
				waiter := exclStart(t, setlock(append(flags, l, "true")...))
				exclAwaitWaiting(t, waiter)
				waiter.Process.Signal(syscall.SIGTERM)
				exclEnd(t, waiter).want(t, 143, "")
			}
		}
		filesSame(t, "refusals", before, filesSnap(t, l))
		waiter := exclStart(t, asTool("setlock", l, "true"))
		exclAwaitWaiting(t, waiter)
		h.release(t).want(t, 0, "")
		exclEnd(t, waiter).want(t, 0, "")
		toolFree(t, l)
	}
}

// And the others are refused while lockrun in setlock's place holds it.
func TestSetlockIsSeenByOthers(t *testing.T) {
	t.Parallel()
	original := need(t, "setlock")
	l := filepath.Join(t.TempDir(), "L")
	h := exclHold(t, exclScript, lockrun, "setlock", l)
	toolHeld(t, l)
	runCmd(t, exec.Command(original, "-n", l, "true")).want(t, 111, "unable to lock")
	run(t, l, "--", "true").want(t, 75, h.refusal())
	h.release(t).want(t, 0, "")
	runCmd(t, exec.Command(original, "-n", l, "true")).want(t, 0, "")
}

// The program runs in setlock's place, and has a descriptor of the lock, which
// appends to the file.
func TestSetlockHandsTheLockOn(t *testing.T) {
	t.Parallel()
	bash := need(t, "bash")
	for name, setlock := range setlocks(t) {
		l := filepath.Join(t.TempDir(), "L")
		filesWrite(t, l, "text\n", 0o600)
		// fd becomes the number of the descriptor.
		find := fmt.Sprintf(`for fd in $(ls /proc/$$/fd); do [ "$(readlink /proc/$$/fd/$fd)" = %s ] && break; done; `, l)
		for _, test := range []struct{ what, script, stdout string }{
			{"its PID", `echo $$ $PPID`, "-"},
			{"one descriptor", `readlink /proc/$$/fd/* | grep -c ` + l, "1\n"},
			{"not to read", `cat <&$fd 2>/dev/null || echo no`, "no\n"},
			{"append", `echo more >&$fd; cat ` + l, "text\nmore\n"},
			{"closed", `flock -n ` + l + ` true || echo held; exec {fd}>&-; flock -n ` + l + ` echo free`, "held\nfree\n"},
			{"unlocked", `flock -u $fd; flock -n ` + l + ` echo free`, "free\n"},
		} {
			cmd := setlock(l, bash, "-c", find+test.script)
			out, err := cmd.Output()
			want := test.stdout
			if test.what == "its PID" {
				want = fmt.Sprintln(cmd.Process.Pid, os.Getpid())
			}
			if err != nil || string(out) != want {
				t.Errorf("%s, %s: %q, %v; want %q", name, test.what, out, err, want)
			}
		}
	}
}

// The lock lives as long as anybody has the descriptor.
func TestSetlockIsKeptByWhatTheProgramLeavesBehind(t *testing.T) {
	t.Parallel()
	for name, setlock := range setlocks(t) {
		l := filepath.Join(t.TempDir(), "L")
		wait, gate := exclPipe(t)
		cmd := setlock(l, "sh", "-c", "(read _ <&3) & exit 0")
		// A pipe's end may have a number that is not the descriptor's.
		cmd.ExtraFiles = []*os.File{wait}
		exclStart(t, cmd)
		wait.Close()
		exclEnd(t, cmd).want(t, 0, "")
		runCmd(t, setlock("-n", l, "true")).want(t, 111, "unable to lock")
		waiter := exclStart(t, setlock(l, "true"))
		exclAwaitWaiting(t, waiter)
		gate.Close()
		if r := exclEnd(t, waiter); r.status != 0 {
			t.Errorf("%s: %v", name, r)
		}
	}
}

// SIGHUP and SIGINT that are ignored stay ignored (of others the Go runtime does
// not know), and none is blocked.
func TestSetlockLeavesSignalsAlone(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for name, setlock := range setlocks(t) {
		cmd := setlock(filepath.Join(t.TempDir(), "L"), "grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status")
		cmd.Args = append([]string{"sh", "-c", `trap '' HUP INT; exec "$@"`, "sh"}, append([]string{cmd.Path}, cmd.Args[1:]...)...)
		if name == "lockrun" {
			cmd.Args = append(cmd.Args[:5:5], append([]string{"setlock"}, cmd.Args[5:]...)...)
		}
		cmd.Path = need(t, "sh")
		seen[name] = runCmd(t, cmd).String()
		seen[name], _, _ = strings.Cut(seen[name][strings.Index(seen[name], "stdout"):], "stderr")
	}
	if seen["setlock"] != seen["lockrun"] || !strings.Contains(seen["setlock"], "SigIgn") {
		t.Errorf("%q", seen)
	}
}

// A file that may not be written can't be locked.
func TestSetlockOfAFileThatMayNotBeWritten(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for _, setlock := range setlocks(t) {
		dir := filesDir(t)
		l := filepath.Join(dir, "L")
		filesWrite(t, l, "", 0o444)
		toolWant(t, runCmd(t, filesAs(setlock("-n", l, "echo", "ran"), filesNobody)), 111, "",
			"setlock: fatal: unable to open "+l+": access denied\n")
		toolWant(t, runCmd(t, filesAs(setlock("-nx", l, "echo", "ran"), filesNobody)), 0, "", "")
		toolWant(t, runCmd(t, filesAs(setlock("-n", l+"x", "echo", "ran"), filesNobody)), 111, "",
			"setlock: fatal: unable to open "+l+"x: access denied\n")
	}
}

// What the original gets wrong: it opens a FIFO that somebody reads, runs beside
// the holder of a file that was deleted, and takes any word that begins with two
// dashes for the end of the options.
func TestSetlockMended(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	filesMust(t, syscall.Mkfifo(fifo, 0o600))
	reader, err := os.OpenFile(fifo, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	filesMust(t, err)
	defer reader.Close()
	toolWant(t, runCmd(t, asTool("setlock", fifo, "true")), 111, "", "setlock: fatal: unable to open "+fifo+": device not configured\n")

	const usage = "setlock: illegal option -- -\nsetlock: usage: setlock [ -nNxX ] file program [ arg ... ]\n"
	l := filepath.Join(dir, "L")
	toolWant(t, runCmd(t, asTool("setlock", "--nodelay", l, "true")), 100, "", usage)

	h := exclHold(t, exclScript, lockrun, "setlock", l)
	filesMust(t, os.Remove(l))
	runCmd(t, asTool("setlock", "-n", l, "true")).want(t, 111, "unable to lock")
	h.release(t).want(t, 0, "")
	runCmd(t, asTool("setlock", "-n", l, "true")).want(t, 0, "")
}
