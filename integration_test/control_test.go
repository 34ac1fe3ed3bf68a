//go:build linux

package integration_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func init() {
	helpers["ctl-witness"] = ctlWitness
	helpers["ctl-closes"] = ctlCloses
}

// ctlWitness is a command that can't be alone twice: while it runs it has a socket
// of that name, which the kernel frees when it ends, however it ends, and it writes
// into a file when somebody else has it. The lock has no part in that.
func ctlWitness(args []string) int {
	ends := make(chan os.Signal, 8)
	signal.Notify(ends, syscall.SIGTERM)
	dir := args[0]
	say := func(file, text string) {
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err == nil {
			fmt.Fprintln(f, os.Getpid(), text)
			f.Close()
		}
	}
	alone, err := net.Listen("unix", "@"+dir)
	if err != nil {
		say(dir+".violations", ctlOther("@"+dir, err))
		return 1
	}
	defer alone.Close()
	say(dir+".runs", "run")
	<-ends
	return 0
}

// ctlOther says who has the socket, and what the system knows of him.
func ctlOther(name string, err error) string {
	conn, e := net.Dial("unix", name)
	if e != nil {
		return fmt.Sprintf("%v: %v; who it was has ended", err, e)
	}
	defer conn.Close()
	raw, e := conn.(*net.UnixConn).SyscallConn()
	if e != nil {
		return err.Error()
	}
	var peer *unix.Ucred
	raw.Control(func(fd uintptr) { peer, e = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if e != nil {
		return fmt.Sprintf("%v: %v", err, e)
	}
	other, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", peer.Pid))
	own, _ := os.ReadFile("/proc/self/stat")
	return fmt.Sprintf("%v, by %d\n%s%s", err, peer.Pid, other, own)
}

// ctlCloses is a command that closes what it inherits, as sudo does.
func ctlCloses([]string) int {
	unix.CloseRange(3, ^uint(0), 0)
	fmt.Println("closed")
	time.Sleep(10 * time.Minute)
	return 0
}

// ctl is an instance directory of its own, and lockrun in it.
type ctl struct {
	t   *testing.T
	dir string
}

func newCtl(t *testing.T) *ctl {
	t.Helper()
	c := &ctl{t, filepath.Join(t.TempDir(), "instances")}
	t.Cleanup(func() { ttyEnd(t, "LOCKRUN_DIR="+c.dir) })
	return c
}

func (c *ctl) command(args ...string) *exec.Cmd {
	cmd := filesCommand(c.t, lockrun, args...)
	cmd.Env = append(os.Environ(), "LOCKRUN_DIR="+c.dir)
	return cmd
}

func (c *ctl) run(args ...string) result {
	c.t.Helper()
	return filesRunCmd(c.t, c.command(args...))
}

// helper returns the words of a command that becomes one of helpers.
func (c *ctl) helper(name string, args ...string) []string {
	c.t.Helper()
	self, err := os.Executable()
	filesMust(c.t, err)
	return append([]string{"env", helperVariable + "=" + name, self}, args...)
}

// pid is the command's PID of the instance, in its file.
func (c *ctl) pid(name string) int { return pidIn(c.t, filepath.Join(c.dir, name+".pid")) }

// ask sends bytes to the socket of an instance and returns what comes back until
// the supervisor closes the connection.
func (c *ctl) ask(name, request string) (map[string]any, error) {
	return ctlAsk(filepath.Join(c.dir, name+".sock"), -1, request)
}

// ctlAsk asks as another user, or with -1 as who we are.
func ctlAsk(socket string, uid int, request string) (map[string]any, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Of this thread alone; unix.Setresuid would be of all.
	if _, _, err := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); err != 0 {
		return nil, err
	}
	conn, err := net.Dial("unix", socket)
	unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(os.Getuid()), ^uintptr(0))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	conn.Write([]byte(request)) // it may be refused before it was read
	var answer map[string]any
	d := json.NewDecoder(conn)
	if err := d.Decode(&answer); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, errors.New("more than one answer")
	}
	return answer, nil
}

func (c *ctl) mustAsk(name, request string) map[string]any {
	c.t.Helper()
	answer, err := c.ask(name, request)
	if err != nil {
		c.t.Fatalf("%.80q: %v", request, err)
	}
	return answer
}

