//go:build linux && amd64

package integration_test

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An injPoint is a system call as it is found again in the next run: who makes it,
// which one, and on what. Threads do not count, since the Go runtime moves
// goroutines between them: the n-th call of a thread, which is how strace(1) aims,
// is another one in each run.
type injPoint struct {
	Role   string // "stop", and of its first child "stop/1"; "stop/1~" before that has executed a program
	Call   string
	Detail string // the path, or what the descriptor is
}

func (p injPoint) String() string { return fmt.Sprintf("%s: %s(%s)", p.Role, p.Call, p.Detail) }

// runtime reports whether the call is the Go runtime's own.
func (p injPoint) runtime() bool { return p.Detail == injOfRuntime }

const injOfRuntime = "of the runtime"

// injCounted is a point with the number of calls that were made there.
type injCounted struct {
	injPoint
	Count int
}

// injAim is one injection: the Nth call at a point.
type injAim struct {
	injPoint
	Nth   int
	Errno unix.Errno // 0: SIGKILL
}

func (a injAim) String() string {
	what := "SIGKILL"
	if a.Errno != 0 {
		what = unix.ErrnoName(a.Errno)
	}
	return fmt.Sprintf("%s at %v #%d", what, a.injPoint, a.Nth)
}

// injWatcher sees the system calls of all programs of interest, counts them, and
// lets one fail or kills its process there: before the call is made.
type injWatcher struct {
	dir      string
	programs map[string]bool // those of interest, by path

	mu        sync.Mutex
	armed     bool
	aim       *injAim
	struck    bool
	processes map[int]*injWatched    // by PID
	threads   map[uint32]*injWatched // by thread id
	counts    map[injPoint]int
	order     []injPoint

	serving sync.WaitGroup
	over    atomic.Bool // all processes have ended
}

// injWatched is a process that has made a system call.
type injWatched struct {
	pid      int
	role     string
	children int
	image    int    // how many programs it has executed
	stack    string // where the stack of the program begins: another program has another one
	executor uint32 // the thread that may have executed a program since
	interest bool
}

func newInjWatcher(dir string, programs ...string) *injWatcher {
	w := &injWatcher{dir: dir, programs: map[string]bool{}, processes: map[int]*injWatched{}, threads: map[uint32]*injWatched{}, counts: map[injPoint]int{}}
	for _, program := range programs {
		w.programs[program] = true
	}
	return w
}

// arm begins to count, and makes an aim be struck, which may be nil.
func (w *injWatcher) arm(aim *injAim) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed, w.aim = true, aim
}

// serve answers the system calls of a process that was started as role, and of what
// it starts, until they have ended.
func (w *injWatcher) serve(listener int, role string) {
	defer w.serving.Done()
	defer unix.Close(listener)
	fds := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
	for !w.over.Load() {
		n, err := unix.Poll(fds, 100)
		if err != nil && err != unix.EINTR {
			panic(err)
		}
		if n < 1 {
			continue
		}
		if fds[0].Revents&unix.POLLHUP != 0 {
			return // nobody is left
		}
		if fds[0].Revents&unix.POLLIN == 0 {
			continue // a signal came: that is an error of poll(2) here
		}
		var n1 seccompNotif
		switch _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), seccompNotifRecv, uintptr(unsafe.Pointer(&n1))); errno {
		case 0:
		case unix.EINTR, unix.ENOENT: // the process was killed meanwhile
			continue
		default:
			panic(errno)
		}
		answer := seccompResponse{id: n1.id, flags: seccompUserNotifContinue}
		if errno := w.see(n1, role, listener); errno != 0 {
			answer.flags, answer.error = 0, -int32(errno)
		}
		seccompAnswer(listener, &answer)
	}
}

// see counts a call. It returns the errno with which the call is to fail.
func (w *injWatcher) see(n seccompNotif, role string, listener int) unix.Errno {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.process(n.pid, role)
	if p == nil {
		return 0
	}
	w.look(p, n.pid)
	if n.nr == unix.SYS_EXECVE {
		p.executor = n.pid
	}
	if !w.armed || !p.interest || w.struck {
		return 0
	}
	at := w.point(p, n)
	w.counts[at]++
	if w.counts[at] == 1 {
		w.order = append(w.order, at)
	}
	if w.aim == nil || w.aim.injPoint != at || w.aim.Nth != w.counts[at] {
		return 0
	}
	w.struck = true
	if w.aim.Errno == 0 {
		syscall.Kill(p.pid, syscall.SIGKILL)
		return 0
	}
	if n.nr == unix.SYS_CLOSE {
		injCloseThere(listener, n)
	}
	return w.aim.Errno
}

// injCloseThere closes a descriptor of the process that waits: close(2) frees the
// descriptor whatever it returns. The number stays taken, by /dev/null.
func injCloseThere(listener int, n seccompNotif) {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	defer unix.Close(null)
	add := struct {
		id                              uint64
		flags, source, number, newFlags uint32
	}{n.id, unix.SECCOMP_ADDFD_FLAG_SETFD, uint32(null), uint32(n.args[0]), unix.O_CLOEXEC}
	const seccompNotifAddFD = 0x40182103
	for {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), seccompNotifAddFD, uintptr(unsafe.Pointer(&add))); errno != unix.EINTR {
			return
		}
	}
}

// process returns whose thread that is.
func (w *injWatcher) process(tid uint32, role string) *injWatched {
	if p := w.threads[tid]; p != nil {
		return p
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return nil
	}
	number := func(key string) int {
		_, rest, _ := bytes.Cut(status, []byte("\n"+key+":\t"))
		line, _, _ := bytes.Cut(rest, []byte("\n"))
		n, _ := strconv.Atoi(string(line))
		return n
	}
	pid := number("Tgid")
	p := w.processes[pid]
	if p == nil {
		p = &injWatched{pid: pid, role: role, stack: injStack(pid)}
		if parent := w.processes[number("PPid")]; parent != nil {
			w.look(parent, 0)
			parent.children++
			p.role = fmt.Sprintf("%s/%d", parent.role, parent.children)
			p.interest = parent.interest
		}
		w.processes[pid] = p
	}
	w.threads[tid] = p
	return p
}

