package lock

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"
)

func TestLockLine(t *testing.T) {
	const head = "pos:\t0\nflags:\t0100000\nmnt_id:\t29\nino:\t1234\n"
	for _, tc := range []struct {
		fdinfo     string
		shared, ok bool
	}{
		{head, false, false},
		{head + "lock:\t1: FLOCK  ADVISORY  WRITE 5577 fe:00:1234567 0 EOF\n", false, true},
		{head + "lock:\t1: FLOCK  ADVISORY  READ 5577 fe:00:1234567 0 EOF\n", true, true},
		{head + "lock:\t1: POSIX  ADVISORY  WRITE 5577 fe:00:1234567 0 EOF\n", false, false},
		{head + "lock:\t1: OFDLCK ADVISORY  WRITE -1 fe:00:1 0 EOF\nlock:\t2: FLOCK  ADVISORY  WRITE 0 fe:00:1 0 EOF\n", false, true},
		{"lock:", false, false},
		{"lock:\t1: FLOCK", false, false},
		{"", false, false},
	} {
		if shared, ok := lockLine([]byte(tc.fdinfo)); shared != tc.shared || ok != tc.ok {
			t.Errorf("lockLine(%q) = %v, %v; want %v, %v", tc.fdinfo, shared, ok, tc.shared, tc.ok)
		}
	}
}

