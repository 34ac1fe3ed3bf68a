package lock_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/lockrun/lockrun/lock"
	"golang.org/x/sys/unix"
)

// quiescent is how long an operation must not return to count as blocked. A
// slow machine can make a blocked test pass wrongly, never fail wrongly.
const quiescent = 20 * time.Millisecond

// probablyStillBlocked bounds how long a test waits for what must come.
const probablyStillBlocked = 30 * time.Second

// mustBlock proves that op does not return, and gives a function that waits
// until it does.
func mustBlock(t *testing.T, desc string, op func()) (wait func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		op()
		close(done)
	}()
	select {
	case <-done:
		t.Fatalf("%s returned; want it to block", desc)
	case <-time.After(quiescent):
	}
	return func() {
		t.Helper()
		select {
		case <-done:
		case <-time.After(probablyStillBlocked):
			t.Fatalf("%s is still blocked", desc)
		}
	}
}

func path(t *testing.T) string { return filepath.Join(t.TempDir(), "lock") }

func mustTry(t *testing.T, path string, opt *lock.Options) *lock.Lock {
	t.Helper()
	l, err := lock.TryAcquire(path, opt)
	if err != nil {
		t.Fatalf("TryAcquire = %v", err)
	}
	t.Cleanup(func() { l.Release() })
	return l
}

func mustRelease(t *testing.T, l *lock.Lock) {
	t.Helper()
	if err := l.Release(); err != nil {
		t.Fatalf("Release = %v", err)
	}
}

func mustRefuse(t *testing.T, path string, opt *lock.Options) *lock.HeldError {
	t.Helper()
	l, err := lock.TryAcquire(path, opt)
	if err == nil {
		l.Release()
		t.Fatalf("TryAcquire succeeded; want a refusal")
	}
	var held *lock.HeldError
	if !errors.Is(err, lock.ErrHeld) || !errors.As(err, &held) {
		t.Fatalf("TryAcquire = %v; want a *HeldError", err)
	}
	return held
}

func TestLockExcludesLock(t *testing.T) {
	t.Parallel()
	p := path(t)
	l := mustTry(t, p, nil)
	held := mustRefuse(t, p, nil)
	if held.Path != p {
		t.Errorf("Path = %q; want %q", held.Path, p)
	}
	mustRefuse(t, p, &lock.Options{Shared: true})
	mustRelease(t, l)
	mustTry(t, p, nil)
}

func TestSharedLockExcludesOnlyExclusive(t *testing.T) {
	t.Parallel()
	p := path(t)
	shared := &lock.Options{Shared: true}
	a := mustTry(t, p, shared)
	b := mustTry(t, p, shared)
	mustRefuse(t, p, nil)
	mustRelease(t, a)
	mustRefuse(t, p, nil)
	mustRelease(t, b)
	mustTry(t, p, nil)
}

func TestReleaseOnce(t *testing.T) {
	t.Parallel()
	l := mustTry(t, path(t), nil)
	mustRelease(t, l)
	for name, err := range map[string]error{"Release": l.Release(), "Verify": l.Verify(), "Remove": l.Remove()} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s after Release = %v; want fs.ErrClosed", name, err)
		}
	}
	if _, err := l.File(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("File after Release = %v; want fs.ErrClosed", err)
	}
}

