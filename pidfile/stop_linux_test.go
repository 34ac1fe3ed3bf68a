package pidfile_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/lockrun/lockrun/lock"
	"github.com/lockrun/lockrun/pidfile"
	"golang.org/x/sys/unix"
)

// The helper "holder" holds a PID file until it is killed.
//
//	FILE ignore|obey|clean|hand over
func init() {
	helpers["holder"] = func(args []string) {
		f, err := pidfile.Hold(args[0], nil)
		if err != nil {
			panic(err)
		}
		switch args[1] {
		case "ignore":
			signal.Ignore(syscall.SIGTERM)
		case "clean":
			var a pidfile.AtExit
			a.Push(func() { f.Close() })
			a.Catch()
		}
		fmt.Println("up")
		time.Sleep(time.Minute)
	}
	// The helper "unseen" has a lock, and for a time nobody can be seen with it:
	// the descriptor is on its way through a socket.
	helpers["unseen"] = func(args []string) {
		file, err := unix.Open(args[0], unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			panic(err)
		}
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			panic(err)
		}
		err = errors.Join(unix.Flock(file, unix.LOCK_EX), unix.Sendmsg(pair[0], []byte{0}, unix.UnixRights(file), nil, 0), unix.Close(file))
		if err != nil {
			panic(err)
		}
		fmt.Println("up")
		time.Sleep(400 * time.Millisecond)
		syscall.Kill(os.Getpid(), syscall.SIGKILL) // the race detector makes an exit take a second
	}
	// The helper "looks" shares a lock for a time, as who only looks does on a busy
	// machine.
	helpers["looks"] = func(args []string) {
		file, err := unix.Open(args[0], unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Flock(file, unix.LOCK_SH)
		}
		if err != nil {
			panic(err)
		}
		fmt.Println("up")
		time.Sleep(300 * time.Millisecond)
		unix.Flock(file, unix.LOCK_UN)
	}
	// The helper "blocked" becomes another one, with SIGTERM blocked.
	helpers["blocked"] = func(args []string) {
		runtime.LockOSThread()
		var set unix.Sigset_t
		set.Val[0] = 1 << (syscall.SIGTERM - 1)
		if err := unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil); err != nil {
			panic(err)
		}
		self, _ := os.Executable()
		os.Setenv(helperVariable, args[0])
		panic(syscall.Exec(self, append([]string{self}, args[1:]...), os.Environ()))
	}
}

// holder starts a process that holds the PID file p.
func holder(t *testing.T, p, do string) *exec.Cmd {
	t.Helper()
	cmd := helper(t, "holder", p, do)
	start(t, cmd)
	wantContent(t, p, fmt.Sprintln(cmd.Process.Pid))
	return cmd
}

// short is the default schedule for impatient tests.
func short(term time.Duration) []pidfile.Step {
	return []pidfile.Step{{Signal: syscall.SIGTERM, Wait: term}, {Signal: syscall.SIGKILL, Wait: 20 * time.Second}}
}

