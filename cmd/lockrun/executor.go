package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// process is what a process sets on itself before it becomes the command.
//
// The kernel has most of it for a whole process only (limits, umask, directory),
// and Go can't run code between fork and exec. So lockrun executes itself once
// more, as the executor, which makes itself what was asked for and then executes
// the command: the PID stays. syscall.ForkExec could do a part, but does not say
// which of its steps failed; and the command has to be looked for by its user, in
// its directory. Without any of this there is no executor.
//
// The order is that of systemd. What needs root comes first. The directory is
// entered by the user of the command, whose right to it counts: on NFS root may
// have none.
type process struct {
	Chroot []byte    `json:",omitempty"` // absolute
	Chdir  []byte    `json:",omitempty"` // seen from Chroot
	Umask  *int      `json:",omitempty"`
	Nice   *int      `json:",omitempty"`
	Limits []limit   `json:",omitempty"`
	User   *identity `json:",omitempty"`
}

type identity struct {
	UID, GID int
	Groups   []int
}

func (p *process) given() bool {
	return len(p.Chroot)+len(p.Chdir)+len(p.Limits) > 0 || p.Umask != nil || p.Nice != nil || p.User != nil
}

// order is what the executor is told, by the socket whose other end its parent
// has. The words of the command are its own arguments, so that nobody sees
// another command line in between; its environment comes with the order, lest
// it tells the Go runtime something.
type order struct {
	Process process
	Env     [][]byte
	Only    bool // look whether the command can be executed
}

// report is the executor's answer if it could not do what it was told. Before it
// executes the command it says aboutToExecute, so that its silence means that it
// was killed.
type report struct {
	Status int
	Text   string
}

const aboutToExecute = '!'

// executorVariable is all that the executor has in its environment,
//
//	LOCKRUN_EXECUTOR=7:8:12345
//
// the number of the socket, its device and inode. As detach's, the role is
// believed only with the socket itself.
const executorVariable = "LOCKRUN_EXECUTOR"

// executorSocket returns the socket, nil if this process is no executor. The error
// says that it can't be known: the arguments may be those of a command, and are not
// to be taken for ours.
func executorSocket() (*os.File, error) {
	value, ok := os.LookupEnv(executorVariable)
	if !ok {
		return nil, nil
	}
	os.Unsetenv(executorVariable)
	var fd int
	if n, _ := fmt.Sscanf(value, "%d:", &fd); n != 1 || fd < 3 {
		return nil, nil
	}
	mark, err := executorMark(fd)
	if err != nil && !errors.Is(err, unix.EBADF) && !errors.Is(err, unix.ENOTSOCK) {
		return nil, err
	}
	if err != nil || mark != executorVariable+"="+value {
		return nil, nil
	}
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "executor's socket"), nil
}

func executorMark(fd int) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return "", unix.ENOTSOCK
	}
	return fmt.Sprintf("%s=%d:%d:%d", executorVariable, fd, uint64(st.Dev), uint64(st.Ino)), nil
}

// startByExecutor starts the command as c.process wants it, or only looks whether
// that can be done.
func (c *command) startByExecutor(argv []string, sys *syscall.SysProcAttr, only bool) (pid int, err error) {
	fail := func(err error) (int, error) {
		return 0, &execError{status: exitSystem, text: fmt.Sprintf("can't start %s: %v", argv[0], err)}
	}
	pair, err := socketPair()
	if err != nil {
		return fail(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "executor"), pair[1]
	defer ours.Close()
	pid, err = forkExecutor(argv, theirs, c.files(), sys)
	unix.Close(theirs)
	if err != nil {
		return fail(err)
	}
	o := order{Process: c.process, Only: only}
	for _, s := range c.env {
		o.Env = append(o.Env, []byte(s))
	}
	if err = json.NewEncoder(ours).Encode(&o); err != nil {
		ours.Close() // else it would wait to be told, and we for its answer
	}
	answer, _ := io.ReadAll(ours)
	text, executed := strings.CutPrefix(string(answer), string(aboutToExecute))
	if executed && text == "" {
		return pid, nil
	}
	ws := wait4(pid)
	var r report
	switch json.Unmarshal([]byte(text), &r) {
	case nil:
		if r.Status == 0 {
			return 0, nil // it was only to look
		}
		return 0, &execError{status: r.Status, text: r.Text}
	}
	if ws.Signaled() {
		return 0, &execError{status: exitSignalled + int(ws.Signal()), text: fmt.Sprintf("can't start %s: killed by %s before", argv[0], unix.SignalName(ws.Signal()))}
	}
	if err != nil {
		return fail(err)
	}
	return fail(fmt.Errorf("its process ended with status %d before", ws.ExitStatus()))
}

func socketPair() (pair [2]int, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if pair, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0); err != nil {
		return pair, os.NewSyscallError("socketpair", err)
	}
	unix.CloseOnExec(pair[0])
	unix.CloseOnExec(pair[1])
	// Out of the way of the descriptor of --ready fd:N.
	if high, err := unix.FcntlInt(uintptr(pair[1]), unix.F_DUPFD_CLOEXEC, 64); err == nil {
		unix.Close(pair[1])
		pair[1] = high
	}
	return pair, nil
}

