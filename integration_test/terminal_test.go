//go:build linux

package integration_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func init() { helpers["tty-signals"] = ttySignals }

// ttySignals is a command that writes the signals it gets into a file, one in a
// line, and READY before that. It ends with status 7 at SIGTERM.
//
// It counts what a shell's trap does not: two signals in quick succession.
func ttySignals(args []string) int {
	log, err := os.OpenFile(args[0], os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	c := make(chan os.Signal, 100)
	signal.Notify(c, unix.SIGINT, unix.SIGQUIT, unix.SIGHUP, unix.SIGUSR1, unix.SIGWINCH, unix.SIGTERM)
	fmt.Fprintln(log, "READY")
	for sig := range c {
		fmt.Fprintln(log, unix.SignalName(sig.(syscall.Signal)))
		if sig == unix.SIGTERM {
			return 7
		}
	}
	return 0
}

// ttySignalsCommand is the command line of ttySignals.
func ttySignalsCommand(t *testing.T, log string) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return []string{"env", helperVariable + "=tty-signals", self, log}
}

// ttySelf is the name under which ttySignals runs (comm in proc_pid_stat(5)).
func ttySelf(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Base(self)
	return name[:min(len(name), 15)]
}

const (
	ttyCtrlC         = "\x03"
	ttyCtrlD         = "\x04"
	ttyCtrlZ         = "\x1a"
	ttyCtrlBackslash = "\x1c"
)

// What a terminal sends goes to its whole foreground group. lockrun must not
// give the command a second one.
func TestTerminalSignalsReachTheCommandOnce(t *testing.T) {
	const rounds = 20
	t.Parallel()
	check := func(t *testing.T, x *ttyTerminal) {
		x.awaitLine("log", "READY", 1)
		for i := 1; i <= rounds; i++ {
			x.press(ttyCtrlC)
			x.awaitLine("log", "SIGINT", i)
			x.press(ttyCtrlBackslash)
			x.awaitLine("log", "SIGQUIT", i)
			x.resize(uint16(30 + i))
			x.awaitLine("log", "SIGWINCH", i)
		}
		// lockrun passes them on in the order in which they came: when this
		// one has arrived, so has what it should not have passed on.
		supervisor := ttyStatOf(x.command("lock", ttySelf(t))).parent
		syscall.Kill(supervisor, syscall.SIGUSR1)
		x.awaitLine("log", "SIGUSR1", 1)
		for _, sig := range []string{"SIGINT", "SIGQUIT", "SIGWINCH"} {
			if n := ttyCount(x.lines("log"), sig); n != rounds {
				t.Errorf("%d times %s, want %d", n, sig, rounds)
			}
		}
		syscall.Kill(supervisor, syscall.SIGTERM)
	}
	t.Run("leader", func(t *testing.T) {
		t.Parallel()
		x := ttyStart(t, append([]string{lockrun, "./lock", "--"}, ttySignalsCommand(t, "log")...)...)
		check(t, x)
		if ws := x.wait(); ws.ExitStatus() != 7 {
			t.Errorf("lockrun ended with %#x, want the command's status 7", ws)
		}
		x.free("lock")
	})
	t.Run("bash", func(t *testing.T) {
		t.Parallel()
		x := ttyShell(t)
		x.line("lockrun ./lock -- %s; echo $? >status", strings.Join(ttySignalsCommand(t, "log"), " "))
		check(t, x)
		x.awaitLine("status", "7", 1)
		x.atPrompt()
		x.free("lock")
	})
	t.Run("sh", func(t *testing.T) {
		t.Parallel()
		x := ttyStart(t, need(t, "sh"), "-i")
		x.press("lockrun ./lock -- " + strings.Join(ttySignalsCommand(t, "log"), " ") + "; echo $? >status\n")
		check(t, x)
		x.awaitLine("status", "7", 1)
		x.free("lock")
	})
}

