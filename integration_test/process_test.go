//go:build linux

package integration_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// detProcess is what /proc tells everybody of a process.
type detProcess struct {
	pid, ppid, group, session, tty int
	comm, umask                    string
	ignored                        uint64
}

type detDescriptor struct {
	target string
	access int // O_RDONLY, O_WRONLY, O_RDWR
	lock   bool
}

func detLook(t *testing.T, pid int) detProcess {
	t.Helper()
	p := detProcess{pid: pid}
	read := func(name string) string {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	stat := read("stat")
	open, end := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	p.comm = stat[open+1 : end]
	var state string
	if _, err := fmt.Sscan(stat[end+1:], &state, &p.ppid, &p.group, &p.session, &p.tty); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(read("status")) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
		switch key {
		case "Umask":
			p.umask = value
		case "SigIgn":
			p.ignored, _ = strconv.ParseUint(value, 16, 64)
		}
	}
	return p
}

// detLink reads cwd, exe or a descriptor of a process of ours.
func detLink(t *testing.T, pid int, name string) string {
	t.Helper()
	target, err := os.Readlink(fmt.Sprintf("/proc/%d/%s", pid, name))
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// detBlocked returns the signals that all threads of a process block. (Of the
// threads of a Go program one blocks most signals, and each while it starts
// another one.)
func detBlocked(t *testing.T, pid int) uint64 {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("threads of %d: %q, %v", pid, files, err)
	}
	blocked := ^uint64(0)
	for _, file := range files {
		status, _ := os.ReadFile(file)
		_, rest, _ := strings.Cut(string(status), "\nSigBlk:\t")
		mask, err := strconv.ParseUint(rest[:min(len(rest), 16)], 16, 64)
		if err != nil {
			continue // the thread has ended
		}
		blocked &= mask
	}
	return blocked
}

func detDescriptors(t *testing.T, pid int) map[int]detDescriptor {
	t.Helper()
	fds := map[int]detDescriptor{}
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		n, _ := strconv.Atoi(entry.Name())
		target, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, n))
		info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, n))
		if errors.Is(err, fs.ErrNotExist) {
			continue // closed meanwhile
		}
		if err != nil {
			t.Fatal(err)
		}
		d := detDescriptor{target: target}
		for line := range strings.Lines(string(info)) {
			var flags int
			if _, err := fmt.Sscanf(line, "flags:\t%o", &flags); err == nil {
				d.access = flags & unix.O_ACCMODE
			}
			d.lock = d.lock || strings.HasPrefix(line, "lock:")
		}
		fds[n] = d
	}
	return fds
}

// detSettledDescriptors gives a program that was executed a moment ago the time
// to load its libraries.
func detSettledDescriptors(t *testing.T, pid int) map[int]detDescriptor {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		fds := detDescriptors(t, pid)
		if len(fds) == 4 || time.Now().After(deadline) {
			return fds
		}
	}
}

// detOfRuntime reports whether a descriptor is one that every Go program opens
// for itself: for its poller, and to know how many CPUs its cgroup may use.
func detOfRuntime(d detDescriptor) bool {
	return strings.HasPrefix(d.target, "anon_inode:") || strings.HasPrefix(d.target, "/sys/fs/cgroup/")
}

// detOnly checks that the Go program pid has nothing open but the standard
// descriptors and the file path. (It says Ready, and then closes the pipe.)
func detOnly(t *testing.T, pid int, path string, sockets int) {
	t.Helper()
	stray := func() map[int]detDescriptor {
		fds, left := detDescriptors(t, pid), sockets
		maps.DeleteFunc(fds, func(fd int, d detDescriptor) bool {
			if strings.HasPrefix(d.target, "socket:") && left > 0 {
				left--
				return true
			}
			return fd <= 2 || d.target == path || detOfRuntime(d)
		})
		return fds
	}
	for deadline := time.Now().Add(5 * time.Second); len(stray()) > 0; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d has stray descriptors %+v", pid, stray())
		}
	}
}

func detBits(signals ...syscall.Signal) (mask uint64) {
	for _, s := range signals {
		mask |= 1 << (s - 1)
	}
	return mask
}

// detOurIgnored are those of SIGHUP and SIGINT that this test run was started
// with as ignored, and so everything that it starts.
func detOurIgnored(t *testing.T) uint64 {
	t.Helper()
	return detLook(t, os.Getpid()).ignored & detBits(syscall.SIGHUP, syscall.SIGINT)
}

// detAdopter checks that a daemon is left to init or, if there is one, to a
// subreaper above this test: once the session leader has ended, which is a
// moment after the daemon was started.
func detAdopter(t *testing.T, pid int) {
	t.Helper()
	above := []int{1}
	for p := os.Getpid(); p > 1; {
		p = detLook(t, p).ppid
		above = append(above, p)
	}
	eventually(t, "the daemon is left to init or a subreaper", func() bool { return slices.Contains(above, detLook(t, pid).ppid) })
}

// detSurroundings checks what every daemon must have.
func detSurroundings(t *testing.T, p detProcess, output string, ignored uint64) {
	t.Helper()
	if p.tty != 0 {
		t.Errorf("%s: controlling terminal %d; want none", p.comm, p.tty)
	}
	if cwd := detLink(t, p.pid, "cwd"); cwd != "/" {
		t.Errorf("%s: working directory %q; want /", p.comm, cwd)
	}
	if p.umask != "0022" {
		t.Errorf("%s: umask %s; want 0022", p.comm, p.umask)
	}
	if p.ignored != ignored {
		t.Errorf("%s: ignored signals %x; want %x", p.comm, p.ignored, ignored)
	}
	if blocked := detBlocked(t, p.pid); blocked != 0 {
		t.Errorf("%s: blocked signals %x; want none", p.comm, blocked)
	}
	fds := detDescriptors(t, p.pid)
	for fd, want := range []detDescriptor{
		{target: "/dev/null", access: unix.O_RDONLY}, {target: output, access: unix.O_WRONLY}, {target: output, access: unix.O_WRONLY},
	} {
		if got := fds[fd]; got != want {
			t.Errorf("%s: descriptor %d is %+v; want %+v", p.comm, fd, got, want)
		}
	}
}
