//go:build linux

package integration_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Mutual exclusion, seen from outside: many starts, killed ones, deleted files,
// flock(1) beside lockrun. No test waits for some time and hopes. A command
// under a lock runs until the test lets it go: it reads from descriptor 3, the
// end of a pipe, and so it also ends when the test dies. What it has to say it
// writes to descriptor 4.

// exclHolder is a running command under a lock.
type exclHolder struct {
	*exec.Cmd               // lockrun or flock(1)
	pid       int           // of the command, as it sees itself
	gate      *os.File      // closed, the command ends
	output    *os.File      // what the command writes to descriptor 4
	lines     *bufio.Reader // of output
}

// exclScript says who it is, and ends with its gate.
const exclScript = `echo $$ >&4; read _ <&3; exit 0`

// exclHold runs a script under a lock; argv is lockrun or flock(1) with all
// that stands before the command. It returns when the script runs.
func exclHold(t *testing.T, script string, argv ...string) *exclHolder {
	t.Helper()
	wait, gate := exclPipe(t)
	output, say := exclPipe(t)
	cmd := exec.Command(argv[0], append(argv[1:], "sh", "-c", script)...)
	cmd.ExtraFiles = []*os.File{wait, say}
	exclStart(t, cmd)
	// Before background's: so the command has ended, and its lockrun too.
	t.Cleanup(func() { gate.Close() })
	wait.Close()
	say.Close()
	h := &exclHolder{Cmd: cmd, gate: gate, output: output, lines: bufio.NewReader(output)}
	pid, err := strconv.Atoi(h.line(t))
	if err != nil {
		t.Fatal(err)
	}
	h.pid = pid
	return h
}

// exclLockrun runs a script under lockrun, until L has its PID: in the moment
// between, lockrun's own stands there.
func exclLockrun(t *testing.T, script, l string) *exclHolder {
	t.Helper()
	h := exclHold(t, script, lockrun, l, "--")
	eventually(t, "the command's PID in "+l, func() bool { return pidIn(t, l) == h.pid })
	return h
}

// line returns the next line that the command wrote.
func (h *exclHolder) line(t *testing.T) string {
	t.Helper()
	h.output.SetReadDeadline(time.Now().Add(30 * time.Second))
	line, err := h.lines.ReadString('\n')
	if err != nil {
		t.Fatalf("the command does not speak: %v", err)
	}
	return strings.TrimSuffix(line, "\n")
}

// release lets the command go, and returns how lockrun or flock(1) ended.
func (h *exclHolder) release(t *testing.T) result {
	t.Helper()
	h.gate.Close()
	return exclEnd(t, h.Cmd)
}

// refusal is the message that names the command as the holder of its lock.
func (h *exclHolder) refusal() string {
	return fmt.Sprintf("held by process %d (", h.pid)
}

func exclPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// exclStart starts a command without waiting for its end. Its standard error is
// a file: the end of a pipe comes only when all that it left behind have ended.
func exclStart(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stderr.Close() })
	cmd.Stderr = stderr
	return background(t, cmd)
}

// exclEnd waits for the end of a command of exclStart or exclHold.
func exclEnd(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var late atomic.Bool
	kill := time.AfterFunc(30*time.Second, func() { late.Store(true); cmd.Process.Kill() })
	defer kill.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || late.Load() {
		t.Fatalf("%v did not end: %v", cmd.Args, err)
	}
	stderr, err := os.ReadFile(cmd.Stderr.(*os.File).Name())
	if err != nil {
		t.Fatal(err)
	}
	return result{status: statusOf(cmd.ProcessState), stderr: string(stderr)}
}

// exclAwaitWaiting returns when the process waits in flock(2).
func exclAwaitWaiting(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	eventually(t, "waiting in flock(2)", func() bool {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", cmd.Process.Pid))
		for _, thread := range threads {
			call, _ := os.ReadFile(thread)
			if strings.HasPrefix(string(call), fmt.Sprint(syscall.SYS_FLOCK, " ")) {
				return true
			}
		}
		return false
	})
}

