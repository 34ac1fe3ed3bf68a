package pidfile_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lockrun/lockrun/pidfile"
)

func TestAtExitOrder(t *testing.T) {
	t.Parallel()
	var a pidfile.AtExit
	var got []string
	push := func(s string) { a.Push(func() { got = append(got, s) }) }
	a.Run() // nothing to do
	push("first")
	push("second")
	a.Push(func() {
		got = append(got, "third")
		push("pushed meanwhile")
	})
	a.Run()
	a.Run()
	push("later")
	a.Run()
	if want := []string{"third", "pushed meanwhile", "second", "first", "later"}; !slices.Equal(got, want) {
		t.Errorf("%q; want %q", got, want)
	}
}

// TestAtExitPanics: a function that panics does not keep the rest from running,
// and the panic goes on. So does one that came before Run.
func TestAtExitPanics(t *testing.T) {
	t.Parallel()
	var a pidfile.AtExit
	var got []string
	a.Push(func() { got = append(got, "first") })
	a.Push(func() { panic("of a function") })
	a.Push(func() { got = append(got, "third") })
	func() {
		defer func() { got = append(got, fmt.Sprint(recover())) }()
		a.Run()
	}()
	a.Push(func() { got = append(got, "again") })
	func() {
		defer func() { got = append(got, fmt.Sprint(recover())) }()
		defer a.Run()
		panic("of main")
	}()
	if want := []string{"third", "first", "of a function", "again", "of main"}; !slices.Equal(got, want) {
		t.Errorf("%q; want %q", got, want)
	}
}

// TestAtExitConcurrent: each function runs once, and a Run that finds another
// one at work returns only when everything is done.
func TestAtExitConcurrent(t *testing.T) {
	t.Parallel()
	for range 50 {
		var a pidfile.AtExit
		var mu sync.Mutex
		var got []int
		for i := range 20 {
			a.Push(func() {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, i)
			})
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				a.Run()
				mu.Lock()
				defer mu.Unlock()
				if len(got) != 20 {
					t.Errorf("Run has returned after %d of 20 functions", len(got))
				}
			})
		}
		wg.Wait()
		if !slices.IsSortedFunc(got, func(a, b int) int { return b - a }) {
			t.Errorf("ran in the order %d; want last in, first out", got)
		}
	}
}

// The helper "at exit" prints "up" when it catches signals, and "clean" when the
// functions run. What it does in between is its first argument.
func init() {
	helpers["at exit"] = func(args []string) {
		var a pidfile.AtExit
		defer a.Run()
		stop := a.Catch()
		file := func() {}
		if len(args) > 1 {
			f, err := pidfile.Hold(args[1], nil)
			if err != nil {
				panic(err)
			}
			file = func() { f.Close() }
		}
		a.Push(func() {
			file()
			fmt.Println("clean")
			switch args[0] {
			case "slow":
				time.Sleep(time.Minute)
			case "main returns":
				time.Sleep(100 * time.Millisecond)
			case "panic in function":
				panic("of a function")
			}
		})
		switch args[0] {
		case "return":
			return
		case "exit":
			a.Exit(7)
		case "panic":
			panic("of main")
		case "catch nothing":
			stop()
			stop()
		case "own signal":
			stop()
			a.Catch(syscall.SIGUSR1)
		case "main returns":
			// As a server does whose listener was closed by the clean-up.
			c := make(chan os.Signal, 1)
			signal.Notify(c, syscall.SIGTERM)
			fmt.Println("up")
			<-c
			time.Sleep(20 * time.Millisecond)
			return
		case "main exits":
			c := make(chan os.Signal, 1)
			signal.Notify(c, syscall.SIGTERM)
			fmt.Println("up")
			<-c
			time.Sleep(20 * time.Millisecond)
			a.Exit(7)
		}
		fmt.Println("up")
		time.Sleep(time.Minute)
	}
}

// TestAtExitEnds: the ways in which a program ends by itself.
func TestAtExitEnds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		do     string
		status int
		stderr string
	}{
		{"return", 0, ""},
		{"exit", 7, ""},
		{"panic", 2, "panic: of main\n"},
	} {
		p := path(t)
		cmd := helper(t, "at exit", tt.do, p)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		cmd.Start()
		if got := end(cmd); got != tt.status {
			t.Errorf("%s: status %d; want %d", tt.do, got, tt.status)
		}
		if stdout.String() != "clean\n" || !strings.HasPrefix(stderr.String(), tt.stderr) || tt.stderr == "" && stderr.Len() > 0 {
			t.Errorf("%s: stdout %q, stderr %q; want \"clean\" once, and %q", tt.do, &stdout, &stderr, tt.stderr)
		}
		wantContent(t, p, "absent")
	}
}

