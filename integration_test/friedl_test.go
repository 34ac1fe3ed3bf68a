//go:build linux

package integration_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The command line of the older lockrun, by Stephen J. Friedl. It is in no
// distribution, so it is tested against what its help and its messages say.

func TestFriedlCommandLine(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args   string // %L is the file
		status int
		stdout string
		stderr string
	}{
		{"--lockfile=%L -- echo ran", 0, "ran\n", ""},
		{"--lockfile %L -- echo ran", 0, "ran\n", ""},
		{"-L=%L -- echo ran", 0, "ran\n", ""},
		{"-L %L -- echo ran", 0, "ran\n", ""},
		{"-W -S=1 -R 3 --maxtime=60 -q -L=%L -- echo ran", 0, "ran\n", ""},
		{"--quiet --wait --sleep=0 --retries=1 --maxtime 60 --lockfile=%L -- echo ran", 0, "ran\n", ""},
		{"--sleep 5 --retries 5 -T 5 -L %L -- echo ran", 0, "ran\n", ""},
		{"--lockfile=other --lockfile=%L -- echo ran", 0, "ran\n", ""},
		{"--lockfile=%L --sleep=x --wait=no -- echo ran", 0, "ran\n", ""},
		// What stands behind -- is the command's.
		{"-L=%L -- echo -t 5 -- -L=x --lockfile", 0, "-t 5 -- -L=x --lockfile\n", ""},
		{"-L=%L -- sh -c exit$IFS''7", 7, "", ""},
		{"-L=%L -- ./none", 127, "", "ERROR: cannot execute ./none [err=No such file or directory]\n"},
		{"-L=%L -- no-such-command", 127, "", "ERROR: cannot execute no-such-command [err=No such file or directory]\n"},
		{"-q -L=%L -- /etc/passwd", 126, "", "ERROR: cannot execute /etc/passwd [err=Permission denied]\n"},
		// What is wrong, as it says it.
		{"-L=%L", 1, "", "ERROR: missing command to lockrun (must follow \"--\" marker) \n"},
		{"-L=%L --", 1, "", "ERROR: missing command to lockrun (must follow \"--\" marker) \n"},
		{"-L=%L echo ran", 1, "", "ERROR: \"echo\" is an invalid cmdline param\n"},
		{"--lockfile=%L --lockflie=x -- echo ran", 1, "", "ERROR: \"--lockflie\" is an invalid cmdline param\n"},
		{"-L=%L -x -- echo ran", 1, "", "ERROR: \"-x\" is an invalid cmdline param\n"},
		{"--wait --lockfile", 1, "", "ERROR: option --lockfile requires a parameter\n"},
		{"-L=%L --sleep", 1, "", "ERROR: option --sleep requires a parameter\n"},
		{"-L=no/such/dir/L -- echo ran", 1, "", "ERROR: cannot open(no/such/dir/L) [err=No such file or directory]\n"},
		{"-L= -- echo ran", 1, "", "ERROR: cannot open() [err=No such file or directory]\n"},
		{"-L=/ -- echo ran", 1, "", "ERROR: cannot open(/) [err=Is a directory]\n"},
	} {
		l := filepath.Join(t.TempDir(), "L")
		args := strings.Fields(strings.ReplaceAll(test.args, "%L", l))
		for i, arg := range args {
			args[i] = strings.ReplaceAll(arg, "$IFS''", " ")
		}
		r := runCmd(t, asTool("lockrun", args...))
		toolWant(t, r, test.status, test.stdout, test.stderr)
	}
	for _, flag := range []string{"--help", "--version"} {
		r := run(t, "--lockfile=x", flag)
		toolWant(t, r, 0, run(t, flag).stdout, "")
	}
}

// A flag of ours and one of his is an error, whichever comes first.
func TestFriedlAndOurFlagsDoNotMix(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ args, says string }{
		{"-L=%L -t 5 -- echo ran", "-t does not go with --lockfile"},
		{"-t 5 -L=%L -- echo ran", "-t does not go with --lockfile"},
		{"--timeout=5 --lockfile=%L -- echo ran", "--timeout does not go with --lockfile"},
		{"-w -L=%L -- echo ran", "-w does not go with --lockfile"},
		{"-E 3 -L %L -- echo ran", "-E does not go with --lockfile"},
		{"-L=%L --if-held skip -- echo ran", "--if-held does not go with --lockfile"},
		{"-L=%L -c true", "-c does not go with --lockfile"},
		{"-L=%L --no-pid -- echo ran", "--no-pid does not go with --lockfile"},
		{"-wt5 -L=%L -- echo ran", "-wt5 does not go with --lockfile"},
		{"-wt 5 -L=%L -- echo ran", "unknown shorthand flag: 'L'"},
		{"start --lockfile=%L -- echo ran", "unknown flag: --lockfile"},
		{"--retries=5 %L -- echo ran", "unknown flag: --retries"},
	} {
		l := filepath.Join(t.TempDir(), "L")
		r := run(t, strings.Fields(strings.ReplaceAll(test.args, "%L", l))...)
		r.want(t, 64, test.says)
		filesWantOneLine(t, r)
		if r.stdout != "" || exists(l) {
			t.Errorf("%s: stdout %q; the file is there: %v", test.args, r.stdout, exists(l))
		}
	}
	// Where the command begins, in our way of writing it, his flags are its own.
	l := filepath.Join(t.TempDir(), "L")
	for _, args := range [][]string{{l, "echo", "-L=x"}, {"-t", "5", l, "--", "echo", "-L=x"}, {"--no-pid", l, "echo", "-L=x"}} {
		toolWant(t, run(t, args...), 0, "-L=x\n", "")
	}
}

