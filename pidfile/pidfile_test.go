package pidfile_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lockrun/lockrun/internal/pidtext"
	"github.com/lockrun/lockrun/lock"
	"github.com/lockrun/lockrun/pidfile"
	"golang.org/x/sys/unix"
)

func TestHold(t *testing.T) {
	t.Parallel()
	p := path(t)
	f := mustHold(t, p, nil)
	wantContent(t, p, ownPID())
	if f.Path() != p || f.Lock().Path() != p {
		t.Errorf("Path = %q, %q; want %q", f.Path(), f.Lock().Path(), p)
	}
	if fi, err := os.Stat(p); err != nil || fi.Mode() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", fi.Mode(), err)
	}
	if s, err := pidfile.Inspect(p); err != nil || s.State != pidfile.Running || s.PID != os.Getpid() || s.Holder.PID != os.Getpid() || !s.Holder.Recorded {
		t.Errorf("Inspect = %+v, %v; want running, by us", s, err)
	}

	// A refusal names the holder and changes nothing.
	before, _ := os.Stat(p)
	_, err := pidfile.Hold(p, nil)
	var held *lock.HeldError
	if !errors.As(err, &held) || !errors.Is(err, lock.ErrHeld) || held.Holder.PID != os.Getpid() {
		t.Errorf("second Hold = %v; want a HeldError that names us", err)
	}
	if after, err := os.Stat(p); err != nil || !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) {
		t.Errorf("the refused one changed the file: %v, %v", after, err)
	}
	wantContent(t, p, ownPID())

	if err := f.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	wantContent(t, p, "absent")
	if err := f.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("second Close = %v; want ErrClosed", err)
	}
	if err := f.Write(1); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Write after Close = %v; want ErrClosed", err)
	}
	mustHold(t, p, nil)
}

// TestStaleFiles: nothing that a dead holder left behind blocks a start.
func TestStaleFiles(t *testing.T) {
	t.Parallel()
	for _, content := range []string{
		"", "\n", "0\n", "1\n", "-1\n", "99999999999999999999\n", " 12 \t\r\n\n", "\x00\x00\x00\x00", "00812",
		ownPID(), fmt.Sprintln(os.Getppid()), strings.Repeat("\n", 4096),
	} {
		p := path(t)
		write(t, p, content)
		f, err := pidfile.Hold(p, nil)
		if err != nil {
			t.Errorf("%.40q: Hold = %v", content, err)
			continue
		}
		wantContent(t, p, ownPID())
		f.Close()
		wantContent(t, p, "absent")
	}
}

func TestKeep(t *testing.T) {
	t.Parallel()
	p := path(t)
	f := mustHold(t, p, &pidfile.Options{Keep: true, Mode: 0o644})
	before, _ := os.Stat(p)
	if before.Mode() != 0o644 {
		t.Errorf("mode %v; want 0644", before.Mode())
	}
	if err := f.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	wantContent(t, p, "")
	if after, err := os.Stat(p); err != nil || !os.SameFile(before, after) {
		t.Errorf("not the same file: %v", err)
	}
	if s, err := pidfile.Inspect(p); err != nil || s.State != pidfile.Absent {
		t.Errorf("Inspect = %+v, %v; want absent", s, err)
	}
}

// TestCloseMoved: a file that the path does not name any more, or another one
// that it names by now, is left alone.
func TestCloseMoved(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{false, true} {
		p := path(t)
		f := mustHold(t, p, &pidfile.Options{Keep: keep})
		if err := os.Rename(p, p+".old"); err != nil {
			t.Fatal(err)
		}
		write(t, p, "4711\n")
		if err := f.Close(); !errors.Is(err, lock.ErrMoved) {
			t.Errorf("Keep %t: Close = %v; want ErrMoved", keep, err)
		}
		wantContent(t, p, "4711\n")
		wantContent(t, p+".old", ownPID())
		if in, err := lock.Inspect(p + ".old"); err != nil || in.State != lock.Free {
			t.Errorf("Keep %t: Inspect = %+v, %v; want the lock to be free", keep, in, err)
		}
	}
}