// exclFree fails unless a start wins at once.
func exclFree(t *testing.T, l string) {
	t.Helper()
	run(t, l, "--", "true").want(t, 0, "")
}

// exclLines counts the lines of a file that commands append to.
func exclLines(path string) int {
	content, _ := os.ReadFile(path)
	return bytes.Count(content, []byte("\n"))
}

// exclRounds is n, or short with -short.
func exclRounds(n, short int) int {
	if testing.Short() {
		return short
	}
	return n
}

func TestOfManySimultaneousStartsOneRuns(t *testing.T) {
	t.Parallel()
	for i := range exclRounds(20, 3) {
		exclManyStarts(t, 200, i%2 == 0)
	}
}

// exclManyStarts lets n lockruns loose on one lock. The shells that become them
// all wait for the end of one file, so that they start together.
func exclManyStarts(t *testing.T, n int, exists bool) {
	dir := t.TempDir()
	l, ran := filepath.Join(dir, "L"), filepath.Join(dir, "ran")
	if exists {
		if err := os.WriteFile(l, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wait, gate := exclPipe(t)
	ready, say := exclPipe(t)
	start, loose := exclPipe(t)
	script := fmt.Sprintf(`echo >&4; read _ <&5; exec %s %s -- sh -c 'echo >>%s; read _ <&3; exit 0' 4>&- 5<&-`, lockrun, l, ran)
	statuses := make(chan int, n)
	for range n {
		cmd := exec.Command("sh", "-c", script)
		cmd.ExtraFiles = []*os.File{wait, say, start}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go func() {
			cmd.Wait()
			statuses <- statusOf(cmd.ProcessState)
		}()
	}
	ready.SetReadDeadline(time.Now().Add(30 * time.Second))
	for got := 0; got < n; {
		c, err := ready.Read(make([]byte, n))
		if err != nil {
			t.Fatal(err)
		}
		got += c
	}
	loose.Close()
	// The winner goes on until it is alone.
	deadline := time.Now().Add(30 * time.Second)
	for len(statuses) < n-1 && exclLines(ran) <= 1 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	refused := len(statuses)
	gate.Close()
	count := map[int]int{}
	for range n {
		count[<-statuses]++
	}
	if got := exclLines(ran); got != 1 || refused != n-1 || count[0] != 1 || count[75] != n-1 {
		t.Errorf("%d of %d ran, %d ended while one ran; exit statuses (status:times) %v", got, n, refused, count)
	}
}

// exclStorm is thousands of starts on a lock file that is deleted all the time.
type exclStorm struct {
	dir      string
	statuses [256]atomic.Int64 // how many lockruns ended with each
	deleted  int
}

// witness is the commands' own proof that they are alone, which has nothing to
// do with the lock. The first line tells descriptor 3 that the command runs.
const witness = `echo >&3
mkdir witness 2>/dev/null || echo >>violation
echo >>ran
sleep 0.01
rmdir witness`

// run starts lockrun n times, some at once. kill gets every lockrun, and a file
// that can be read when its command runs. It returns when all commands, also
// those without their lockrun, have ended.
func (s *exclStorm) run(t *testing.T, n int, kill func(lockrun *os.Process, runs *os.File)) {
	t.Helper()
	s.dir = t.TempDir()
	complaints, err := os.Create(filepath.Join(s.dir, "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer complaints.Close()
	l := filepath.Join(s.dir, "L")
	var left atomic.Int64
	left.Store(int64(n))
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			// Bursts and quiet: 50 us to 100 ms.
			case <-time.After(50 * time.Microsecond << rand.Intn(12)):
			}
			// Every other start sees it, however slow this machine is.
			if 2*s.deleted <= n-int(left.Load()) && os.Remove(l) == nil {
				s.deleted++
			}
		}
	}()
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for left.Add(-1) >= 0 {
				s.start(t, l, complaints, kill)
			}
		})
	}
	workers.Wait()
	close(stop)
	<-stopped
	// A lock that is had by waiting is had by the last one.
	run(t, "-w", l, "--", "true").want(t, 0, "")
	s.check(t, n)
}