func wantFree(t *testing.T, p string) {
	t.Helper()
	if in, err := lock.Inspect(p); err != nil || in.State != lock.Free {
		t.Errorf("Inspect = %+v, %v; want free", in, err)
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		do       string
		schedule []pidfile.Step
		status   int
		left     bool
	}{
		{"obey", nil, 128 + int(syscall.SIGTERM), true},
		{"clean", nil, 128 + int(syscall.SIGTERM), false},
		{"obey", []pidfile.Step{{Signal: syscall.SIGINT, Wait: 20 * time.Second}}, 128 + int(syscall.SIGINT), true},
		{"ignore", short(50 * time.Millisecond), 128 + int(syscall.SIGKILL), true},
		{"clean", []pidfile.Step{{Signal: 0, Wait: time.Millisecond}, {Signal: syscall.SIGTERM, Wait: 20 * time.Second}}, 128 + int(syscall.SIGTERM), false},
	} {
		t.Run(fmt.Sprintf("%s %v", tt.do, tt.schedule), func(t *testing.T) {
			t.Parallel()
			p := path(t)
			cmd := holder(t, p, tt.do)
			if tt.schedule != nil && tt.schedule[0].Signal == syscall.SIGINT && ignored(t, cmd.Process.Pid, syscall.SIGINT) {
				t.Skip("ignored when the tests were started")
			}
			if err := pidfile.Stop(t.Context(), p, tt.schedule); err != nil {
				t.Fatalf("Stop = %v", err)
			}
			// The promise: a start that comes after it wins.
			f, err := pidfile.TryOpen(p, nil)
			if err != nil {
				t.Fatalf("TryOpen after Stop = %v", err)
			}
			f.Close()
			if got := end(cmd); got != tt.status {
				t.Errorf("status %d; want %d", got, tt.status)
			}
			if err := pidfile.Stop(t.Context(), p, nil); !errors.Is(err, pidfile.ErrNotRunning) {
				t.Errorf("second Stop = %v; want ErrNotRunning", err)
			}
		})
	}
}

// TestStopTooShort: a schedule that ends, or a context, is an error that names
// the holder, who lives.
func TestStopTooShort(t *testing.T) {
	t.Parallel()
	p := path(t)
	cmd := holder(t, p, "ignore")
	var held *lock.HeldError
	err := pidfile.Stop(t.Context(), p, []pidfile.Step{{Signal: syscall.SIGTERM, Wait: 20 * time.Millisecond}})
	if !errors.As(err, &held) || !errors.Is(err, lock.ErrHeld) || held.Holder.PID != cmd.Process.Pid || held.Cause != nil {
		t.Errorf("Stop = %v; want a HeldError that names process %d", err, cmd.Process.Pid)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	begin := time.Now()
	err = pidfile.Stop(ctx, p, short(20*time.Second))
	if !errors.Is(err, lock.ErrHeld) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Stop = %v; want ErrHeld and DeadlineExceeded", err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("Stop took %v; want the context to end it", took)
	}
	if !alive(cmd.Process.Pid) {
		t.Error("the holder was killed")
	}
	if s, err := pidfile.Inspect(p); err != nil || s.State != pidfile.Running {
		t.Errorf("Inspect = %+v, %v; want running", s, err)
	}
}

// TestStopNotRunning: nobody is signalled because of a number in a file that
// nobody has locked.
func TestStopNotRunning(t *testing.T) {
	t.Parallel()
	stranger := exec.Command("sleep", "600")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stranger.Process.Kill(); stranger.Wait() })
	stale := fmt.Sprintln(stranger.Process.Pid)
	for _, content := range []string{stale, "", "0\n", "-1\n", "1\n", fmt.Sprintf("-%d\n", stranger.Process.Pid), "x\n", ownPID()} {
		p := path(t)
		write(t, p, content)
		if err := pidfile.Stop(t.Context(), p, nil); !errors.Is(err, pidfile.ErrNotRunning) {
			t.Errorf("%q: Stop = %v; want ErrNotRunning", content, err)
		}
		wantContent(t, p, content)
	}
	if err := pidfile.Stop(t.Context(), path(t), nil); !errors.Is(err, pidfile.ErrNotRunning) {
		t.Errorf("no file: Stop = %v; want ErrNotRunning", err)
	}
	if err := pidfile.Stop(t.Context(), "/dev/null", nil); !errors.Is(err, pidfile.ErrNotRunning) {
		t.Errorf("/dev/null: Stop = %v; want ErrNotRunning", err)
	}
	if !alive(stranger.Process.Pid) {
		t.Error("the stranger was signalled")
	}
}

