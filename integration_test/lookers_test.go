//go:build linux

package integration_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockrun/lockrun/pidfile"
	"golang.org/x/sys/unix"
)

func init() {
	helpers["look"] = look
	helpers["look-and-start"] = lookAndStart
	helpers["look-slowly"] = lookSlowly
}

// Who looks takes a shared lock for a moment:
//
//  1. Status opens the file of a free lock, sees no holder, takes it shared.
//  2. Start comes and is refused. There is no holder to name.
//  3. Status lets go.
//
// So who is refused tries again. No two starts are on one lock here: none may
// be refused at all.
//
// A helper does all of it. For root it has a PID namespace of its own: who looks
// at a free lock looks at every process first, and where there are few of them
// step 1 comes many times as often.
func TestLookingNeverRefusesAStart(t *testing.T) {
	t.Parallel()
	starts, looks := sized(40, 100, 10_000), sized(400, 1_000, 100_000)
	if os.Geteuid() == 0 {
		nsOwnPIDsUnder(t, "ns-reaper", "sleep", "600000")
	} else {
		looks /= 10
	}
	cmd := exec.Command(filesSelf, lockrun, filepath.Join(t.TempDir(), "instances"), strconv.Itoa(starts), strconv.Itoa(looks))
	cmd.Env = append(os.Environ(), helperVariable+"=look-and-start")
	r := runCmd(t, cmd)
	r.want(t, 0, "")
	t.Logf("%s in %v", strings.TrimSpace(r.stdout), r.took.Round(time.Millisecond))
}

// look asks for the states of the PID files of a directory, of each and of all
// in turn, until its standard input ends. It says so for every hundredth time.
func look(args []string) int {
	var end atomic.Bool
	go func() {
		io.Copy(io.Discard, os.Stdin)
		end.Store(true)
	}()
	for asked := 0; ; {
		paths, _ := filepath.Glob(filepath.Join(args[0], "*.pid"))
		for i := -1; i < len(paths); i++ {
			some := paths
			if i >= 0 {
				some = paths[i : i+1]
			}
			if _, errs := pidfile.InspectAll(some); errs != nil {
				for _, err := range errs {
					if err != nil {
						fmt.Fprintln(os.Stderr, err)
						return 1
					}
				}
			}
			if asked++; asked%100 == 0 {
				fmt.Println()
			}
			if end.Load() {
				return 0
			}
		}
	}
}

// lookAndStart starts until it has started and looked often enough.
func lookAndStart(args []string) int {
	os.Unsetenv(helperVariable)
	lockrun, dir := args[0], args[1]
	starts, _ := strconv.ParseInt(args[2], 10, 64)
	looks, _ := strconv.ParseInt(args[3], 10, 64)
	recycleMust(os.Mkdir(dir, 0o700))
	os.Setenv("LOCKRUN_DIR", dir)
	self, err := os.Executable()
	recycleMust(err)

	var started, failed, asked, commands atomic.Int64
	fail := func(format string, args ...any) {
		if failed.Add(1) <= 5 {
			fmt.Fprintf(os.Stderr, format+"\n", args...)
		}
	}
	over := make(chan struct{})
	isOver := func() bool {
		select {
		case <-over:
			return true
		default:
			return false
		}
	}
	var lookers, starters sync.WaitGroup
	for range 2 {
		cmd := exec.Command(self, dir)
		cmd.Env = append(os.Environ(), helperVariable+"=look")
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		recycleMust(err)
		out, err := cmd.StdoutPipe()
		recycleMust(err)
		recycleMust(cmd.Start())
		go func() { <-over; in.Close() }()
		lookers.Go(func() {
			for {
				n, err := out.Read(make([]byte, 1))
				asked.Add(int64(100 * n))
				if err != nil {
					break
				}
			}
			if err := cmd.Wait(); err != nil {
				fail("a looker: %v", err)
			}
		})
	}
	for _, args := range [][]string{{"status", "removes", "silent"}, {"list", "--all"}, {"status", "keeps"}, {"status", "--json", "removes", "keeps"}} {
		lookers.Go(func() {
			for !isOver() {
				var stderr strings.Builder
				cmd := exec.Command(lockrun, args...)
				cmd.Stderr = &stderr
				if out, _ := cmd.Output(); stderr.Len() > 0 {
					fail("%v: %s%s", args, out, stderr.String())
				}
				commands.Add(1)
			}
		})
	}
	for n, args := range [][]string{
		{"keeps", "--", "true"},
		{"--remove", "removes", "--", "true"},
		{"--no-pid", "silent", "--", "true"},
		{"start", "--remove", "daemon%d", "--", "true"},
	} {
		starters.Go(func() {
			for i := 0; started.Load() < starts || asked.Load() < looks; i++ {
				words := append([]string(nil), args...)
				if n == 3 { // the last one may run still
					words[2] = fmt.Sprint("daemon", i)
				}
				if out, err := exec.Command(lockrun, words...).CombinedOutput(); err != nil || len(out) > 0 {
					fail("start %v: %v, %s", words, err, out)
				}
				started.Add(1)
			}
		})
	}
	starters.Wait()
	close(over)
	lookers.Wait()
	fmt.Printf("%d starts, %d failures; beside them %d times pidfile.InspectAll, and %d times lockrun status or list",
		started.Load(), failed.Load(), asked.Load(), commands.Load())
	return int(min(failed.Load(), 1))
}

// The worst case of it: status is held up while it has the lock, as on a busy
// machine, until start comes for the second time, or for a later one.
func TestStartBesideASlowLooker(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for _, try := range []string{"2", "3", "4", "5", "6"} {
		cmd := helper(t, "look-slowly", lockrun, filepath.Join(t.TempDir(), "L"), try)
		r := runCmd(t, cmd)
		if r.status == recycleMissing {
			missing(t, "%s", r.stderr)
		}
		r.want(t, 0, "")
	}
}

// lookSlowly runs status, which must wait at its LOCK_UN until start is at its
// flock(2) number try.
func lookSlowly(args []string) int {
	os.Unsetenv(helperVariable)
	lockrun, l := args[0], args[1]
	last, _ := strconv.Atoi(args[2])
	recycleMust(os.WriteFile(l, nil, 0o600))
	runtime.LockOSThread()
	g, err := newGate(unix.SYS_FLOCK)
	if err != nil {
		fmt.Fprintln(os.Stderr, "seccomp:", err)
		return recycleMissing
	}
	status := exec.Command(lockrun, "status", "-q", l)
	holds, goOn, gone := make(chan bool), make(chan bool), make(chan error, 1)
	var held sync.Once
	var tries atomic.Int64
	g.set(func(n seccompNotif) {
		switch {
		case n.args[1] == unix.LOCK_UN: // by status; start does so when it has won
			held.Do(func() { close(holds) })
			<-goOn
		case n.args[1] == unix.LOCK_EX|unix.LOCK_NB:
			if tries.Add(1) == int64(last) {
				close(goOn)
				<-gone
			}
		}
	})
	recycleMust(status.Start())
	<-holds
	go func() {
		status.Wait()
		close(gone)
	}()
	if out, err := exec.Command(lockrun, l, "--", "true").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "start, which was to win at its attempt %d, after %d: %v, %s", last, tries.Load(), err, out)
		if tries.Load() < int64(last) {
			close(goOn)
			<-gone
		}
		return 1
	}
	return 0
}
