//go:build linux

package integration_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lockrun/lockrun/detach"
	"github.com/lockrun/lockrun/lock"
	"golang.org/x/sys/unix"
)

func init() { helpers["svc-service"] = svcService }

// svcService is a program that is a detach.Service. It is started in the
// directory in which it leaves its traces.
func svcService(args []string) int {
	var s detach.Service
	flags := flag.NewFlagSet("svc-service", flag.ExitOnError)
	flags.StringVar(&s.PIDFile, "pidfile", "pid", "")
	flags.StringVar(&s.Log, "log", "log", "")
	do := flags.String("do", "ready", "")
	flags.Parse(args)
	s.Dir = "."
	if *do == "graceful" || *do == "reload" {
		s.Handles = map[string][]os.Signal{"graceful": {syscall.SIGTERM, syscall.SIGINT}, "reload": {syscall.SIGHUP}}[*do]
	}
	s.Run = func(d *detach.Daemon) error { return svcRun(d, *do) }
	status, message := s.Command(flags.Args())
	if message != "" {
		fmt.Println("message:", message)
	}
	return status
}

func svcRun(d *detach.Daemon, do string) error {
	handled := make(chan os.Signal, 1)
	switch do {
	case "graceful":
		signal.Notify(handled, syscall.SIGTERM, syscall.SIGINT)
	case "reload":
		signal.Notify(handled, syscall.SIGHUP)
	case "fail":
		return errors.New("the port is taken")
	case "denied":
		return &fs.PathError{Op: "open", Path: "/etc/key", Err: syscall.EACCES}
	case "held": // some other lock
		return &lock.HeldError{Path: "/run/database", Holder: lock.Holder{PID: 4711}}
	case "return":
		return nil
	case "early panic":
		panic("this is a test")
	}
	if do == "witness" {
		return svcWitness(d)
	}
	if err := d.Ready(); err != nil {
		return err
	}
	fmt.Println("up")
	switch do {
	case "graceful", "reload":
		sig := <-handled
		// To end in good order takes its time, in which it must not die.
		time.Sleep(50 * time.Millisecond)
		fmt.Println("handled", sig)
		return nil
	case "late":
		return errors.New("the disk is full")
	case "done":
		return nil
	case "panic":
		panic("this is a test")
	case "slow panic":
		panic(svcSlow{})
	}
	select {}
}

// svcSlow is what is panicked with. It is asked for its text after all deferred
// functions were run, and before the process ends.
type svcSlow struct{}

func (svcSlow) Error() string {
	os.WriteFile("panicking", nil, 0o600)
	for !exists("go on") {
		time.Sleep(time.Millisecond)
	}
	return "this is a test"
}

// svcWitness works all the time, as the lines in the file "journal" show: where
// two work at once, their lines are mixed.
func svcWitness(d *detach.Daemon) error {
	journal, err := os.OpenFile("journal", os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		if i == 10 {
			d.Ready()
		}
		fmt.Fprintln(journal, os.Getpid())
		time.Sleep(100 * time.Microsecond)
	}
}

// svcDir returns a directory; when the test ends, all that was started with
// files in it is ended.
func svcDir(t *testing.T) string {
	t.Helper()
	dir := filesDir(t)
	t.Cleanup(func() {
		for _, pid := range detProcesses(dir) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		detGone(t, dir)
	})
	return dir
}

// svcHelper returns a command that runs the service of dir.
func svcHelper(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := svcLimited(t, helper(t, "svc-service", args...))
	cmd.Dir = dir
	cmd.Env = append(cmd.Env, "SVC_DIR="+dir) // by which svcDir finds it
	return cmd
}

// svcExample returns the example, on a port of its own.
func svcExample(t *testing.T, dir, word string, more ...string) *exec.Cmd {
	t.Helper()
	args := append([]string{"-pidfile", dir + "/pid", "-log", dir + "/log", "-listen", "127.0.0.1:0"}, more...)
	return svcLimited(t, exec.Command(exBuild(t, "service"), append(args, word)...))
}