// What a peer sends or does not send can't hurt the supervisor.
func TestControlSocketBearsAnything(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	c.run("start", "web", "--", "sleep", "600").want(t, 0, "")
	socket := filepath.Join(c.dir, "web.sock")
	if fi, err := os.Lstat(socket); err != nil || fi.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("socket: %v, %v; want mode 0600", fi.Mode(), err)
	}
	command := c.pid("web")
	supervisor := nsParent(command)
	for request, says := range map[string]string{
		"\n":                                "is not understood",
		"garbage\n":                         "is not understood",
		"[]\n":                              "is not understood",
		`{"lockrun":1,"do":3}` + "\n":       "is not understood",
		`{"lockrun":2,"do":"state"}` + "\n": "of version 2",
		`{"do":"state"}` + "\n":             "of version 0",
		`{"lockrun":1}` + "\n":              `request "" is not known`,
		`{"lockrun":1,"do":"fly"}` + "\n":   `request "fly" is not known`,
		`{"lockrun":1,"do":"stop","schedule":"x"}` + "\n":            `bad item "x"`,
		`{"lockrun":1,"do":"restart","schedule":"9"}` + "\n":         "",
		`{"lockrun":1,"do":"restart","command":["a\u0000b"]}` + "\n": "has a NUL",
		strings.Repeat("x", 1<<20):                                   "is longer than 262144 bytes",
	} {
		answer := c.mustAsk("web", request)
		got, _ := answer["error"].(string)
		if !strings.Contains(got, says) || (says == "") != (answer["error"] == nil) || answer["lockrun"] != 1.0 {
			t.Errorf("%.60q: %v; want %q", request, answer, says)
		}
		if says != "" && answer["status"] != 64.0 {
			t.Errorf("%.60q: status %v; want 64", request, answer["status"])
		}
	}
	command = c.pid("web") // it was restarted
	answer := c.mustAsk("web", `{"lockrun":1,"do":"state","later":[1,2]}`+"\n")
	if answer["state"] != "running" || answer["pid"] != float64(command) || answer["supervisor"] != float64(supervisor) ||
		fmt.Sprint(answer["command"]) != "[sleep 600]" {
		t.Errorf("state: %v", answer)
	}

	// More silent and slow peers than there is room for.
	var peers []net.Conn
	defer func() {
		for _, p := range peers {
			p.Close()
		}
	}()
	for n := range 300 {
		p, err := net.Dial("unix", socket)
		filesMust(t, err)
		peers = append(peers, p)
		if n%2 == 0 {
			p.Write([]byte(`{"lockrun":1,`))
		}
	}
	descriptors, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", supervisor))
	if len(descriptors) > 64+20 {
		t.Errorf("the supervisor has %d descriptors; it listens to 64 silent peers at a time", len(descriptors))
	}
	if r := c.run("status", "--json", "web"); !strings.Contains(r.stdout, `"supervisor": `) {
		t.Errorf("status beside silent peers: %v; want the supervisor's answer", r)
	}
	c.run("restart", "web").want(t, 0, "")
	// Those who ask and do not listen, or go away.
	for n := range 300 {
		p, err := net.Dial("unix", socket)
		filesMust(t, err)
		p.Write([]byte(`{"lockrun":1,"do":"state"}` + "\n"))
		if n%2 == 0 {
			p.Close()
		} else {
			peers = append(peers, p)
		}
	}
	c.run("stop", "web").want(t, 0, "")
}

// Only the same user and root are answered, whatever the modes say.
func TestControlSocketOfAnotherUser(t *testing.T) {
	t.Parallel()
	needRoot(t)
	c := newCtl(t)
	filesMust(t, os.Chmod(filepath.Dir(c.dir), 0o755))
	filesMust(t, os.Chmod(filepath.Dir(filepath.Dir(c.dir)), 0o755))
	c.run("start", "web", "--", "sleep", "600").want(t, 0, "")
	pid := c.pid("web")
	filesMust(t, os.Chmod(c.dir, 0o755))
	filesMust(t, os.Chmod(filepath.Join(c.dir, "web.sock"), 0o777))
	answer, err := ctlAsk(filepath.Join(c.dir, "web.sock"), filesNobody, `{"lockrun":1,"do":"stop"}`+"\n")
	if want := fmt.Sprintf("user %d may not control this supervisor", filesNobody); err != nil || answer["error"] != want || !alive(pid) {
		t.Errorf("nobody asks to stop: %v, %v, alive %v; want %s", answer, err, alive(pid), want)
	}
	c.run("stop", "web").want(t, 0, "")

	// Root controls the instances of others.
	dir := filepath.Join(filepath.Dir(c.dir), "nobody")
	filesMust(t, os.Mkdir(dir, 0o700))
	filesMust(t, os.Chown(dir, filesNobody, -1))
	cmd := c.command("start", "app", "--", "sleep", "600")
	cmd.Env = append(os.Environ(), "LOCKRUN_DIR="+dir)
	t.Cleanup(func() { ttyEnd(t, "LOCKRUN_DIR="+dir) })
	filesRunCmd(t, filesAs(cmd, filesNobody)).want(t, 0, "")
	file := filepath.Join(dir, "app.pid")
	first := pidIn(t, file)
	answer, err = (&ctl{t, dir}).ask("app", `{"lockrun":1,"do":"restart"}`+"\n")
	if err != nil || answer["state"] != "running" || pidIn(t, file) == first {
		t.Errorf("root asks for a restart: %v, %v", answer, err)
	}
	c.run("stop", file).want(t, 0, "")
}

