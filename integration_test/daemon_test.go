//go:build linux

package integration_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lockrun/lockrun/detach"
	"github.com/lockrun/lockrun/lock"
	"golang.org/x/sys/unix"
)

// detDaemon is a program that uses detach.Detach. On SIGTERM it closes the
// daemon and ends.
func detDaemon(args []string) int {
	var c detach.Config
	flags := flag.NewFlagSet("det-daemon", flag.ExitOnError)
	flags.StringVar(&c.PIDFile, "pidfile", "", "")
	flags.StringVar(&c.Log, "log", "", "")
	flags.StringVar(&c.Dir, "dir", "", "")
	flags.DurationVar(&c.ReadyTimeout, "timeout", 0, "")
	flags.BoolVar(&c.SessionLeader, "leader", false, "")
	umask := flags.Uint("umask", 0, "")
	keep := flags.Int("keep", 0, "")
	pid := flags.String("pid", "", "write the daemon's PID into this file")
	touch := flags.String("touch", "", "create this file when Ready, or LauncherGone, was called")
	do := flags.String("do", "ready", "")
	linger := flags.Bool("linger", false, "end the wait only when the -touch file has been there for a moment")
	flags.Parse(args)
	c.AfterWait = func() {
		for *linger && !exists(*touch) {
			time.Sleep(time.Millisecond)
		}
		if *linger {
			time.Sleep(100 * time.Millisecond)
		}
		fmt.Println("waited")
	}
	c.Umask = fs.FileMode(*umask)
	if *keep != 0 {
		c.Keep = []int{*keep}
	}
	d, err := detach.Detach(&c)
	if err != nil {
		status := 1
		var e *detach.StartError
		if errors.As(err, &e) {
			status = e.Status
		}
		fmt.Fprintf(os.Stderr, "%T held=%t: %v\n", err, errors.Is(err, lock.ErrHeld), err)
		return status
	}
	unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	if *pid != "" {
		os.WriteFile(*pid, fmt.Appendln(nil, os.Getpid()), 0o600)
	}
	switch *do {
	case "ready":
	case "slow":
		time.Sleep(200 * time.Millisecond)
		os.WriteFile(*touch, nil, 0o600)
	case "exit 0":
		os.Exit(0)
	case "exit 3":
		os.Exit(3)
	case "kill":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "segv":
		// The Go runtime has its own idea of a SIGSEGV.
		syscall.Exec("/bin/sh", []string{"sh", "-c", "kill -SEGV $$"}, os.Environ())
	case "panic":
		panic("this is a test")
	case "fail":
		d.Fail(42, errors.New("the port is\ttaken\nby \"another\" \xff server"))
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		fallthrough
	case "hang":
		<-terminate
		d.Close()
		os.Exit(0)
	case "late":
		<-terminate
		d.Ready()
		d.Close()
		os.WriteFile(*touch, nil, 0o600)
		os.Exit(0)
	case "gone":
		for !d.LauncherGone() {
			time.Sleep(time.Millisecond)
		}
		os.WriteFile(*touch, fmt.Appendln(nil, d.Ready()), 0o600)
		os.Exit(0)
	}
	if c.Keep != nil {
		// Not an os.File: when that is collected it closes the descriptor.
		if _, err := unix.Write(c.Keep[0], []byte("kept\n")); err != nil {
			d.Fail(1, err)
		}
	}
	child := exec.Command("env")
	child.Stdout = os.Stdout
	if err := child.Run(); err != nil {
		d.Fail(1, err)
	}
	if err := d.Ready(); err != nil {
		d.Fail(1, err)
	}
	<-terminate
	d.Close()
	return 0
}

// detDaemonDir returns a directory; when the test ends, all that was started
// with files in it is ended.
func detDaemonDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		for _, pid := range detProcesses(dir) {
			syscall.Kill(pid, syscall.SIGTERM)
		}
		detGone(t, dir)
	})
	return dir
}

