package main

import (
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/lockrun/lockrun/pidfile"
)

// measureStart measures how long the terminal waits for a start in the
// background. The peers return before they know whether the command runs.
func measureStart(b *bench) (result, error) {
	path := b.file("start.pid")
	contestants := []contestant{
		b.starter("lockrun", tool(b.lockrun), path, "start", path, "--", "/bin/sleep", "60"),
		b.starter("start-stop-daemon", b.startStopDaemon, path,
			"--start", "--quiet", "--background", "--make-pidfile", "--pidfile", path, "--exec", "/bin/sleep", "--", "60"),
		b.starter("daemonize", b.daemonize, path, "-p", path, "-l", b.file("daemonize.lock"), "/bin/sleep", "60"),
	}
	if b.before != "" {
		contestants = append(contestants, b.starter("lockrun before", tool(b.before), path, "start", path, "--", "/bin/sleep", "60"))
	}
	return b.contest(inMilliseconds, contestants...)
}

// starter starts a command in the background, and ends it outside the measured
// time.
func (b *bench) starter(name string, t tool, pidFile string, args ...string) contestant {
	c := t.contestant(b, name, 0, args...)
	start := c.once
	c.once = func() (time.Duration, error) {
		took, err := start()
		if err != nil {
			return 0, err
		}
		return took, endStarted(pidFile)
	}
	return c
}

// endStarted kills what was started in the background, and returns when it and
// the lock are gone. The PID is to be trusted: the process was started by us a
// moment ago and does not end by itself.
func endStarted(pidFile string) error {
	var pid int
	err := await("PID in "+pidFile, func() (ok bool) {
		pid, _ = pidfile.Read(pidFile)
		return pid != 0
	})
	if err != nil {
		return err
	}
	syscall.Kill(pid, syscall.SIGKILL)
	if err := await("end of what was started", func() bool { return !runs(pid) && !isHeld(pidFile) }); err != nil {
		return err
	}
	// Some leave the file behind. Nobody else starts anything here.
	os.Remove(pidFile)
	return nil
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
