package lock_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockrun/lockrun/lock"
	"golang.org/x/sys/unix"
)

func TestRefusalNamesHolder(t *testing.T) {
	t.Parallel()
	p := path(t)
	mustTry(t, p, nil)
	held := mustRefuse(t, p, nil)
	if held.Holder.PID != os.Getpid() || held.Holder.UID != os.Geteuid() || len(held.Holder.Args) == 0 {
		t.Errorf("Holder = %+v; want this process", held.Holder)
	}
	if age := time.Since(held.Holder.Started); age < 0 || age > time.Hour {
		t.Errorf("Started is %v ago", age)
	}
	if want := fmt.Sprintf("held by process %d (", os.Getpid()); !strings.Contains(held.Error(), want) {
		t.Errorf("Error() = %q; want %q in it", held, want)
	}
}

func TestHolderIsProvenNotBelieved(t *testing.T) {
	t.Parallel()
	p := path(t)
	stranger := os.Getppid()
	if err := os.WriteFile(p, fmt.Appendf(nil, "%d\n", stranger), 0o600); err != nil {
		t.Fatal(err)
	}
	// The living stranger in the file does not hold the lock; we do.
	mustTry(t, p, nil)
	if held := mustRefuse(t, p, nil); held.Holder.PID != os.Getpid() || held.Holder.Recorded {
		t.Errorf("Holder = %+v; want process %d, not recorded", held.Holder, os.Getpid())
	}
}

// A command that closed the descriptor, as sudo does, is held for by its parent.
func TestRecordedChildThatDoesNotCarryTheLock(t *testing.T) {
	t.Parallel()
	needLinux(t)
	p := path(t)
	mustTry(t, p, nil)
	sleep := start(t, "sleep", "60")
	if err := os.WriteFile(p, fmt.Appendf(nil, "%d\n", sleep.Process.Pid), 0o600); err != nil {
		t.Fatal(err)
	}
	if held := mustRefuse(t, p, nil); held.Holder.PID != sleep.Process.Pid || !held.Holder.Recorded {
		t.Errorf("Holder = %+v; want the recorded child %d", held.Holder, sleep.Process.Pid)
	}
	holders, err := lock.Holders(p)
	// A program that another test starts has our descriptors until it is executed.
	us := slices.IndexFunc(holders, func(h lock.Holder) bool { return h.PID == os.Getpid() })
	if err != nil || us < 1 || !holders[0].Recorded || holders[us].Straggler {
		t.Errorf("Holders = %+v, %v; want the child and this process", holders, err)
	}

	// A child that was given the number after it was written is not meant.
	if err := os.Chtimes(p, time.Time{}, time.Now().Add(-time.Minute)); err != nil {
		t.Fatal(err)
	}
	if held := mustRefuse(t, p, nil); held.Holder.PID != os.Getpid() || held.Holder.Recorded {
		t.Errorf("Holder = %+v; want this process, not recorded", held.Holder)
	}
}

func TestHoldersMarksStragglers(t *testing.T) {
	t.Parallel()
	needLinux(t)
	p := path(t)
	l := mustTry(t, p, nil)
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	heir := exec.Command("sleep", "60")
	heir.ExtraFiles = []*os.File{f}
	if err := heir.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { heir.Process.Kill(); heir.Wait() }()
	marks := func(recorded int) map[int]bool {
		t.Helper()
		if err := os.WriteFile(p, fmt.Appendf(nil, "%d\n", recorded), 0o600); err != nil {
			t.Fatal(err)
		}
		holders, err := lock.Holders(p)
		if err != nil {
			t.Fatal(err)
		}
		marks := make(map[int]bool)
		for _, h := range holders {
			if h.PID == os.Getpid() || h.PID == heir.Process.Pid {
				marks[h.PID] = h.Straggler
			}
		}
		return marks
	}
	us, child := os.Getpid(), heir.Process.Pid
	if got, want := marks(us), map[int]bool{us: false, child: true}; !maps.Equal(got, want) {
		t.Errorf("we are recorded: stragglers %v, want %v", got, want)
	}
	if got, want := marks(child), map[int]bool{us: false, child: false}; !maps.Equal(got, want) {
		t.Errorf("the child is recorded: stragglers %v, want %v", got, want)
	}
	if got, want := marks(os.Getppid()), map[int]bool{us: true, child: true}; !maps.Equal(got, want) {
		t.Errorf("a stranger is recorded: stragglers %v, want %v", got, want)
	}
}

func TestDeletedFileStillRefuses(t *testing.T) {
	t.Parallel()
	needLinux(t)
	p := path(t)
	l := mustTry(t, p, nil)
	if err := os.Remove(p); err != nil {
		t.Fatal(err)
	}
	held := mustRefuse(t, p, nil)
	if held.Holder.PID != os.Getpid() || !held.Deleted {
		t.Errorf("refusal = %+v; want this process and Deleted", held)
	}
	if _, err := os.Lstat(p); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Lstat = %v; want the refused one's file to be gone", err)
	}
	if in, err := lock.Inspect(p); err != nil || in.State != lock.Held || in.Holder.PID != os.Getpid() || !in.Absent {
		t.Errorf("Inspect = %+v, %v; want held by this process, absent", in, err)
	}
	if err := l.Verify(); !errors.Is(err, lock.ErrMoved) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Verify = %v; want ErrMoved and ErrNotExist", err)
	}
	wait := mustBlock(t, "Acquire", func() {
		l, err := lock.Acquire(context.Background(), p, nil)
		if err != nil {
			t.Errorf("Acquire = %v", err)
			return
		}
		mustRelease(t, l)
	})
	mustRelease(t, l)
	wait()
}

