package pidfile_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lockrun/lockrun/pidfile"
)

// helpers are programs that this test binary becomes when it is started with
// their name in the environment.
var helpers = map[string]func(args []string){}

const helperVariable = "LOCKRUN_PIDFILE_TEST_HELPER"

func TestMain(m *testing.M) {
	if name, ok := os.LookupEnv(helperVariable); ok {
		helpers[name](os.Args[1:])
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// helper returns a command that runs one of helpers.
func helper(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), helperVariable+"="+name)
	return cmd
}

// start starts a command that is killed when the test ends, and returns when it
// has printed a line: it is up. Errors come to stderr.
func start(t *testing.T, cmd *exec.Cmd) (stdout *lines, stderr *bytes.Buffer) {
	t.Helper()
	stderr = new(bytes.Buffer)
	cmd.Stderr = stderr
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = w
	err = cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		r.Close()
	})
	stdout = &lines{t: t, r: r}
	stdout.want("up")
	return stdout, stderr
}

// lines is the output of a helper.
type lines struct {
	t *testing.T
	r *os.File
}

// want waits for a line.
func (l *lines) want(line string) {
	l.t.Helper()
	l.r.SetReadDeadline(time.Now().Add(30 * time.Second))
	var got []byte
	for c := []byte{0}; ; got = append(got, c[0]) {
		if _, err := l.r.Read(c); err != nil {
			l.t.Fatalf("helper said %q and then %v; want %q", got, err, line)
		}
		if c[0] == '\n' {
			break
		}
	}
	if string(got) != line {
		l.t.Fatalf("helper said %q; want %q", got, line)
	}
}

// end waits for the end of a command and returns its status, 128+n if signal n
// killed it.
func end(cmd *exec.Cmd) int {
	kill := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
	defer kill.Stop()
	cmd.Wait()
	ws := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

func path(t *testing.T) string { return filepath.Join(t.TempDir(), "test.pid") }

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// wantContent checks what stands in a file; "absent" means that there is none.
func wantContent(t *testing.T, path, want string) {
	t.Helper()
	content, err := os.ReadFile(path)
	got := string(content)
	if os.IsNotExist(err) {
		got = "absent"
	} else if err != nil {
		t.Error(err)
	}
	if got != want {
		t.Errorf("%s: %q; want %q", filepath.Base(path), got, want)
	}
}

func ownPID() string { return fmt.Sprintln(os.Getpid()) }

func mustHold(t *testing.T, path string, opt *pidfile.Options) *pidfile.File {
	t.Helper()
	f, err := pidfile.Hold(path, opt)
	if err != nil {
		t.Fatalf("Hold = %v", err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	return !strings.HasPrefix(string(stat[bytes.LastIndexByte(stat, ')'):]), ") Z")
}