// A socket that is not the supervisor's is not spoken to.
func TestForgedControlSocket(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	_, command := c.held("web")
	forged, err := net.Listen("unix", filepath.Join(c.dir, "web.sock"))
	filesMust(t, err)
	defer forged.Close()
	heard := make(chan []byte, 8)
	go func() {
		for {
			conn, err := forged.Accept()
			if err != nil {
				return
			}
			line, _ := io.ReadAll(conn)
			heard <- line
			conn.Close()
		}
	}()
	if r := c.run("status", "web"); r.status != 0 || !strings.Contains(r.stdout, fmt.Sprintf("held by process %d ", command)) {
		t.Errorf("status: %v", r)
	}
	c.run("restart", "web").want(t, 64, "no supervisor could start its command again")
	c.run("stop", "web").want(t, 0, "")
	for range 3 {
		if line := <-heard; len(line) > 0 {
			t.Errorf("it was told %q", line)
		}
	}
}

// held runs a command under the lock of a name, in the foreground.
func (c *ctl) held(name string, command ...string) (supervisor *exec.Cmd, pid int) {
	c.t.Helper()
	if len(command) == 0 {
		command = []string{"sleep", "600"}
	}
	cmd := background(c.t, c.command(append([]string{name, "--"}, command...)...))
	eventually(c.t, "the command is recorded", func() bool { pid = c.pid(name); return pid != cmd.Process.Pid })
	return cmd, pid
}

// Without a socket, and after kill -9 of the supervisor, stop goes by the proof
// of the lock alone, and restart needs the command.
func TestControlWithoutASupervisor(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	socket := filepath.Join(c.dir, "web.sock")
	c.run("start", "web", "--", "sleep", "600").want(t, 0, "")
	command := c.pid("web")
	filesMust(t, syscall.Kill(nsParent(command), syscall.SIGKILL))
	eventually(t, "the socket is dead", func() bool { _, err := net.Dial("unix", socket); return errors.Is(err, unix.ECONNREFUSED) })
	if r := c.run("status", "web"); r.status != 0 || !strings.Contains(r.stdout, fmt.Sprintf("running, held by process %d ", command)) {
		t.Errorf("status: %v", r)
	}
	c.run("restart", "web").want(t, 64, fmt.Sprintf("held by process %d (sleep 600)", command))
	if !alive(command) {
		t.Fatal("a restart that was refused ended the command")
	}
	c.run("restart", "web", "--", "sleep", "601").want(t, 0, "")
	if alive(command) {
		t.Error("the old command lives after restart")
	}
	command = c.pid("web")
	c.run("restart", "web").want(t, 0, "") // the new one has a supervisor
	if alive(command) {
		t.Error("the command lives after restart")
	}
	filesMust(t, syscall.Kill(nsParent(c.pid("web")), syscall.SIGKILL))
	c.run("stop", "web").want(t, 0, "")
	c.run("start", "web", "--", "sleep", "600").want(t, 0, "") // over the dead socket
	c.run("restart", "web").want(t, 0, "")
	c.run("stop", "web").want(t, 0, "")

	// A path's socket is in the instance directory; if there can't be one, the
	// command is started all the same.
	l := filepath.Join(t.TempDir(), "L")
	filesMust(t, os.RemoveAll(c.dir))
	filesWrite(t, c.dir, "a file", 0o600)
	c.run("start", l, "--", "sleep", "600").want(t, 0, "")
	c.run("restart", l).want(t, 64, "no supervisor could")
	c.run("stop", l).want(t, 0, "")
}

