package singleton

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// identity is what no two processes share. A number alone comes to mean another
// one in time.
type identity struct {
	pid   int
	start uint64 // in clock ticks since the machine started
}

// process is a process as /proc/PID/stat describes it.
type process struct {
	identity
	parent, session int
	dead            bool // it waits to be reaped
}

// parseStat reads proc_pid_stat(5). The name in parentheses may hold anything;
// behind the last one come state, parent, group, session and, as the 22nd field
// of the line, the start time:
//
//	812 (a (b) c) S 811 812 812 0 -1 4194560 105 0 0 0 0 0 0 0 20 0 1 0 8374583 ...
func parseStat(stat []byte) (p process, ok bool) {
	pid, _, _ := bytes.Cut(stat, []byte(" "))
	f := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(f) < 20 {
		return p, false
	}
	var errs [4]error
	p.pid, errs[0] = strconv.Atoi(string(pid))
	p.parent, errs[1] = strconv.Atoi(string(f[1]))
	p.session, errs[2] = strconv.Atoi(string(f[3]))
	p.start, errs[3] = strconv.ParseUint(string(f[19]), 10, 64)
	p.dead = f[0][0] == 'Z' || f[0][0] == 'X'
	return p, errs == [4]error{}
}

func readProcess(pid int) (process, bool) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return process{}, false
	}
	return parseStat(stat)
}

// descendants returns the processes below root, parents before their children.
// skip cuts off a branch.
func descendants(root int, skip func(process) bool) ([]process, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	children := make(map[int][]process)
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			if p, ok := readProcess(pid); ok {
				children[p.parent] = append(children[p.parent], p)
			}
		}
	}
	var below []process
	for next := []int{root}; len(next) > 0; next = next[1:] {
		for _, p := range children[next[0]] {
			if !skip(p) {
				below = append(below, p)
				next = append(next, p.pid)
			}
		}
		// A number that came to mean another one meanwhile could make a circle.
		delete(children, next[0])
	}
	return below, nil
}

// signal sends a signal to this process, and to no other one that has its
// number by now. It does nothing if the process has ended.
func (p process) signal(sig syscall.Signal) error {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(fd)
	if !p.alive() {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && err != unix.ESRCH {
		return os.NewSyscallError("pidfd_send_signal", err)
	}
	return nil
}

func (p process) alive() bool {
	now, ok := readProcess(p.pid)
	return ok && now.identity == p.identity && !now.dead
}

// environ returns the settings that the process was started with, each between
// two NULs. One that writes its title over them (redis, nginx) shows none.
func (p process) environ() []byte {
	content, _ := os.ReadFile("/proc/" + strconv.Itoa(p.pid) + "/environ")
	return append([]byte{0}, content...)
}

// String is its number and its command line.
func (p process) String() string {
	content, _ := os.ReadFile("/proc/" + strconv.Itoa(p.pid) + "/cmdline")
	words := strings.TrimSpace(strings.NewReplacer("\x00", " ", "\n", " ").Replace(string(content)))
	return fmt.Sprintf("process %d (%s)", p.pid, shorten(printable(words), 60))
}

// mainOf is the oldest process whose parent is not among them.
func mainOf(processes []process) (oldest process) {
	for _, p := range processes {
		inner := slices.ContainsFunc(processes, func(q process) bool { return q.pid == p.parent })
		if !inner && (oldest.pid == 0 || p.start < oldest.start) {
			oldest = p
		}
	}
	return oldest
}