func (s *exclStorm) start(t *testing.T, l string, complaints *os.File, kill func(*os.Process, *os.File)) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Error(err)
		return
	}
	defer r.Close()
	cmd := exec.Command(lockrun, l, "--", "sh", "-c", witness)
	cmd.Dir, cmd.Stderr, cmd.ExtraFiles = s.dir, complaints, []*os.File{w}
	err = cmd.Start()
	w.Close()
	if err != nil {
		t.Error(err)
		return
	}
	kill(cmd.Process, r)
	cmd.Wait()
	s.statuses[statusOf(cmd.ProcessState)].Add(1)
}

func (s *exclStorm) check(t *testing.T, n int) {
	t.Helper()
	refused, killed := int(s.statuses[75].Load()), int(s.statuses[137].Load())
	ran := exclLines(filepath.Join(s.dir, "ran"))
	t.Logf("%d starts: %d ran, %d refused, %d lockruns killed; file deleted %d times", n, ran, refused, killed, s.deleted)
	if two := exclLines(filepath.Join(s.dir, "violation")); two > 0 {
		t.Errorf("%d times a command was not alone", two)
	}
	if ran < n/100 || refused == 0 || s.deleted < n/100 {
		t.Error("that was no storm")
	}
	for status := range s.statuses {
		if times := s.statuses[status].Load(); times > 0 && status != 0 && status != 75 && status != 137 {
			complaints, _ := os.ReadFile(filepath.Join(s.dir, "stderr"))
			other := exclOther(string(complaints))
			t.Errorf("%d exits of %d; said: %s", times, status, other)
		}
	}
}

// exclOther returns the first complaint that is no refusal.
func exclOther(complaints string) string {
	for line := range strings.Lines(complaints) {
		if !strings.Contains(line, "held by") {
			return line
		}
	}
	return "nothing"
}

func TestNeverTwoWhileTheFileIsDeleted(t *testing.T) {
	t.Parallel()
	var s exclStorm
	s.run(t, exclRounds(2000, 300), func(*os.Process, *os.File) {})
	if killed := s.statuses[137].Load(); killed > 0 {
		t.Errorf("%d were killed, but not by the test", killed)
	}
}

func TestNeverTwoWhileLockrunsAreKilledAndTheFileIsDeleted(t *testing.T) {
	t.Parallel()
	var s exclStorm
	s.run(t, exclRounds(1000, 300), func(p *os.Process, _ *os.File) {
		if rand.Intn(2) == 0 {
			time.Sleep(time.Duration(rand.Intn(8000)) * time.Microsecond)
			p.Kill()
		}
	})
}

// The worst moment: the lock goes over from lockrun to its command while others
// look through all processes for who has it.
func TestNeverTwoWhileLockrunsAreKilledAsTheirCommandsStart(t *testing.T) {
	t.Parallel()
	var s exclStorm
	s.run(t, exclRounds(1000, 300), func(p *os.Process, runs *os.File) {
		// The end of the file, without a word, is that of a refused one.
		if n, _ := runs.Read(make([]byte, 1)); n == 1 {
			p.Kill()
		}
	})
}

func TestDeletedLockFileRefusesAndNamesItsHolder(t *testing.T) {
	t.Parallel()
	l := filepath.Join(t.TempDir(), "L")
	h := exclLockrun(t, exclScript, l)
	if err := os.Remove(l); err != nil {
		t.Fatal(err)
	}
	run(t, l, "--", "true").want(t, 75, h.refusal())
	if exists(l) {
		t.Error("the refused start left its file")
	}
	h.release(t).want(t, 0, "")
	exclFree(t, l)
}