// TestRemove: the file goes and the lock stays, so that no other instance can
// start yet; Close gives it up.
func TestRemove(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{false, true} {
		p, left := path(t), "absent"
		if keep {
			left = ""
		}
		f := mustHold(t, p, &pidfile.Options{Keep: keep})
		for range 2 {
			if err := f.Remove(); err != nil {
				t.Errorf("Keep %t: Remove = %v", keep, err)
			}
			wantContent(t, p, left)
		}
		if err := f.Write(1); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("Keep %t: Write = %v; want ErrClosed", keep, err)
		}
		if keep || runtime.GOOS == "linux" {
			if f, err := pidfile.TryOpen(p, nil); !errors.Is(err, lock.ErrHeld) {
				t.Errorf("Keep %t: TryOpen = %v, %v; want ErrHeld", keep, f, err)
			}
			wantContent(t, p, left)
		}
		if err := f.Close(); err != nil {
			t.Errorf("Keep %t: Close = %v", keep, err)
		}
		if err := f.Remove(); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("Keep %t: Remove after Close = %v; want ErrClosed", keep, err)
		}
		wantContent(t, p, left)
		mustHold(t, p, nil)
	}
}

// TestNotPIDFile: what is not ours to write is refused, and left as it was.
func TestNotPIDFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	link, hard, fifo := filepath.Join(dir, "symlink"), filepath.Join(dir, "hard"), filepath.Join(dir, "fifo")
	write(t, filepath.Join(dir, "target"), "1\n")
	write(t, hard, "1\n")
	if err := errors.Join(os.Symlink("target", link), os.Link(hard, hard+"2"), unix.Mkfifo(fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	type file struct {
		path string
		want error
	}
	files := []file{
		{dir, pidfile.ErrDirectory},
		{dir, pidfile.ErrNotPIDFile},
		{"/dev/null", pidfile.ErrDevice},
		{"/dev/null", pidfile.ErrNotPIDFile},
		{link, nil},
		{fifo, nil},
		{hard, pidfile.ErrNotPIDFile},
		{filepath.Join(dir, "none", "file"), fs.ErrNotExist},
	}
	for i, content := range []string{
		"x", "12 13\n", "pid 12\n", "12\n# comment\n", "-\n", "--1", "1-", "1.5\n", "0x10\n", "1e3", "+5", "#!/bin/sh\n", "١٢\n",
		strings.Repeat(" ", 4096) + "1", strings.Repeat("\n", 4097), "1\x00\x002",
	} {
		p := filepath.Join(dir, "content"+strconv.Itoa(i))
		write(t, p, content)
		files = append(files, file{p, pidfile.ErrNotPIDFile})
	}
	for _, file := range files {
		var before []byte
		info, err := os.Lstat(file.path)
		regular := err == nil && info.Mode().IsRegular()
		if regular {
			before, _ = os.ReadFile(file.path)
		}
		for name, open := range map[string]func() (*pidfile.File, error){
			"Hold":    func() (*pidfile.File, error) { return pidfile.Hold(file.path, nil) },
			"TryOpen": func() (*pidfile.File, error) { return pidfile.TryOpen(file.path, nil) },
			"Open":    func() (*pidfile.File, error) { return pidfile.Open(context.Background(), file.path, nil) },
		} {
			f, err := open()
			if err == nil {
				f.Close()
				t.Errorf("%s(%s) succeeded", name, file.path)
				continue
			}
			var pe *fs.PathError
			if file.want != nil && !errors.Is(err, file.want) || !errors.As(err, &pe) {
				t.Errorf("%s(%s) = %v; want %v in a PathError", name, file.path, err, file.want)
			}
		}
		if regular {
			wantContent(t, file.path, string(before))
			if in, err := lock.Inspect(file.path); err != nil || in.State != lock.Free {
				t.Errorf("%s is left locked: %+v, %v", file.path, in, err)
			}
		}
	}
	wantContent(t, filepath.Join(dir, "target"), "1\n")
}

// TestOpenDoesNotWaitForNothing: it does not queue for a file that it would
// refuse in the end.
func TestOpenDoesNotWaitForNothing(t *testing.T) {
	t.Parallel()
	p := path(t)
	write(t, p, "data\n")
	l, err := lock.TryAcquire(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := pidfile.Open(ctx, p, nil); !errors.Is(err, pidfile.ErrNotPIDFile) {
		t.Errorf("Open = %v; want ErrNotPIDFile", err)
	}
}

func TestOpenWaits(t *testing.T) {
	t.Parallel()
	p := path(t)
	f := mustHold(t, p, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := pidfile.Open(ctx, p, nil); !errors.Is(err, lock.ErrHeld) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Open = %v; want ErrHeld and DeadlineExceeded", err)
	}
	type result struct {
		f   *pidfile.File
		err error
	}
	opened := make(chan result)
	go func() {
		f, err := pidfile.Open(context.Background(), p, nil)
		opened <- result{f, err}
	}()
	select {
	case r := <-opened:
		t.Fatalf("Open = %v while the file was held", r.err)
	case <-time.After(20 * time.Millisecond):
	}
	wantContent(t, p, ownPID())
	f.Close() // removes the file, so the one that waited for it starts afresh
	r := <-opened
	if r.err != nil {
		t.Fatalf("Open = %v", r.err)
	}
	wantContent(t, p, "")
	if err := r.f.Write(1); err != nil {
		t.Errorf("Write = %v", err)
	}
	wantContent(t, p, "1\n")
	if err := r.f.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
}

// TestTryOpenDoesNotWrite: what a dead holder left stands there until Write.
func TestTryOpenDoesNotWrite(t *testing.T) {
	t.Parallel()
	p := path(t)
	write(t, p, "4194303\n")
	f, err := pidfile.TryOpen(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	wantContent(t, p, "4194303\n")
}

// TestWrite: a shorter number after a longer one leaves no garbage, and at no
// time does the file hold anything but one number and white space. (Not always
// the whole number: a file system grows a file after it has copied the data.)
func TestWrite(t *testing.T) {
	t.Parallel()
	testWrite(t, func(p string) error {
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		defer f.Close()
		content := make([]byte, 100)
		n, err := f.Read(content)
		if err != nil && err != io.EOF {
			return err
		}
		if _, ok := pidtext.Parse(content[:n]); !ok || len(strings.TrimSpace(string(content[:n]))) == 0 {
			return fmt.Errorf("%q", content[:n])
		}
		return nil
	})
}

// TestReadDuringWrite: Read sees one state of the file, not a mixture of two.
func TestReadDuringWrite(t *testing.T) {
	t.Parallel()
	testWrite(t, func(p string) error {
		_, err := pidfile.Read(p)
		return err
	})
}

// testWrite writes numbers of different lengths while somebody reads.
func testWrite(t *testing.T, read func(path string) error) {
	p := path(t)
	write(t, p, "  \n\t123456  \n\n")
	f := mustHold(t, p, nil)
	done, looked := make(chan struct{}), make(chan error)
	go func() {
		for {
			select {
			case <-done:
				looked <- nil
				return
			default:
			}
			if err := read(p); err != nil {
				<-done
				looked <- err
				return
			}
		}
	}()
	for i := range 5000 {
		pid := []int{1, 4194303, 22, 333, 4, 55555}[i%6]
		if err := f.Write(pid); err != nil {
			t.Fatal(err)
		}
		if i < 20 {
			wantContent(t, p, fmt.Sprintln(pid))
		}
	}
	close(done)
	if err := <-looked; err != nil {
		t.Errorf("a reader saw %v", err)
	}
}

// TestErrOwner: another user could write any PID into his file.
func TestErrOwner(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give a file to another user")
	}
	p := path(t)
	write(t, p, "1\n")
	if err := os.Chown(p, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	var pe *fs.PathError
	if _, err := pidfile.TryOpen(p, nil); !errors.Is(err, pidfile.ErrOwner) || !errors.As(err, &pe) {
		t.Errorf("TryOpen = %v; want ErrOwner", err)
	}
	if _, err := pidfile.Open(t.Context(), p, nil); !errors.Is(err, pidfile.ErrOwner) {
		t.Errorf("Open = %v; want ErrOwner", err)
	}
	wantContent(t, p, "1\n")
	if pid, err := pidfile.Read(p); err != nil || pid != 1 {
		t.Errorf("Read = %d, %v; want it to be read all the same", pid, err)
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		content string
		pid     int
		want    error
	}{
		{"812\n", 812, nil},
		{"812", 812, nil},
		{" \n812\t\n", 812, nil},
		{"812\x00\x00", 812, nil},
		{"4194304\n", 4194304, nil},
		{"4194305\n", 0, nil},
		{"", 0, nil},
		{"0\n", 0, nil},
		{"-1\n", 0, nil},
		{"x\n", 0, pidfile.ErrNotPIDFile},
		{"1 2\n", 0, pidfile.ErrNotPIDFile},
	} {
		p := path(t)
		write(t, p, tt.content)
		if pid, err := pidfile.Read(p); pid != tt.pid || !errors.Is(err, tt.want) {
			t.Errorf("%q: Read = %d, %v; want %d, %v", tt.content, pid, err, tt.pid, tt.want)
		}
		wantContent(t, p, tt.content)
	}
	dir := t.TempDir()
	fifo, link := filepath.Join(dir, "fifo"), filepath.Join(dir, "link")
	if err := errors.Join(unix.Mkfifo(fifo, 0o600), os.Symlink("fifo", link)); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]error{
		filepath.Join(dir, "none"): fs.ErrNotExist,
		fifo:                       pidfile.ErrNotPIDFile,
		link:                       pidfile.ErrNotPIDFile,
		"/dev/null":                pidfile.ErrDevice,
	} {
		if pid, err := pidfile.Read(p); pid != 0 || !errors.Is(err, want) {
			t.Errorf("Read(%s) = %d, %v; want %v", p, pid, err, want)
		}
	}
}

func TestInspect(t *testing.T) {
	t.Parallel()
	wantState := func(p string, want pidfile.State, pid int) pidfile.Status {
		t.Helper()
		s, err := pidfile.Inspect(p)
		if err != nil || s.State != want || s.PID != pid {
			t.Errorf("Inspect(%s) = %v, PID %d, %v; want %v, PID %d", p, s.State, s.PID, err, want, pid)
		}
		return s
	}
	p := path(t)
	wantState(p, pidfile.Absent, 0)
	wantContent(t, p, "absent")
	write(t, p, "")
	wantState(p, pidfile.Absent, 0)
	// We are alive, but do not hold it: a number proves nothing.
	write(t, p, ownPID())
	wantState(p, pidfile.Stale, os.Getpid())
	wantContent(t, p, ownPID())

	cmd := exec.Command("flock", p, "sleep", "600")
	if _, err := exec.LookPath("flock"); err != nil {
		t.Skip("needs flock(1)")
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { // flock(1) and its child
		holders, _ := lock.Holders(p)
		for _, h := range holders {
			syscall.Kill(h.PID, syscall.SIGKILL)
		}
		cmd.Wait()
	}()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		s, err := pidfile.Inspect(p)
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("Inspect = %+v, %v; want running", s, err)
		}
		if s.State == pidfile.Running {
			break
		}
	}
	s := wantState(p, pidfile.Running, os.Getpid())
	if s.Holder.Recorded || s.Holder.PID == os.Getpid() {
		t.Errorf("Holder = %+v; want flock(1), or its child, and not recorded", s.Holder)
	}
	for state, want := range map[pidfile.State]string{
		pidfile.Unknown: "unknown", pidfile.Absent: "absent", pidfile.Stale: "stale", pidfile.Running: "running",
	} {
		if state.String() != want {
			t.Errorf("%d = %q; want %q", state, state, want)
		}
	}
	if s, err := pidfile.Inspect(filepath.Join(p, "none")); err == nil || s.State != pidfile.Unknown {
		t.Errorf("Inspect = %+v, %v; want unknown and why", s, err)
	}
}