// TestStopStranger: the recorded process lives, but another one holds the lock.
// That one is ended.
func TestStopStranger(t *testing.T) {
	t.Parallel()
	stranger := exec.Command("sleep", "600")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stranger.Process.Kill(); stranger.Wait() })
	p := path(t)
	cmd := holder(t, p, "obey")
	write(t, p, fmt.Sprintln(stranger.Process.Pid))
	if err := pidfile.Stop(t.Context(), p, nil); err != nil {
		t.Errorf("Stop = %v", err)
	}
	if got := end(cmd); got != 128+int(syscall.SIGTERM) {
		t.Errorf("the holder ended with %d; want %d", got, 128+int(syscall.SIGTERM))
	}
	if !alive(stranger.Process.Pid) {
		t.Error("the stranger was signalled")
	}
	wantFree(t, p)
}

// TestStopUnrecorded: flock(1) writes no PID. It and its child share the lock,
// so both are ended.
func TestStopUnrecorded(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("flock"); err != nil {
		t.Skip("needs flock(1)")
	}
	p := path(t)
	cmd := exec.Command("flock", p, "sh", "-c", "echo up; sleep 600")
	start(t, cmd)
	holders, err := lock.Holders(p)
	if err != nil || len(holders) < 2 {
		t.Fatalf("Holders = %+v, %v; want flock(1) and its child", holders, err)
	}
	t.Cleanup(func() {
		holders, _ := lock.Holders(p)
		for _, h := range holders {
			syscall.Kill(h.PID, syscall.SIGKILL)
		}
	})
	if err := pidfile.Stop(t.Context(), p, short(20*time.Second)); err != nil {
		t.Errorf("Stop = %v", err)
	}
	wantFree(t, p)
	end(cmd)
	for _, h := range holders {
		for deadline := time.Now().Add(30 * time.Second); alive(h.PID); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("process %d (%s) lives", h.PID, h.CommandLine())
			}
		}
	}
}

// TestStopUnseen: that a holder can't be seen may be so because it comes to its
// end, which takes its time on a busy machine.
func TestStopUnseen(t *testing.T) {
	t.Parallel()
	p := path(t)
	write(t, p, "")
	start(t, helper(t, "unseen", p))
	if err := pidfile.Stop(t.Context(), p, short(20*time.Second)); !errors.Is(err, pidfile.ErrNotRunning) {
		t.Errorf("Stop = %v; want ErrNotRunning", err)
	}
	wantFree(t, p)
}