func TestWaiterWaitsForTheHolderOfADeletedFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, ran := filepath.Join(dir, "L"), filepath.Join(dir, "ran")
	h := exclLockrun(t, exclScript, l)
	if err := os.Remove(l); err != nil {
		t.Fatal(err)
	}
	waiter := exclStart(t, exec.Command(lockrun, "-w", l, "--", "touch", ran))
	exclAwaitWaiting(t, waiter)
	if exists(ran) {
		t.Error("the waiter's command ran beside the holder")
	}
	h.release(t).want(t, 0, "")
	exclEnd(t, waiter).want(t, 0, "")
	if !exists(ran) {
		t.Error("the waiter's command did not run")
	}
}

// A lock on a file that has no name any more excludes nobody who comes later.
func TestWaiterGoesOnToTheFileThatThePathNamesNow(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--keep", "--no-pid"} {
		dir := t.TempDir()
		l, ran := filepath.Join(dir, "L"), filepath.Join(dir, "ran")
		old := exclFlock(t, l)
		waiter := exclStart(t, exec.Command(lockrun, flag, "-w", l, "--", "touch", ran))
		exclAwaitWaiting(t, waiter)
		os.Remove(l)
		now := exclFlock(t, l)
		old.Close()
		eventually(t, "the waiter at the new file", func() bool {
			for _, path := range exclDescriptors(t, waiter.Process.Pid) {
				if path == l {
					return true
				}
			}
			return exists(ran)
		})
		if exists(ran) {
			t.Errorf("%s: it ran with the lock on a deleted file", flag)
		}
		now.Close()
		exclEnd(t, waiter).want(t, 0, "")
	}
}

// exclFlock locks a file in the test itself; Close unlocks it.
func exclFlock(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	return f
}

// exclTrapper is a command that tells which signals it got. A shell runs a trap
// at once only while it waits.
const exclTrapper = `
for s in HUP USR1 USR2; do trap "echo $s >&4" $s; done
trap 'echo TERM >&4; %s' TERM
(read _ <&3) & echo $$ >&4
until wait $!; [ $? -le 128 ]; do :; done`

func TestFlockAndLockrunRefuseEachOther(t *testing.T) {
	t.Parallel()
	flock := need(t, "flock")
	l := filepath.Join(t.TempDir(), "L")

	h := exclLockrun(t, exclScript, l)
	runCmd(t, exec.Command(flock, "-n", "-E", "9", l, "true")).want(t, 9, "")
	h.release(t).want(t, 0, "")

	h = exclHold(t, exclScript, flock, l)
	r := run(t, l, "--", "true")
	r.want(t, 75, "held by process ")
	_, named, _ := strings.Cut(r.stderr, "held by process ")
	var pid int
	fmt.Sscan(named, &pid)
	if pid != h.pid && pid != h.Process.Pid {
		t.Errorf("%q names neither flock, %d, nor its command, %d", r.stderr, h.Process.Pid, h.pid)
	}
	h.release(t).want(t, 0, "")
	exclFree(t, l)
}

func TestFlockAndLockrunWaitForEachOther(t *testing.T) {
	t.Parallel()
	flock := need(t, "flock")
	lockrunWaits := []string{lockrun, "-w"}
	for name, test := range map[string]struct{ holder, waiter []string }{
		"flock for lockrun":   {[]string{lockrun}, []string{flock}},
		"lockrun for flock":   {[]string{flock}, lockrunWaits},
		"lockrun for lockrun": {[]string{lockrun}, lockrunWaits},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			l, ran := filepath.Join(dir, "L"), filepath.Join(dir, "ran")
			h := exclHold(t, exclScript, append(test.holder, l)...)
			waiter := exclStart(t, exec.Command(test.waiter[0], append(test.waiter[1:], l, "touch", ran)...))
			exclAwaitWaiting(t, waiter)
			if exists(ran) {
				t.Error("the waiter's command ran beside the holder's")
			}
			h.release(t).want(t, 0, "")
			exclEnd(t, waiter).want(t, 0, "")
			if !exists(ran) {
				t.Error("the waiter's command did not run")
			}
		})
	}
}

