package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/lockrun/lockrun/pidfile"
)

// bench is what the measures need.
type bench struct {
	rounds  int
	idle    time.Duration
	lockrun string // path of the measured program
	before  string // path of another one, "" without

	dir    string // for locks and for what was built
	null   *os.File
	atExit *pidfile.AtExit

	bareGo    string // a Go program that does nothing
	sameCalls string // a Go program that does the least to run a command under a lock
	sameExec  string // the same, which becomes the command

	flock, startStopDaemon, daemonize, setlock, python tool

	idleOnce idleOnce
}

// bareGoSource is the floor for every Go program.
const bareGoSource = `package main

func main() {}
`

// sameCallsSource is the floor for a lockrun in Go: what it costs to open, lock,
// start a command and wait for it.
const sameCallsSource = `package main

import (
	"os"
	"syscall"
)

func main() {
	fd, err := syscall.Open(os.Args[1], syscall.O_RDONLY|syscall.O_CREAT, 0o600)
	if err == nil {
		err = syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err != nil {
		os.Exit(75)
	}
	pid, err := syscall.ForkExec(os.Args[2], os.Args[2:], &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		os.Exit(126)
	}
	var ws syscall.WaitStatus
	syscall.Wait4(pid, &ws, 0, nil)
	os.Exit(ws.ExitStatus())
}
`

// sameExecSource is the floor for a flock -F in Go.
const sameExecSource = `package main

import (
	"os"
	"syscall"
)

func main() {
	fd, err := syscall.Open(os.Args[2], syscall.O_RDONLY|syscall.O_CREAT, 0o600)
	if err == nil {
		err = syscall.Flock(fd, syscall.LOCK_EX)
	}
	if err == nil {
		syscall.Exec(os.Args[3], os.Args[3:], os.Environ())
	}
	os.Exit(126)
}
`

func (b *bench) setUp(atExit *pidfile.AtExit) (err error) {
	b.atExit = atExit
	if b.dir, err = os.MkdirTemp("", "lockrun-bench-"); err != nil {
		return err
	}
	atExit.Push(func() { os.RemoveAll(b.dir) })
	if b.null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
		return err
	}
	b.findTools()
	if b.flock == "" {
		return errors.New("flock(1) is not installed; it is what lockrun is measured by")
	}
	return b.build()
}

func (b *bench) findTools() {
	find := func(name string) tool {
		path, _ := exec.LookPath(name)
		return tool(path)
	}
	b.flock, b.startStopDaemon, b.daemonize, b.setlock = find("flock"), find("start-stop-daemon"), find("daemonize"), find("setlock")
	// What is found in PATH may be a script that looks for the real one.
	if out, err := exec.Command("python3", "-c", "import sys; print(sys.executable)").Output(); err == nil {
		b.python = tool(strings.TrimSpace(string(out)))
	}
}

func (b *bench) build() (err error) {
	if b.lockrun == "" {
		b.lockrun = b.file("lockrun")
		if err := goBuild(b.lockrun, "github.com/lockrun/lockrun/cmd/lockrun"); err != nil {
			return err
		}
	} else if b.lockrun, err = filepath.Abs(b.lockrun); err != nil {
		return err
	}
	if b.bareGo, err = b.buildSource("bare-go", bareGoSource); err != nil {
		return err
	}
	if b.sameCalls, err = b.buildSource("same-calls", sameCallsSource); err != nil {
		return err
	}
	b.sameExec, err = b.buildSource("same-exec", sameExecSource)
	return err
}

func (b *bench) buildSource(name, source string) (string, error) {
	file := b.file(name + ".go")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		return "", err
	}
	return b.file(name), goBuild(b.file(name), file)
}

// goBuild builds a program and installs it. The copy matters: the linker writes
// its output through a mapping, which leaves the file in small pieces in the
// page cache, and makes every start of it slower by a tenth than that of an
// installed program, as the peers are.
func goBuild(output, what string) error {
	linked := output + ".linked"
	cmd := exec.Command("go", "build", "-o", linked, what)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return err
	}
	program, err := os.ReadFile(linked)
	if err != nil {
		return err
	}
	return os.WriteFile(output, program, 0o700)
}

// file is the path of a file that goes away with the program.
func (b *bench) file(name string) string {
	return filepath.Join(b.dir, name)
}

// newFile makes an empty file: a lock that was used before.
func (b *bench) newFile(name string) (string, error) {
	path := b.file(name)
	return path, os.WriteFile(path, nil, 0o600)
}