// TestCreatorKilledBeforeTheLook is race 2 of acquire.go with the creator of
// the new file dead between creating and looking: its file is marked, and who
// finds it looks.
func TestCreatorKilledBeforeTheLook(t *testing.T) {
	t.Parallel()
	needLinux(t)
	p := path(t)
	l := mustTry(t, p, nil)
	if err := os.Remove(p); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(p, unix.O_CREAT|unix.O_EXCL, 0o1600)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	mustRefuse(t, p, nil)
	mustRelease(t, l)
	mustTry(t, p, nil)
	if file, err := os.Lstat(p); err != nil || file.Mode() != 0o600 {
		t.Errorf("Lstat = %v, %v; want mode 0600 without the mark", file.Mode(), err)
	}
}

// TestDeletedFileOfASharedLock: a second shared lock is taken on a new file, and
// the first one still refuses who wants that file for itself.
func TestDeletedFileOfASharedLock(t *testing.T) {
	t.Parallel()
	needLinux(t)
	p := path(t)
	shared := &lock.Options{Shared: true, Mode: 0o640}
	mustTry(t, p, shared)
	if err := os.Remove(p); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		mustRelease(t, mustTry(t, p, shared))
		if file, err := os.Lstat(p); err != nil || file.Mode().Perm() != 0o640 {
			t.Errorf("Lstat = %v, %v; want a file of mode 0640", file, err)
		}
	}
	if held := mustRefuse(t, p, nil); !held.Deleted {
		t.Errorf("Deleted = false; want the holder of the deleted file")
	}
}

// TestSharedLockCountsOnlyWhenItStays: lockrun status has a shared lock for a
// moment, which can be long when it has to wait for the CPU. A start that meets
// it there goes on trying, though it sees who has it.
func TestSharedLockCountsOnlyWhenItStays(t *testing.T) {
	t.Parallel()
	needLinux(t)
	p := path(t)
	mustTry(t, p, &lock.Options{Shared: true})
	begin := time.Now()
	held := mustRefuse(t, p, nil)
	if took := time.Since(begin); took < 23*time.Millisecond {
		t.Errorf("refused after %v; want some 25 ms of patience", took)
	}
	if held.Holder.PID != os.Getpid() || !held.Holder.Shared {
		t.Errorf("Holder = %+v; want this process, with a shared lock", held.Holder)
	}
}

func TestInspect(t *testing.T) {
	t.Parallel()
	p := path(t)
	check := func(want lock.State, pid int, absent bool) {
		t.Helper()
		in, err := lock.Inspect(p)
		if err != nil || in.State != want || in.PID != pid || in.Absent != absent {
			t.Errorf("Inspect = %+v, %v; want %v, PID %d, absent %v", in, err, want, pid, absent)
		}
	}
	check(lock.Free, 0, true)
	os.WriteFile(p, []byte("1\n"), 0o600)
	check(lock.Free, 1, false)
	l := mustTry(t, p, nil)
	check(lock.Held, 1, false)
	mustRelease(t, l)
	check(lock.Free, 1, false)
}

func TestInspectAll(t *testing.T) {
	t.Parallel()
	needLinux(t)
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	mustTry(t, in("held"), nil)
	gone := mustTry(t, in("gone"), nil)
	os.Remove(in("gone"))
	os.WriteFile(in("free"), []byte("1\n"), 0o600)
	os.Symlink("free", in("link"))
	names := []string{"held", "free", "gone", "none", "link", "held", "gone"}
	for range 300 {
		names = append(names, "free", "none") // more than one batch
	}
	var paths []string
	for _, name := range names {
		paths = append(paths, in(name))
	}
	all, errs := lock.InspectAll(paths)
	for i, name := range names {
		want, pid, err := lock.Free, 0, error(nil)
		switch name {
		case "held", "gone":
			want, pid = lock.Held, os.Getpid()
		case "link":
			want, err = lock.Unknown, lock.ErrFileType
		}
		if all[i].State != want || all[i].Holder.PID != pid || !errors.Is(errs[i], err) {
			t.Errorf("%d %s: %+v, %v; want %v by %d, %v", i, name, all[i], errs[i], want, pid, err)
		}
	}
	mustRelease(t, gone)
}

func TestCommandLineIsSafeToPrint(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args []string
		want string
	}{
		{nil, "?"},
		{[]string{"rsync", "-a", "/a b"}, "rsync -a /a b"},
		{[]string{"x\x1b[2J\ny\x7f\xff\u202e"}, "x?[2J?y???"},
		{[]string{"grüße"}, "grüße"},
		{[]string{strings.Repeat("x", 121)}, strings.Repeat("x", 120) + "..."},
	} {
		if got := (lock.Holder{Args: tc.args}).CommandLine(); got != tc.want {
			t.Errorf("CommandLine of %q = %q; want %q", tc.args, got, tc.want)
		}
	}
}