func TestCommandDiesOfCtrlC(t *testing.T) {
	t.Parallel()
	x := ttyStart(t, lockrun, "./lock", "--", "sleep", "600")
	command := x.command("lock", "sleep")
	x.press(ttyCtrlC)
	if ws := x.wait(); !ws.Signaled() || ws.Signal() != syscall.SIGINT {
		t.Errorf("lockrun ended with %#x; want that it died of SIGINT", ws)
	}
	if alive(command) {
		t.Error("the command runs on")
	}
	x.free("lock")
}

// Of other signals lockrun does not die: it returns 128+n.
func TestCommandDiesOfCtrlBackslash(t *testing.T) {
	t.Parallel()
	x := ttyStart(t, "/bin/sh", "-c", "ulimit -c 0; exec lockrun ./lock -- sleep 600")
	x.command("lock", "sleep")
	x.press(ttyCtrlBackslash)
	if ws := x.wait(); ws.ExitStatus() != 128+3 {
		t.Errorf("lockrun ended with %#x, want status 131", ws)
	}
	x.free("lock")
}

func TestCtrlZStopsBothAndFgResumes(t *testing.T) {
	t.Parallel()
	x := ttyShell(t)
	x.line("lockrun ./lock -- sleep 600")
	command := x.command("lock", "sleep")
	supervisor := ttyStatOf(command).parent
	for range 3 {
		x.press(ttyCtrlZ)
		ttyInState(t, "T", supervisor, command)
		x.atPrompt()
		run(t, x.path("lock"), "--", "true").want(t, 75, fmt.Sprintf("held by process %d (sleep 600)", command))
		x.line("fg")
		ttyInState(t, "S", supervisor, command)
		eventually(t, "it is in the foreground", func() bool { s := ttyStatOf(command); return s.front == s.group })
	}
	x.press(ttyCtrlC)
	x.atPrompt()
	x.free("lock")
}

// A shell ends its loop only when what it ran died of SIGINT.
func TestCtrlCEndsALoop(t *testing.T) {
	const loop = "for i in 1 2 3; do echo $i >>runs; lockrun ./lock -- sleep 600; done; echo after >>runs"
	t.Parallel()
	check := func(t *testing.T, x *ttyTerminal) {
		if runs := x.lines("runs"); len(runs) != 1 {
			t.Errorf("after Ctrl-C it went on: %q", runs)
		}
		x.free("lock")
	}
	t.Run("interactive bash", func(t *testing.T) {
		t.Parallel()
		x := ttyShell(t)
		x.line("%s", loop)
		command := x.command("lock", "sleep")
		x.press(ttyCtrlC)
		x.atPrompt()
		x.line("echo >next")
		x.atPrompt()
		if alive(command) {
			t.Error("the command runs on")
		}
		check(t, x)
	})
	for _, shell := range []string{"bash", "sh"} {
		t.Run(shell+" script", func(t *testing.T) {
			t.Parallel()
			x := ttyStart(t, need(t, shell), "-c", loop)
			command := x.command("lock", "sleep")
			x.press(ttyCtrlC)
			if ws := x.wait(); !ws.Signaled() || ws.Signal() != syscall.SIGINT {
				t.Errorf("the script ended with %#x; want that it died of SIGINT", ws)
			}
			if alive(command) {
				t.Error("the command runs on")
			}
			check(t, x)
		})
	}
	// While it waits for the lock, too.
	t.Run("waiting", func(t *testing.T) {
		t.Parallel()
		x := ttyShell(t)
		x.line("lockrun ./lock -- sleep 600 &")
		command := x.command("lock", "sleep")
		x.line("for i in 1 2 3; do echo $i >>runs; lockrun -w ./lock -- touch ran; done; echo after >>runs")
		x.awaitLine("runs", "1", 1)
		eventually(t, "lockrun waits in the foreground", func() bool {
			s := ttyStatOf(command)
			for _, pid := range ttySession(s.session) {
				if w := ttyStatOf(pid); w.group == s.front && pid != x.cmd.Process.Pid && ttyBlocked(pid) {
					return true
				}
			}
			return false
		})
		x.press(ttyCtrlC)
		x.atPrompt()
		if !alive(command) {
			t.Error("Ctrl-C hit the background job")
		}
		syscall.Kill(ttyStatOf(command).parent, syscall.SIGTERM)
		x.line("wait")
		x.atPrompt()
		check(t, x)
		if exists(x.path("ran")) {
			t.Error("the command was run")
		}
	})
}

