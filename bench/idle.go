package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lockrun/lockrun/pidfile"
)

// idleOnce keeps what all the measures of idle processes share: it takes long.
type idleOnce struct {
	sync.Once
	seen map[string]idleProcess
	err  error
}

// idleProcess is what a process needed that had nothing to do.
type idleProcess struct {
	rss, anon, file int64         // resident memory in bytes, and its parts
	startUp         time.Duration // CPU time until it had settled; to create a lock takes a walk over all processes
	cpu             time.Duration // CPU time after that
}

// settling is how long a process may take to start up.
const settling = 500 * time.Millisecond

// The idle processes.
const (
	waiting        = "lockrun -w"
	timedWaiting   = "lockrun -t"
	supervising    = "lockrun"
	daemon         = "lockrun start"
	flockWaiting   = "flock(1), waiting"
	timedFlockWait = "flock(1) -w, waiting"
	flockRunning   = "flock(1), its command runs"
)

func measureWaitRSS(b *bench) (result, error)      { return b.idleRSS(waiting, flockWaiting) }
func measureTimedWaitRSS(b *bench) (result, error) { return b.idleRSS(timedWaiting, timedFlockWait) }
func measureSuperviseRSS(b *bench) (result, error) { return b.idleRSS(supervising, flockRunning) }
func measureStartRSS(b *bench) (result, error)     { return b.idleRSS(daemon, flockRunning) }

func measureWaitCPU(b *bench) (result, error)      { return b.idleCPU(waiting, flockWaiting) }
func measureTimedWaitCPU(b *bench) (result, error) { return b.idleCPU(timedWaiting, timedFlockWait) }
func measureSuperviseCPU(b *bench) (result, error) { return b.idleCPU(supervising, flockRunning) }
func measureStartCPU(b *bench) (result, error)     { return b.idleCPU(daemon, flockRunning) }

func (b *bench) idleRSS(name, peerName string) (result, error) {
	seen, err := b.idleProcesses()
	if err != nil {
		return result{}, err
	}
	p := seen[name]
	return result{
		ours:  inMegabytes(p.rss),
		note:  fmt.Sprintf("%v of it its own (RssAnon), %v of files (RssFile)", inMegabytes(p.anon), inMegabytes(p.file)),
		peers: []peer{{name: peerName, amount: inMegabytes(seen[peerName].rss)}},
	}, nil
}

func (b *bench) idleCPU(name, peerName string) (result, error) {
	seen, err := b.idleProcesses()
	if err != nil {
		return result{}, err
	}
	p := seen[name]
	return result{
		ours:  inMilliseconds(p.cpu),
		note:  fmt.Sprintf("in %v; its start-up took %v before", b.idle, inMilliseconds(p.startUp)),
		peers: []peer{{name: peerName, amount: inMilliseconds(seen[peerName].cpu)}},
	}, nil
}

// idleProcesses leaves processes of all kinds alone for a while and looks what
// they needed.
func (b *bench) idleProcesses() (map[string]idleProcess, error) {
	b.idleOnce.Do(func() { b.idleOnce.seen, b.idleOnce.err = b.watchIdle() })
	return b.idleOnce.seen, b.idleOnce.err
}

func (b *bench) watchIdle() (map[string]idleProcess, error) {
	pids, end, err := b.launchIdle()
	defer end()
	if err != nil {
		return nil, err
	}
	seen := make(map[string]idleProcess, len(pids))
	time.Sleep(settling)
	for name, pid := range pids {
		p := idleProcess{}
		if p.startUp, err = cpuTime(pid); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		seen[name] = p
	}
	time.Sleep(b.idle)
	for name, pid := range pids {
		p := seen[name]
		if err := p.look(pid); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		seen[name] = p
	}
	return seen, nil
}

// launchIdle starts them, and returns their PIDs by name and what ends them.
func (b *bench) launchIdle() (pids map[string]int, end func(), err error) {
	path := b.file("idle")
	holder, err := b.superviseSleep(path)
	if err != nil {
		return nil, func() {}, err
	}
	pids = map[string]int{supervising: holder.pid}
	commands := []struct {
		name string
		argv []string
	}{
		{waiting, []string{b.lockrun, "-w", path, "--", "/bin/true"}},
		{timedWaiting, []string{b.lockrun, "-t", "3600", path, "--", "/bin/true"}},
		{flockWaiting, []string{string(b.flock), path, "/bin/true"}},
		{timedFlockWait, []string{string(b.flock), "-w", "3600", path, "/bin/true"}},
		{flockRunning, []string{string(b.flock), b.file("idle-flock"), "/bin/sleep", "600"}},
	}
	started := []*background{holder} // ended last, or the waiters would run
	for _, c := range commands {
		p, err := b.launch(c.argv...)
		if err != nil {
			return nil, endAll(started), err
		}
		started = append(started, p)
		pids[c.name] = p.pid
		if c.name == flockRunning {
			continue
		}
		if err := await(c.name+" waits", func() bool { return waitsInFlock(p.pid) }); err != nil {
			return nil, endAll(started), err
		}
	}
	pids[daemon], err = b.launchDaemon(b.file("idle-daemon"))
	return pids, endAll(started), err
}

func endAll(started []*background) func() {
	return func() {
		for _, p := range slices.Backward(started) {
			p.end()
		}
	}
}

// launchDaemon starts a lockrun in the background, which is ended when the
// program ends, and returns its PID.
func (b *bench) launchDaemon(path string) (int, error) {
	if _, err := b.timed(0, b.lockrun, "start", path, "--", "/bin/sleep", "600")(); err != nil {
		return 0, err
	}
	command, err := pidfile.Read(path)
	if err != nil {
		return 0, err
	}
	supervisor, err := parentOf(command)
	if err != nil {
		return 0, err
	}
	b.atExit.Push(func() { syscall.Kill(supervisor, syscall.SIGTERM) })
	return supervisor, nil
}

func parentOf(pid int) (int, error) {
	status, err := os.ReadFile(procPath(pid, "status"))
	if err != nil {
		return 0, err
	}
	return int(statusField(status, "PPid")), nil
}

func procPath(pid int, name string) string {
	return "/proc/" + strconv.Itoa(pid) + "/" + name
}

// statusField returns the number of a line of /proc/PID/status, 0 without one.
func statusField(status []byte, key string) int64 {
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			if fields := strings.Fields(rest); len(fields) > 0 {
				n, _ := strconv.ParseInt(fields[0], 10, 64)
				return n
			}
		}
	}
	return 0
}

// look reads what a process needed since it had settled.
func (p *idleProcess) look(pid int) error {
	cpu, err := cpuTime(pid)
	if err != nil {
		return err
	}
	p.cpu = cpu - p.startUp
	status, err := os.ReadFile(procPath(pid, "status"))
	if err != nil {
		return err
	}
	const kB = 1024 // bytes, in /proc
	p.rss, p.anon, p.file = statusField(status, "VmRSS")*kB, statusField(status, "RssAnon")*kB, statusField(status, "RssFile")*kB
	return nil
}

// cpuTime returns the CPU time of all threads of a process. The times of stat
// have steps of 10 ms; the first number of schedstat is in ns, but for one
// thread.
func cpuTime(pid int) (time.Duration, error) {
	files, err := filepath.Glob(procPath(pid, "task/*/schedstat"))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("no process %d, or no schedstat in this kernel", pid)
	}
	var sum time.Duration
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return 0, err
		}
		number, _, _ := strings.Cut(string(content), " ")
		ns, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}