func TestDaemonDetaches(t *testing.T) {
	t.Parallel()
	for _, hostile := range []bool{false, true} {
		for _, leads := range []bool{false, true} {
			t.Run(fmt.Sprintf("hostile %t leader %t", hostile, leads), func(t *testing.T) {
				t.Parallel()
				dir := detDaemonDir(t)
				path, log := filepath.Join(dir, "pid"), filepath.Join(dir, "log")
				cmd := helper(t, "det-daemon", "-pidfile", path, "-log", log, fmt.Sprintf("-leader=%t", leads))
				if hostile {
					// The helper that makes the surroundings takes its own name
					// out of the environment.
					self := exec.Command("/usr/bin/env", append([]string{helperVariable + "=det-daemon", cmd.Path}, cmd.Args[1:]...)...)
					self.Env = os.Environ()
					cmd = detSurround(t, self, detIgnored...)
				}
				runCmd(t, cmd).want(t, 0, "")
				pid := detRead(t, path)
				detHeld(t, path, pid)
				if holders, err := lock.Holders(path); err != nil || len(holders) != 1 {
					t.Errorf("Holders = %+v, %v; want the daemon alone", holders, err)
				}
				p := detLook(t, pid)
				detSurroundings(t, p, log, detOurIgnored(t))
				detAdopter(t, p.pid)
				if leads != (p.session == pid) {
					t.Errorf("process %d in session %d; leader %t", pid, p.session, leads)
				}
				if !leads && alive(p.session) {
					t.Errorf("the session leader %d is still there", p.session)
				}
				if p.session == detLook(t, os.Getpid()).session {
					t.Error("the daemon is in our session")
				}
				if self := filepath.Base(detLink(t, pid, "exe")); p.comm != self[:min(len(self), 15)] {
					t.Errorf("the process is called %q; want %q", p.comm, self)
				}
				detOnly(t, pid, path, 0)
				environ, err := os.ReadFile(log) // of a child
				if err != nil || !strings.Contains(string(environ), runVariable+"=") || strings.Contains(string(environ), "LOCKRUN_DETACH") {
					t.Errorf("environment of a child: %s, %v", environ, err)
				}
				run(t, "stop", path).want(t, 0, "")
				if exists(path) {
					t.Error("the PID file is still there")
				}
			})
		}
	}
}

// TestDaemonStart goes through the ways in which a daemon comes up or does not,
// and what the terminal hears of it.
func TestDaemonStart(t *testing.T) {
	t.Parallel()
	for _, leads := range []bool{false, true} {
		for _, tt := range []struct {
			do     string
			args   []string
			status int
			stderr string // DIR is the test's directory
			up     bool
		}{
			{do: "ready", status: 0, up: true},
			{do: "slow", args: []string{"-touch", "DIR/ready"}, status: 0, up: true},
			{do: "exit 3", status: 3, stderr: "*detach.StartError held=false: ended before it was ready: exit status 3, see DIR/log\n"},
			{do: "exit 0", status: 1, stderr: "*detach.StartError held=false: ended before it was ready: exit status 0, see DIR/log\n"},
			{do: "kill", status: 137, stderr: "ended before it was ready: killed by SIGKILL, see DIR/log\n"},
			{do: "segv", status: 139, stderr: "ended before it was ready: killed by SIGSEGV, see DIR/log\n"},
			{do: "panic", status: 2, stderr: "ended before it was ready: exit status 2, see DIR/log\n"},
			{do: "fail", status: 42, stderr: "held=false: the port is\ttaken\nby \"another\" \xff server\n"},
			{do: "hang", args: []string{"-timeout", "300ms", "-pid", "DIR/up"}, status: 124, stderr: "not ready within 300ms, see DIR/log\n"},
			{do: "ready", args: []string{"-pidfile", "DIR/none/pid"}, status: 73, stderr: "DIR/none/pid: no such file or directory\n"},
			{do: "ready", args: []string{"-pidfile", "DIR"}, status: 73, stderr: "not a PID file\n"},
			{do: "ready", args: []string{"-log", "DIR/none/log"}, status: 1, stderr: "*fs.PathError held=false: open DIR/none/log: no such file or directory\n"},
			{do: "ready", args: []string{"-dir", "DIR/none"}, status: 71, stderr: "chdir DIR/none: no such file or directory\n"},
			{do: "ready", args: []string{"-keep", "77"}, status: 71, stderr: "bad file descriptor\n"},
		} {
			t.Run(fmt.Sprintf("%s %s leader %t", tt.do, strings.Join(tt.args, " "), leads), func(t *testing.T) {
				t.Parallel()
				dir := detDaemonDir(t)
				args := []string{"-pidfile", dir + "/pid", "-log", dir + "/log", "-do", tt.do, fmt.Sprintf("-leader=%t", leads)}
				for _, arg := range tt.args {
					args = append(args, strings.Replace(arg, "DIR", dir, 1))
				}
				r := runCmd(t, helper(t, "det-daemon", args...))
				// Before all else: had it been ready when the launcher ended?
				if tt.do == "slow" && !exists(dir+"/ready") {
					t.Error("the launcher did not wait for Ready")
				}
				r.want(t, tt.status, strings.ReplaceAll(tt.stderr, "DIR", dir))
				if r.stdout != "waited\n" {
					t.Errorf("stdout %q; want AfterWait to be called once", r.stdout)
				}
				if tt.up {
					detHeld(t, dir+"/pid", detRead(t, dir+"/pid"))
					return
				}
				detGone(t, dir)
				if in, err := lock.Inspect(dir + "/pid"); err != nil || in.State != lock.Free {
					t.Errorf("Inspect = %+v, %v; want free", in, err)
				}
				// Those that end in good order remove the PID file; up says that
				// a handler for SIGTERM was there in time.
				if (tt.do == "fail" || tt.do == "ready" || exists(dir+"/up")) && exists(dir+"/pid") {
					t.Error("the PID file is still there")
				}
				log, _ := os.ReadFile(dir + "/log")
				if bytes.Contains(log, []byte("waited")) {
					t.Error("AfterWait was called in the daemon")
				}
				if trace := strings.Contains(string(log), "panic: this is a test\n") && strings.Contains(string(log), "daemon_test.go:"); trace != (tt.do == "panic") {
					t.Errorf("log: %s", log)
				}
			})
		}
	}
}

