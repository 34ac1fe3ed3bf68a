package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// starting is what the measured starts in the background share.
type starting struct {
	b       *bench
	words   *os.File // what the daemons say
	command []string // says its PID there, and stays
	dir     string   // of instances
	pidFile string
}

// measureStart measures a start in the background until the terminal is free and
// the command has said its first word. Some peers return before they know whether
// it runs; their time to return would not be the same thing.
func measureStart(b *bench) (result, error) {
	s := starting{b: b, dir: b.file("started"), pidFile: b.file("start.pid")}
	fifo := b.file("start.fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		return result{}, err
	}
	words, err := os.OpenFile(fifo, os.O_RDWR, 0) // for writing too, so that it never ends
	if err != nil {
		return result{}, err
	}
	defer words.Close()
	s.words = words
	s.command = []string{"/bin/sh", "-c", `echo $$ >"$0"; exec sleep 600`, fifo}
	contestants := []contestant{
		s.supervisor("lockrun", tool(b.lockrun), "start", "web", "--"),
		s.starter("start-stop-daemon -b", b.startStopDaemon, "--start", "--quiet", "--background",
			"--make-pidfile", "--pidfile", s.pidFile, "--startas", "/bin/sh", "--"),
		s.starter("python-daemon", b.pythonDaemon, "-c", pythonDaemonSource, s.pidFile),
		s.starter("daemonize", b.daemonize, "-p", s.pidFile, "-l", s.pidFile+".lock"),
		s.supervisor("daemon", b.daemon, "-F", s.pidFile, "--"),
		s.supervisor("lockrun start PATH", tool(b.lockrun), "start", s.pidFile, "--"),
	}
	if b.before != "" {
		contestants = append(contestants, s.supervisor("lockrun before", tool(b.before), "start", "web", "--"))
	}
	return b.contest(max(1, b.rounds/2), inMilliseconds, contestants...)
}

// pythonDaemonSource is a daemon as the documentation of python-daemon has it.
const pythonDaemonSource = `import daemon, daemon.pidfile, os, sys
with daemon.DaemonContext(pidfile=daemon.pidfile.PIDLockFile(sys.argv[1])):
    os.execv(sys.argv[2], sys.argv[2:])
`

// starter is a program that leaves the command to init.
func (s *starting) starter(name string, t tool, args ...string) contestant {
	c := contestant{name: name, missing: t.missing(), rarely: name == "python-daemon"}
	argv := append([]string{string(t)}, args...)
	if name == "start-stop-daemon -b" {
		argv = append(argv, s.command[1:]...)
	} else {
		argv = append(argv, s.command...)
	}
	c.once = func() (time.Duration, error) { return s.once(argv, false) }
	return c
}

// supervisor is one that stays as the parent of the command.
func (s *starting) supervisor(name string, t tool, args ...string) contestant {
	c := contestant{name: name, missing: t.missing()}
	argv := append(append([]string{string(t)}, args...), s.command...)
	c.once = func() (time.Duration, error) { return s.once(argv, true) }
	return c
}

// once starts the command and ends it, the latter outside the measured time.
func (s *starting) once(argv []string, stays bool) (time.Duration, error) {
	how := spawning{env: []string{"LOCKRUN_DIR=" + s.dir}}
	start := time.Now()
	if _, err := s.b.timedWith(how, 0, argv...)(); err != nil {
		return 0, err
	}
	pid, err := s.word()
	took := time.Since(start)
	if err != nil {
		return 0, err
	}
	parent := 0
	if stays {
		if parent, err = parentOf(pid); err != nil {
			return 0, err
		}
	}
	// It is to be trusted: the process was started by us a moment ago, and does
	// not end by itself.
	syscall.Kill(pid, syscall.SIGKILL)
	err = await("the end of what was started", func() bool { return !runs(pid) && (parent == 0 || !runs(parent)) })
	os.Remove(s.pidFile) // some leave it behind, and nobody else starts anything here
	os.Remove(s.pidFile + ".lock")
	return took, err
}

// word reads the PID that the command says.
func (s *starting) word() (int, error) {
	s.words.SetReadDeadline(time.Now().Add(patience))
	line := make([]byte, 32)
	n, err := s.words.Read(line)
	if err != nil {
		return 0, fmt.Errorf("no word from the command: %w", err)
	}
	return strconv.Atoi(strings.TrimSpace(string(line[:n])))
}

// runs reports whether a process runs. A zombie does not: init may take its time
// to reap an orphan.
func runs(pid int) bool {
	stat, err := os.ReadFile(procPath(pid, "stat"))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // behind the name
	return !strings.HasPrefix(rest, "Z")
}
