//go:build linux && amd64

package integration_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// injTally counts the injections of a scenario.
type injTally struct {
	calls, runtime         int // calls that were recorded, and those of them that are the runtime's
	planned                int
	leftOut                int // not planned: what the README does not promise
	kills, errnos          int // that struck
	again                  int // runs that were made again because the call did not come
	notReached, violations int
}

// TestCrashAtEverySystemCall records the system calls of everything that lockrun
// does, and then, once for each, kills the process there, and once for each errno
// that the call can have lets it fail. Whatever happens, there are never two, the
// next start wins, nothing of others is changed, nobody is left behind, and the exit
// status and the message are those that are documented.
//
// LOCKRUN_TEST_INJECT has the names of the scenarios that are wanted, if not all are.
func TestCrashAtEverySystemCall(t *testing.T) {
	t.Parallel()
	exBuild(t, "daemon")
	pool := newInjPool(t, 4)
	most := sized(2, 6, 1<<20) // injections of each scenario
	table := &strings.Builder{}
	fmt.Fprintf(table, "%-12s %6s %8s %8s %8s %6s %6s %6s %11s\n", "scenario", "calls", "runtime", "left out", "planned", "SIGKILL", "errno", "again", "not reached")
	var mu sync.Mutex
	outcomes := map[string]int{}
	for _, name := range injOrder {
		if only := os.Getenv("LOCKRUN_TEST_INJECT"); only != "" && !slices.Contains(strings.Fields(only), name) {
			continue
		}
		var tally injTally
		begin := time.Now()
		aims, all := pool.plan(t, name, &tally, most)
		var jobs sync.WaitGroup
		for _, aim := range aims {
			jobs.Add(1)
			go func() {
				defer jobs.Done()
				pool.inject(t, name, aim, func(r injResult, again int) {
					mu.Lock()
					defer mu.Unlock()
					tally.again += again
					tally.violations += len(r.Violations)
					switch {
					case !r.Struck:
						tally.notReached++
						t.Logf("%s: not reached: %v", name, aim)
					case aim.Errno == 0:
						tally.kills++
					default:
						tally.errnos++
					}
					for _, v := range r.Violations {
						t.Errorf("%s: %v: status %d after %v: %s", name, aim, r.Status, r.Took.Round(time.Millisecond), v)
					}
					outcomes[fmt.Sprintf("%s: %d %s", name, r.Status, injDigits(r.Stderr))]++
				})
			}()
		}
		jobs.Wait()
		t.Logf("%s: %v", name, time.Since(begin).Round(time.Second))
		fmt.Fprintf(table, "%-12s %6d %8d %8d %8s %6d %6d %6d %11d\n", name, tally.calls, tally.runtime, tally.leftOut, fmt.Sprintf("%d/%d", len(aims), all), tally.kills, tally.errnos, tally.again, tally.notReached)
		if tally.kills+tally.errnos+tally.notReached != len(aims) {
			t.Errorf("%s: %d injections were planned, and %+v is accounted for", name, len(aims), tally)
		}
	}
	t.Logf("injections:\n%s", table)
	if os.Getenv("LOCKRUN_TEST_FULL") == "1" {
		words := []string{}
		for outcome, n := range outcomes {
			words = append(words, fmt.Sprintf("%6d %s", n, outcome))
		}
		slices.SortFunc(words, func(a, b string) int { return strings.Compare(a[7:], b[7:]) })
		t.Logf("outcomes:\n%s", strings.Join(words, "\n"))
	}
}

// injPool is some workers.
type injPool struct {
	t    *testing.T
	dir  string
	idle chan *injPipe
}

type injPipe struct {
	in  *json.Encoder
	out *json.Decoder
	n   int
}