// svcLimited ends a program that should have been refused, and runs in the
// foreground.
func svcLimited(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	limited := exec.CommandContext(ctx, cmd.Path, cmd.Args[1:]...)
	limited.Env = cmd.Env
	return limited
}

func svcLog(t *testing.T, dir string) string {
	t.Helper()
	content, err := os.ReadFile(dir + "/log")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(content)
}

// TestExampleService is a day in the life of an init script.
func TestExampleService(t *testing.T) {
	t.Parallel()
	dir := svcDir(t)
	path := dir + "/pid"
	do := func(word string) result { return runCmd(t, svcExample(t, dir, word)) }
	// status checks what it says: on standard output, being what was asked for.
	status := func(want int, text string) {
		t.Helper()
		r := do("status")
		r.want(t, want, "")
		if !strings.HasPrefix(r.stdout, text) {
			t.Errorf("status: %v; want %q", r, text)
		}
	}
	running := func() int {
		t.Helper()
		pid := detRead(t, path)
		detHeld(t, path, pid)
		status(0, fmt.Sprintf("running: lock %s: held by process %d (", path, pid))
		return pid
	}
	silently := func(word string) {
		t.Helper()
		r := do(word)
		r.want(t, 0, "")
		if r.stdout != "" {
			t.Errorf("%s: %v; want silence", word, r)
		}
	}

	status(3, "not running\n")
	do("stop").want(t, 0, "service: not running\n")
	silently("start")
	first := running()
	detAdopter(t, first)
	do("start").want(t, 0, fmt.Sprintf("service: already running: lock %s: held by process %d (", path, first))
	do("run").want(t, 1, fmt.Sprintf("service: lock %s: held by process %d (", path, first))
	if pid := running(); pid != first {
		t.Errorf("process %d runs; want %d still", pid, first)
	}
	if got := svcAsk(t, svcAddress(t, svcLog(t, dir))); len(got) != len(time.DateTime)+1 {
		t.Errorf("it answers %q", got)
	}

	silently("restart")
	second := running()
	if second == first {
		t.Errorf("after restart process %d runs; want another one", first)
	}
	eventually(t, "the first one is gone", func() bool { return !alive(first) })
	silently("stop")
	if exists(path) {
		t.Error("the PID file is still there")
	}
	do("stop").want(t, 0, "service: not running\n")
	status(3, "not running\n")
	silently("restart") // when it is stopped
	third := running()

	syscall.Kill(third, syscall.SIGKILL)
	run(t, "wait", path).want(t, 0, "")
	status(1, fmt.Sprintf("not running: process %d left its PID behind\n", third))
	do("stop").want(t, 0, "service: not running\n")
	silently("start")
	running()
	if n := strings.Count(svcLog(t, dir), "listening on 127.0.0.1:"); n != 4 {
		t.Errorf("%d starts in the log; want 4", n)
	}
	silently("stop")
	detGone(t, dir)
}

// svcAddress finds where the example listens.
func svcAddress(t *testing.T, output string) string {
	t.Helper()
	_, rest, _ := strings.Cut(output, "listening on ")
	address, _, complete := strings.Cut(rest, "\n")
	if !complete {
		t.Fatalf("%q; want an address", output)
	}
	return address
}