// TestDaemonIgnoresTerm: not ready in time, and it does not go either.
func TestDaemonIgnoresTerm(t *testing.T) {
	t.Parallel()
	dir := detDaemonDir(t)
	runCmd(t, helper(t, "det-daemon", "-pidfile", dir+"/pid", "-do", "stubborn", "-timeout", "100ms")).want(t, 124, "not ready within 100ms\n")
	detGone(t, dir)
}

func TestDaemonRefusesSecond(t *testing.T) {
	t.Parallel()
	dir := detDaemonDir(t)
	daemon := func() result { return runCmd(t, helper(t, "det-daemon", "-pidfile", dir+"/pid")) }
	daemon().want(t, 0, "")
	pid := detRead(t, dir+"/pid")
	daemon().want(t, 75, fmt.Sprintf("*detach.StartError held=true: lock %s/pid: held by process %d (", dir, pid))
	detHeld(t, dir+"/pid", pid)
	if log := detLink(t, pid, "fd/1"); log != "/dev/null" {
		t.Errorf("output goes to %s; want /dev/null", log)
	}
}

// TestDaemonSettings: Dir, Umask, Keep and relative paths.
func TestDaemonSettings(t *testing.T) {
	t.Parallel()
	dir := detDaemonDir(t)
	if err := os.Mkdir(dir+"/home", 0o700); err != nil {
		t.Fatal(err)
	}
	var files []*os.File
	for i := range 5 { // descriptors 3 to 7
		f, err := os.Create(fmt.Sprintf("%s/file%d", dir, 3+i))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	cmd := helper(t, "det-daemon", "-pidfile", "pid", "-log", "log", "-dir", "home", "-umask", "0077", "-keep", "7")
	cmd.Dir = dir
	cmd.ExtraFiles = files
	runCmd(t, cmd).want(t, 0, "")
	pid := detRead(t, dir+"/pid")
	detHeld(t, dir+"/pid", pid)
	p := detLook(t, pid)
	if cwd := detLink(t, pid, "cwd"); cwd != dir+"/home" || p.umask != "0077" {
		t.Errorf("working directory %q, umask %s", cwd, p.umask)
	}
	fds := detDescriptors(t, pid)
	if fds[1].target != dir+"/log" || fds[7].target != dir+"/file7" {
		t.Errorf("descriptors %+v; want log and 7", fds)
	}
	for fd, d := range fds {
		if strings.Contains(d.target, "/file") && fd != 7 {
			t.Errorf("descriptor %d is %s; want only 7 to be kept", fd, d.target)
		}
	}
	if content, _ := os.ReadFile(dir + "/file7"); string(content) != "kept\n" {
		t.Errorf("through descriptor 7 came %q", content)
	}
	syscall.Kill(pid, syscall.SIGTERM)
	eventually(t, "PID file gone", func() bool { return !exists(dir + "/pid") })
}

// TestDaemonLauncherDies: a terminal that gives up takes the daemon with it, and
// one that is killed is noticed.
func TestDaemonLauncherDies(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		sig syscall.Signal
		do  string
	}{
		{syscall.SIGTERM, "hang"},
		{syscall.SIGQUIT, "hang"},
		{syscall.SIGKILL, "gone"},
	} {
		for _, leads := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s leader %t", unix.SignalName(tt.sig), leads), func(t *testing.T) {
				t.Parallel()
				dir := detDaemonDir(t)
				cmd := helper(t, "det-daemon", "-pidfile", dir+"/pid", "-pid", dir+"/up", "-touch", dir+"/gone", "-do", tt.do, fmt.Sprintf("-leader=%t", leads))
				var stdout bytes.Buffer
				cmd.Stdout = &stdout
				background(t, cmd)
				pid := pidIn(t, dir+"/up")
				if !alive(cmd.Process.Pid) {
					t.Fatal("the launcher did not wait")
				}
				cmd.Process.Signal(tt.sig)
				cmd.Wait()
				if got := statusOf(cmd.ProcessState); got != 128+int(tt.sig) {
					t.Errorf("launcher ended with %d; want %d", got, 128+int(tt.sig))
				}
				if want := map[bool]string{true: "waited\n"}[tt.sig != syscall.SIGKILL]; stdout.String() != want {
					t.Errorf("stdout %q; want %q", &stdout, want)
				}
				eventually(t, "daemon gone", func() bool { return !alive(pid) })
				if tt.do != "gone" {
					return
				}
				if said, _ := os.ReadFile(dir + "/gone"); !strings.HasPrefix(string(said), "detach: launcher is gone: ") {
					t.Errorf("Ready = %q; want an error", said)
				}
			})
		}
	}
}

