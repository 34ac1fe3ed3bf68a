package main

import (
	"context"
	"math"
	"os"
	"strconv"
	"time"

	"github.com/lockrun/lockrun/internal/blocking"
	"golang.org/x/sys/unix"
)

// This is flock(1) of util-linux: its options, messages and exit statuses, and
// what it does to files, descriptors and processes. docs/compatibility.md lists
// what is different.
//
// Not the lock package: flock(1) does not look at the path again once it has
// the lock, it locks descriptors of others, it lets the command's children keep
// the lock, and whoever called it counts on that.

// Exit statuses of flock(1), as sysexits(3) has them.
const (
	exConflict    = 1 // -E changes it
	exWriteError  = 1
	exUsage       = 64
	exDataErr     = 65 // the lock is refused for another reason than a conflict
	exNoInput     = 66 // the file can't be opened
	exUnavailable = 69 // the command can't be executed
	exOSErr       = 71
	exCantCreat   = 73
)

const flockShort = "sexnoFuw:E:hV?"

const (
	flockVerbose = onlyLong + iota
	flockFcntl
	flockStart
	flockLength
	flockFD
)

// flockLong has the order of the original, which its messages show.
var flockLong = []longOption{
	{"shared", noArgument, 's'},
	{"exclusive", noArgument, 'x'},
	{"unlock", noArgument, 'u'},
	{"nonblocking", noArgument, 'n'},
	{"nb", noArgument, 'n'},
	{"timeout", requiredArgument, 'w'},
	{"wait", requiredArgument, 'w'},
	{"conflict-exit-code", requiredArgument, 'E'},
	{"close", noArgument, 'o'},
	{"no-fork", noArgument, 'F'},
	{"verbose", noArgument, flockVerbose},
	{"fcntl", noArgument, flockFcntl},
	{"start", requiredArgument, flockStart},
	{"length", requiredArgument, flockLength},
	{"fd", requiredArgument, flockFD},
	{"help", noArgument, 'h'},
	{"version", noArgument, 'V'},
}

// flock is one run of flock(1).
type flock struct {
	program string // as it was called
	name    string // its last element, which most messages begin with

	operation      int // LOCK_EX, LOCK_SH or LOCK_UN
	nonblock       bool
	timeout        float64 // seconds
	hasTimeout     bool
	conflictStatus int
	closeLock      bool // -o
	noFork         bool
	verbose        bool
	fcntl          bool
	start, length  int64
	descriptor     string // --fd
	hasDescriptor  bool

	hasFile bool // else a descriptor was given
	file    string
	fd      int // what is locked
	access  int // how file was opened
	command []string

	output string // what is not written to standard output yet
}

// flockTool is "lockrun flock", and flock by a symbolic link.
func flockTool(program string, args []string) int {
	f := &flock{program: program, name: lastElement(program), operation: unix.LOCK_EX, conflictStatus: exConflict, fd: -1}
	status := f.run(args)
	if err := f.flush(); err != nil {
		f.warn("write error: " + strerror(err))
		return exWriteError
	}
	return status
}

func (f *flock) run(args []string) int {
	if status, done := f.parse(args); done {
		return status
	}
	if f.hasFile {
		if err := f.open(); err != nil {
			return f.openFailure(err)
		}
	}
	if status, done := f.lock(); done {
		return status
	}
	if f.command == nil {
		return 0
	}
	return f.execute()
}

// parse reads the command line. done says that there is nothing more to do, with
// that exit status.
func (f *flock) parse(args []string) (status int, done bool) {
	if len(args) == 0 {
		return f.seeHelp("not enough arguments"), true
	}
	g := newGetopt(f.program, args, flockShort, flockLong)
	// -c is an operand, behind FILE. --fd stands in its place.
	for !f.hasDescriptor || !isShellOption(g.word()) {
		opt, arg, ok, err := g.next()
		if err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			return f.seeHelp(""), true
		}
		if !ok {
			break
		}
		if status, done := f.option(opt, arg); done {
			return status, true
		}
	}
	if f.noFork && f.closeLock {
		return f.fail(exUsage, "the --no-fork and --close options are incompatible"), true
	}
	return f.operands(g.operands())
}