func svcAsk(t *testing.T, address string) string {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	answer, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

// TestExampleServicePortTaken: Run fails before Ready.
func TestExampleServicePortTaken(t *testing.T) {
	t.Parallel()
	dir := svcDir(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	want := fmt.Sprintf("service: listen tcp %s: bind: address already in use\n", l.Addr())
	for _, word := range []string{"start", "restart", "run"} {
		r := runCmd(t, svcExample(t, dir, word, "-listen", l.Addr().String()))
		if r.status != 1 || r.stdout != "" || r.stderr != want {
			t.Errorf("%s: %v; want status 1, %q", word, r, want)
		}
		if exists(dir + "/pid") {
			t.Errorf("%s: the PID file is still there", word)
		}
	}
	detGone(t, dir)
}

func TestServiceWords(t *testing.T) {
	t.Parallel()
	dir := svcDir(t)
	const want = "message: want one of start, stop, restart, status, run"
	for _, tt := range []struct {
		words  []string
		stdout string
	}{
		{nil, want + "\n"},
		{[]string{"sart"}, want + "; not [\"sart\"]\n"},
		{[]string{""}, want + "; not [\"\"]\n"},
		{[]string{"start", "stop"}, want + "; not [\"start\" \"stop\"]\n"},
		{[]string{"leader"}, want + "; not [\"leader\"]\n"},
	} {
		if r := runCmd(t, svcHelper(t, dir, tt.words...)); r.status != 2 || r.stdout != tt.stdout {
			t.Errorf("%q: %v; want status 2, %q", tt.words, r, tt.stdout)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("it left %v", entries)
	}
}

// TestServiceStart: what the terminal, the log and the file system have of each
// way in which the program ends.
func TestServiceStart(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		do         string
		start      int    // status of start and restart
		message    string // of them
		run        int    // status of run
		runMessage string
		log        string // a part of it
	}{
		{do: "fail", start: 1, message: "the port is taken", run: 1, runMessage: "the port is taken"},
		{do: "denied", start: 4, message: "open /etc/key: permission denied", run: 4, runMessage: "open /etc/key: permission denied"},
		{do: "held", start: 1, message: "lock /run/database: held by process 4711 (?)", run: 1, runMessage: "lock /run/database: held by process 4711 (?)"},
		{do: "return", start: 1, message: "ended before it was ready: exit status 0, see log", run: 0},
		{do: "early panic", start: 1, message: "ended before it was ready: exit status 2, see log", run: 2, log: "panic: this is a test"},
		{do: "panic", start: 0, run: 2, log: "panic: this is a test"},
		{do: "late", start: 0, run: 1, runMessage: "the disk is full", log: "message: the disk is full\n"},
		{do: "done", start: 0, run: 0, log: "up\n"},
	} {
		t.Run(tt.do, func(t *testing.T) {
			t.Parallel()
			for _, word := range []string{"start", "restart", "run"} {
				dir := svcDir(t)
				r := runCmd(t, svcHelper(t, dir, "-do", tt.do, word))
				status, message := tt.start, tt.message
				if word == "run" {
					status, message = tt.run, tt.runMessage
				}
				got, _ := strings.CutPrefix(r.stdout, "up\n")
				if message != "" {
					message = "message: " + message + "\n"
				}
				if r.status != status || got != message {
					t.Errorf("%s: %v; want status %d, %q", word, r, status, message)
				}
				detGone(t, dir)
				if exists(dir + "/pid") {
					t.Errorf("%s: the PID file is still there", word)
				}
				log := svcLog(t, dir)
				if word == "run" {
					log = r.stdout + r.stderr
				}
				if !strings.Contains(log, tt.log) || strings.Contains(log, "panic: ") != strings.HasPrefix(tt.log, "panic: ") {
					t.Errorf("%s: log %q; want %q", word, log, tt.log)
				}
			}
		})
	}
}

// TestServiceLockEndsWithTheProcess: while a program still works after it
// panicked, its PID file is gone, but nobody else can start.
func TestServiceLockEndsWithTheProcess(t *testing.T) {
	t.Parallel()
	dir := svcDir(t)
	runCmd(t, svcHelper(t, dir, "-do", "slow panic", "start")).want(t, 0, "")
	eventually(t, "it panics", func() bool { return exists(dir + "/panicking") })
	if exists(dir + "/pid") {
		t.Error("the PID file is still there")
	}
	if r := runCmd(t, svcHelper(t, dir, "-do", "done", "run")); r.status != 1 || !strings.Contains(r.stdout, ": held by process ") {
		t.Errorf("run beside it: %v; want it to be refused", r)
	}
	if err := os.WriteFile(dir+"/go on", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the next one runs", func() bool { return runCmd(t, svcHelper(t, dir, "-do", "done", "run")).status == 0 })
}

// svcForeground starts a program in the foreground and waits until it has said
// that it is up.
func svcForeground(t *testing.T, cmd *exec.Cmd, up string) (output func() string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	background(t, cmd)
	w.Close()
	t.Cleanup(func() { r.Close() })
	r.SetReadDeadline(time.Now().Add(30 * time.Second))
	var said []byte
	for !bytes.Contains(said, []byte(up)) || !bytes.HasSuffix(said, []byte("\n")) {
		buf := make([]byte, 1000)
		n, err := r.Read(buf)
		said = append(said, buf[:n]...)
		if err != nil {
			t.Fatalf("it said %q, %v; want %q", said, err, up)
		}
	}
	return func() string {
		rest, _ := io.ReadAll(r)
		return string(append(said, rest...))
	}
}

// TestServiceForeground: run under the signals that end a program.
func TestServiceForeground(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		t.Run(unix.SignalName(sig), func(t *testing.T) {
			t.Parallel()
			if detOurIgnored(t)&detBits(sig) != 0 {
				t.Skip("ignored when the tests were started")
			}
			dir := svcDir(t)
			cmd := svcExample(t, dir, "run")
			output := svcForeground(t, cmd, "listening on ")
			detHeld(t, dir+"/pid", cmd.Process.Pid)
			r := runCmd(t, svcExample(t, dir, "start"))
			r.want(t, 0, fmt.Sprintf("service: already running: lock %s/pid: held by process %d (", dir, cmd.Process.Pid))
			runCmd(t, svcExample(t, dir, "run")).want(t, 1, "held by process")
			cmd.Process.Signal(sig)
			cmd.Wait()
			if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != sig {
				t.Errorf("ended with %v; want death by %v", cmd.ProcessState, sig)
			}
			if said := output(); strings.Count(said, "\n") != 1 {
				t.Errorf("it said %q; want one line", said)
			}
			if exists(dir + "/pid") {
				t.Error("the PID file is still there")
			}
		})
	}
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		dir := svcDir(t)
		cmd := svcExample(t, dir, "run")
		svcForeground(t, cmd, "listening on ")
		runCmd(t, svcExample(t, dir, "stop")).want(t, 0, "")
		cmd.Wait()
		if got := statusOf(cmd.ProcessState); got != 128+int(syscall.SIGTERM) {
			t.Errorf("ended with %d; want death by SIGTERM", got)
		}
	})
	t.Run("Ctrl-C", func(t *testing.T) {
		t.Parallel()
		dir := svcDir(t)
		x := ttyStart(t, svcExample(t, dir, "run").Args...)
		eventually(t, "it is up", func() bool {
			x.mu.Lock()
			defer x.mu.Unlock()
			return strings.Contains(x.output.String(), "listening on ")
		})
		x.press(ttyCtrlC)
		if ws := x.wait(); !ws.Signaled() || ws.Signal() != syscall.SIGINT {
			t.Errorf("ended with %#x; want death by SIGINT", ws)
		}
		if exists(dir + "/pid") {
			t.Error("the PID file is still there")
		}
	})
}

