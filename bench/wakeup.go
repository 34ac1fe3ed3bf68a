package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// measureWakeUp measures from the release of the lock, which this process
// holds, to the first word of the waiter's command.
func measureWakeUp(b *bench) (result, error) {
	path, err := b.newFile("wake-up")
	if err != nil {
		return result{}, err
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return result{}, err
	}
	defer unix.Close(fd)
	return b.waiters(path, func() (func() error, error) {
		return func() error { return unix.Flock(fd, unix.LOCK_UN) }, unix.Flock(fd, unix.LOCK_EX)
	})
}

// measureWakeUpKill measures the same from the death of the holder, a flock -F
// that gets SIGKILL.
func measureWakeUpKill(b *bench) (result, error) {
	path, err := b.newFile("wake-up-kill")
	if err != nil {
		return result{}, err
	}
	return b.waiters(path, func() (func() error, error) {
		holder, err := b.launch(string(b.flock), "-F", path, "/bin/sleep", "600")
		if err != nil {
			return nil, err
		}
		err = await("flock holds "+path, func() bool { return isHeld(path) })
		return func() error { holder.kill(); return nil }, err
	})
}

// waiters compares those who wait for the lock on path. hold takes it, and returns
// what lets go of it.
func (b *bench) waiters(path string, hold func() (func() error, error)) (result, error) {
	waiter := func(name string, t tool, args ...string) contestant {
		argv := append([]string{string(t)}, args...)
		return contestant{name: name, missing: t.missing(), once: func() (time.Duration, error) {
			release, err := hold()
			if err != nil {
				return 0, err
			}
			return b.wakeUp(release, argv)
		}}
	}
	return b.contest(b.rounds, inMilliseconds,
		waiter("lockrun", tool(b.lockrun), "-w", path, "--", "/bin/echo"),
		waiter("flock(1)", b.flock, path, "/bin/echo"),
		waiter("lockrun -t", tool(b.lockrun), "-t", "60", path, "--", "/bin/echo"),
		waiter("setlock", b.setlock, path, "/bin/echo"),
		waiter("chpst", b.chpst, "-l", path, "/bin/echo"),
	)
}

// wakeUp does it once, with a command that prints something when it runs.
func (b *bench) wakeUp(release func() error, argv []string) (time.Duration, error) {
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		return 0, err
	}
	unix.CloseOnExec(pipe[0]) // nobody else is started meanwhile
	unix.CloseOnExec(pipe[1])
	defer unix.Close(pipe[0])
	pid, err := b.spawn(spawning{stdout: pipe[1]}, argv...)
	unix.Close(pipe[1])
	if err != nil {
		return 0, err
	}
	if err := await(argv[0]+" waits", func() bool { return waitsInFlock(pid) }); err != nil {
		release() // it ends then
		waitFor(pid, 0)
		return 0, err
	}
	start := time.Now()
	if err := release(); err != nil {
		return 0, err
	}
	n, err := unix.Read(pipe[0], make([]byte, 1)) // blocks, as it should
	took := time.Since(start)
	if n != 1 {
		return 0, fmt.Errorf("no word from the command: %w", err)
	}
	return took, waitFor(pid, 0)
}

// waitsInFlock reports whether a thread of the process is in flock(2): a line
// of /proc/PID/task/TID/syscall begins with the number of the system call.
func waitsInFlock(pid int) bool {
	files, _ := filepath.Glob(procPath(pid, "task/*/syscall"))
	for _, file := range files {
		content, _ := os.ReadFile(file)
		if strings.HasPrefix(string(content), strconv.Itoa(unix.SYS_FLOCK)+" ") {
			return true
		}
	}
	return false
}