// option takes one option.
func (f *flock) option(opt rune, arg string) (status int, done bool) {
	var err error
	switch opt {
	case 's':
		f.operation = unix.LOCK_SH
	case 'e', 'x':
		f.operation = unix.LOCK_EX
	case 'u':
		f.operation = unix.LOCK_UN
	case 'n':
		f.nonblock = true
	case 'o':
		f.closeLock = true
	case 'F':
		f.noFork = true
	case 'w':
		f.timeout, err = parseSeconds(arg)
		f.hasTimeout = true
		return f.badValue("invalid timeout", arg, err)
	case 'E':
		f.conflictStatus, err = parseInt32(arg)
		if err == nil && (f.conflictStatus < 0 || f.conflictStatus > 255) {
			return f.fail(exUsage, "exit code out of range (expected 0 to 255)"), true
		}
		return f.badValue("invalid exit code", arg, err)
	case flockVerbose:
		f.verbose = true
	case flockFcntl:
		f.fcntl = true
	case flockStart:
		f.start, err = parseSize(arg)
		f.fcntl = true
		return f.badValue("invalid as start offset", arg, err)
	case flockLength:
		f.length, err = parseSize(arg)
		f.fcntl = true
		return f.badValue("invalid as length of lock range", arg, err)
	case flockFD:
		f.descriptor, f.hasDescriptor = arg, true
	case 'h':
		f.say(flockHelp(f.name))
		return 0, true
	case 'V':
		f.say(f.name + " from lockrun " + versionString() + ", as in util-linux 2.43\n")
		return 0, true
	default: // -?
		return f.seeHelp(""), true
	}
	return 0, false
}

// badValue complains about an option's argument if there is an error. Only for
// some errors the original gives the reason.
func (f *flock) badValue(what, arg string, err error) (status int, done bool) {
	if err == nil {
		return 0, false
	}
	message := what + ": '" + arg + "'"
	if err != errNoNumber {
		message += ": " + strerror(err)
	}
	return f.fail(exUsage, message), true
}

// operands takes FILE COMMAND..., a descriptor or, behind --fd, COMMAND...
func (f *flock) operands(words []string) (status int, done bool) {
	switch {
	case f.hasDescriptor && len(words) == 0:
		return f.fail(exUsage, "missing command"), true
	case f.hasDescriptor:
		words = append([]string{f.descriptor}, words...)
	case len(words) == 0:
		return f.fail(exUsage, "missing file descriptor, file or directory"), true
	}
	if len(words) == 1 || f.hasDescriptor {
		fd, err := parseInt32(words[0])
		if status, done := f.badValue("bad file descriptor", words[0], err); done {
			return status, true
		}
		f.fd = fd
	} else {
		f.file, f.hasFile = words[0], true
	}
	if len(words) == 1 {
		return 0, false
	}
	f.command = words[1:]
	if isShellOption(f.command[0]) {
		if len(f.command) != 2 {
			return f.fail(exUsage, f.command[0]+" requires exactly one command argument"), true
		}
		shell := os.Getenv("SHELL")
		if shell == "" {
			shell = "/bin/sh"
		}
		f.command = []string{shell, "-c", f.command[1]}
	}
	return 0, false
}

// isShellOption reports whether a word says that the next is for a shell. It is
// not abbreviated.
func isShellOption(word string) bool { return word == "-c" || word == "--command" }

// open opens the file for locking, and creates it if it is missing. It is never
// written.
func (f *flock) open() error {
	if f.fcntl && f.operation == unix.LOCK_EX {
		f.access = unix.O_WRONLY // F_WRLCK wants a descriptor to write
	}
	return f.openAs(f.access)
}