// TestServiceHandles: signals that the program handles itself, in the background
// and in the foreground, and one that it does not.
func TestServiceHandles(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		do     string
		sig    syscall.Signal
		status int
		log    string
	}{
		{"graceful", syscall.SIGTERM, 0, "up\nhandled terminated\n"},
		{"graceful", syscall.SIGHUP, 128 + int(syscall.SIGHUP), "up\n"},
		{"reload", syscall.SIGHUP, 0, "up\nhandled hangup\n"},
		{"reload", syscall.SIGTERM, 128 + int(syscall.SIGTERM), "up\n"},
	} {
		t.Run(tt.do+" "+unix.SignalName(tt.sig), func(t *testing.T) {
			t.Parallel()
			if detOurIgnored(t)&detBits(tt.sig) != 0 {
				t.Skip("ignored when the tests were started")
			}
			dir := svcDir(t)
			cmd := svcHelper(t, dir, "-do", tt.do, "run")
			output := svcForeground(t, cmd, "up\n")
			cmd.Process.Signal(tt.sig)
			cmd.Wait()
			if got := statusOf(cmd.ProcessState); got != tt.status {
				t.Errorf("ended with %d; want %d", got, tt.status)
			}
			if said := output(); said != tt.log {
				t.Errorf("it said %q; want %q", said, tt.log)
			}
			if exists(dir + "/pid") {
				t.Error("the PID file is still there")
			}

			runCmd(t, svcHelper(t, dir, "-do", tt.do, "start")).want(t, 0, "")
			pid := detRead(t, dir+"/pid")
			detHeld(t, dir+"/pid", pid)
			eventually(t, "it is up", func() bool { return svcLog(t, dir) == "up\n" })
			syscall.Kill(pid, tt.sig)
			detGone(t, dir)
			if log := svcLog(t, dir); log != tt.log {
				t.Errorf("log %q; want %q", log, tt.log)
			}
			if exists(dir + "/pid") {
				t.Error("the PID file is still there")
			}
		})
	}
}