// TestStopDoesNotHitWhoLooks: he has the lock, and is not meant.
func TestStopDoesNotHitWhoLooks(t *testing.T) {
	t.Parallel()
	p := path(t)
	write(t, p, "")
	cmd := helper(t, "looks", p)
	start(t, cmd)
	if err := pidfile.Stop(t.Context(), p, short(20*time.Second)); !errors.Is(err, pidfile.ErrNotRunning) {
		t.Errorf("Stop = %v; want ErrNotRunning", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("who looked: %v", err)
	}
}

// TestStopStopped: a process that was stopped by SIGSTOP gets SIGTERM only when
// it is continued.
func TestStopStopped(t *testing.T) {
	t.Parallel()
	p := path(t)
	cmd := holder(t, p, "clean")
	cmd.Process.Signal(syscall.SIGSTOP)
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WSTOPPED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if err := pidfile.Stop(t.Context(), p, short(20*time.Second)); err != nil {
		t.Errorf("Stop = %v", err)
	}
	if got := end(cmd); got != 128+int(syscall.SIGTERM) {
		t.Errorf("status %d; want %d, after a clean-up", got, 128+int(syscall.SIGTERM))
	}
	wantContent(t, p, "absent")
}

// TestStopDeleted: somebody deleted the file under its holder.
func TestStopDeleted(t *testing.T) {
	t.Parallel()
	p := path(t)
	cmd := holder(t, p, "obey")
	if err := os.Remove(p); err != nil {
		t.Fatal(err)
	}
	if err := pidfile.Stop(t.Context(), p, nil); err != nil {
		t.Errorf("Stop = %v", err)
	}
	if got := end(cmd); got != 128+int(syscall.SIGTERM) {
		t.Errorf("status %d; want %d", got, 128+int(syscall.SIGTERM))
	}
}

// TestStopThread: the number of a thread in the file is not a process to be
// found by it, but its process holds the lock.
func TestStopThread(t *testing.T) {
	t.Parallel()
	p := path(t)
	cmd := holder(t, p, "obey")
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", cmd.Process.Pid))
	if err != nil || len(tasks) < 2 {
		t.Fatalf("threads %v, %v; want more than one", tasks, err)
	}
	write(t, p, tasks[len(tasks)-1].Name()+"\n")
	if err := pidfile.Stop(t.Context(), p, nil); err != nil {
		t.Errorf("Stop = %v", err)
	}
	if got := end(cmd); got != 128+int(syscall.SIGTERM) {
		t.Errorf("status %d; want %d", got, 128+int(syscall.SIGTERM))
	}
}

// TestAtExitBlocked: a program that was started with SIGTERM blocked cleans up
// and dies of it all the same.
func TestAtExitBlocked(t *testing.T) {
	t.Parallel()
	p := path(t)
	cmd := helper(t, "blocked", "at exit", "sleep", p)
	stdout, _ := start(t, cmd)
	cmd.Process.Signal(syscall.SIGTERM)
	stdout.want("clean")
	killed := time.AfterFunc(5*time.Second, func() {
		t.Error("it hangs after the clean-up")
		cmd.Process.Kill()
	})
	got := end(cmd)
	if killed.Stop() && got != 128+int(syscall.SIGTERM) {
		t.Errorf("status %d; want %d", got, 128+int(syscall.SIGTERM))
	}
}

// TestAtExitPID1: no signal of its own kills the first process of a container.
func TestAtExitPID1(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make a PID namespace")
	}
	p := path(t)
	cmd := helper(t, "at exit", "sleep", p)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	stdout, _ := start(t, cmd)
	wantContent(t, p, "1\n")
	cmd.Process.Signal(syscall.SIGTERM)
	stdout.want("clean")
	end(cmd)
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.ExitStatus() != 128+int(syscall.SIGTERM) {
		t.Errorf("%v; want exit status %d", cmd.ProcessState, 128+int(syscall.SIGTERM))
	}
	wantContent(t, p, "absent")
}

func TestSignalReachesTheHolderOnly(t *testing.T) {
	t.Parallel()
	p := path(t)
	if err := pidfile.Signal(p, syscall.SIGUSR1); !errors.Is(err, pidfile.ErrNotRunning) {
		t.Errorf("Signal without a file = %v; want ErrNotRunning", err)
	}
	stranger := exec.Command("sleep", "60")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	write(t, p, fmt.Sprintln(stranger.Process.Pid))
	if err := pidfile.Signal(p, syscall.SIGTERM); !errors.Is(err, pidfile.ErrNotRunning) {
		t.Errorf("Signal of a free file = %v; want ErrNotRunning", err)
	}
	if targets, err := pidfile.Targets(p); len(targets) != 0 || !errors.Is(err, pidfile.ErrNotRunning) {
		t.Errorf("Targets of a free file = %v, %v; want ErrNotRunning", targets, err)
	}
	if !alive(stranger.Process.Pid) {
		t.Error("a stranger was signalled")
	}
	cmd := holder(t, p, "obey")
	targets, err := pidfile.Targets(p)
	if err != nil || len(targets) != 1 || targets[0].PID != cmd.Process.Pid || !targets[0].Recorded {
		t.Errorf("Targets = %+v, %v; want process %d", targets, err, cmd.Process.Pid)
	}
	if err := pidfile.Signal(p, syscall.SIGINT); err != nil {
		t.Errorf("Signal = %v", err)
	}
	if got := end(cmd); got != 128+int(syscall.SIGINT) {
		t.Errorf("status %d; want %d", got, 128+int(syscall.SIGINT))
	}
	stranger.Process.Kill()
	stranger.Wait()
}