// TestDescriptorNumberOfAnotherFile: who holds a deleted file lets go of it, and
// the number of its descriptor is given to another file, before we have opened
// /proc/PID/fd/N. That one is not to be waited for, and its holder not to be
// named.
func TestDescriptorNumberOfAnotherFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := TryAcquire(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if c, _, _ := findDeleted(path, idOf(l.file), false); c != nil {
		t.Errorf("findDeleted = %+v; that is the caller's own file", c)
	}
	c, _, _ := findDeleted(path, fileID{}, false)
	if c == nil {
		t.Fatal("findDeleted = nil; want this process")
	}
	if h, ok := c.describe(); h.PID != os.Getpid() || !ok {
		t.Errorf("describe = %+v, %v; want this process", h, ok)
	}
	f, err := c.open()
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	number, err := strconv.Atoi(filepath.Base(c.fd))
	if err != nil {
		t.Fatal(err)
	}
	// Created before the deleted file is gone, whose inode number it could get.
	other, err := os.Create(filepath.Join(t.TempDir(), "other"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	dup, err := unix.FcntlInt(other.Fd(), unix.F_DUPFD_CLOEXEC, number)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dup)
	if dup != number {
		// Another test may have been faster. It would lose its file, were this
		// done with dup2.
		t.Logf("the number %d was given to another file than ours", number)
	}
	if f, err := c.open(); !errors.Is(err, fs.ErrNotExist) {
		f.Close()
		t.Errorf("open = %v; want %v", err, fs.ErrNotExist)
	}
	if h, ok := c.describe(); ok {
		t.Errorf("describe = %+v, true; it holds nothing any more", h)
	}
}

// TestDeletedDuringTheLook: a starter whose file was deleted while it looked
// starts again, and does not go on with a file that nobody can find.
func TestDeletedDuringTheLook(t *testing.T) {
	// A deletion so long before the end of an attempt mostly comes before its
	// step 6. A slow machine needs as long for what comes after that, now and
	// then; not so often as to spoil the count.
	const long, few = 500 * time.Microsecond, 8
	overlooked, during := 0, 0
	for range 20 {
		r := &request{path: filepath.Join(t.TempDir(), "lock"), mode: 0o600}
		deleted := make(chan time.Time, 1)
		l, err := r.once(func(f *flock.Flock) (bool, error) {
			go func() {
				time.Sleep(200 * time.Microsecond)
				os.Remove(r.path)
				deleted <- time.Now()
			}()
			return r.tryLock(f)
		})
		end := time.Now()
		at := <-deleted
		if end.Sub(at) > long {
			during++
			if err == nil {
				overlooked++
			}
		}
		if err == nil {
			l.Release()
		} else if err != errAgain {
			t.Error(err)
		}
	}
	if during > few && 4*overlooked > 3*during {
		t.Errorf("of %d deletions during the look %d were overlooked", during, overlooked)
	}
}

func TestStartTime(t *testing.T) {
	const tail = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 "
	var base time.Time
	for _, name := range []string{"(sleep)", "(a b) c)", "(()", "(\n)"} {
		a := startTime([]byte("5577 " + name + tail + "100 0 0\n"))
		b := startTime([]byte("5577 " + name + tail + "300 0 0\n"))
		if d := b.Sub(a); d < 1990*time.Millisecond || d > 2010*time.Millisecond {
			t.Errorf("%s: 200 ticks are %v; want 2s", name, d)
		}
		base = a
	}
	if base.After(time.Now()) {
		t.Errorf("100 ticks after boot is %v", base)
	}
	for _, bad := range []string{"", "5577", "5577 (sleep", "5577 (sleep) S 1 2", "5577 (sleep)" + tail + "x"} {
		if got := startTime([]byte(bad)); !got.IsZero() {
			t.Errorf("startTime(%q) = %v; want zero", bad, got)
		}
	}
}

func TestStatusNumber(t *testing.T) {
	const status = "Name:\tsleep\nTgid:\t5577\nUid:\t1\t2\t3\t4\nGid:\n"
	for _, tc := range []struct {
		key    string
		n      int
		number int
		ok     bool
	}{
		{"Tgid:", 0, 5577, true},
		{"Uid:", 1, 2, true},
		{"Uid:", 4, 0, false},
		{"Gid:", 0, 0, false},
		{"Name:", 0, 0, false},
		{"Pid:", 0, 0, false},
	} {
		if number, ok := statusNumber([]byte(status), tc.key, tc.n); number != tc.number || ok != tc.ok {
			t.Errorf("statusNumber(%s %d) = %d, %v; want %d, %v", tc.key, tc.n, number, ok, tc.number, tc.ok)
		}
	}
}

// FuzzLockLine: no line before it hides a lock, and none is seen where there is
// none.
func FuzzLockLine(f *testing.F) {
	f.Add([]byte("pos:\t0\nflags:\t0100000\n"))
	f.Add([]byte("lock:\t1: FLOCK  ADVISORY  WRITE 5577 fe:00:1234567 0 EOF"))
	f.Add([]byte("lock:\t1: POSIX  ADVISORY  READ 5577 fe:00:1234567 0 EOF\n"))
	f.Fuzz(func(t *testing.T, before []byte) {
		_, ok := lockLine(before)
		if ok && !bytes.Contains(before, []byte("FLOCK")) {
			t.Errorf("lockLine(%q) sees a lock", before)
		}
		for kind, want := range map[string]bool{"READ": true, "WRITE": false} {
			all := append(bytes.Clone(before), "\nlock:\t2: FLOCK  ADVISORY  "+kind+" 5577 fe:00:1 0 EOF\n"...)
			if shared, found := lockLine(all); !found || !ok && shared != want {
				t.Errorf("lockLine(%q) = %v, %v; want %v, true", all, shared, found, want)
			}
		}
	})
}

// FuzzStat: a program can have any name, and no name is taken for its other
// fields.
func FuzzStat(f *testing.F) {
	f.Add("sleep", int64(8230931))
	f.Add(") Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 (", int64(1))
	f.Add("\n)\n", int64(-1))
	f.Fuzz(func(t *testing.T, name string, ticks int64) {
		ticks &= 1<<40 - 1
		stat := fmt.Appendf(nil, "5577 (%s) S 5570 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 %d 0 0\n", name, ticks)
		plain := fmt.Appendf(nil, "5577 (x) S 5570 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 %d 0 0\n", ticks)
		if a, b := startTime(stat), startTime(plain); b.Sub(a).Abs() > time.Second {
			t.Errorf("startTime(%q) = %v; want %v", stat, a, b)
		}
	})
}

// FuzzStatus: a number is that of its own line.
func FuzzStatus(f *testing.F) {
	f.Add([]byte("Name:\tsleep\nUmask:\t0022\n"), 1000)
	f.Add([]byte("Name:\tUid:\t1\n"), 0)
	f.Fuzz(func(t *testing.T, before []byte, uid int) {
		status := fmt.Appendf(bytes.Clone(before), "\nUid:\t7\t%d\t8\t9\n", uid)
		got, ok := statusNumber(status, "Uid:", 1)
		if first := bytes.HasPrefix(before, []byte("Uid:")) || bytes.Contains(before, []byte("\nUid:")); !first && (got != uid || !ok) {
			t.Errorf("statusNumber(%q) = %d, %v; want %d, true", status, got, ok, uid)
		}
	})
}