// TestServiceOddPIDFile: a file that is not a PID file is left as it is, and
// what a PID file's state does not let us tell is said.
func TestServiceOddPIDFile(t *testing.T) {
	t.Parallel()
	dir := svcDir(t)
	filesWrite(t, dir+"/pid", "hello", 0o600)
	before := filesSnap(t, dir+"/pid")
	for word, want := range map[string]result{
		"start":   {status: 1, stdout: "message: pidfile " + dir + "/pid: holds something else than a PID: not a PID file\n"},
		"restart": {status: 1, stdout: "message: pidfile " + dir + "/pid: holds something else than a PID: not a PID file\n"},
		"run":     {status: 1, stdout: "message: pidfile " + dir + "/pid: holds something else than a PID: not a PID file\n"},
		"stop":    {status: 0, stdout: "message: not running\n"},
		"status":  {status: 3, stdout: "message: not running\n"},
	} {
		if r := runCmd(t, svcHelper(t, dir, word)); r.status != want.status || r.stdout != want.stdout {
			t.Errorf("%s: %v; want %v", word, r, want)
		}
		filesSame(t, word, before, filesSnap(t, dir+"/pid"))
	}
	if r := runCmd(t, svcHelper(t, dir, "-pidfile", "pid/below", "status")); r.status != 4 || !strings.HasPrefix(r.stdout, "message: unknown: ") {
		t.Errorf("status where there can be no file: %v; want status 4, and why", r)
	}
	// The recorded process is not the one that holds the lock.
	filesWrite(t, dir+"/pid", filesNobodysPID, 0o600)
	l, err := lock.TryAcquire(dir+"/pid", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	want := fmt.Sprintf("message: unknown: process 4194304 is recorded, but lock pid: held by process %d (", os.Getpid())
	if r := runCmd(t, svcHelper(t, dir, "status")); r.status != 4 || !strings.HasPrefix(r.stdout, want) {
		t.Errorf("status: %v; want status 4, %q", r, want)
	}
}

// svcAsNobody makes a command run as an ordinary user: as we are, or as nobody.
func svcAsNobody(cmd *exec.Cmd) *exec.Cmd {
	if os.Geteuid() != 0 {
		return cmd
	}
	return filesAs(cmd, filesNobody)
}

// TestExampleServiceNotPermitted: an ordinary user, in a directory where he may
// not write.
func TestExampleServiceNotPermitted(t *testing.T) {
	t.Parallel()
	dir := svcDir(t)
	filesMust(t, os.Chmod(dir, 0o555))
	for _, tt := range []struct {
		word, log      string
		status         int
		stdout, stderr string
	}{
		{"start", "/dev/null", 4, "", "service: open " + dir + "/pid: permission denied\n"},
		{"restart", "/dev/null", 4, "", "service: open " + dir + "/pid: permission denied\n"},
		{"run", "/dev/null", 4, "", "service: open " + dir + "/pid: permission denied\n"},
		{"start", dir + "/log", 4, "", "service: open " + dir + "/log: permission denied\n"},
		{"stop", "/dev/null", 0, "", "service: not running\n"},
		{"status", "/dev/null", 3, "not running\n", ""},
	} {
		r := runCmd(t, svcAsNobody(svcExample(t, dir, tt.word, "-log", tt.log)))
		if r.status != tt.status || r.stdout != tt.stdout || r.stderr != tt.stderr {
			t.Errorf("%s, log %s: %v; want %v", tt.word, tt.log, r, tt)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("they left %v", entries)
	}
}

// TestExampleServiceOfRoot: what an ordinary user can know of, and do to, a
// service that root runs.
func TestExampleServiceOfRoot(t *testing.T) {
	needRoot(t)
	t.Parallel()
	dir := svcDir(t)
	runCmd(t, svcExample(t, dir, "start")).want(t, 0, "")
	pid := detRead(t, dir+"/pid")
	for _, tt := range []struct {
		mode fs.FileMode
		want map[string]int
	}{
		{0o600, map[string]int{"status": 4, "stop": 4, "restart": 4, "start": 4, "run": 4}},
		// That it is locked can be seen now, but not by whom.
		{0o644, map[string]int{"status": 0, "stop": 4, "restart": 4, "start": 0, "run": 1}},
	} {
		filesMust(t, os.Chmod(dir+"/pid", tt.mode))
		for word, status := range tt.want {
			if r := runCmd(t, svcAsNobody(svcExample(t, dir, word, "-log", "/dev/null"))); r.status != status {
				t.Errorf("mode %v, %s: %v; want status %d", tt.mode, word, r, status)
			}
		}
		detHeld(t, dir+"/pid", pid)
	}
}

// TestServiceSimultaneousRestarts: of twenty some are refused, but in the end
// one runs, status says so, and there were never two at once.
func TestServiceSimultaneousRestarts(t *testing.T) {
	t.Parallel()
	dir := svcDir(t)
	runCmd(t, svcHelper(t, dir, "-do", "witness", "start")).want(t, 0, "")
	const n = 20
	results := make([]result, n)
	var wg sync.WaitGroup
	for i := range n {
		cmd := svcHelper(t, dir, "-do", "witness", "restart")
		wg.Go(func() { results[i] = runCmd(t, cmd) })
	}
	wg.Wait()
	succeeded := 0
	for _, r := range results {
		switch {
		case r.status == 0 && r.stdout == "":
			succeeded++
		case r.status == 1 && strings.HasPrefix(r.stdout, "message: "):
		default:
			t.Errorf("restart: %v; want status 0, or 1 and the reason", r)
		}
	}
	if succeeded == 0 {
		t.Errorf("no restart succeeded: %v", results)
	}
	pid := detRead(t, dir+"/pid")
	detHeld(t, dir+"/pid", pid)
	want := fmt.Sprintf("message: running: lock pid: held by process %d (", pid)
	if r := runCmd(t, svcHelper(t, dir, "status")); r.status != 0 || !strings.HasPrefix(r.stdout, want) {
		t.Errorf("status: %v; want %q", r, want)
	}
	eventually(t, "only the one that runs is left", func() bool {
		pids := detProcesses(dir)
		return len(pids) == 1 && pids[0] == pid
	})
	runCmd(t, svcHelper(t, dir, "stop")).want(t, 0, "")
	detGone(t, dir)

	journal, err := os.ReadFile(dir + "/journal")
	if err != nil {
		t.Fatal(err)
	}
	var last string
	ended := map[string]bool{}
	for line := range strings.Lines(string(journal)) {
		if line == last {
			continue
		}
		if ended[line] {
			t.Errorf("process %s worked beside process %s", strings.TrimSpace(line), strings.TrimSpace(last))
		}
		ended[last], last = true, line
	}
	if last != strconv.Itoa(pid)+"\n" {
		t.Errorf("process %s was the last; want %d", strings.TrimSpace(last), pid)
	}
	if left, _ := filepath.Glob(dir + "/pid*"); left != nil {
		t.Errorf("they left %q", left)
	}
	t.Logf("%d of %d restarts succeeded, %d instances", succeeded, n, len(ended))
}
