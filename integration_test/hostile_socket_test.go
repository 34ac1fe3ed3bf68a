//go:build linux

package integration_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What others do with sockets: those that lockrun listens on, and those that they
// put where it looks for one.

func init() {
	helpers["hostile-supervisor"] = hostileSupervisor
}

// hostileSupervisor holds a lock of its own, and has the socket that a supervisor
// would have: LOCK SOCKET HOW PID. It says that PID is its command.
func hostileSupervisor(args []string) int {
	path, socket, how, pid := args[0], args[1], args[2], args[3]
	locked, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o644)
	if err == nil {
		err = unix.Flock(locked, unix.LOCK_EX|unix.LOCK_NB)
	}
	if err == nil {
		_, err = unix.Write(locked, fmt.Appendln(nil, os.Getpid()))
	}
	if err == nil {
		err = os.MkdirAll(filepath.Dir(socket), 0o755)
	}
	fd, e := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	for _, step := range []func() error{
		func() error { return e },
		func() error { return unix.Bind(fd, &unix.SockaddrUnix{Name: socket}) },
		func() error { return unix.Listen(fd, 0) },
	} {
		if err == nil {
			err = step()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if how == "full" { // its queue is, and stays so
		for range 2 {
			other, _ := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
			unix.Connect(other, &unix.SockaddrUnix{Name: socket})
		}
	}
	fmt.Println("listens")
	for how == "full" {
		time.Sleep(time.Hour)
	}
	lie := fmt.Sprintf(`{"lockrun":1,"state":"running","supervisor":%d,"pid":%s,"command":["init"],"message":"\u001b[2J\n`+"\u202e"+`"}`, os.Getpid(), pid)
	for {
		conn, _, err := unix.Accept(fd)
		if err != nil {
			continue
		}
		go func() {
			request := make([]byte, 4096)
			n, _ := unix.Read(conn, request)
			switch {
			case how == "silent":
				return
			case how == "endless":
				for err = nil; err == nil; {
					_, err = unix.Write(conn, []byte(strings.Repeat("[", 4096)))
				}
			case how == "puts off" && strings.Contains(string(request[:n]), "stop"):
				return
			case strings.Contains(string(request[:n]), "stop"):
				unix.Write(conn, []byte(`{"lockrun":1,"state":"stopped"}`+"\n"))
			default:
				unix.Write(conn, []byte(lie+"\n"))
			}
			unix.Close(conn)
		}()
	}
}

// Root asks about a lock of nobody's, where nobody has prepared the answer.
func TestSupervisorOfAnotherUserIsNotBelieved(t *testing.T) {
	t.Parallel()
	needRoot(t)
	if !exists("/run/lock") {
		t.Skip("no /run/lock")
	}
	for _, how := range []string{"full", "silent", "endless", "lies", "puts off"} {
		t.Run(how, func(t *testing.T) {
			if how == "puts off" && sized(0, 0, 1) == 0 {
				t.Skip("takes more than a minute; with LOCKRUN_TEST_FULL=1")
			}
			t.Parallel()
			nsOwnMounts(t)
			nsTmpfs(t, "/run/lock", "mode=1777")
			stranger, unhurt := filesStartStranger(t)
			l := filepath.Join("/run/lock", "L")
			hash := fnv.New128a()
			hash.Write([]byte(l))
			socket := fmt.Sprintf("/run/lock/lockrun-%d/.path-%x.sock", filesNobody, hash.Sum(nil))
			holder := hostileHelper(t, "hostile-supervisor", l, socket, how, fmt.Sprint(stranger))
			holder.Cancel = func() error { return nil } // it is ended by what is tested
			pid, _ := hostileStart(t, holder)
			named := fmt.Sprintf("held by process %d (", pid)
			r := filesRun(t, "status", l)
			if r.status != 0 || !strings.Contains(r.stdout, named) || strings.Contains(r.stdout, fmt.Sprint("process ", stranger)) {
				t.Errorf("status: %v; want %s", r, named)
			}
			filesTame(t, "status", r.stdout)
			if r := filesRun(t, "status", "--json", l); !json.Valid([]byte(r.stdout)) {
				t.Errorf("status --json: %v", r)
			}
			r = filesRun(t, "restart", "-t", "1", "--schedule", "TERM/0.1", l)
			if lies := how == "lies" || how == "puts off"; lies != (r.status == 0) || !lies && r.status != 64 && r.status != 75 {
				t.Errorf("restart: %v", r)
			}
			stop := exec.Command(lockrun, "stop", "--schedule", "TERM/0.2/KILL/2", l)
			runCmd(t, stop).want(t, 0, "")
			if alive(pid) {
				t.Error("stop has returned 0, and the holder lives")
			}
			foreignStale.check(t, l, foreignAs(0))
			unhurt()
		})
	}
}

// hostileFlood sends messages to a unixgram socket until the test ends: READY=1 of
// a stranger, garbage, and descriptors as many as go into one.
func hostileFlood(t *testing.T, address string, sent *atomic.Int64) {
	devNull, err := os.Open(os.DevNull)
	filesMust(t, err)
	t.Cleanup(func() { devNull.Close() })
	rights := unix.UnixRights(slices.Repeat([]int{int(devNull.Fd())}, 253)...)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	filesMust(t, err)
	filesMust(t, unix.Connect(fd, &unix.SockaddrUnix{Name: address}))
	over, ended := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(over); <-ended; unix.Close(fd) })
	go func() {
		defer close(ended)
		for n := 0; ; n++ {
			select {
			case <-over:
				return
			default:
			}
			text := []string{"READY=1\nSTATUS=forged", "\x00\xff=\n", strings.Repeat("STATUS=x\n", 900), "EXTEND_TIMEOUT_USEC=86000000000"}[n%4]
			if err := unix.Sendmsg(fd, []byte(text), rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL); err == nil {
				sent.Add(1)
			} else { // the queue is full
				time.Sleep(time.Millisecond)
			}
		}
	}()
}