func TestFriedlRefusesAHeldLock(t *testing.T) {
	t.Parallel()
	flock := need(t, "flock")
	for _, holder := range [][]string{{flock, "%"}, {lockrun, "-L=%", "--"}, {lockrun, "--no-pid", "%", "--"}} {
		l := filepath.Join(t.TempDir(), "L")
		filesWrite(t, l, "text\n", 0o644)
		h := exclHold(t, exclScript, strings.Split(strings.ReplaceAll(strings.Join(holder, "\n"), "%", l), "\n")...)
		before := filesSnap(t, l)
		for _, test := range []struct {
			flags  string
			status int
			stdout string
			stderr string
			least  time.Duration
		}{
			{"", 1, "", "ERROR: cannot launch echo - run is locked\n", 0},
			{"-V --retries=5 --sleep=60", 1, "", "ERROR: cannot launch echo - run is locked\n", 0},
			{"-q", 0, "", "", 0},
			{"--quiet", 0, "", "", 0},
			{"-W -R=1", 1, "", "ERROR: cannot launch echo - run is locked (after 1 attempts)\n", 0},
			{"-W -S=0 -R=3", 1, "", "ERROR: cannot launch echo - run is locked (after 3 attempts)\n", 0},
			{"-q -W -S=1 -R=2", 1, "", "ERROR: cannot launch echo - run is locked (after 2 attempts)\n", time.Second},
			{"-V -W -S=1 -R=2", 1, "(locked: sleeping 1 secs, after attempt #1)\n",
				"ERROR: cannot launch echo - run is locked (after 2 attempts)\n", time.Second},
		} {
			r := runCmd(t, asTool("lockrun", append(strings.Fields(test.flags), "--lockfile="+l, "--", "echo", "ran")...))
			toolWant(t, r, test.status, test.stdout, test.stderr)
			if r.took < test.least {
				t.Errorf("%s gave up after %v", test.flags, r.took)
			}
		}
		filesSame(t, "refusals", before, filesSnap(t, l))
		toolHeld(t, l)
		h.release(t).want(t, 0, "")
	}
}

// Who waits has the lock when it is free, not up to ten seconds later.
func TestFriedlWaitsInTheQueue(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{{"--wait"}, {"-W", "--retries=100", "--sleep=600"}, {"-W", "-S=0"}} {
		l := filepath.Join(t.TempDir(), "L")
		held := exclFlock(t, l)
		waiter := exclStart(t, asTool("lockrun", append(flags, "-L="+l, "--", "true")...))
		exclAwaitWaiting(t, waiter)
		begin := time.Now()
		held.Close()
		exclEnd(t, waiter).want(t, 0, "")
		if took := time.Since(begin); took > 9*time.Second {
			t.Errorf("%v: it took %v", flags, took)
		}
	}
}

// --retries and --sleep say how long that may take: one pause lies between two
// tries.
func TestFriedlGivesUp(t *testing.T) {
	t.Parallel()
	l := filepath.Join(t.TempDir(), "L")
	exclFlock(t, l)
	r := runCmd(t, asTool("lockrun", "-W", "--sleep=5", "--retries=2", "-L="+l, "--", "true"))
	r.want(t, 1, "(after 2 attempts)")
	if r.took < 5*time.Second || r.took > 10*time.Second {
		t.Errorf("it took %v", r.took)
	}
}