func newInjPool(t *testing.T, workers int) *injPool {
	t.Helper()
	pool := &injPool{t, t.TempDir(), make(chan *injPipe, workers)}
	for n := range workers {
		cmd := helper(t, "inj-worker")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
		if os.Geteuid() != 0 {
			cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
		}
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		filesMust(t, err)
		out, err := cmd.StdoutPipe()
		filesMust(t, err)
		if err := cmd.Start(); err != nil {
			missing(t, "a PID namespace: %v", err)
		}
		t.Cleanup(func() {
			in.Close()
			cmd.Wait()
		})
		pool.idle <- &injPipe{json.NewEncoder(in), json.NewDecoder(out), n}
	}
	return pool
}

// do does one run.
func (p *injPool) do(scenario string, aim *injAim) injResult {
	pipe := <-p.idle
	defer func() { p.idle <- pipe }()
	job := injJob{
		Scenario: scenario, Dir: filepath.Join(p.dir, fmt.Sprint(pipe.n)), Aim: aim,
		Lockrun: lockrun, Daemon: filepath.Join(filepath.Dir(lockrun), "daemon"),
	}
	var r injResult
	if err := pipe.in.Encode(&job); err != nil {
		return injResult{Violations: []string{fmt.Sprintf("the worker: %v", err)}}
	}
	if err := pipe.out.Decode(&r); err != nil {
		return injResult{Violations: []string{fmt.Sprintf("the worker: %v", err)}}
	}
	return r
}

// recordings is how often a scenario is recorded: the calls of a wait, say, are more
// or less, and the most that were seen are planned for.
const recordings = 3

// again is how often an injection is tried whose call did not come. What comes in
// one of several runs only is counted as not reached if it comes in none of these.
const again = 4

// plan records a scenario and returns the injections to be made, at most so many,
// spread over all of it; all is how many there are.
func (p *injPool) plan(t *testing.T, scenario string, tally *injTally, most int) (aims []injAim, all int) {
	t.Helper()
	counts := map[injPoint]int{}
	var order []injPoint
	for range recordings {
		r := p.do(scenario, nil)
		if len(r.Violations) > 0 {
			t.Fatalf("%s, undisturbed: status %d, stderr %q: %q", scenario, r.Status, r.Stderr, r.Violations)
		}
		calls, runtime := 0, 0
		for _, c := range r.Counts {
			if counts[c.injPoint] == 0 {
				order = append(order, c.injPoint)
			}
			counts[c.injPoint] = max(counts[c.injPoint], c.Count)
			calls += c.Count
			if c.runtime() {
				runtime += c.Count
			}
		}
		tally.calls, tally.runtime = max(tally.calls, calls), max(tally.runtime, runtime)
	}
	for _, point := range order {
		errnos, ok := injErrnosOf(point)
		if !ok {
			t.Errorf("%s: no rule says what can go wrong at %v", scenario, point)
		}
		n := counts[point]
		if point.runtime() {
			n = 1
		}
		for nth := 1; nth <= n; nth++ {
			aims = append(aims, injAim{point, nth, 0})
			for _, errno := range errnos {
				if scenario == "deleted" && errno == unix.EACCES && strings.HasPrefix(point.Detail, "/proc") {
					tally.leftOut++ // whose processes may not be looked at is not seen, as the README says
					continue
				}
				aims = append(aims, injAim{point, nth, errno})
			}
		}
	}
	all = len(aims)
	if all > most {
		var sample []injAim
		for i := range most {
			sample = append(sample, aims[(2*i+1)*all/(2*most)])
		}
		aims = sample
	}
	tally.planned = len(aims)
	return aims, all
}

// inject makes one injection.
func (p *injPool) inject(t *testing.T, scenario string, aim injAim, done func(r injResult, tries int)) {
	for try := 0; ; try++ {
		r := p.do(scenario, &aim)
		if r.Struck || len(r.Violations) > 0 || try == again {
			done(r, try)
			return
		}
	}
}

// injDigits takes the numbers out of a message.
func injDigits(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r >= '0' && r <= '9' }), "N")
}