// look looks whether a process has executed a program, and which. thread makes a
// call just now: if it is the one that was about to, it could not.
func (w *injWatcher) look(p *injWatched, thread uint32) {
	if p.executor == 0 {
		return
	}
	if stack := injStack(p.pid); stack != p.stack {
		p.stack = stack
		p.image++
		p.executor = 0
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.pid))
		p.interest = w.programs[exe]
	} else if thread == p.executor {
		p.executor = 0
	}
}

func injStack(pid int) string {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 26 {
		return ""
	}
	return fields[25] // field 28 of proc_pid_stat(5)
}

func (w *injWatcher) point(p *injWatched, n seccompNotif) injPoint {
	at := injPoint{Role: p.role, Call: injCallNames[n.nr]}
	switch {
	case p.image == 0:
		at.Role += "~"
	case p.image > 1:
		at.Role += fmt.Sprintf("+%d", p.image-1)
	}
	if at.Call == "" {
		at.Call = fmt.Sprintf("call %d", n.nr)
	}
	if injRuntime[at.Call] {
		at.Detail = injOfRuntime
		return at
	}
	at.Detail = w.detail(at.Call, n)
	if injRuntimeFiles.MatchString(at.Detail) {
		at.Detail = injOfRuntime
	}
	return at
}

// injRuntimeFiles are those that only the runtime reads.
var injRuntimeFiles = regexp.MustCompile(`^(/sys/|/proc/(PID|self)/(cgroup|mountinfo)$|anon_inode:\[event)|^thread$|^PR_SET_VMA$`)

// detail says on what a call is made.
func (w *injWatcher) detail(call string, n seccompNotif) string {
	switch call {
	case "openat":
		s := w.path(n, 0, 1)
		if n.args[2]&unix.O_CREAT != 0 {
			s += " O_CREAT"
		}
		return s
	case "newfstatat", "statx", "readlinkat", "unlinkat", "faccessat", "faccessat2", "mkdirat", "fchmodat", "renameat":
		return w.path(n, 0, 1)
	case "access", "chdir", "execve":
		return w.path(n, -1, 0)
	case "clone":
		if n.args[0]&unix.CLONE_THREAD != 0 {
			return "thread"
		}
		return "process"
	case "fcntl":
		s := w.file(n, 0)
		if n.args[1] == unix.F_DUPFD_CLOEXEC || n.args[1] == unix.F_DUPFD {
			return s + " dup"
		}
		return s
	case "flock":
		return fmt.Sprintf("%s %d", w.file(n, 0), n.args[1])
	case "epoll_ctl":
		return w.file(n, 2)
	case "kill":
		return unix.SignalName(syscall.Signal(n.args[1]))
	case "prctl":
		if n.args[0] == unix.PR_SET_VMA {
			return "PR_SET_VMA"
		}
		return strconv.Itoa(int(n.args[0]))
	case "read", "write", "pread64", "pwrite64", "close", "fstat", "ftruncate", "fchmod", "getdents64", "ioctl", "bind", "listen",
		"accept4", "connect", "getsockopt", "setsockopt", "getsockname", "getpeername", "shutdown", "recvfrom", "inotify_add_watch",
		"dup2", "dup3":
		return w.file(n, 0)
	}
	return ""
}

// file says what a descriptor is.
func (w *injWatcher) file(n seccompNotif, arg int) string {
	target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", n.pid, int32(n.args[arg])))
	if err != nil {
		return "no descriptor"
	}
	return w.plain(target)
}

// path reads a path that is an argument, relative to the directory that is another
// one.
func (w *injWatcher) path(n seccompNotif, dir, arg int) string {
	buf := make([]byte, 4096)
	// No further than to the end of a page: behind it there may be nothing.
	size := min(len(buf), 4096-int(n.args[arg]%4096))
	var path []byte
	for addr := uintptr(n.args[arg]); len(path) < unix.PathMax; {
		got, err := unix.ProcessVMReadv(int(n.pid), []unix.Iovec{{Base: &buf[0], Len: uint64(size)}},
			[]unix.RemoteIovec{{Base: addr, Len: size}}, 0)
		if err != nil || got == 0 {
			return "?"
		}
		word, _, ended := bytes.Cut(buf[:got], []byte{0})
		path = append(path, word...)
		if ended {
			break
		}
		addr, size = addr+uintptr(got), 4096
	}
	s := string(path)
	if dir >= 0 && !strings.HasPrefix(s, "/") && int32(n.args[dir]) != unix.AT_FDCWD {
		s = strings.TrimSuffix(w.file(n, dir)+"/"+s, "/")
	}
	return w.plain(s)
}

var injNumbers = regexp.MustCompile(`/(proc|fd|fdinfo|task)/[0-9]+`)

// plain takes out of a path what is another one in each run.
func (w *injWatcher) plain(path string) string {
	if kind, _, ok := strings.Cut(path, ":["); ok && (kind == "pipe" || kind == "socket") {
		return kind
	}
	path = strings.TrimSuffix(path, " (deleted)")
	path = strings.ReplaceAll(path, w.dir, "DIR")
	return injNumbers.ReplaceAllStringFunc(path, func(s string) string {
		return s[:strings.LastIndexByte(s, '/')+1] + map[bool]string{true: "PID", false: "N"}[strings.HasPrefix(s, "/proc")]
	})
}