func (f *flock) openAs(access int) error {
	flags := access | unix.O_NOCTTY | unix.O_CLOEXEC
	var st unix.Stat_t
	fifo := unix.Stat(f.file, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO
	if fifo {
		flags |= unix.O_NONBLOCK // not to wait for the other end
	}
	fd, err := openRetrying(f.file, flags|unix.O_CREAT)
	if err == unix.EISDIR {
		// So says Linux of O_CREAT, and everybody of write access.
		access = unix.O_RDONLY
		fd, err = openRetrying(f.file, access|unix.O_NOCTTY|unix.O_CLOEXEC)
	}
	if err != nil {
		return err
	}
	if fifo {
		unix.SetNonblock(fd, false)
	}
	f.fd, f.access = fd, access
	return nil
}

func openRetrying(path string, flags int) (fd int, err error) {
	for {
		fd, err = unix.Open(path, flags, 0o666)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func (f *flock) openFailure(err error) int {
	status := exNoInput
	switch err {
	case unix.ENOMEM, unix.EMFILE, unix.ENFILE:
		status = exOSErr
	case unix.EROFS, unix.ENOSPC:
		status = exCantCreat
	}
	return f.fail(status, "cannot open lock file "+f.file+": "+strerror(err))
}

// lock takes the lock, or gives it up with LOCK_UN. done says that there is
// nothing more to do, with that exit status.
func (f *flock) lock() (status int, done bool) {
	if f.hasTimeout {
		// A timer can't be set to a time before now, or beyond all time.
		seconds, micros, ok := timeval(f.timeout)
		switch {
		case !ok:
			return f.fail(exOSErr, "cannot set up timer: "+strerror(unix.EINVAL)), true
		case seconds == 0 && micros == 0:
			f.nonblock = true
		}
	}
	var begin time.Time
	if f.verbose {
		begin = time.Now()
	}
	for {
		got, err := f.take()
		if err == nil && got {
			break
		}
		switch err {
		case nil: // the time is over
			return f.conflict("timeout while waiting to get lock"), true
		case unix.EWOULDBLOCK, unix.EACCES:
			return f.conflict("failed to get lock"), true
		case unix.EIO, unix.EBADF:
			// A lock on NFS is one of fcntl(2), and needs write access.
			if f.operation != unix.LOCK_SH && f.hasFile && f.access != unix.O_RDWR {
				var failure int
				if failure, err = f.reopen(); failure != 0 {
					return failure, true
				}
				if err == nil {
					continue
				}
			}
		}
		what := f.file
		if !f.hasFile {
			what = strconv.Itoa(f.fd)
		}
		status := exDataErr
		if err == unix.ENOLCK || err == unix.ENOMEM {
			status = exOSErr
		}
		return f.fail(status, what+": "+strerror(err)), true
	}
	if f.verbose {
		took := time.Since(begin).Microseconds()
		micros := strconv.FormatInt(took%1e6+1e6, 10)[1:]
		f.say(f.name + ": getting lock took " + strconv.FormatInt(took/1e6, 10) + "." + micros + " seconds\n")
	}
	return 0, false
}

func (f *flock) conflict(message string) int {
	if f.verbose {
		f.warn(message)
	}
	return f.conflictStatus
}

// reopen opens the file to read and write. It returns why that was not to be had
// or, if there is no file open any more, the exit status.
func (f *flock) reopen() (failure int, err error) {
	if err := unix.Access(f.file, unix.R_OK|unix.W_OK); err != nil {
		return 0, err
	}
	unix.Close(f.fd)
	if err := f.openAs(unix.O_RDWR); err != nil {
		return f.openFailure(err), err
	}
	if f.access != unix.O_RDWR {
		return 0, unix.EISDIR
	}
	return 0, nil
}

// take asks once, and waits in the kernel's queue if it may. It reports false
// without an error when the time is over.
func (f *flock) take() (bool, error) {
	if !f.hasFile && !inherited(f.fd) {
		return false, unix.EBADF
	}
	// Most often there is nothing to wait for, nor to prepare for a wait.
	err := f.ask(false)
	if f.nonblock || err != unix.EWOULDBLOCK && err != unix.EACCES {
		return err == nil, err
	}
	defaultSignals(f.timed())
	if !f.hasTimeout {
		err := blocking.IgnoringEINTR(func() error { return f.ask(true) })
		return err == nil, err
	}
	limit := time.Duration(math.MaxInt64) // some 292 years
	if nanos := f.timeout * float64(time.Second); nanos < math.MaxInt64 {
		limit = time.Duration(nanos)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return blocking.Call(ctx, func() error { return f.ask(true) }, func() (bool, error) {
		err := f.ask(false)
		if err == unix.EWOULDBLOCK || err == unix.EACCES {
			return false, nil
		}
		return err == nil, err
	})
}

// timed reports whether a wait has a limit. The original's timer is one that
// sends SIGALRM, which does nothing when somebody else sends it.
func (f *flock) timed() bool { return f.hasTimeout && !f.nonblock }

// ask makes the system call.
func (f *flock) ask(wait bool) error {
	if f.fcntl {
		return descriptionLock(f.fd, f.operation, wait, f.start, f.length)
	}
	operation := f.operation
	if !wait {
		return blocking.IgnoringEINTR(func() error { return unix.Flock(f.fd, operation|unix.LOCK_NB) })
	}
	return unix.Flock(f.fd, operation)
}

// inherited reports whether a descriptor is one that our caller gave us: those
// that the Go runtime opened for itself are close-on-exec.
func inherited(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil && flags&unix.FD_CLOEXEC == 0
}

// say writes to standard output as a C program does: at once to a terminal, else
// when it ends. So what --verbose says stands behind the command's output in a
// pipe, and with -F nowhere.
func (f *flock) say(text string) {
	f.output += text
	if _, err := unix.IoctlGetTermios(1, ioctlGetTermios); err == nil {
		f.flush()
	}
}

// flush writes what is left. A reader that has gone is none of our business.
func (f *flock) flush() error {
	for f.output != "" {
		n, err := unix.Write(1, []byte(f.output))
		switch err {
		case nil:
			f.output = f.output[n:]
		case unix.EINTR:
		case unix.EPIPE, unix.EBADF:
			return nil
		default:
			return err
		}
	}
	return nil
}

func (f *flock) warn(message string) {
	os.Stderr.WriteString(f.name + ": " + message + "\n")
}

func (f *flock) fail(status int, message string) int {
	f.warn(message)
	return status
}

// seeHelp is the end of a wrong command line.
func (f *flock) seeHelp(message string) int {
	if message != "" {
		f.warn(message)
	}
	os.Stderr.WriteString("Try '" + f.name + " --help' for more information.\n")
	return exUsage
}

func flockHelp(name string) string {
	return `
Usage:
 ` + name + ` [options] <file>|<directory> <command> [<argument>...]
 ` + name + ` [options] <file>|<directory> -c <command>
 ` + name + ` [options] <file descriptor number>
 ` + name + ` [options] --fd <file descriptor number> <command> [<argument>...]
 ` + name + ` [options] --fd <file descriptor number> -c <command>

Run a command, or go on with a script, while holding a lock on a file.

Options:
 -s, --shared              share the lock with others who use -s
 -x, -e, --exclusive       share it with nobody; the default
 -u, --unlock              give the lock up
 -n, --nb, --nonblocking   do not wait for the lock
 -w, --wait, --timeout <seconds>
                           wait at most that long
 -E, --conflict-exit-code <number>
                           exit with it if the lock is not to be had (1)
 -o, --close               do not hand the lock on to the command
 -F, --no-fork             become the command instead of starting it
 -c, --command <command>   run it by $SHELL, or by /bin/sh
     --fd <number>         lock this descriptor while the command runs
     --fcntl               lock with fcntl(F_OFD_SETLK) instead of flock(2)
     --start <offset>      lock from this byte on, with --fcntl
     --length <number>     lock so many bytes, with --fcntl
     --verbose             say how long it took, or why it failed

 -h, --help                show this
 -V, --version             show the version

This is lockrun, which does what flock(1) of util-linux does.
`
}