// Everybody on the machine can write to the socket of --ready notify.
func TestFloodOfForgedReadiness(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	gate := filepath.Join(t.TempDir(), "gate")
	filesMust(t, syscall.Mkfifo(gate, 0o600))
	start := c.command(append([]string{"start", "--ready", "notify", "--ready-timeout", "20", "web", "--"}, c.helper("sup-notify", gate)...)...)
	background(t, start)
	var address string
	eventually(t, "its address", func() bool {
		content, _ := os.ReadFile(filepath.Join(c.dir, "web.pid"))
		environ, _ := os.ReadFile("/proc/" + strings.TrimSpace(string(content)) + "/environ")
		for variable := range strings.SplitSeq(string(environ), "\x00") {
			if value, ok := strings.CutPrefix(variable, "NOTIFY_SOCKET="); ok {
				address = value
			}
		}
		return address != ""
	})
	supervisor := nsParent(c.pid("web"))
	var sent atomic.Int64
	for range 2 {
		hostileFlood(t, address, &sent)
	}
	eventually(t, "a thousand messages are sent", func() bool { return sent.Load() > 1000 })
	c.run("wait", "--ready", "-t", "0.1", "web").want(t, 124, "not ready")
	if r := c.run("status", "web"); r.status != 0 || !strings.Contains(r.stdout, "web: starting, ") {
		t.Errorf("status: %v; want starting", r)
	}
	if fds := detDescriptors(t, supervisor); len(fds) > 300 {
		t.Errorf("the supervisor has %d descriptors", len(fds))
	}
	filesWrite(t, gate, "\n", 0o600)
	filesMust(t, start.Wait())
	if r := c.run("status", "web"); !strings.Contains(r.stdout, "web: running (all is well), held by") {
		t.Errorf("status: %v; want what it says of itself", r)
	}
	c.run("stop", "web").want(t, 0, "")
	t.Logf("%d forged messages", sent.Load())
}

