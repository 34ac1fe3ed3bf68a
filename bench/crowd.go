package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	queued       = 200  // jobs that wait for one lock
	simultaneous = 1000 // starts on one lock
	instances    = 1000
	running      = 200 // of them
)

// measureQueue measures how long many jobs take that stand in the queue for a
// lock, from the moment that it is free.
func measureQueue(b *bench) (result, error) {
	path, err := b.newFile("queue")
	if err != nil {
		return result{}, err
	}
	queue := func(name string, t tool, args ...string) contestant {
		argv := append(append([]string{string(t)}, args...), "/bin/true")
		return contestant{name: name, missing: t.missing(), once: func() (time.Duration, error) { return b.queue(path, argv) }}
	}
	return b.contest(b.slowly(), inMilliseconds,
		queue("lockrun -w", tool(b.lockrun), "-w", path, "--"),
		queue("flock(1)", b.flock, path),
		queue("setlock", b.setlock, path),
		queue("chpst", b.chpst, "-l", path),
	)
}

func (b *bench) queue(path string, argv []string) (time.Duration, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd) // those who wait have their turn, whatever happens here
	if err := unix.Flock(fd, unix.LOCK_EX); err != nil {
		return 0, err
	}
	var pids []int
	for range queued {
		pid, err := b.spawn(spawning{}, argv...)
		if err != nil {
			return 0, err
		}
		pids = append(pids, pid)
	}
	for _, pid := range pids {
		if err := await(argv[0]+" waits", func() bool { return waitsInFlock(pid) }); err != nil {
			return 0, err
		}
	}
	start := time.Now()
	if err := unix.Flock(fd, unix.LOCK_UN); err != nil {
		return 0, err
	}
	for _, pid := range pids {
		if err := waitFor(pid, 0); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}

// measureSimultaneous measures how long many starts on one lock take until all but
// one were refused. The one that runs runs until then.
func measureSimultaneous(b *bench) (result, error) {
	path, err := b.newFile("simultaneous")
	if err != nil {
		return result{}, err
	}
	crowd := func(name string, t tool, refused int, args ...string) contestant {
		argv := append(append([]string{string(t)}, args...), "/bin/cat")
		return contestant{name: name, missing: t.missing(), once: func() (time.Duration, error) { return b.crowd(refused, argv) }}
	}
	return b.contest(b.slowly(), inMilliseconds,
		crowd("lockrun", tool(b.lockrun), heldLockrun, path, "--"),
		crowd("flock(1) -n", b.flock, heldFlock, "-n", path),
		crowd("bare Go, same calls", tool(b.sameCalls), heldLockrun, path),
		crowd("setlock -n", b.setlock, heldSetlock, "-n", path),
		crowd("chpst -L", b.chpst, heldSetlock, "-L", path),
	)
}

func (b *bench) crowd(refused int, argv []string) (time.Duration, error) {
	var input [2]int // of the command, which ends with it
	if err := unix.Pipe(input[:]); err != nil {
		return 0, err
	}
	unix.CloseOnExec(input[0])
	unix.CloseOnExec(input[1])
	defer unix.Close(input[0])
	end := func() { unix.Close(input[1]) }
	start := time.Now()
	left := make(map[int]bool, simultaneous)
	for range simultaneous {
		pid, err := b.spawn(spawning{stdin: input[0]}, argv...)
		if err != nil {
			end()
			return 0, err
		}
		left[pid] = true
	}
	reap := func() (status int, err error) {
		for {
			var ws syscall.WaitStatus
			pid, err := syscall.Wait4(-1, &ws, 0, nil)
			switch {
			case err == syscall.EINTR || err == nil && !left[pid]: // one that was launched for something else
				continue
			case err != nil:
				return 0, os.NewSyscallError("wait4", err)
			}
			delete(left, pid)
			return ws.ExitStatus(), nil
		}
	}
	for len(left) > 1 {
		status, err := reap()
		if err == nil && status != refused {
			err = fmt.Errorf("%d of %d are left, and one ended with %d", len(left), simultaneous, status)
		}
		if err != nil {
			end()
			return 0, err
		}
	}
	took := time.Since(start)
	end()
	status, err := reap()
	if err == nil && status != 0 {
		err = fmt.Errorf("all were refused; the last one ended with %d", status)
	}
	return took, err
}

// measureStatus measures how long it takes to say what runs.
func measureStatus(b *bench) (result, error) {
	dir := b.file("instances")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return result{}, err
	}
	how := spawning{env: []string{"LOCKRUN_DIR=" + dir}}
	var supervisors []int
	defer func() {
		for _, pid := range supervisors {
			syscall.Kill(pid, syscall.SIGTERM)
		}
		for _, pid := range supervisors {
			await("the end of a supervisor", func() bool { return !runs(pid) })
		}
	}()
	for n := range instances {
		name := fmt.Sprintf("i%03d", n)
		path := filepath.Join(dir, name+".pid")
		if n%(instances/running) != 0 {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				return result{}, err
			}
			continue
		}
		if _, err := b.timedWith(how, 0, b.lockrun, "start", name, "--", "/bin/sleep", "600")(); err != nil {
			return result{}, err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return result{}, err
		}
		command, err := strconv.Atoi(string(content[:max(len(content)-1, 0)]))
		if err != nil {
			return result{}, err
		}
		supervisor, err := parentOf(command)
		if err != nil {
			return result{}, err
		}
		supervisors = append(supervisors, supervisor)
	}
	say := func(name string, args ...string) contestant {
		return contestant{name: name, once: b.timedWith(how, 0, append([]string{b.lockrun}, args...)...)}
	}
	return b.contest(max(1, b.rounds/10), inMilliseconds,
		say("lockrun status", "status"),
		say("lockrun status --json", "status", "--json"),
		say("lockrun list", "list"),
	)
}
