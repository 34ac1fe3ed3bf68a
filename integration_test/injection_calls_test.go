//go:build linux && amd64

package integration_test

import (
	"strings"

	"golang.org/x/sys/unix"
)

// injCallNames are the system calls that a rule is here for. One that is seen and
// not named fails the test: none is passed over in silence.
var injCallNames = map[int32]string{
	unix.SYS_ACCEPT4: "accept4", unix.SYS_ACCESS: "access", unix.SYS_ARCH_PRCTL: "arch_prctl", unix.SYS_BIND: "bind",
	unix.SYS_BRK: "brk", unix.SYS_CHDIR: "chdir", unix.SYS_CLOCK_GETTIME: "clock_gettime",
	unix.SYS_CLOCK_NANOSLEEP: "clock_nanosleep", unix.SYS_CLONE: "clone", unix.SYS_CLOSE: "close",
	unix.SYS_CLOSE_RANGE: "close_range", unix.SYS_CONNECT: "connect", unix.SYS_DUP2: "dup2", unix.SYS_DUP3: "dup3",
	unix.SYS_EPOLL_CREATE1: "epoll_create1", unix.SYS_EPOLL_CTL: "epoll_ctl", unix.SYS_EPOLL_PWAIT: "epoll_pwait",
	unix.SYS_EVENTFD2: "eventfd2", unix.SYS_EXECVE: "execve", unix.SYS_EXIT: "exit", unix.SYS_EXIT_GROUP: "exit_group",
	unix.SYS_FACCESSAT: "faccessat", unix.SYS_FACCESSAT2: "faccessat2", unix.SYS_FCHMOD: "fchmod", unix.SYS_FCHMODAT: "fchmodat",
	unix.SYS_FCNTL: "fcntl", unix.SYS_FLOCK: "flock", unix.SYS_FSTAT: "fstat", unix.SYS_FTRUNCATE: "ftruncate",
	unix.SYS_FUTEX: "futex", unix.SYS_GETDENTS64: "getdents64", unix.SYS_GETCWD: "getcwd", unix.SYS_GETEGID: "getegid", unix.SYS_GETEUID: "geteuid",
	unix.SYS_GETGID: "getgid", unix.SYS_GETPEERNAME: "getpeername", unix.SYS_GETPGID: "getpgid", unix.SYS_GETPID: "getpid",
	unix.SYS_GETPPID: "getppid", unix.SYS_GETRANDOM: "getrandom", unix.SYS_GETRLIMIT: "getrlimit", unix.SYS_GETSOCKNAME: "getsockname",
	unix.SYS_GETSOCKOPT: "getsockopt", unix.SYS_GETTID: "gettid", unix.SYS_GETUID: "getuid",
	unix.SYS_INOTIFY_ADD_WATCH: "inotify_add_watch", unix.SYS_INOTIFY_INIT1: "inotify_init1", unix.SYS_IOCTL: "ioctl",
	unix.SYS_KILL: "kill", unix.SYS_LISTEN: "listen", unix.SYS_LSEEK: "lseek", unix.SYS_MADVISE: "madvise", unix.SYS_MKDIRAT: "mkdirat",
	unix.SYS_MMAP: "mmap", unix.SYS_MUNMAP: "munmap", unix.SYS_NANOSLEEP: "nanosleep", unix.SYS_NEWFSTATAT: "newfstatat",
	unix.SYS_OPENAT: "openat", unix.SYS_PIDFD_OPEN: "pidfd_open", unix.SYS_PIDFD_SEND_SIGNAL: "pidfd_send_signal",
	unix.SYS_PIPE2: "pipe2", unix.SYS_PPOLL: "ppoll", unix.SYS_POLL: "poll", unix.SYS_PRCTL: "prctl", unix.SYS_PREAD64: "pread64",
	unix.SYS_PRLIMIT64: "prlimit64", unix.SYS_PWRITE64: "pwrite64", unix.SYS_READ: "read", unix.SYS_READLINKAT: "readlinkat",
	unix.SYS_RECVFROM: "recvfrom", unix.SYS_RENAMEAT: "renameat",
	unix.SYS_RT_SIGACTION: "rt_sigaction", unix.SYS_RT_SIGPROCMASK: "rt_sigprocmask", unix.SYS_RT_SIGRETURN: "rt_sigreturn",
	unix.SYS_SCHED_GETAFFINITY: "sched_getaffinity", unix.SYS_SCHED_YIELD: "sched_yield", unix.SYS_SETPGID: "setpgid",
	unix.SYS_SETSID: "setsid", unix.SYS_SETSOCKOPT: "setsockopt", unix.SYS_SHUTDOWN: "shutdown", unix.SYS_SIGALTSTACK: "sigaltstack",
	unix.SYS_SOCKET: "socket", unix.SYS_SOCKETPAIR: "socketpair", unix.SYS_STATX: "statx", unix.SYS_TGKILL: "tgkill",
	unix.SYS_UMASK: "umask", unix.SYS_UNAME: "uname", unix.SYS_UNLINKAT: "unlinkat", unix.SYS_WAIT4: "wait4", unix.SYS_WAITID: "waitid", unix.SYS_WRITE: "write",
}

