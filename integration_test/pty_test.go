//go:build linux

package integration_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ttyTerminal is a pseudo terminal, as a terminal emulator or sshd has it: a
// program leads the session on its slave side, and the test has the master.
type ttyTerminal struct {
	t      *testing.T
	dir    string // working directory, where instances are too
	master *os.File
	cmd    *exec.Cmd
	ended  chan struct{} // closed when cmd was waited for
	asked  int           // how often the shell is to have prompted

	mu     sync.Mutex
	output bytes.Buffer
}

// ttyStart starts a program as the leader of the session of a new terminal.
// What is in the session when the test ends is killed.
func ttyStart(t *testing.T, argv ...string) *ttyTerminal {
	t.Helper()
	x := &ttyTerminal{t: t, dir: t.TempDir(), ended: make(chan struct{})}
	t.Cleanup(func() { ttyEnd(t, "LOCKRUN_DIR="+x.dir+"/instances") })
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		missing(t, "no pseudo terminals: %v", err)
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetUint32(master, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	x.master = os.NewFile(uintptr(master), "master")
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()

	x.cmd = exec.Command(argv[0], argv[1:]...)
	x.cmd.Dir = x.dir
	x.cmd.Env = append(os.Environ(), "LOCKRUN_DIR="+x.dir+"/instances", "TERM=dumb", "HISTFILE=/dev/null",
		"PATH="+filepath.Dir(lockrun)+":"+os.Getenv("PATH"),
		// Bash tells by a line in a file that it is about to prompt.
		"PROMPT_COMMAND=echo >>prompts", "ENV=")
	x.cmd.Stdin, x.cmd.Stdout, x.cmd.Stderr = slave, slave, slave
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		x.cmd.Wait()
		close(x.ended)
	}()
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := x.master.Read(buf)
			x.mu.Lock()
			x.output.Write(buf[:n])
			x.mu.Unlock()
			// EIO: nobody has the slave open at the moment, or any more.
			if err != nil && !errors.Is(err, unix.EIO) || errors.Is(err, unix.EIO) && x.hasEnded() {
				return
			}
			if err != nil {
				time.Sleep(time.Millisecond)
			}
		}
	}()
	t.Cleanup(func() {
		for _, pid := range ttySession(x.cmd.Process.Pid) {
			if t.Failed() {
				line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
				t.Logf("process %d %q: %+v", pid, line, ttyStatOf(pid))
			}
			syscall.Kill(pid, syscall.SIGKILL)
		}
		<-x.ended
		x.close()
		if t.Failed() {
			x.mu.Lock()
			defer x.mu.Unlock()
			t.Logf("on the terminal:\n%s", x.output.Bytes())
		}
	})
	return x
}

// ttyShell starts an interactive bash.
func ttyShell(t *testing.T) *ttyTerminal {
	t.Helper()
	x := ttyStart(t, need(t, "bash"), "--norc", "--noprofile", "--noediting", "-i")
	x.asked = 1
	return x
}

func (x *ttyTerminal) hasEnded() bool {
	select {
	case <-x.ended:
		return true
	default:
		return false
	}
}

// atPrompt waits until the shell has its terminal back and asks for a line.
func (x *ttyTerminal) atPrompt() {
	x.t.Helper()
	eventually(x.t, "the prompt", func() bool {
		prompts, _ := os.ReadFile(filepath.Join(x.dir, "prompts"))
		return len(prompts) >= x.asked
	})
}

// line types a line at the prompt of a shell.
func (x *ttyTerminal) line(format string, args ...any) {
	x.t.Helper()
	x.atPrompt()
	x.asked++
	x.press(fmt.Sprintf(format, args...) + "\n")
}

// press types keys.
func (x *ttyTerminal) press(keys string) {
	x.t.Helper()
	if _, err := x.master.WriteString(keys); err != nil {
		x.t.Fatal(err)
	}
}

// close closes the terminal, as a window that is closed.
func (x *ttyTerminal) close() { x.master.Close() }

// resize changes the size of the window.
func (x *ttyTerminal) resize(rows uint16) {
	x.t.Helper()
	raw, err := x.master.SyscallConn()
	if err != nil {
		x.t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: 80})
	})
	if err != nil {
		x.t.Fatal(err)
	}
}