func TestRefusedStartChangesNothing(t *testing.T) {
	t.Parallel()
	self := fmt.Sprintf("%d\n", os.Getpid())
	for _, content := range []string{self, "", "4194304\n", "somebody's text\n"} {
		l := filepath.Join(t.TempDir(), "L")
		if err := os.WriteFile(l, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
		// The test itself is the holder, so that nobody else writes.
		exclFlock(t, l)
		long := time.Now().Add(-100 * time.Hour)
		if err := os.Chtimes(l, long, long); err != nil {
			t.Fatal(err)
		}
		before := exclState(t, l)
		// Unless its PID is recorded another one may be named: what other
		// tests start has this lock too, between fork and exec.
		named := "held by process "
		if content == self {
			named = fmt.Sprintf("held by process %d (", os.Getpid())
		}
		for _, args := range [][]string{{}, {"--remove"}, {"--no-pid"}, {"-t", "0.01"}, {"start"}, {"start", "--keep"}} {
			if content == "somebody's text\n" && len(args) > 0 && args[0] == "-t" {
				continue // it does not wait for what it would not write: 73
			}
			run(t, append(args, l, "--", "true")...).want(t, 75, named)
			if after := exclState(t, l); after != before {
				t.Errorf("lockrun %v on content %q changed the file from\n%s to\n%s", args, content, before, after)
			}
		}
	}
}

// exclState describes all that a loser must not change of a file.
func exclState(t *testing.T, path string) string {
	t.Helper()
	fi, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	st := fi.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%q, mode %v, owner %d:%d, inode %d, links %d, mtime %v",
		content, fi.Mode(), st.Uid, st.Gid, st.Ino, st.Nlink, fi.ModTime())
}

func TestRefusalObeysItsFlags(t *testing.T) {
	t.Parallel()
	l := filepath.Join(t.TempDir(), "L")
	h := exclLockrun(t, exclScript, l)
	for _, test := range []struct {
		flags  []string
		status int
		stderr string
	}{
		{nil, 75, h.refusal()},
		{[]string{"-t", "0"}, 75, h.refusal()},
		{[]string{"-w", "-t", "0"}, 75, h.refusal()},
		{[]string{"-t", "20ms"}, 75, h.refusal()},
		{[]string{"-E", "9"}, 9, h.refusal()},
		{[]string{"-E", "0"}, 0, h.refusal()},
		{[]string{"-E", "9", "-t", "0.02"}, 9, h.refusal()},
		{[]string{"-q"}, 75, ""},
		{[]string{"-q", "-t", "0.02"}, 75, ""},
	} {
		r := run(t, append(test.flags, l, "--", "echo", "ran")...)
		r.want(t, test.status, test.stderr)
		if r.stdout != "" {
			t.Errorf("%v: stdout %q", test.flags, r.stdout)
		}
	}
}

func TestTimeoutIsWaitedFor(t *testing.T) {
	t.Parallel()
	l := filepath.Join(t.TempDir(), "L")
	h := exclLockrun(t, exclScript, l)
	r := run(t, "-t", "0.3", l, "--", "true")
	r.want(t, 75, h.refusal())
	// Never too early; and, with all that a busy machine may add, not much later.
	if r.took < 300*time.Millisecond || r.took > 15*time.Second {
		t.Errorf("-t 0.3 gave up after %v", r.took)
	}
	waiter := exclStart(t, exec.Command(lockrun, "-t", "60", l, "--", "true"))
	exclAwaitWaiting(t, waiter)
	h.release(t).want(t, 0, "")
	exclEnd(t, waiter).want(t, 0, "")
}
