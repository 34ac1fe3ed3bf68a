//go:build linux

package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func init() {
	helpers["first-thread-ends"] = firstThreadEnds
}

// firstThreadEnds is a program that holds a lock, and whose first thread has ended,
// as by pthread_exit(3). What /proc shows of it in the usual place is a zombie
// without descriptors.
func firstThreadEnds(args []string) int {
	f, err := os.OpenFile(args[0], os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// Each goroutine keeps its thread, until one has got the first.
	var end func()
	end = func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			unix.Syscall(unix.SYS_EXIT, 0, 0, 0)
		}
		go end()
		select {}
	}
	go end()
	var ends chan os.Signal
	<-ends // for ever; SIGTERM is deadly
	runtime.KeepAlive(f)
	return 0
}

// TestHolderWhoseFirstThreadHasEnded: it lives and holds the lock, on a deleted file
// too, and can be stopped.
func TestHolderWhoseFirstThreadHasEnded(t *testing.T) {
	t.Parallel()
	for _, deleted := range []bool{false, true} {
		t.Run(fmt.Sprintf("deleted %v", deleted), func(t *testing.T) {
			t.Parallel()
			l := filepath.Join(t.TempDir(), "L")
			holder := background(t, helper(t, "first-thread-ends", l))
			eventually(t, "its first thread has ended", func() bool { return ttyStatOf(holder.Process.Pid).state == "Z" })
			refusal := fmt.Sprintf("held by process %d", holder.Process.Pid)
			if deleted {
				filesMust(t, os.Remove(l))
				refusal = "though the file was deleted"
			}
			run(t, l, "--", "true").want(t, 75, refusal)
			run(t, "--no-pid", l, "--", "true").want(t, 75, refusal)
			run(t, "stop", l).want(t, 0, "")
			holder.Wait()
			run(t, l, "--", "true").want(t, 0, "")
		})
	}
}