func forkExecutor(argv []string, socket int, files []uintptr, sys *syscall.SysProcAttr) (int, error) {
	mark, err := executorMark(socket)
	if err != nil {
		return 0, err
	}
	// Not by the path, where a new version may be, or nothing.
	exe := "/proc/self/exe"
	if runtime.GOOS != "linux" {
		if exe, err = os.Executable(); err != nil {
			return 0, err
		}
	}
	if _, err := unix.FcntlInt(uintptr(socket), unix.F_SETFD, 0); err != nil {
		return 0, os.NewSyscallError("fcntl", err)
	}
	pid, err := syscall.ForkExec(exe, argv, &syscall.ProcAttr{
		Env:   []string{mark},
		Files: files,
		Sys:   sys,
	})
	if err != nil {
		return 0, &os.PathError{Op: "exec", Path: exe, Err: err}
	}
	return pid, nil
}

// execute is the executor's main function.
func execute(socket *os.File) int {
	// Of a thread is on Linux what setpriority(2) sets. And a limit on memory or
	// processes must not meet the garbage collector.
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	var o order
	if err := json.NewDecoder(socket).Decode(&o); err != nil {
		return exitSystem // nobody is there to hear it
	}
	err := o.carryOut(os.Args, socket)
	var r report
	if err != nil {
		r = report{exitSystem, err.Error()}
		var e *execError
		if errors.As(err, &e) {
			r.Status = e.status
		}
	}
	json.NewEncoder(socket).Encode(&r)
	return r.Status
}

// carryOut returns nil only if it was only to look.
func (o *order) carryOut(argv []string, socket io.Writer) error {
	env := make([]string, len(o.Env))
	for i, s := range o.Env {
		env[i] = string(s)
	}
	if err := o.Process.become(); err != nil {
		return err
	}
	if o.Only {
		path, err := lookPath(argv[0], env)
		if err == nil {
			if err = unix.Access(path, unix.X_OK); err != nil {
				err = execFailure(argv[0], path, err)
			}
		}
		return err
	}
	socket.Write([]byte{aboutToExecute})
	return executeInPlace(argv, env)
}

// become makes this process what p says.
func (p *process) become() error {
	if p.Nice != nil {
		if err := unix.Setpriority(unix.PRIO_PROCESS, 0, *p.Nice); err != nil {
			return attributeFailure(err, "set the nice value %d", *p.Nice)
		}
	}
	for _, l := range p.Limits {
		if err := l.set(); err != nil {
			return attributeFailure(err, "set the limit %v", l)
		}
	}
	if len(p.Chroot) > 0 {
		if err := unix.Chroot(string(p.Chroot)); err != nil {
			return attributeFailure(err, "make %s the root directory", p.Chroot)
		}
		if err := unix.Chdir("/"); err != nil {
			return attributeFailure(err, "enter the root directory %s", p.Chroot)
		}
	}
	if id := p.User; id != nil {
		err := syscall.Setgroups(id.Groups)
		if err == nil {
			err = syscall.Setgid(id.GID)
		}
		if err == nil {
			err = syscall.Setuid(id.UID)
		}
		if err != nil {
			return attributeFailure(err, "become user %d, group %d", id.UID, id.GID)
		}
	}
	if len(p.Chdir) > 0 {
		if err := unix.Chdir(string(p.Chdir)); err != nil {
			return attributeFailure(err, "enter the directory %s", p.Chdir)
		}
	}
	if p.Umask != nil {
		unix.Umask(*p.Umask)
	}
	return nil
}

func attributeFailure(err error, format string, args ...any) *execError {
	status := exitSystem
	if errors.Is(err, fs.ErrPermission) {
		status = exitPermission
	}
	return &execError{status: status, text: fmt.Sprintf("can't "+format+": %v", append(args, err)...)}
}
