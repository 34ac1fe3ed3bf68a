package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
)

// programs are the Go programs that are built to be measured.
type programs struct {
	bareGo    string // does nothing
	lockAndGo string // does the least to run a command under a lock
	sameCalls string // makes the system calls that lockrun makes
	sameExec  string // does the least to become a command under a lock
	gofrs     string // runs a command under a lock of gofrs/flock
}

// bareGoSource is the floor for every Go program.
const bareGoSource = `package main

func main() {}
`

// lockAndGoSource is the floor for a flock(1) in Go: what it costs to open, lock,
// start a command and wait for it.
const lockAndGoSource = `package main

import (
	"os"
	"syscall"
)

func main() {
	fd, err := syscall.Open(os.Args[1], syscall.O_RDONLY|syscall.O_CREAT, 0o600)
	if err == nil {
		err = syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err != nil {
		os.Exit(75)
	}
	pid, err := syscall.ForkExec(os.Args[2], os.Args[2:], &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		os.Exit(126)
	}
	var ws syscall.WaitStatus
	syscall.Wait4(pid, &ws, 0, nil)
	os.Exit(ws.ExitStatus())
}
`

// sameCallsSource is the floor for a lockrun in Go: it looks at the file before
// and after it locks it, records PIDs, catches signals, hands the lock on, and,
// when it is refused, reads what /proc tells of the recorded holder. It checks
// nothing, and knows no options.
const sameCallsSource = `package main

import (
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

const (
	safely  = syscall.O_NOFOLLOW | syscall.O_NONBLOCK | syscall.O_NOCTTY | syscall.O_CLOEXEC
	command = 64 // the command's descriptor of the lock
)

func main() {
	path := os.Args[1]
	os.Lstat(path)
	f, err := os.OpenFile(path, os.O_RDONLY|safely, 0)
	if err != nil {
		os.Exit(73)
	}
	fd := int(f.Fd())
	if syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		f.Close()
		refuse(path)
	}
	f.Stat()
	os.Lstat(path)
	w, err := os.OpenFile(path, os.O_RDWR|safely, 0)
	if err != nil {
		os.Exit(73)
	}
	w.Stat()
	var before [4097]byte
	w.ReadAt(before[:], 0)
	syscall.Open("/dev/tty", syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_CLOEXEC, 0)
	w.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	syscall.Dup3(fd, command, 0)
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM)
	pid, err := syscall.ForkExec(os.Args[2], os.Args[2:], &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{0, 1, 2},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		os.Exit(126)
	}
	w.WriteAt([]byte(strconv.Itoa(pid)+"\n"), 0)
	go signal.Notify(signals, syscall.SIGCONT, syscall.SIGWINCH, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU)
	ended := make(chan syscall.WaitStatus)
	go func() {
		var ws syscall.WaitStatus
		syscall.Wait4(pid, &ws, 0, nil)
		ended <- ws
	}()
	for {
		select {
		case s := <-signals:
			syscall.Kill(pid, s.(syscall.Signal))
		case ws := <-ended:
			os.Lstat(path)
			w.Truncate(0)
			syscall.Flock(fd, syscall.LOCK_UN)
			os.Exit(ws.ExitStatus())
		}
	}
}

func refuse(path string) {
	os.Lstat(path)
	f, err := os.OpenFile(path, os.O_RDONLY|safely, 0)
	if err != nil {
		os.Exit(73)
	}
	f.Stat()
	var pid [32]byte
	n, _ := f.ReadAt(pid[:], 0)
	proc := "/proc/" + string(pid[:max(n-1, 0)])
	os.Stat(proc + "/fd/64")
	read(proc + "/fdinfo/64")
	read(proc + "/stat")
	read(proc + "/status")
	os.Stderr.WriteString(path + ": held by " + proc + " (" + read(proc+"/cmdline") + ")\n")
	os.Exit(75)
}

func read(path string) string {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	buf := make([]byte, 2048)
	n, _ := syscall.Read(fd, buf)
	syscall.Read(fd, buf[n:])
	syscall.Close(fd)
	return string(buf[:n])
}
`

// sameExecSource is the floor for a flock -F in Go.
const sameExecSource = `package main

import (
	"os"
	"syscall"
)

func main() {
	fd, err := syscall.Open(os.Args[2], syscall.O_RDONLY|syscall.O_CREAT, 0o600)
	if err == nil {
		err = syscall.Flock(fd, syscall.LOCK_EX)
	}
	if err == nil {
		syscall.Exec(os.Args[3], os.Args[3:], os.Environ())
	}
	os.Exit(126)
}
`

// gofrsSource is how a Go program does it that has gofrs/flock.
const gofrsSource = `package main

import (
	"os"
	"os/exec"

	"github.com/gofrs/flock"
)

func main() {
	lock := flock.New(os.Args[1])
	if got, err := lock.TryLock(); err != nil || !got {
		os.Exit(75)
	}
	cmd := exec.Command(os.Args[2], os.Args[3:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if cmd.Run() != nil {
		os.Exit(1)
	}
	lock.Unlock()
}
`

func (b *bench) build() (err error) {
	if b.lockrun == "" {
		b.lockrun = b.file("lockrun")
		if err := goBuild(b.lockrun, "github.com/lockrun/lockrun/cmd/lockrun"); err != nil {
			return err
		}
	} else if b.lockrun, err = filepath.Abs(b.lockrun); err != nil {
		return err
	}
	for _, program := range []struct {
		path         *string
		name, source string
	}{
		{&b.bareGo, "bare-go", bareGoSource},
		{&b.lockAndGo, "lock-and-go", lockAndGoSource},
		{&b.sameCalls, "same-calls", sameCallsSource},
		{&b.sameExec, "same-exec", sameExecSource},
		{&b.gofrs, "gofrs", gofrsSource},
	} {
		*program.path = b.file(program.name)
		source := b.file(program.name + ".go")
		if err := os.WriteFile(source, []byte(program.source), 0o600); err != nil {
			return err
		}
		if err := goBuild(*program.path, source); err != nil {
			return errors.Join(errors.New("build "+program.name), err)
		}
	}
	return nil
}

// goBuild builds a program and installs it. The copy matters: the linker writes
// its output through a mapping, which leaves the file in small pieces in the
// page cache, and makes every start of it slower by a tenth than that of an
// installed program, as the peers are.
func goBuild(output, what string) error {
	linked := output + ".linked"
	cmd := exec.Command("go", "build", "-o", linked, what)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return err
	}
	program, err := os.ReadFile(linked)
	if err != nil {
		return err
	}
	return os.WriteFile(output, program, 0o700)
}