func TestRefusalLeavesFileAlone(t *testing.T) {
	t.Parallel()
	p := path(t)
	if err := os.WriteFile(p, []byte("1\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	then := time.Unix(1e9, 0)
	if err := os.Chtimes(p, then, then); err != nil {
		t.Fatal(err)
	}
	mustTry(t, p, nil)
	before, _ := os.Lstat(p)
	mustRefuse(t, p, nil)
	after, err := os.Lstat(p)
	if err != nil || !os.SameFile(before, after) || after.Mode() != before.Mode() || !after.ModTime().Equal(then) || after.Size() != 2 {
		t.Errorf("after the refusal: %v, %v; want %v", after, err, before)
	}
}

func TestAcquireWaits(t *testing.T) {
	t.Parallel()
	for name, ctx := range map[string]func() (context.Context, context.CancelFunc){
		"background": func() (context.Context, context.CancelFunc) { return context.Background(), func() {} },
		"cancel":     func() (context.Context, context.CancelFunc) { return context.WithCancel(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := path(t)
			l := mustTry(t, p, nil)
			ctx, cancel := ctx()
			defer cancel()
			wait := mustBlock(t, "Acquire", func() {
				l, err := lock.Acquire(ctx, p, nil)
				if err != nil {
					t.Errorf("Acquire = %v", err)
					return
				}
				mustRelease(t, l)
			})
			mustRelease(t, l)
			wait()
		})
	}
}

func TestCancelledWaitNamesHolderAndLeavesNothing(t *testing.T) {
	p := path(t)
	// A recorded holder is found without a walk over all processes.
	if err := os.WriteFile(p, fmt.Appendf(nil, "%d\n", os.Getpid()), 0o600); err != nil {
		t.Fatal(err)
	}
	mustTry(t, p, nil)
	cancelled := func(d time.Duration) {
		ctx, cancel := context.WithTimeout(context.Background(), d)
		defer cancel()
		l, err := lock.Acquire(ctx, p, nil)
		if err == nil {
			l.Release()
			t.Fatal("Acquire succeeded beside a holder")
		}
		var held *lock.HeldError
		if !errors.As(err, &held) || !errors.Is(err, lock.ErrHeld) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Acquire = %v; want a *HeldError with DeadlineExceeded", err)
		}
		if held.Holder.PID != os.Getpid() {
			t.Fatalf("Holder = %+v; want this process", held.Holder)
		}
	}
	cancelled(time.Millisecond)
	if runtime.GOOS != "linux" {
		return
	}
	threads, files := count(t, "/proc/self/task"), count(t, "/proc/self/fd")
	for i := range 200 {
		cancelled(time.Duration(i) * 5 * time.Microsecond)
	}
	// The Go runtime may start a few threads of its own.
	if now := count(t, "/proc/self/task"); now > threads+8 {
		t.Errorf("%d threads after 200 cancelled waits; before %d", now, threads)
	}
	if now := count(t, "/proc/self/fd"); now > files {
		t.Errorf("%d descriptors after 200 cancelled waits; before %d", now, files)
	}
}

func TestEndedContextTriesOnce(t *testing.T) {
	t.Parallel()
	p := path(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	l, err := lock.Acquire(ctx, p, nil)
	if err != nil {
		t.Fatalf("Acquire of a free lock = %v", err)
	}
	if _, err := lock.Acquire(ctx, p, nil); !errors.Is(err, context.Canceled) || !errors.Is(err, lock.ErrHeld) {
		t.Errorf("Acquire of a held lock = %v; want Canceled and ErrHeld", err)
	}
	mustRelease(t, l)
}

// TestRemoveNeverLetsTwoIn is race 1 of acquire.go, made by everybody at once:
// all remove the file at release. Without the second look at the path two
// holders are there within milliseconds.
func TestRemoveNeverLetsTwoIn(t *testing.T) {
	t.Parallel()
	p := path(t)
	var inside, taken atomic.Int32
	stop := time.Now().Add(2 * time.Second)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := 0; time.Now().Before(stop) || taken.Load() < 20; n++ {
				var l *lock.Lock
				var err error
				switch i % 2 {
				case 0:
					l, err = lock.TryAcquire(p, nil)
				case 1:
					ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
					l, err = lock.Acquire(ctx, p, nil)
					cancel()
				}
				if errors.Is(err, lock.ErrHeld) || errors.Is(err, context.DeadlineExceeded) {
					continue
				}
				if err != nil {
					t.Errorf("acquire: %v", err)
					return
				}
				if inside.Add(1) != 1 {
					t.Error("two holders at once")
				}
				taken.Add(1)
				inside.Add(-1)
				if n%4 != 0 {
					if err := l.Remove(); err != nil {
						t.Errorf("Remove: %v", err)
					}
				}
				if err := l.Release(); err != nil {
					t.Errorf("Release: %v", err)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d acquisitions", taken.Load())
}

func TestForgottenLockIsNotLost(t *testing.T) {
	t.Parallel()
	p := path(t)
	func() {
		if _, err := lock.TryAcquire(p, nil); err != nil {
			t.Fatal(err)
		}
	}()
	for range 5 {
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
	mustRefuse(t, p, nil)
}

func TestFileSharesTheLock(t *testing.T) {
	t.Parallel()
	for _, shared := range []bool{false, true} {
		p := path(t)
		l := mustTry(t, p, &lock.Options{Shared: shared})
		decoy, err := os.Open(p)
		if err != nil {
			t.Fatal(err)
		}
		defer decoy.Close()
		f, err := l.File()
		if err != nil {
			t.Fatalf("File = %v", err)
		}
		if f.Fd() < 64 {
			t.Errorf("File has number %d; want at least 64", f.Fd())
		}
		if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("File is not close-on-exec: %v", err)
		}
		if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0); err != nil || flags&unix.O_ACCMODE != unix.O_RDONLY {
			t.Errorf("File is not read-only: %v", err)
		}
		child := exec.Command("sleep", "60")
		child.ExtraFiles = []*os.File{f}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if runtime.GOOS == "linux" {
			holders, err := lock.Holders(p)
			if err != nil || len(holders) != 2 {
				t.Errorf("Holders = %+v, %v; want this process and its child", holders, err)
			}
		}
		mustRefuse(t, p, nil)
		// Release frees the lock although the child has it still.
		mustRelease(t, l)
		mustRelease(t, mustTry(t, p, nil))
		child.Process.Kill()
		child.Wait()
	}
}

func TestAdopt(t *testing.T) {
	t.Parallel()
	p := path(t)
	l := mustTry(t, p, nil)
	carrier, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := lock.Adopt(other, p, nil); !errors.Is(err, lock.ErrNotCarried) {
		t.Errorf("Adopt of another description = %v; want ErrNotCarried", err)
	}
	if _, err := lock.Adopt(carrier, os.Args[0], nil); !errors.Is(err, lock.ErrMoved) {
		t.Errorf("Adopt for another path = %v; want ErrMoved", err)
	}
	a, err := lock.Adopt(carrier, p, nil)
	if err != nil {
		t.Fatalf("Adopt = %v", err)
	}
	if err := a.Remove(); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("Remove of an adopted lock = %v; want fs.ErrPermission", err)
	}
	mustRelease(t, a)
	mustRefuse(t, p, nil) // LOCK_UN would have freed it
	mustRelease(t, l)
	mustTry(t, p, nil)
}

func TestWhatCanBeLocked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	target := in("target")
	os.WriteFile(target, []byte("hello"), 0o600)
	os.Symlink("target", in("symlink"))
	os.Symlink("nothing", in("dangling"))
	os.Mkdir(in("dir"), 0o700)
	if err := syscall.Mkfifo(in("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	socket, err := net.Listen("unix", in("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	for _, tc := range []struct {
		path string
		want error
	}{
		{target, nil},
		{in("dir"), nil},
		{in("new"), nil},
		{in("symlink"), lock.ErrFileType},
		{in("dangling"), lock.ErrFileType},
		{in("fifo"), lock.ErrFileType},
		{in("socket"), lock.ErrFileType},
		{in("missing/lock"), fs.ErrNotExist},
		{target + "/lock", unix.ENOTDIR},
		{in(strings.Repeat("x", 5000)), unix.ENAMETOOLONG},
		{in("nul\x00byte"), unix.EINVAL},
	} {
		l, err := lock.TryAcquire(tc.path, nil)
		if err == nil {
			l.Release()
		}
		if !errors.Is(err, tc.want) || (err != nil) != (tc.want != nil) {
			t.Errorf("TryAcquire(%.60q) = %v; want %v", tc.path, err, tc.want)
		}
		if err != nil && strings.Count(err.Error(), tc.path) != 1 {
			t.Errorf("error %.200q; want the path in it once", err)
		}
	}
	if content, _ := os.ReadFile(target); string(content) != "hello" {
		t.Errorf("a locked file was written: %q", content)
	}
	if _, err := os.Lstat(in("nothing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the target of a symbolic link was created")
	}
}

func TestFIFOWriterIsNotWoken(t *testing.T) {
	t.Parallel()
	p := path(t)
	if err := syscall.Mkfifo(p, 0o600); err != nil {
		t.Fatal(err)
	}
	wait := mustBlock(t, "open of a FIFO for writing", func() {
		f, err := os.OpenFile(p, os.O_WRONLY, 0)
		if err == nil {
			f.Close()
		}
	})
	lock.TryAcquire(p, nil)
	lock.Inspect(p)
	time.Sleep(quiescent)
	// The writer must still be there for this reader.
	r, err := os.OpenFile(p, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	wait()
}

func TestModeOfANewFile(t *testing.T) {
	t.Parallel()
	for mode, want := range map[fs.FileMode]fs.FileMode{0: 0o600, 0o666: 0o666, 0o640: 0o640} {
		p := path(t)
		l := mustTry(t, p, &lock.Options{Mode: mode})
		if !l.Created() {
			t.Errorf("Created = false")
		}
		if file, err := os.Lstat(p); err != nil || file.Mode() != want {
			t.Errorf("mode = %v, %v; want %v", file.Mode(), err, want)
		}
		mustRelease(t, l)
		if mustTry(t, p, nil).Created() {
			t.Errorf("Created = true for an old file")
		}
	}
}

// A lock for writing hands on a descriptor that writes and does not read, and
// excludes others as any lock does; who may not write the file has none.
func TestLockForWriting(t *testing.T) {
	t.Parallel()
	p := path(t)
	for range 2 { // the file is created, and found
		l := mustTry(t, p, &lock.Options{Write: true})
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0); err != nil || flags&unix.O_ACCMODE != unix.O_WRONLY {
			t.Errorf("flags %#x, %v; want O_WRONLY", flags, err)
		}
		f.Close()
		if _, err := lock.TryAcquire(p, nil); !errors.Is(err, lock.ErrHeld) {
			t.Errorf("a second lock: %v", err)
		}
		if err := l.Release(); err != nil {
			t.Error(err)
		}
	}
	if _, err := lock.TryAcquire(filepath.Dir(p), &lock.Options{Write: true}); !errors.Is(err, unix.EISDIR) {
		t.Errorf("a directory: %v; want EISDIR", err)
	}
	if os.Geteuid() != 0 {
		if err := os.Chmod(p, 0o400); err != nil {
			t.Fatal(err)
		}
		if _, err := lock.TryAcquire(p, &lock.Options{Write: true}); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("a file that may not be written: %v", err)
		}
	}
}

func TestRemoveOnlyOwnFile(t *testing.T) {
	t.Parallel()
	p := path(t)
	l := mustTry(t, p, nil)
	os.Rename(p, p+".old")
	os.WriteFile(p, []byte("somebody else's"), 0o600)
	if err := l.Remove(); !errors.Is(err, lock.ErrMoved) {
		t.Errorf("Remove = %v; want ErrMoved", err)
	}
	if content, _ := os.ReadFile(p); string(content) != "somebody else's" {
		t.Errorf("file = %q", content)
	}
	if l := mustTry(t, t.TempDir(), nil); !errors.Is(l.Remove(), lock.ErrFileType) {
		t.Errorf("Remove of a directory was not refused")
	}
}

func TestAwaitFree(t *testing.T) {
	t.Parallel()
	p := path(t)
	l := mustTry(t, p, nil)
	f, err := os.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if err := lock.AwaitFree(ctx, f); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("AwaitFree = %v; want DeadlineExceeded", err)
	}
	wait := mustBlock(t, "AwaitFree", func() {
		if err := lock.AwaitFree(context.Background(), f); err != nil {
			t.Errorf("AwaitFree = %v", err)
		}
	})
	mustRelease(t, l)
	wait()
	mustTry(t, p, nil) // AwaitFree keeps nothing
}

func TestEmptyPathPanics(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("TryAcquire(\"\") did not panic")
		}
	}()
	lock.TryAcquire("", nil)
}

func needLinux(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
}

// start runs a command until the test ends.
func start(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(name, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd
}

func count(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func BenchmarkTryAcquireRelease(b *testing.B) {
	p := filepath.Join(b.TempDir(), "lock")
	os.WriteFile(p, nil, 0o600)
	b.Run("lock", func(b *testing.B) {
		for b.Loop() {
			l, err := lock.TryAcquire(p, nil)
			if err != nil {
				b.Fatal(err)
			}
			l.Release()
		}
	})
	b.Run("syscalls", func(b *testing.B) {
		for b.Loop() {
			fd, err := unix.Open(p, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				b.Fatal(err)
			}
			if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
				b.Fatal(err)
			}
			unix.Close(fd)
		}
	})
}