// --verbose says as often as he would try that the lock is waited for.
func TestFriedlSaysThatItWaits(t *testing.T) {
	t.Parallel()
	l := filepath.Join(t.TempDir(), "L")
	held := exclFlock(t, l)
	cmd := asTool("lockrun", "--verbose", "--wait", "--sleep=1", "--lockfile="+l, "--", "sh", "-c", "echo $$; exit 4")
	out, in := exclPipe(t)
	cmd.Stdout = in
	exclStart(t, cmd)
	in.Close()
	out.SetReadDeadline(time.Now().Add(30 * time.Second))
	lines := bufio.NewScanner(out)
	want := func(format string, args ...any) {
		t.Helper()
		if want := fmt.Sprintf(format, args...); !lines.Scan() || lines.Text() != want {
			t.Fatalf("it said %q, %v; want %q", lines.Text(), lines.Err(), want)
		}
	}
	want("(locked: sleeping 1 secs, after attempt #1)")
	want("(locked: sleeping 1 secs, after attempt #2)")
	held.Close()
	var rest []string
	for lines.Scan() {
		if !strings.HasPrefix(lines.Text(), "(locked: ") { // there may be one more
			rest = append(rest, lines.Text())
		}
	}
	exclEnd(t, cmd).want(t, 4, "")
	// What it says when it has started the command may come behind that one's line.
	said := strings.Join(rest, "\n")
	var pid, seconds int
	if _, err := fmt.Sscanf(said[strings.Index(said, "Waiting for"):], "Waiting for process %d", &pid); err != nil {
		t.Fatalf("it said %q", said)
	}
	last := rest[len(rest)-2:]
	if n, _ := fmt.Sscanf(last[0], fmt.Sprintf("pid %d exited with status 4 (time=%%d sec)", pid), &seconds); n != 1 || seconds < 1 ||
		last[1] != "Exiting rc=4" || len(rest) != 4 || !strings.Contains(said, fmt.Sprintf("\n%d\n", pid)) && !strings.HasPrefix(said, fmt.Sprintf("%d\n", pid)) {
		t.Errorf("it said %q", said)
	}
}

// --maxtime reports a command that took longer; the wait counts.
func TestFriedlReportsALongRun(t *testing.T) {
	t.Parallel()
	l := filepath.Join(t.TempDir(), "L")
	r := runCmd(t, asTool("lockrun", "--maxtime=1", "-L="+l, "--", "sh", "-c", "sleep 2.1; exit 3"))
	r.want(t, 3, "")
	var pid, seconds int
	if n, err := fmt.Sscanf(r.stdout, "pid %d exited with status 3 (time=%d sec)\n", &pid, &seconds); n != 2 || seconds < 2 {
		t.Errorf("stdout %q: %v", r.stdout, err)
	}
	toolWant(t, runCmd(t, asTool("lockrun", "--maxtime=60", "-L="+l, "--", "true")), 0, "", "")
}

func TestFriedlKilledCommand(t *testing.T) {
	t.Parallel()
	l := filepath.Join(t.TempDir(), "L")
	for _, sig := range []string{"KILL", "TERM", "INT"} {
		toolWant(t, runCmd(t, asTool("lockrun", "-L="+l, "--", "sh", "-c", "kill -"+sig+" $$")), 1, "", "")
	}
}

// The file is created with what the umask leaves of 0666, never written and
// never removed.
func TestFriedlFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for mask, want := range map[string]os.FileMode{"022": 0o644, "077": 0o600, "000": 0o666} {
		l := filepath.Join(dir, mask)
		cmd := exec.Command("sh", "-c", "umask "+mask+`; exec "$@"`, "sh", lockrun, "-L="+l, "--", "true")
		toolWant(t, runCmd(t, cmd), 0, "", "")
		if fi, err := os.Stat(l); err != nil || fi.Mode() != want || fi.Size() != 0 {
			t.Errorf("umask %s: %v, %v; want mode %v", mask, fi, err, want)
		}
	}
	l := filepath.Join(dir, "L")
	filesWrite(t, l, "text\n", 0o644)
	before := filesSnap(t, l)
	toolWant(t, runCmd(t, asTool("lockrun", "-L="+l, "--", "true")), 0, "", "")
	filesSame(t, "lockrun -L", before, filesSnap(t, l))
	// A link is followed.
	filesMust(t, os.Symlink("L", filepath.Join(dir, "link")))
	h := exclHold(t, exclScript, lockrun, "-L="+filepath.Join(dir, "link"), "--")
	toolHeld(t, l)
	h.release(t).want(t, 0, "")
	filesSame(t, "lockrun -L", before, filesSnap(t, l))
	// A FIFO is no lock file.
	fifo := filepath.Join(dir, "fifo")
	filesMust(t, syscall.Mkfifo(fifo, 0o600))
	toolWant(t, runCmd(t, asTool("lockrun", "-L="+fifo, "--", "true")), 1, "",
		"ERROR: cannot open("+fifo+") [err=a FIFO: not a regular file, directory or device]\n")
}