// Nobody else gets as far as the control socket or the pipe of --ready fd:N.
func TestOthersDoNotReachTheSupervisor(t *testing.T) {
	t.Parallel()
	needRoot(t)
	c := newCtl(t)
	filesMust(t, os.Chmod(filepath.Dir(filepath.Dir(c.dir)), 0o755))
	filesMust(t, os.Chmod(filepath.Dir(c.dir), 0o755))
	start := c.command("start", "--ready", "fd:7", "web", "--", "sleep", "600")
	background(t, start)
	command := c.pid("web")
	eventually(t, "starting", func() bool {
		command = c.pid("web")
		_, err := os.Lstat(fmt.Sprintf("/proc/%d/fd/7", command))
		return err == nil && nsParent(command) > 1 && exists(filepath.Join(c.dir, "web.sock"))
	})
	script := `for f in "$1/web.pid" "$1/web.sock" "/proc/$2/fd/7" "/proc/$3/fd/7"; do (echo >"$f") 2>/dev/null && echo "wrote $f"; done; ls "$1" 2>/dev/null`
	if r := hostileShell(t, script, c.dir, fmt.Sprint(command), fmt.Sprint(nsParent(command))); r.stdout != "" {
		t.Errorf("nobody got in: %v", r)
	}
	if _, err := ctlAsk(filepath.Join(c.dir, "web.sock"), filesNobody, "garbage\n"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("nobody connects: %v; want permission denied", err)
	}
	c.run("wait", "--ready", "-t", "0.1", "web").want(t, 124, "not ready")
	c.run("stop", "web").want(t, 0, "")
}

// The place of a user's instance directory is known to all, and somebody may be
// there first. A NAME is refused then, and means no other lock.
func TestSquattedInstanceDirectory(t *testing.T) {
	t.Parallel()
	needRoot(t)
	if !exists("/run/lock") {
		t.Skip("no /run/lock")
	}
	for name, c := range map[string]struct{ script, says string }{
		"directory":                  {`mkdir -m 777 "$1"`, "belongs to user nobody"},
		"symbolic link to his own":   {`mkdir -m 777 /run/lock/his; ln -s his "$1"`, "is a symbolic link"},
		"symbolic link to theirs":    {`ln -s "$2" "$1"`, "is a symbolic link"},
		"symbolic link that dangles": {`ln -s nowhere "$1"`, "is a symbolic link"},
		"file":                       {`: >"$1"`, "is not a directory"},
		"FIFO":                       {`mkfifo -m 666 "$1"`, "is not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nsOwnMounts(t)
			nsTmpfs(t, "/run/lock", "mode=1777")
			theirs := "/run/lock/theirs"
			filesMust(t, os.Mkdir(theirs, 0o700))
			filesMust(t, os.Chown(theirs, foreignOther, foreignOther))
			dir := fmt.Sprintf("/run/lock/lockrun-%d", foreignOther)
			hostileShell(t, c.script, dir, theirs).want(t, 0, "")
			before := filesSnapAll(t, "/run/lock")
			for _, args := range [][]string{{"web", "--", "true"}, {"start", "web", "--", "true"}, {"stop", "web"}, {"signal", "web", "TERM"}, {"list"}} {
				cmd := filesAs(filesCommand(t, lockrun, args...), foreignOther)
				cmd.Env = append(os.Environ(), "LOCKRUN_DIR=")
				r := filesRunCmd(t, cmd)
				r.want(t, 77, c.says)
				r.want(t, 77, dir)
			}
			filesSame(t, "refused", before, filesSnapAll(t, "/run/lock"))
			// A path has its lock all the same.
			l := "/run/lock/L"
			cmd := filesAs(filesCommand(t, lockrun, l, "--", "true"), foreignOther)
			cmd.Env = append(os.Environ(), "LOCKRUN_DIR=")
			filesRunCmd(t, cmd).want(t, 0, "")
		})
	}
}

// A connection does not tell who accepts it: who listens there before the command
// is taken for it. docs/security.md says so.
func TestReadyByTCPIsWhoeverListens(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	other, err := net.Listen("tcp", "127.0.0.1:0")
	filesMust(t, err)
	defer other.Close()
	c.run("start", "--ready", "tcp:"+other.Addr().String(), "web", "--", "sleep", "600").want(t, 0, "")
	if r := c.run("status", "web"); !strings.Contains(r.stdout, "web: running, ") {
		t.Errorf("status: %v", r)
	}
	c.run("stop", "web").want(t, 0, "")
}
