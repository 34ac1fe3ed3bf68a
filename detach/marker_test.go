package detach

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// testPipe returns the writing end of a pipe, and its identity.
func testPipe(t *testing.T) (w *os.File, dev, ino uint64) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	dev, ino = identity(t, w)
	return w, dev, ino
}

func identity(t *testing.T, f *os.File) (dev, ino uint64) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return uint64(st.Dev), uint64(st.Ino)
}

// read reads a marker, and checks that no child will inherit it.
func read(t *testing.T, value string) (role, *os.File) {
	t.Helper()
	t.Setenv(markerName, value)
	r, pipe, _ := readMarker()
	if left, ok := os.LookupEnv(markerName); ok {
		t.Errorf("after %q the variable is still %q", value, left)
	}
	return r, pipe
}

func TestMarker(t *testing.T) {
	for _, r := range []role{leader, daemon} {
		w, _, _ := testPipe(t)
		mark, err := marker(r, w)
		if err != nil {
			t.Fatal(err)
		}
		// What inherits the descriptor has one that is not close-on-exec.
		fd, err := unix.FcntlInt(w.Fd(), unix.F_DUPFD, 3)
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
		if err := unix.Dup2(fd, int(fdOf(t, mark))); err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		got, pipe := read(t, mark[len(markerName)+1:])
		if got != r || pipe == nil {
			t.Fatalf("%s: role %q, pipe %v; want %q and its pipe", mark, got, pipe, r)
		}
		if flags, err := unix.FcntlInt(pipe.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%s: flags of the pipe %x, %v; want close-on-exec", mark, flags, err)
		}
		pipe.Close()
	}
}

func fdOf(t *testing.T, mark string) (fd uintptr) {
	t.Helper()
	var dev, ino uint64
	var r string
	if _, err := fmt.Sscanf(mark, markerName+"=%6s:%d:%d:%d", &r, &fd, &dev, &ino); err != nil {
		t.Fatalf("marker %q: %v", mark, err)
	}
	return fd
}

// TestMarkerForged: without the very pipe that it names a marker is not
// believed.
func TestMarkerForged(t *testing.T) {
	w, dev, ino := testPipe(t)
	fd := w.Fd()
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	fileDev, fileIno := identity(t, file)
	for _, value := range []string{
		"",
		"daemon",
		"leader:",
		"daemon:1",
		fmt.Sprintf("daemon:%d", fd),
		fmt.Sprintf("daemon:%d:%d", fd, dev),
		fmt.Sprintf("daemon:%d:%d:", fd, dev),
		fmt.Sprintf("daemon:%d:%d:%d", fd, dev, ino+1),
		fmt.Sprintf("daemon:%d:%d:%d", fd, dev+1, ino),
		fmt.Sprintf("leader:%d:%d:%d", fd, 0, 0),
		fmt.Sprintf("daemon:%d:%d:%d", 1<<20, dev, ino),
		fmt.Sprintf("daemon:%d:%d:%d", -1, dev, ino),
		fmt.Sprintf("launcher:%d:%d:%d", fd, dev, ino),
		fmt.Sprintf(":%d:%d:%d", fd, dev, ino),
		fmt.Sprintf("Daemon:%d:%d:%d", fd, dev, ino),
		fmt.Sprintf("daemon:%d:%d:%d", file.Fd(), fileDev, fileIno),
		"daemon:99999999999999999999:1:1",
		"daemon:x:y:z",
		"daemon:%d:%d:%d",
	} {
		if r, pipe := read(t, value); r != launcher || pipe != nil {
			t.Errorf("%q makes the role %q, pipe %v; want it not to be believed", value, r, pipe)
		}
	}
}

// FuzzMarker: nothing is believed that does not know the pipe, and all is removed
// from the environment.
func FuzzMarker(f *testing.F) {
	_, w, err := os.Pipe()
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { w.Close() })
	for _, r := range []role{launcher, leader, daemon, "other"} {
		f.Add(string(r), int(w.Fd()), uint64(0), uint64(0), "")
		f.Add(string(r), 0, uint64(1), uint64(1), ":")
	}
	f.Setenv(markerName, "")
	f.Fuzz(func(t *testing.T, r string, fd int, dev, ino uint64, more string) {
		value := fmt.Sprintf("%s:%d:%d:%d%s", r, fd, dev, ino, more)
		if os.Setenv(markerName, value) != nil {
			return // it has a NUL
		}
		if r, pipe, _ := readMarker(); r != launcher || pipe != nil {
			t.Errorf("%q makes the role %q", value, r)
		}
		if _, ok := os.LookupEnv(markerName); ok {
			t.Errorf("%q stays in the environment", value)
		}
	})
}

// TestMarkerStandard: descriptors 0 to 2 are never the pipe, even when they are
// one, as in "program | cat".
func TestMarkerStandard(t *testing.T) {
	w, dev, ino := testPipe(t)
	saved, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Skip("no standard input")
	}
	defer unix.Close(saved)
	defer unix.Dup2(saved, 0)
	if err := unix.Dup2(int(w.Fd()), 0); err != nil {
		t.Fatal(err)
	}
	if r, _ := read(t, fmt.Sprintf("daemon:0:%d:%d", dev, ino)); r != launcher {
		t.Errorf("role %q; want it not to be believed", r)
	}
}

func TestMarkerAbsent(t *testing.T) {
	t.Setenv(markerName, "")
	os.Unsetenv(markerName)
	if r, pipe, _ := readMarker(); r != launcher || pipe != nil {
		t.Errorf("role %q, pipe %v; want the launcher", r, pipe)
	}
}

func TestCloseOnExecFrom(t *testing.T) {
	w, _, _ := testPipe(t)
	below, err := unix.FcntlInt(w.Fd(), unix.F_DUPFD, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(below)
	above, err := unix.FcntlInt(w.Fd(), unix.F_DUPFD, below+1)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(above)
	closeOnExecFrom(above)
	for fd, want := range map[int]int{below: 0, above: unix.FD_CLOEXEC} {
		if got, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || got != want {
			t.Errorf("flags of descriptor %d: %d, %v; want %d", fd, got, err, want)
		}
	}
}

func TestReaderGone(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	d := &Daemon{pipe: w}
	if d.LauncherGone() {
		t.Error("LauncherGone with a reader")
	}
	r.Close()
	if !d.LauncherGone() {
		t.Error("not LauncherGone without a reader")
	}
	if err := d.Ready(); err == nil {
		t.Error("Ready = nil without a launcher; want an error")
	}
	if err := d.Ready(); err != nil || d.LauncherGone() {
		t.Errorf("second Ready = %v; want it to do nothing", err)
	}
	if err := d.Close(); err != nil {
		t.Errorf("Close without a PID file = %v", err)
	}
}
