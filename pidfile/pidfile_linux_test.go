package pidfile_test

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/lockrun/lockrun/pidfile"
	"golang.org/x/sys/unix"
)

// TestHoldOnFullDisk: on a real one a new PID file can't be written, is gone
// again, and is not left locked.
func TestHoldOnFullDisk(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4k,nr_inodes=10"); err != nil {
		t.Skipf("mount: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	write(t, filepath.Join(dir, "data"), strings.Repeat("x", 4096))
	p := filepath.Join(dir, "test.pid")
	if _, err := pidfile.Hold(p, nil); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("Hold = %v; want ENOSPC", err)
	}
	wantContent(t, p, "absent")
	if err := os.Remove(filepath.Join(dir, "data")); err != nil {
		t.Fatal(err)
	}
	f := mustHold(t, p, nil)
	wantContent(t, p, ownPID())
	f.Close()
}

// TestWriteFails: an error leaves what stood there before. The disk is "full"
// from the size of the old content on, by RLIMIT_FSIZE in a process of its own.
func TestWriteFails(t *testing.T) {
	t.Parallel()
	for _, before := range []string{"", "1\n", "22\n", " 7 \n"} {
		p := path(t)
		write(t, p, before)
		cmd := helper(t, "full disk", p, strconv.Itoa(len(before)))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%q: %v\n%s", before, err, out)
		}
		wantContent(t, p, before)
	}
}

func init() {
	helpers["full disk"] = func(args []string) {
		signal.Ignore(syscall.SIGXFSZ) // so that write(2) fails instead
		size, _ := strconv.ParseUint(args[1], 10, 64)
		f, err := pidfile.TryOpen(args[0], &pidfile.Options{Keep: true})
		if err != nil {
			panic(err)
		}
		before, _ := os.ReadFile(args[0])
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: size, Max: unix.RLIM_INFINITY}); err != nil {
			panic(err)
		}
		if err := f.Write(4194303); !errors.Is(err, unix.EFBIG) {
			panic(fmt.Sprintf("Write = %v; want EFBIG", err))
		}
		if after, _ := os.ReadFile(args[0]); string(after) != string(before) {
			panic(fmt.Sprintf("%q after a failed Write; want %q", after, before))
		}
		// It is still held, and a number that fits can be written.
		if len(before) > 0 {
			if err := f.Write(5); err != nil {
				panic(err)
			}
			if err := f.Write(4194303); err == nil {
				panic("Write succeeded")
			}
			if after, _ := os.ReadFile(args[0]); string(after) != "5\n" {
				panic(fmt.Sprintf("%q; want 5", after))
			}
		}
		os.WriteFile(args[0], before, 0o600)
		os.Exit(0)
	}
}