// wait waits for the end of the session's leader.
func (x *ttyTerminal) wait() syscall.WaitStatus {
	x.t.Helper()
	select {
	case <-x.ended:
	case <-time.After(30 * time.Second):
		x.t.Fatalf("%v has not ended", x.cmd.Args)
	}
	return x.cmd.ProcessState.Sys().(syscall.WaitStatus)
}

// said returns what is on the terminal when its program has ended.
func (x *ttyTerminal) said() (said string) {
	x.t.Helper()
	last := -1
	eventually(x.t, "all is read", func() bool {
		// What waits in the terminal can be read at once.
		waiting, err := unix.IoctlGetInt(int(x.master.Fd()), unix.TIOCINQ)
		x.mu.Lock()
		defer x.mu.Unlock()
		said = x.output.String()
		before := last
		last = len(said)
		return (err != nil || waiting == 0) && before == last
	})
	return said
}

func (x *ttyTerminal) path(name string) string { return filepath.Join(x.dir, name) }

// lines returns the lines of a file, nil without one.
func (x *ttyTerminal) lines(name string) []string {
	content, err := os.ReadFile(x.path(name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		x.t.Fatal(err)
	}
	return strings.Fields(string(content))
}

// awaitLine waits until there are that many lines of that content in a file.
func (x *ttyTerminal) awaitLine(name, want string, n int) {
	x.t.Helper()
	eventually(x.t, fmt.Sprintf("%d times %s in %s", n, want, name), func() bool { return ttyCount(x.lines(name), want) >= n })
}

func ttyCount(lines []string, want string) (n int) {
	for _, line := range lines {
		if line == want {
			n++
		}
	}
	return n
}

// command waits until the PID in a lock file is that of a program of that name,
// and returns it. (Before the command runs it is that of lockrun.)
func (x *ttyTerminal) command(lock, name string) int {
	x.t.Helper()
	var pid int
	eventually(x.t, name+" holds "+lock, func() bool {
		content, _ := os.ReadFile(x.path(lock))
		pid, _ = strconv.Atoi(strings.TrimSpace(string(content)))
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		return pid > 0 && string(comm) == name+"\n"
	})
	return pid
}

// process waits for a process of that name in the session and returns its PID.
func (x *ttyTerminal) process(name string) (pid int) {
	x.t.Helper()
	eventually(x.t, "there is a process "+name, func() bool {
		for _, pid = range ttySession(x.cmd.Process.Pid) {
			if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); string(comm) == name+"\n" {
				return true
			}
		}
		return false
	})
	return pid
}

// free checks that a lock can be had at once and that its file holds no PID.
func (x *ttyTerminal) free(lock string) {
	x.t.Helper()
	if left := x.lines(lock); len(left) > 0 {
		x.t.Errorf("%s holds %q; want it empty", lock, left)
	}
	run(x.t, x.path(lock), "--", "true").want(x.t, 0, "")
}

// ttyStat is what the test needs from /proc/PID/stat.
type ttyStat struct {
	state                              string
	parent, group, session, tty, front int // front: the foreground group of the terminal
}

func ttyStatOf(pid int) (s ttyStat) {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if i := bytes.LastIndexByte(stat, ')'); i >= 0 {
		fmt.Sscan(string(stat[i+1:]), &s.state, &s.parent, &s.group, &s.session, &s.tty, &s.front)
	}
	return s
}

// ttySession returns the processes of a session that this test run started. (The
// number of a session that has ended may be that of another one by now.)
func ttySession(leader int) (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || ttyStatOf(pid).session != leader || !alive(pid) {
			continue
		}
		environ, _ := os.ReadFile("/proc/" + entry.Name() + "/environ")
		if bytes.Contains(environ, []byte(runVariable+"="+os.Getenv(runVariable)+"\x00")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// ttyInState waits until processes are in a state of proc_pid_stat(5).
func ttyInState(t *testing.T, state string, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		eventually(t, fmt.Sprintf("state %s of process %d", state, pid), func() bool { return ttyStatOf(pid).state == state })
	}
}