// injRuntime are the calls that the Go runtime makes at will: one KILL for each in
// each program, and no errno, of which it dies with a message of its own
// (mmap, clone for a thread, epoll_pwait) or which it does not look at (futex).
var injRuntime = injSet("arch_prctl brk clock_gettime clock_nanosleep epoll_create1 epoll_pwait eventfd2 exit futex getpid " +
	"getrandom getrlimit gettid madvise mmap munmap nanosleep prlimit64 rt_sigaction rt_sigprocmask rt_sigreturn " +
	"sched_getaffinity sched_yield sigaltstack tgkill uname")

// injNeverFails are those whose manual page has no errno that a correct program can
// get.
var injNeverFails = injSet("exit_group getegid geteuid getgid getpgid getppid getuid lseek umask setsid")

func injSet(words string) map[string]bool {
	set := make(map[string]bool)
	for _, word := range strings.Fields(words) {
		set[word] = true
	}
	return set
}

// injErrnos are the errnos that a call can have, by section ERRORS of its manual
// page, of those that are asked about: EINTR, EIO, ENOSPC, EMFILE, ENOMEM, EACCES,
// EDQUOT, ENOLCK. Where the page has none of these it is another one that can
// happen to a correct program. EINTR stands only where a signal handler without
// SA_RESTART, or the stop of the process, can bring it about.
//
// An open(2) that creates nothing, and a write to a pipe or a socket, have less; see
// injErrnosOf.
var injErrnos = map[string][]unix.Errno{
	"accept4":           {unix.EINTR, unix.EMFILE, unix.ENOMEM},
	"access":            {unix.EACCES, unix.EIO, unix.ENOMEM},
	"bind":              {unix.EACCES, unix.ENOMEM},
	"chdir":             {unix.EACCES, unix.EIO, unix.ENOMEM},
	"clone":             {unix.EAGAIN, unix.ENOMEM},
	"close":             {unix.EINTR, unix.EIO, unix.ENOSPC, unix.EDQUOT},
	"close_range":       {unix.EMFILE, unix.ENOMEM},
	"connect":           {unix.EACCES, unix.ECONNREFUSED}, // no EINTR: it does not wait on a socket of Go's
	"dup2":              {unix.EINTR, unix.EMFILE},
	"dup3":              {unix.EINTR, unix.EMFILE},
	"epoll_ctl":         {unix.ENOMEM, unix.ENOSPC},
	"execve":            {unix.EACCES, unix.EIO, unix.ENOMEM, unix.EMFILE},
	"faccessat":         {unix.EACCES, unix.EIO, unix.ENOMEM},
	"faccessat2":        {unix.EACCES, unix.EIO, unix.ENOMEM},
	"fchmod":            {unix.EACCES, unix.EIO, unix.ENOMEM},
	"fchmodat":          {unix.EACCES, unix.EIO, unix.ENOMEM},
	"flock":             {unix.EINTR, unix.ENOLCK},
	"fstat":             {unix.EIO, unix.ENOMEM},
	"ftruncate":         {unix.EINTR, unix.EIO},
	"getdents64":        {unix.EIO, unix.ENOMEM},
	"getcwd":            {unix.EACCES, unix.ENOMEM},
	"getpeername":       {unix.ENOBUFS},
	"getsockname":       {unix.ENOBUFS},
	"getsockopt":        {unix.ENOMEM},
	"inotify_add_watch": {unix.EACCES, unix.ENOMEM, unix.ENOSPC},
	"inotify_init1":     {unix.EMFILE, unix.ENOMEM},
	"kill":              {unix.EPERM},
	"listen":            {unix.EADDRINUSE},
	"mkdirat":           {unix.EACCES, unix.EDQUOT, unix.EIO, unix.ENOMEM, unix.ENOSPC},
	"newfstatat":        {unix.EACCES, unix.EIO, unix.ENOMEM},
	"openat":            {unix.EINTR, unix.EIO, unix.EMFILE, unix.ENOMEM, unix.EACCES},
	"pidfd_open":        {unix.EMFILE, unix.ENOMEM},
	"pidfd_send_signal": {unix.EPERM},
	"pipe2":             {unix.EMFILE, unix.ENFILE},
	"poll":              {unix.EINTR, unix.ENOMEM},
	"ppoll":             {unix.EINTR, unix.ENOMEM},
	"prctl":             {unix.EPERM},
	"pread64":           {unix.EINTR, unix.EIO},
	"pwrite64":          {unix.EINTR, unix.EIO, unix.ENOSPC, unix.EDQUOT},
	"read":              {unix.EINTR, unix.EIO},
	"readlinkat":        {unix.EACCES, unix.EIO, unix.ENOMEM},
	"recvfrom":          {unix.EINTR, unix.ENOMEM},
	"renameat":          {unix.EACCES, unix.EDQUOT, unix.EIO, unix.ENOMEM, unix.ENOSPC},
	"setpgid":           {unix.EACCES},
	"setsockopt":        {unix.ENOMEM},
	"shutdown":          {unix.ENOTCONN},
	"socket":            {unix.EACCES, unix.EMFILE, unix.ENOMEM},
	"socketpair":        {unix.EMFILE, unix.ENOMEM},
	"statx":             {unix.EACCES, unix.EIO, unix.ENOMEM},
	"unlinkat":          {unix.EACCES, unix.EIO, unix.ENOMEM},
	"wait4":             {unix.EINTR},
	"waitid":            {unix.EINTR},
	"write":             {unix.EINTR, unix.EIO, unix.ENOSPC, unix.EDQUOT},
}

// injErrnosOf returns what can go wrong with a call; ok is false if no rule says.
func injErrnosOf(p injPoint) (errnos []unix.Errno, ok bool) {
	isFile := !strings.HasPrefix(p.Detail, "pipe") && !strings.HasPrefix(p.Detail, "socket") && !strings.HasPrefix(p.Detail, "anon_inode")
	switch {
	case p.runtime() || injNeverFails[p.Call]:
		return nil, true
	case p.Call == "fcntl" && strings.HasSuffix(p.Detail, " dup"):
		return []unix.Errno{unix.EMFILE}, true
	case p.Call == "fcntl", p.Call == "ioctl":
		return nil, true // on an open descriptor: of a flag, or of a thing that is no terminal
	case p.Call == "openat" && strings.HasSuffix(p.Detail, " O_CREAT"):
		return append([]unix.Errno{unix.ENOSPC, unix.EDQUOT}, injErrnos["openat"]...), true
	case !isFile && (p.Call == "write" || p.Call == "read" || p.Call == "close"):
		return []unix.Errno{unix.EINTR}, true // EPIPE comes with the end of the other side: that is its SIGKILL
	}
	errnos, ok = injErrnos[p.Call]
	return errnos, ok
}