// ttyBlocked reports whether a thread of a process waits for a file lock.
func ttyBlocked(pid int) bool {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
	for _, task := range tasks {
		if call, _ := os.ReadFile(task); strings.HasPrefix(string(call), strconv.Itoa(unix.SYS_FLOCK)+" ") {
			return true
		}
	}
	return false
}

func TestCtrlCEndsAPipeline(t *testing.T) {
	t.Parallel()
	x := ttyShell(t)
	x.line("lockrun ./lock -- sh -c 'echo x; sleep 600; echo after' | cat >out")
	x.awaitLine("out", "x", 1)
	// A dash that is about to start a program (vfork) loses a SIGINT.
	ttyInState(t, "S", ttyStatOf(x.process("sleep")).parent)
	front := ttyStatOf(x.cmd.Process.Pid).front
	x.press(ttyCtrlC)
	x.atPrompt()
	for _, pid := range ttySession(x.cmd.Process.Pid) {
		if s := ttyStatOf(pid); s.group == front {
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			t.Errorf("process %d %q runs on", pid, line)
		}
	}
	if out := x.lines("out"); len(out) != 1 {
		t.Errorf("the pipe got %q, want x alone", out)
	}
	x.free("lock")
}

func TestNohup(t *testing.T) {
	t.Parallel()
	need(t, "nohup")
	x := ttyShell(t)
	x.line("nohup lockrun ./lock -- sleep 600")
	command := x.command("lock", "sleep")
	supervisor := ttyStatOf(command).parent
	x.close()
	x.wait() // bash told its jobs
	for _, pid := range []int{supervisor, command} {
		syscall.Kill(pid, syscall.SIGHUP)
		// Whether the signal is ignored can be read; that a process survived
		// can only be waited for.
		if !srvSignalBit(pid, "SigIgn", syscall.SIGHUP) {
			t.Errorf("process %d does not ignore SIGHUP", pid)
		}
	}
	run(t, x.path("lock"), "--", "true").want(t, 75, fmt.Sprintf("held by process %d (sleep 600)", command))
	syscall.Kill(supervisor, syscall.SIGTERM)
	eventually(t, "both have ended", func() bool { return !alive(supervisor) && !alive(command) })
	x.free("lock")
}

// The command must be in the group that the shell makes the foreground one.
func TestFgCanReadFromTheTerminal(t *testing.T) {
	t.Parallel()
	x := ttyShell(t)
	x.line("lockrun ./lock -- cat >out &")
	// Not by the PID in the file: SIGTTIN stops both, and may stop lockrun
	// before it has written that.
	command := x.process("cat")
	supervisor := ttyStatOf(command).parent
	ttyInState(t, "T", supervisor, command) // of SIGTTIN
	// The shell must have seen it too: it does not continue what it takes to run.
	eventually(t, "the shell knows that the job is stopped", func() bool {
		x.line("jobs")
		x.mu.Lock()
		defer x.mu.Unlock()
		return bytes.Contains(x.output.Bytes(), []byte("Stopped"))
	})
	x.line("fg")
	eventually(t, "it is in the foreground", func() bool { s := ttyStatOf(command); return s.front == s.group && s.state == "S" })
	x.press("hello\n")
	x.awaitLine("out", "hello", 1)
	x.press(ttyCtrlD)
	x.atPrompt()
	x.free("lock")
}