func TestWait(t *testing.T) {
	t.Parallel()
	p := path(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := pidfile.Wait(ended, p); err != nil {
		t.Errorf("Wait without a file = %v", err)
	}
	cmd := holder(t, p, "obey")
	var held *lock.HeldError
	if err := pidfile.Wait(ended, p); !errors.As(err, &held) || !errors.Is(err, context.Canceled) || held.Holder.PID != cmd.Process.Pid {
		t.Errorf("Wait = %v; want a *HeldError that names process %d, with Canceled", err, cmd.Process.Pid)
	}
	done := make(chan error, 1)
	go func() { done <- pidfile.Wait(t.Context(), p) }()
	select {
	case err := <-done:
		t.Fatalf("Wait = %v beside a holder", err)
	case <-time.After(20 * time.Millisecond):
	}
	cmd.Process.Kill()
	if err := <-done; err != nil {
		t.Errorf("Wait = %v", err)
	}
	end(cmd)
	if err := pidfile.Wait(ended, p); err != nil {
		t.Errorf("Wait for a free file = %v", err)
	}
}

func TestStopUnlocked(t *testing.T) {
	t.Parallel()
	p := path(t)
	if err := pidfile.StopUnlocked(t.Context(), p, nil); !errors.Is(err, pidfile.ErrNotRunning) {
		t.Errorf("StopUnlocked without a file = %v; want ErrNotRunning", err)
	}
	for _, tt := range []struct {
		script string
		want   int
	}{
		{"exec sleep 60", 128 + int(syscall.SIGTERM)},
		{"trap '' TERM; echo up; while :; do sleep 0.01; done", 128 + int(syscall.SIGKILL)},
	} {
		cmd := exec.Command("sh", "-c", tt.script)
		if tt.want == 128+int(syscall.SIGKILL) {
			start(t, cmd)
		} else if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		write(t, p, fmt.Sprintln(cmd.Process.Pid))
		reaped := make(chan int, 1)
		go func() { reaped <- end(cmd) }()
		if err := pidfile.StopUnlocked(t.Context(), p, short(100*time.Millisecond)); err != nil {
			t.Errorf("StopUnlocked = %v", err)
		}
		if got := <-reaped; got != tt.want {
			t.Errorf("%s: status %d; want %d", tt.script, got, tt.want)
		}
		if err := pidfile.StopUnlocked(t.Context(), p, nil); !errors.Is(err, pidfile.ErrNotRunning) {
			t.Errorf("StopUnlocked of a process that is gone = %v; want ErrNotRunning", err)
		}
	}
	cmd := holder(t, p, "obey")
	if err := pidfile.StopUnlocked(t.Context(), p, nil); !errors.Is(err, lock.ErrHeld) || !alive(cmd.Process.Pid) {
		t.Errorf("StopUnlocked of a locked file = %v; want ErrHeld, and nobody signalled", err)
	}
	cmd.Process.Kill()
	end(cmd)
}

// A number that others could have written is not believed, whoever has it.
func TestStopUnlockedBelievesNoTrap(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer end(cmd)
	defer cmd.Process.Kill()
	for want, set := range map[error]func(p string) error{
		pidfile.ErrWritable:   func(p string) error { return os.Chmod(p, 0o666) },
		pidfile.ErrNotPIDFile: func(p string) error { return os.Link(p, p+".link") },
		pidfile.ErrOwner:      func(p string) error { return os.Chown(p, 65534, -1) },
	} {
		if want == pidfile.ErrOwner && os.Geteuid() != 0 {
			continue
		}
		p := path(t)
		write(t, p, fmt.Sprintln(cmd.Process.Pid))
		if err := set(p); err != nil {
			t.Fatal(err)
		}
		if err := pidfile.StopUnlocked(t.Context(), p, short(100*time.Millisecond)); !errors.Is(err, want) {
			t.Errorf("StopUnlocked = %v; want %v", err, want)
		}
	}
	if !alive(cmd.Process.Pid) {
		t.Error("a process was ended")
	}
}
