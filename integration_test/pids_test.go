//go:build linux

package integration_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

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
			// In the middle of execve(2) a process has no command line.
			eventually(t, "the command runs", func() bool { return filesContent(fmt.Sprintf("/proc/%d/cmdline", pid)) == "sleep\x0060\x00" })
			if filesContent(l) != fmt.Sprintln(pid) {
				t.Errorf("the file holds %q; want %d", filesContent(l), pid)
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
				// The supervisor of a started one knows better than the file.
				status, says, command := 4, "stragglers: ", ""
				if held == "lockrun" {
					status, says, command = 0, "running, held by process ", " (sleep 60)"
				}
				if r.status != status || !strings.HasPrefix(r.stdout, l+": "+says) || !strings.Contains(r.stdout, command) {
					t.Errorf("status: %v; want %d, %s%s", r, status, says, command)
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