// What the terminal did not send is passed on.
func TestInterruptToABackgroundJob(t *testing.T) {
	const rounds = 10
	t.Parallel()
	x := ttyShell(t)
	x.line("lockrun ./lock -- %s &", strings.Join(ttySignalsCommand(t, "log"), " "))
	x.awaitLine("log", "READY", 1)
	x.atPrompt()
	supervisor := ttyStatOf(x.command("lock", ttySelf(t))).parent
	for i := 1; i <= rounds; i++ {
		syscall.Kill(supervisor, syscall.SIGINT)
		x.awaitLine("log", "SIGINT", i)
		syscall.Kill(supervisor, syscall.SIGQUIT)
		x.awaitLine("log", "SIGQUIT", i)
	}
	// And what the terminal sends is for its foreground.
	x.press(ttyCtrlC)
	x.asked++
	x.atPrompt()
	syscall.Kill(supervisor, syscall.SIGTERM)
	x.line("wait; echo $? >waited")
	x.atPrompt()
	if n := ttyCount(x.lines("log"), "SIGINT"); n != rounds {
		t.Errorf("%d times SIGINT, want %d", n, rounds)
	}
	x.free("lock")
}

func TestClosedTerminalLeavesTheDaemonAlone(t *testing.T) {
	t.Parallel()
	x := ttyShell(t)
	x.line("lockrun start web -- %s; echo $? >status", strings.Join(ttySignalsCommand(t, x.path("log")), " "))
	x.awaitLine("status", "0", 1)
	x.awaitLine("log", "READY", 1)
	command := x.command("instances/web.pid", ttySelf(t))
	supervisor := ttyStatOf(command).parent
	x.press(ttyCtrlC)
	x.close()
	x.wait()
	for _, pid := range []int{supervisor, command} {
		if s := ttyStatOf(pid); s.tty != 0 || s.session != supervisor {
			t.Errorf("process %d: terminal %#x, session %d; want none, %d", pid, s.tty, s.session, supervisor)
		}
	}
	stop := exec.Command(lockrun, "stop", "--must-run", "web")
	stop.Env = x.cmd.Env
	runCmd(t, stop).want(t, 0, "")
	if log := x.lines("log"); strings.Join(log, " ") != "READY SIGTERM" {
		t.Errorf("the daemon got %q; want nothing but the SIGTERM of stop", log)
	}
	eventually(t, "the supervisor has ended", func() bool { return !alive(supervisor) })
}

// Ctrl-C while start waits for the lock: nothing is left in the background.
func TestCtrlCAtAWaitingStart(t *testing.T) {
	t.Parallel()
	x := ttyShell(t)
	x.line("lockrun ./lock -- sleep 600 &")
	command := x.command("lock", "sleep")
	x.line("lockrun start -w ./lock -- touch %s", x.path("ran"))
	var daemon int
	eventually(t, "the daemon waits", func() bool {
		waiting, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, name := range waiting {
			line, _ := os.ReadFile(name)
			fmt.Sscanf(name, "/proc/%d/", &daemon)
			if bytes.HasSuffix(line, []byte(x.path("ran")+"\x00")) && ttyStatOf(daemon).tty == 0 && ttyBlocked(daemon) {
				return true
			}
		}
		return false
	})
	x.press(ttyCtrlC)
	x.atPrompt()
	eventually(t, "the daemon has ended", func() bool { return !alive(daemon) })
	syscall.Kill(ttyStatOf(command).parent, syscall.SIGTERM)
	x.line("wait")
	x.atPrompt()
	x.free("lock")
	if exists(x.path("ran")) {
		t.Error("the command was run")
	}
}