// TestDaemonLauncherToldToDie: a daemon that is ready only after a signal has
// ended the wait gets SIGTERM, so status 0 would be a lie.
func TestDaemonLauncherToldToDie(t *testing.T) {
	t.Parallel()
	for _, leads := range []bool{false, true} {
		dir := detDaemonDir(t)
		cmd := background(t, helper(t, "det-daemon", "-pidfile", dir+"/pid", "-pid", dir+"/up", "-touch", dir+"/ready", "-do", "late", "-linger", fmt.Sprintf("-leader=%t", leads)))
		pidIn(t, dir+"/up")
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		if got := statusOf(cmd.ProcessState); got != 128+int(syscall.SIGTERM) {
			t.Errorf("leader %t: launcher ended with %d; want death by SIGTERM", leads, got)
		}
	}
}

// TestDaemonForgedMarker: a variable that somebody set makes nobody a daemon.
func TestDaemonForgedMarker(t *testing.T) {
	t.Parallel()
	for _, forged := range []string{"", "leader", "daemon:0:1:1", "daemon:3:1:1", "leader:3:0:0"} {
		t.Run(forged, func(t *testing.T) {
			t.Parallel()
			dir := detDaemonDir(t)
			cmd := helper(t, "det-daemon", "-pidfile", dir+"/pid", "-log", dir+"/log")
			cmd.Env = append(cmd.Env, "LOCKRUN_DETACH="+forged)
			runCmd(t, cmd).want(t, 0, "")
			p := detLook(t, detRead(t, dir+"/pid"))
			detAdopter(t, p.pid)
			if p.session == p.pid {
				t.Error("the daemon leads its session")
			}
			if environ, _ := os.ReadFile(dir + "/log"); bytes.Contains(environ, []byte("LOCKRUN_DETACH")) {
				t.Error("the variable is in the environment of a child")
			}
		})
	}
}
