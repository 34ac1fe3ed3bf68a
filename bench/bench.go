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

	programs
	tools

	idleOnce idleOnce
}

// tools are the peers; those that are not installed are "".
type tools struct {
	flock, setlock, chpst, startStopDaemon, daemonize, daemon, python tool

	pythonDaemon tool // python, if it has the library of that name
}

func (b *bench) setUp(atExit *pidfile.AtExit) (err error) {
	b.atExit = atExit
	if b.dir, err = os.MkdirTemp("", "lockrun-bench-"); err != nil {
		return err
	}
	atExit.Push(func() { os.RemoveAll(b.dir) })
	if b.null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
		return err
	}
	b.find()
	if b.flock == "" {
		return errors.New("flock(1) is not installed; it is what lockrun is measured by")
	}
	return b.build()
}

func (t *tools) find() {
	find := func(name string) tool {
		path, _ := exec.LookPath(name)
		return tool(path)
	}
	t.flock, t.setlock, t.chpst = find("flock"), find("setlock"), find("chpst")
	t.startStopDaemon, t.daemonize, t.daemon = find("start-stop-daemon"), find("daemonize"), find("daemon")
	// What is found in PATH may be a script that looks for the real one.
	if out, err := exec.Command("python3", "-c", "import sys; print(sys.executable)").Output(); err == nil {
		t.python = tool(strings.TrimSpace(string(out)))
	}
	// Debian's library belongs to Debian's python3.
	for _, python := range []tool{t.python, "/usr/bin/python3"} {
		if python != "" && t.pythonDaemon == "" && exec.Command(string(python), "-c", "import daemon.pidfile").Run() == nil {
			t.pythonDaemon = python
		}
	}
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