func TestClosedTerminalEndsTheRun(t *testing.T) {
	t.Parallel()
	check := func(t *testing.T, x *ttyTerminal) {
		command := x.command("lock", "sleep")
		supervisor := ttyStatOf(command).parent
		x.close()
		x.wait()
		eventually(t, "both have ended", func() bool { return !alive(supervisor) && !alive(command) })
		x.free("lock")
	}
	t.Run("leader", func(t *testing.T) {
		t.Parallel()
		x := ttyStart(t, lockrun, "./lock", "--", "sleep", "600")
		check(t, x)
		if ws := x.wait(); ws.ExitStatus() != 128+1 {
			t.Errorf("lockrun ended with %#x, want status 129", ws)
		}
	})
	t.Run("bash", func(t *testing.T) {
		t.Parallel()
		x := ttyShell(t)
		x.line("lockrun ./lock -- sleep 600")
		check(t, x)
	})
}

// Under cron, a supervisor, ssh without -t: the command gets a process group of
// its own, and everything sent to lockrun is passed on.
func TestWithoutATerminal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	x := &ttyTerminal{t: t, dir: dir}
	cmd := exec.Command(lockrun, append([]string{"./lock", "--"}, ttySignalsCommand(t, "log")...)...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	background(t, cmd)
	x.awaitLine("log", "READY", 1)
	command := x.command("lock", ttySelf(t))
	s, own := ttyStatOf(command), ttyStatOf(cmd.Process.Pid)
	if s.tty != 0 || s.group != command || own.group != cmd.Process.Pid || s.session != own.session {
		t.Errorf("command %d: %+v; want a group of its own and no terminal", command, s)
	}
	for i, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGWINCH, syscall.SIGUSR1} {
		cmd.Process.Signal(sig)
		x.awaitLine("log", unix.SignalName(sig), 1)
		if n := len(x.lines("log")); n != 2+i {
			t.Errorf("%q; want every signal once", x.lines("log"))
		}
	}
	cmd.Process.Signal(syscall.SIGTSTP)
	ttyInState(t, "T", cmd.Process.Pid, command)
	cmd.Process.Signal(syscall.SIGCONT)
	ttyInState(t, "S", cmd.Process.Pid, command)
}

// On a terminal it stays in the group that the shell made.
func TestGroupOnATerminal(t *testing.T) {
	t.Parallel()
	x := ttyStart(t, lockrun, "./lock", "--", "sleep", "600")
	command := x.command("lock", "sleep")
	if s := ttyStatOf(command); s.group != x.cmd.Process.Pid || s.tty == 0 || s.front != s.group {
		t.Errorf("command %d: %+v; want it in the foreground, in the group of lockrun %d", command, s, x.cmd.Process.Pid)
	}
	x.press(ttyCtrlC)
	x.wait()
}

// A command may die of SIGINT where lockrun can't, having been started with the
// signal ignored: in the background of a script, or with trap ” INT.
func TestCommandDiesOfAnInterruptThatLockrunIgnores(t *testing.T) {
	t.Parallel()
	need(t, "perl")
	dir := t.TempDir()
	cmd := exec.Command("sh", "-c", `trap "" INT; exec "$0" ./lock -- perl -e '$SIG{INT} = "DEFAULT"; kill INT => $$; sleep 600'`, lockrun)
	cmd.Dir = dir
	ended := make(chan struct{})
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		cmd.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		if status := statusOf(cmd.ProcessState); status != 128+2 {
			t.Errorf("status %d, want 130", status)
		}
	case <-time.After(30 * time.Second):
		t.Error("lockrun hangs")
		cmd.Process.Kill()
		<-ended
	}
}

// ttyEnd waits until the processes with that word in their environment have
// ended: a lockrun in the background frees its lock a little before it ends
// itself. What stays is killed, and reported.
func ttyEnd(t *testing.T, word string) {
	var left []int
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if left = ttyWith(word); len(left) == 0 {
			return
		}
	}
	for _, pid := range left {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		t.Errorf("left behind: process %d %q", pid, line)
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

// ttyWith returns the processes with that word in their environment.
func ttyWith(word string) (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		environ, _ := os.ReadFile("/proc/" + entry.Name() + "/environ")
		if bytes.Contains(environ, []byte(word+"\x00")) && alive(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}