// The instance directory can be too long for the address of a socket, the lock
// can be a path that is written in several ways, and its file can be deleted.
func TestControlByAnyPath(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	c.dir = filepath.Join(c.dir, strings.Repeat("d", 100), strings.Repeat("e", 100))
	filesMust(t, os.MkdirAll(filepath.Dir(c.dir), 0o700))
	t.Cleanup(func() { ttyEnd(t, "LOCKRUN_DIR="+c.dir) })
	c.run("start", "web", "--", "sleep", "600").want(t, 0, "")
	c.run("restart", "web").want(t, 0, "")
	c.run("stop", "web").want(t, 0, "")

	dir := t.TempDir()
	filesMust(t, os.Symlink(dir, filepath.Join(dir, "link")))
	l := filepath.Join(dir, "L")
	c.run("start", filepath.Join(dir, "link", "L"), "--", "sleep", "600").want(t, 0, "")
	c.run("restart", l).want(t, 0, "")
	cmd := c.command("restart", "../L")
	cmd.Dir = filepath.Join(dir, "link")
	filesMust(t, os.Mkdir(filepath.Join(dir, "sub"), 0o700))
	cmd.Dir = filepath.Join(dir, "sub")
	filesRunCmd(t, cmd).want(t, 0, "")
	filesMust(t, os.Remove(l))
	c.run("restart", l).want(t, 0, "")
	if r := c.run("status", l); r.status != 0 || !strings.Contains(r.stdout, "running, held by process ") {
		t.Errorf("status of a deleted file: %v", r)
	}
	c.run("stop", l).want(t, 0, "")
	left, _ := os.ReadDir(c.dir)
	for _, file := range left {
		if strings.HasSuffix(file.Name(), ".sock") {
			t.Errorf("%s is left", file.Name())
		}
	}
}

// A command that closed the inherited descriptor, as sudo does, runs all the
// same, and is stopped.
func TestCommandThatClosesTheLock(t *testing.T) {
	t.Parallel()
	for _, word := range []string{"start", "run"} {
		t.Run(word, func(t *testing.T) {
			t.Parallel()
			c := newCtl(t)
			closes := c.helper("ctl-closes")
			var pid int
			if word == "start" {
				log := filepath.Join(t.TempDir(), "log")
				c.run(append([]string{"start", "--log", log, "web", "--"}, closes...)...).want(t, 0, "")
				eventually(t, "closed", func() bool { return strings.Contains(filesContent(log), "closed") })
				pid = c.pid("web")
			} else {
				_, pid = c.held("web", closes...)
			}
			eventually(t, "it has no descriptor of the lock", func() bool {
				for _, d := range detDescriptors(t, pid) {
					if d.target == filepath.Join(c.dir, "web.pid") {
						return false
					}
				}
				return true
			})
			says := fmt.Sprintf("running, held by process %d ", pid)
			if r := c.run("status", "web"); r.status != 0 || !strings.Contains(r.stdout, says) {
				t.Errorf("status: %v; want %s", r, says)
			}
			c.run("web", "--", "true").want(t, 75, fmt.Sprintf("held by process %d ", pid))
			c.run("signal", "web", "WINCH").want(t, 0, "")
			c.run("stop", "web").want(t, 0, "")
			if alive(pid) {
				t.Error("it lives after stop")
			}
		})
	}
}

func TestWaitReady(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	c.run("wait", "--ready", "-t", "0.2", "web").want(t, 124, "web: not ready within 200ms")
	c.run("wait", "--ready", "-q", "-t", "0", "web").want(t, 124, "")
	// The instance directory is not there yet; then it is.
	early := background(t, c.command("wait", "--ready", "web"))
	c.run("wait", "--ready", "-t", "0.1", "web").want(t, 124, "not ready")
	c.run("start", "web", "--", "sleep", "600").want(t, 0, "")
	filesMust(t, early.Wait())
	c.run("wait", "--ready", "web").want(t, 0, "")
	c.run("stop", "web").want(t, 0, "")
	// With the directory it needs no more than a moment.
	for range 5 {
		waiting := background(t, c.command("wait", "--ready", "web"))
		eventually(t, "it watches", func() bool {
			links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", waiting.Process.Pid))
			for _, link := range links {
				if target, _ := os.Readlink(link); target == "anon_inode:inotify" {
					return true
				}
			}
			return false
		})
		c.run("start", "web", "--", "sleep", "600").want(t, 0, "")
		filesMust(t, waiting.Wait())
		c.run("stop", "web").want(t, 0, "")
	}
	// In the foreground too.
	c.held("fore")
	c.run("wait", "--ready", "-t", "10", "fore").want(t, 0, "")
}
