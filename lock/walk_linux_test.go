package lock

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestProcessesThatComeDuringTheWalk is the race of eachProcess: what is started
// while the walk goes on is visited too.
func TestProcessesThatComeDuringTheWalk(t *testing.T) {
	child := exec.Command("sleep", "60")
	visited := false
	err := eachProcess(func(pid int) bool {
		if child.Process == nil {
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
		}
		visited = visited || pid == child.Process.Pid
		return true
	})
	child.Process.Kill()
	child.Wait()
	if err != nil || !visited {
		t.Errorf("eachProcess = %v, came to the new process: %v", err, visited)
	}
}

// TestNumberIsGivenAgainDuringTheWalk: a process that ends when the walk has come
// to it, and one that is given its number. The second one is visited too.
func TestNumberIsGivenAgainDuringTheWalk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the next PID is root's to choose")
	}
	for range 100 { // others are given numbers too
		first := exec.Command("sleep", "60")
		if err := first.Start(); err != nil {
			t.Fatal(err)
		}
		second := exec.Command("sleep", "60")
		visits := 0
		err := eachProcess(func(pid int) bool {
			if pid != first.Process.Pid {
				return true
			}
			visits++
			if visits > 1 {
				return true
			}
			first.Process.Kill()
			first.Wait()
			if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid-1)), 0); err != nil {
				t.Fatal(err)
			}
			if err := second.Start(); err != nil {
				t.Fatal(err)
			}
			return true
		})
		second.Process.Kill()
		second.Wait()
		if err != nil {
			t.Fatal(err)
		}
		if second.Process.Pid == first.Process.Pid {
			if visits != 2 {
				t.Errorf("came %d times to number %d, want 2: it was given again", visits, first.Process.Pid)
			}
			return
		}
	}
	t.Error("the number was never given again")
}

// TestNumbersBeginAnewDuringTheWalk: what was given a low number when the list was
// past it is in the next one, and that is made although nothing in this one is new.
func TestNumbersBeginAnewDuringTheWalk(t *testing.T) {
	dir := t.TempDir()
	mkdir := func(number int) {
		if err := os.Mkdir(filepath.Join(dir, strconv.Itoa(number)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	mkdir(500)
	asked := 0
	last := func() int { // once before each list, once after it
		asked++
		if asked == 4 {
			mkdir(301)
		}
		return map[bool]int{true: 500, false: 301}[asked < 4]
	}
	visited := []int{}
	err := eachNumber(dir, last, func(n int) bool { visited = append(visited, n); return true })
	if err != nil || !slices.Equal(visited, []int{500, 301}) {
		t.Errorf("came to %v, %v; want 500 and 301", visited, err)
	}
}

// TestLastPID: the kernel tells the number that was given last.
func TestLastPID(t *testing.T) {
	for range 100 { // others are given numbers too
		child := exec.Command("true")
		if err := child.Run(); err != nil {
			t.Fatal(err)
		}
		if last := lastPID(); last == child.Process.Pid {
			return
		}
	}
	t.Errorf("lastPID() = %d, never that of a child", lastPID())
}

// TestDescriptorIsMovedDuringTheLook: a lock that is given one number after the other
// is seen unless it is moved as often as the list is read.
func TestDescriptorIsMovedDuringTheLook(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err == nil {
		err = unix.Flock(fd, unix.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	id, err := idOfDescriptor(fd)
	if err != nil {
		t.Fatal(err)
	}
	var moves atomic.Int64
	over, ended := make(chan struct{}), make(chan struct{})
	defer func() { close(over); <-ended }()
	go func() {
		defer close(ended)
		const low, high = 100, 1000 // nobody else here has so many
		at := fd
		for next := low; ; next++ {
			if next == high {
				next = low
			}
			unix.Dup3(at, next, unix.O_CLOEXEC)
			if next < at {
				// One that gets a lower number can be passed over by each list.
				time.Sleep(10 * time.Millisecond)
			}
			moves.Add(1)
			unix.Close(at)
			at = next
			select {
			case <-over:
				unix.Close(at)
				return
			case <-time.After(300 * time.Microsecond):
			}
		}
	}()
	for n := range 3000 {
		before := moves.Load()
		_, ok, err := carries(os.Getpid(), id)
		if moved := moves.Load() - before + 1; err != nil || !ok && moved < listings {
			t.Fatalf("look %d: carries = %v, %v; moved at most %d times", n, ok, err, moved)
		}
	}
}