// The command leads a session of its own.
func TestFriedlStartsASession(t *testing.T) {
	t.Parallel()
	l := filepath.Join(t.TempDir(), "L")
	h := exclHold(t, exclScript, lockrun, "-L="+l, "--")
	if p := detLook(t, h.pid); p.session != h.pid || p.group != h.pid {
		t.Errorf("the command, %d, is in session %d, group %d", h.pid, p.session, p.group)
	}
	h.release(t).want(t, 0, "")
}

// The original runs beside the holder of a file that was deleted.
func TestFriedlOfADeletedFile(t *testing.T) {
	t.Parallel()
	l := filepath.Join(t.TempDir(), "L")
	h := exclHold(t, exclScript, lockrun, "-L="+l, "--")
	filesMust(t, os.Remove(l))
	run(t, "-L="+l, "--", "true").want(t, 1, "run is locked")
	h.release(t).want(t, 0, "")
	run(t, "-L="+l, "--", "true").want(t, 0, "")
}

// The original dies of a signal alone, and frees the lock under its command.
func TestFriedlSignalsReachTheCommand(t *testing.T) {
	t.Parallel()
	l := filepath.Join(t.TempDir(), "L")
	h := exclHold(t, fmt.Sprintf(exclTrapper, "wait $!; exit 5"), lockrun, "-L="+l, "--")
	for sig, name := range map[syscall.Signal]string{syscall.SIGHUP: "HUP", syscall.SIGUSR1: "USR1"} {
		h.Process.Signal(sig)
		if got := h.line(t); got != name {
			t.Errorf("the command got %s, not %s", got, name)
		}
	}
	h.Process.Signal(syscall.SIGTERM)
	if got := h.line(t); got != "TERM" {
		t.Errorf("the command got %s", got)
	}
	toolHeld(t, l)
	h.release(t).want(t, 5, "")
	toolFree(t, l)
}

func TestKilledFriedlLeavesCommandLocked(t *testing.T) {
	t.Parallel()
	l := filepath.Join(t.TempDir(), "L")
	h := exclHold(t, exclScript, lockrun, "-L="+l, "--")
	h.Process.Kill()
	exclEnd(t, h.Cmd).want(t, 137, "")
	run(t, "-L="+l, "--", "true").want(t, 1, "run is locked")
	h.gate.Close()
	run(t, "-W", "-L="+l, "--", "true").want(t, 0, "")
}

// The original takes a lock of fcntl(2), an early version one of flock(2): we are
// refused by either, and refuse either.
func TestFriedlBesideTheOriginal(t *testing.T) {
	t.Parallel()
	l := filepath.Join(t.TempDir(), "L")
	f, err := os.OpenFile(l, os.O_RDWR|os.O_CREATE, 0o600)
	filesMust(t, err)
	defer f.Close()
	record := func(kind int16) error {
		return unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: kind})
	}
	filesMust(t, record(unix.F_WRLCK))
	toolWant(t, run(t, "-L="+l, "--", "echo", "ran"), 1, "", "ERROR: cannot launch echo - run is locked\n")
	toolWant(t, run(t, "-q", "-L="+l, "--", "echo", "ran"), 0, "", "")
	toolWant(t, run(t, "-W", "-R=2", "-S=1", "-L="+l, "--", "echo", "ran"), 1, "", "ERROR: cannot launch echo - run is locked (after 2 attempts)\n")
	toolFree(t, l) // who is refused keeps nothing
	waiter := exclStart(t, asTool("lockrun", "-W", "-L="+l, "--", "true"))
	eventually(t, "waiting in fcntl(2)", func() bool {
		return runCmd(t, exec.Command("flock", "-n", l, "true")).status == 1
	})
	filesMust(t, record(unix.F_UNLCK))
	exclEnd(t, waiter).want(t, 0, "")

	h := exclHold(t, exclScript, lockrun, "-L="+l, "--")
	if err := record(unix.F_WRLCK); err != unix.EAGAIN {
		t.Errorf("a lock of fcntl(2): %v", err)
	}
	h.release(t).want(t, 0, "")
	filesMust(t, record(unix.F_WRLCK))
	filesMust(t, record(unix.F_UNLCK))

	// What the command leaves behind keeps neither.
	h = exclHold(t, `(read _ <&3) & echo $$ >&4`, lockrun, "-L="+l, "--")
	exclEnd(t, h.Cmd).want(t, 0, "")
	filesMust(t, record(unix.F_WRLCK))
}

func TestFriedlLeavesNoLockBehind(t *testing.T) {
	t.Parallel()
	l := filepath.Join(t.TempDir(), "L")
	h := exclHold(t, `(read _ <&3) & echo $$ >&4`, lockrun, "-L="+l, "--")
	exclEnd(t, h.Cmd).want(t, 0, "")
	toolFree(t, l)
}