// TestAtExitSignals: the functions run, and the process dies of that signal.
func TestAtExitSignals(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		for _, do := range []string{"sleep", "panic in function"} {
			t.Run(fmt.Sprintf("%v, %s", sig, do), func(t *testing.T) {
				t.Parallel()
				p := path(t)
				cmd := helper(t, "at exit", do, p)
				stdout, stderr := start(t, cmd)
				if ignored(t, cmd.Process.Pid, sig) {
					t.Skip("ignored when the tests were started")
				}
				cmd.Process.Signal(sig)
				stdout.want("clean")
				if got := end(cmd); got != 128+int(sig) {
					t.Errorf("status %d; want %d", got, 128+int(sig))
				}
				if stderr.Len() > 0 {
					t.Errorf("stderr: %s; want silence", stderr)
				}
				wantContent(t, p, "absent")
			})
		}
	}
}

// ignored reads the line "SigIgn:	0000000000000001" of /proc/PID/status.
func ignored(t *testing.T, pid int, sig syscall.Signal) bool {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false // not Linux
	}
	_, rest, _ := strings.Cut(string(status), "\nSigIgn:\t")
	mask, err := strconv.ParseUint(rest[:16], 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return mask&(1<<(sig-1)) != 0
}

// TestAtExitSignalWins: the process dies of the signal even if main returns, or
// exits, while the functions run.
func TestAtExitSignalWins(t *testing.T) {
	t.Parallel()
	for _, do := range []string{"main returns", "main exits"} {
		for range 5 {
			cmd := helper(t, "at exit", do)
			stdout, _ := start(t, cmd)
			cmd.Process.Signal(syscall.SIGTERM)
			stdout.want("clean")
			if got := end(cmd); got != 128+int(syscall.SIGTERM) {
				t.Errorf("%s: status %d; want %d", do, got, 128+int(syscall.SIGTERM))
			}
		}
	}
}

// TestAtExitSecondSignal kills at once, whatever function hangs.
func TestAtExitSecondSignal(t *testing.T) {
	t.Parallel()
	for _, second := range []syscall.Signal{syscall.SIGTERM, syscall.SIGQUIT} {
		cmd := helper(t, "at exit", "slow")
		stdout, _ := start(t, cmd)
		cmd.Process.Signal(syscall.SIGTERM)
		stdout.want("clean")
		cmd.Process.Signal(second)
		if got := end(cmd); got != 128+int(second) {
			t.Errorf("status %d; want %d", got, 128+int(second))
		}
	}
}

func TestAtExitStop(t *testing.T) {
	t.Parallel()
	p := path(t)
	cmd := helper(t, "at exit", "catch nothing", p)
	start(t, cmd)
	cmd.Process.Signal(syscall.SIGTERM)
	if got := end(cmd); got != 128+int(syscall.SIGTERM) {
		t.Errorf("status %d; want %d", got, 128+int(syscall.SIGTERM))
	}
	wantContent(t, p, fmt.Sprintln(cmd.Process.Pid)) // nobody removed it
}

func TestAtExitCatch(t *testing.T) {
	t.Parallel()
	p := path(t)
	cmd := helper(t, "at exit", "own signal", p)
	stdout, _ := start(t, cmd)
	cmd.Process.Signal(syscall.SIGUSR1)
	stdout.want("clean")
	if got := end(cmd); got != 128+int(syscall.SIGUSR1) {
		t.Errorf("status %d; want %d", got, 128+int(syscall.SIGUSR1))
	}
	wantContent(t, p, "absent")
}

// TestAtExitIgnored: nohup's SIGHUP, and the SIGINT of a shell's background
// job, stay ignored.
func TestAtExitIgnored(t *testing.T) {
	t.Parallel()
	h := helper(t, "at exit", "sleep")
	cmd := exec.Command("/bin/sh", append([]string{"-c", `trap '' HUP INT; exec "$@"`, "sh"}, h.Args...)...)
	cmd.Env = h.Env
	stdout, _ := start(t, cmd)
	cmd.Process.Signal(syscall.SIGHUP)
	cmd.Process.Signal(syscall.SIGINT)
	cmd.Process.Signal(syscall.SIGTERM)
	stdout.want("clean")
	if got := end(cmd); got != 128+int(syscall.SIGTERM) {
		t.Errorf("status %d; want %d, since the others are ignored", got, 128+int(syscall.SIGTERM))
	}
}
