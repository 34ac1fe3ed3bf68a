//go:build linux

package integration_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lockrun/lockrun/lock"
	"github.com/lockrun/lockrun/pidfile"
	"golang.org/x/sys/unix"
)

// Promise 5, many times over: the number of a process that held the lock is
// given to a stranger on purpose, and stop and signal must not hit it. All of
// it happens in a PID namespace, in which one helper plays every round, since a
// number means the same only to those who are inside.

func init() {
	helpers["recycle"] = func(args []string) int { return recycleMain(args, recyclePlain) }
	helpers["recycle-gated"] = func(args []string) int { return recycleMain(args, recycleGated) }
}

const recycleNext = "/proc/sys/kernel/ns_last_pid"

func TestRecycledNumbersAreNeverSignalled(t *testing.T) {
	t.Parallel()
	recycleRounds(t, "recycle", sized(20, 60, 10_000))
}

// The number changes hands while stop or signal are at work:
//
//  1. Stop reads PID P in the file, and sees that P carries the lock.
//  2. P is killed and reaped. A stranger gets the number P.
//  3. Stop opens a pidfd of P: the stranger.
//  4. Stop signals it.
//
// Between 3 and 4 it looks again whether P carries the lock. Or, later:
//
//  1. Stop has a pidfd of P, and has seen that P carries the lock.
//  2. P is killed and reaped. A stranger gets the number P.
//  3. Stop signals. The pidfd still means the old P; the number would not.
//
// So stop is held up in the system call that begins the next step, until the
// stranger is there.
func TestNumberIsRecycledWhileStopRuns(t *testing.T) {
	t.Parallel()
	recycleRounds(t, "recycle-gated", sized(12, 24, 1_200))
}

func recycleRounds(t *testing.T, name string, rounds int) {
	nsOwnPIDsUnder(t, "ns-reaper", "sleep", "600000")
	if !exists(recycleNext) {
		missing(t, "no %s", recycleNext)
	}
	// helper would look into /proc, which is another namespace's.
	cmd := exec.Command(filesSelf, lockrun, t.TempDir(), strconv.Itoa(rounds))
	cmd.Env = append(os.Environ(), helperVariable+"="+name, "GORACE=atexit_sleep_ms=0")
	r := runCmd(t, cmd)
	if r.status == recycleMissing {
		missing(t, "%s", r.stderr)
	}
	r.want(t, 0, "")
	t.Logf("%sin %v", strings.ReplaceAll(r.stdout, "\n", " "), r.took.Round(time.Millisecond))
}

const recycleMissing = 3 // the exit status of a helper that lacks something

// recycler is what a helper that plays rounds knows.
type recycler struct {
	lockrun, l string
	rounds     int

	order   chan *exec.Cmd // to the thread that starts strangers
	started chan error

	failed                                 int
	strangers, signals, tries, lost        int
	byKind                                 map[string]int
	stops, sends, nativeStops, nativeSends int
}

func recycleMain(args []string, play func(*recycler)) int {
	os.Unsetenv(helperVariable)
	rounds, _ := strconv.Atoi(args[2])
	r := &recycler{
		lockrun: args[0], l: filepath.Join(args[1], "L"), rounds: rounds,
		order: make(chan *exec.Cmd), started: make(chan error), byKind: make(map[string]int),
	}
	go r.startStrangers()
	r.checkMeter()
	play(r)
	fmt.Printf("%d rounds %v: %d strangers (after %d attempts too early, and %d too late) got %d signals\n",
		r.rounds, r.byKind, r.strangers, r.tries-r.strangers-r.lost, r.lost, r.signals)
	fmt.Printf("from lockrun stop (%d), lockrun signal (%d), pidfile.Stop (%d), pidfile.Signal (%d)\n",
		r.stops, r.sends, r.nativeStops, r.nativeSends)
	if r.failed > 0 {
		return 1
	}
	return 0
}

// fail reports the first failures; one is enough to know.
func (r *recycler) fail(format string, args ...any) {
	if r.failed++; r.failed <= 5 {
		fmt.Fprintf(os.Stderr, format+"\n", args...)
	}
}

func recycleMust(err error) {
	if err != nil {
		panic(err)
	}
}

// startStrangers starts processes with every signal blocked. What is sent to
// them stays pending for ever, so the kernel itself keeps the count, and there
// is no handler to wait for. Only SIGKILL and SIGSTOP can't be blocked, and
// what they do is seen.
func (r *recycler) startStrangers() {
	runtime.LockOSThread()
	var all unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	recycleMust(unix.PthreadSigmask(unix.SIG_BLOCK, &all, nil))
	for cmd := range r.order {
		r.started <- cmd.Start()
	}
}

func (r *recycler) stranger() *exec.Cmd {
	cmd := exec.Command("sleep", "600000")
	r.order <- cmd
	recycleMust(<-r.started)
	return cmd
}

// hits returns how many signals a stranger got, at least.
func hits(pid int) (n int, why string) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 1, err.Error()
	}
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
		switch key {
		case "State":
			if strings.IndexByte("ZXTt", value[0]) >= 0 {
				n++
				why += " state " + value
			}
		case "SigPnd", "ShdPnd":
			pending, err := strconv.ParseUint(value, 16, 64)
			recycleMust(err)
			for s := range 64 {
				if pending&(1<<s) != 0 {
					n++
					why += " " + unix.SignalName(syscall.Signal(s+1))
				}
			}
		}
	}
	return n, why
}

// checkMeter makes sure that a signal to a stranger would be seen.
func (r *recycler) checkMeter() {
	s := r.stranger()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGCONT, syscall.SIGWINCH} {
		recycleMust(s.Process.Signal(sig))
	}
	if n, why := hits(s.Process.Pid); n != 3 {
		r.fail("a stranger got 3 signals and %d were counted:%s", n, why)
	}
	recycleEnd(s)
	r.checkUnhurt(nil)
}

func recycleEnd(cmd *exec.Cmd) {
	cmd.Process.Kill()
	cmd.Wait()
}

// recycle gives a number to a stranger. The number is free a moment after /proc
// has lost the process. It returns nil if somebody else was given it meanwhile: a
// new thread, of ours or of the lockrun that is held up, keeps it for long.
func (r *recycler) recycle(number int) *exec.Cmd {
	for deadline := time.Now().Add(20 * time.Second); ; {
		if time.Now().After(deadline) {
			panic(fmt.Sprintf("the number %d does not become free", number))
		}
		r.tries++
		recycleMust(os.WriteFile(recycleNext, []byte(strconv.Itoa(number-1)), 0))
		s := r.stranger()
		if s.Process.Pid == number {
			r.strangers++
			return s
		}
		recycleEnd(s)
		if exists(fmt.Sprintf("/proc/%d", number)) {
			return nil
		}
	}
}

// lose is the end of a round in which the number went to somebody else: it is
// played again.
func (r *recycler) lose(in instance) {
	if r.lost++; r.lost > r.rounds {
		panic("the numbers go to others, time and again")
	}
	r.end(in)
}

// checkUnhurt ends a stranger and looks whether it was signalled.
func (r *recycler) checkUnhurt(s *exec.Cmd, round ...any) {
	if s == nil {
		return
	}
	if n, why := hits(s.Process.Pid); n > 0 {
		r.signals += n
		r.fail("%v: stranger %d was hit:%s", round, s.Process.Pid, why)
	}
	recycleEnd(s)
}

// lockrunCmd runs lockrun to its end.
func (r *recycler) lockrunCmd(args ...string) (status int, said string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.lockrun, args...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		panic(err)
	}
	return statusOf(cmd.ProcessState), string(out)
}

// instance is a lockrun start and what it started.
type instance struct {
	supervisor, command int
	child               int    // of the command, 0 for none: it has the lock too
	reap                func() // the supervisor, nil if that is PID 1's to do
}

// start starts an instance. With child, the command has one.
//
// A number is not free while it is that of a session or of a group which others
// are still in. So the child gets a session of its own.
func (r *recycler) start(child bool) (in instance) {
	argv, want := []string{"sleep", "600000"}, 2
	if child {
		argv, want = []string{"sh", "-c", "setsid sleep 600000 & exec sleep 600000"}, 3
	}
	if status, said := r.lockrunCmd(append([]string{"start", r.l, "--"}, argv...)...); status != 0 {
		panic(fmt.Sprintf("start: %d, %s", status, said))
	}
	var err error
	in.command, err = pidfile.Read(r.l)
	recycleMust(err)
	in.supervisor = nsParent(in.command)
	r.await(&in, want)
	return in
}

// startInForeground is start with a supervisor that leads no session, so that
// its number becomes free before its command's does. It is reaped by kill.
func (r *recycler) startInForeground() (in instance) {
	cmd := exec.Command(r.lockrun, r.l, "--", "sleep", "600000")
	recycleMust(cmd.Start())
	in.supervisor, in.reap = cmd.Process.Pid, func() { cmd.Wait() }
	// What stands in the file at first is of the round before.
	for in.command == 0 || nsParent(in.command) != in.supervisor {
		in.command, _ = pidfile.Read(r.l)
		runtime.Gosched()
	}
	r.await(&in, 2)
	return in
}

// await returns when that many processes have the lock.
func (r *recycler) await(in *instance, want int) {
	for deadline := time.Now().Add(20 * time.Second); ; runtime.Gosched() {
		if time.Now().After(deadline) {
			panic(fmt.Sprintf("not %d processes with the lock: %+v", want, in))
		}
		holders, err := lock.Holders(r.l)
		recycleMust(err)
		for _, h := range holders {
			if h.PID != in.command && h.PID != in.supervisor && nsParent(h.PID) == in.command {
				in.child = h.PID
			}
		}
		if len(holders) == want && (in.child != 0) == (want == 3) {
			return
		}
	}
}

// kill kills processes of an instance and returns when there are none of that
// number.
func (in *instance) kill(pids ...int) {
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != unix.ESRCH { // it can be dying of what stop sent
			recycleMust(err)
		}
		if pid == in.supervisor && in.reap != nil {
			in.reap()
		}
		for deadline := time.Now().Add(20 * time.Second); syscall.Kill(pid, 0) != unix.ESRCH; runtime.Gosched() {
			if time.Now().After(deadline) {
				status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
				panic(fmt.Sprintf("process %d was killed and is there: %+v\n%s", pid, in, status))
			}
		}
	}
}

// end makes sure that the lock is free for the next round, whoever is left.
func (r *recycler) end(in instance) {
	for _, pid := range []int{in.supervisor, in.command, in.child} {
		if ok, _ := r.carries(pid); ok {
			in.kill(pid)
		}
	}
	// Who is about to end, killed by stop, has no descriptors any more before the
	// kernel has closed them.
	for deadline := time.Now().Add(20 * time.Second); ; runtime.Gosched() {
		state, err := pidfile.Inspect(r.l)
		if err == nil && state.State != pidfile.Running {
			return
		}
		if err != nil || state.Holder.PID != 0 || time.Now().After(deadline) {
			r.fail("at the end of a round: %+v, %v", state, err)
			return
		}
	}
}

func (r *recycler) carries(pid int) (bool, error) {
	f, err := lock.Open(r.l)
	if err != nil || pid == 0 {
		return false, err
	}
	defer f.Close()
	return lock.Carries(pid, f)
}

// recyclePlain: the stranger is there before stop is.
func recyclePlain(r *recycler) {
	for i := 0; i < r.rounds; i++ {
		var in instance
		var s *exec.Cmd
		kind, held := "", true
		switch i % 20 {
		case 0: // lockrun was killed before it could record its command
			kind = "supervisor's, recorded"
			in = r.startInForeground()
			in.kill(in.supervisor)
			recycleMust(os.WriteFile(r.l, fmt.Appendln(nil, in.supervisor), 0))
			s = r.recycle(in.supervisor)
		case 1: // what the command started has the lock
			kind = "command's, with a child"
			in = r.start(true)
			in.kill(in.supervisor, in.command)
			s = r.recycle(in.command)
		case 2, 3, 4, 5:
			kind = "supervisor's"
			in = r.startInForeground()
			in.kill(in.supervisor)
			s = r.recycle(in.supervisor)
		default:
			kind, held = "command's", false
			in = r.start(false)
			in.kill(in.supervisor, in.command)
			s = r.recycle(in.command)
		}
		if s == nil {
			r.lose(in)
			i--
			continue
		}
		r.byKind[kind]++
		if state, err := pidfile.Inspect(r.l); err != nil || (state.State == pidfile.Running) != held || state.Holder.PID == s.Process.Pid {
			r.fail("round %d, %s: %+v, %v; want running: %v", i, kind, state, err, held)
		}
		// WINCH does nothing to a command.
		r.checkSignal(i%2 == 0, held, i, kind)
		r.checkStop(i%3 != 0, held, i, kind)
		if state, err := pidfile.Inspect(r.l); err != nil || state.State == pidfile.Running {
			r.fail("round %d, %s: after stop %+v, %v", i, kind, state, err)
		}
		r.checkUnhurt(s, i, kind)
		r.end(in)
	}
}

// checkStop stops by the command or by the library, and wants it to say whether
// there was something to stop.
func (r *recycler) checkStop(command, held bool, round ...any) {
	if command {
		r.stops++
		status, said := r.lockrunCmd("stop", "--schedule", "TERM/0.1/KILL/20", r.l)
		if status != 0 || strings.Contains(said, "not running") == held {
			r.fail("%v: stop: %d, %q; want it to find something: %v", round, status, said, held)
		}
		return
	}
	r.nativeStops++
	schedule := pidfile.Schedule{{Signal: syscall.SIGTERM, Wait: 100 * time.Millisecond}, {Signal: syscall.SIGKILL, Wait: 20 * time.Second}}
	if err := pidfile.Stop(context.Background(), r.l, schedule); errors.Is(err, pidfile.ErrNotRunning) == held || held && err != nil {
		r.fail("%v: Stop: %v; want it to find something: %v", round, err, held)
	}
}

func (r *recycler) checkSignal(command, held bool, round ...any) {
	if command {
		r.sends++
		status, said := r.lockrunCmd("signal", r.l, "WINCH")
		if status != 0 || strings.Contains(said, "not running") == held {
			r.fail("%v: signal: %d, %q; want it to find something: %v", round, status, said, held)
		}
		return
	}
	r.nativeSends++
	if err := pidfile.Signal(r.l, syscall.SIGWINCH); errors.Is(err, pidfile.ErrNotRunning) == held || held && err != nil {
		r.fail("%v: Signal: %v; want it to find something: %v", round, err, held)
	}
}

// recycleGated: the stranger gets the number while stop runs. Whatever passes
// the gate is done by this thread, and by what it starts.
//
// There are no control sockets: with one it is the supervisor who ends its command,
// which he alone reaps.
func recycleGated(r *recycler) {
	os.Setenv("LOCKRUN_DIR", "/dev/null")
	runtime.LockOSThread()
	g, err := newGate(unix.SYS_PIDFD_OPEN, unix.SYS_PIDFD_SEND_SIGNAL, unix.SYS_KILL)
	if err != nil {
		fmt.Fprintln(os.Stderr, "seccomp:", err)
		os.Exit(recycleMissing)
	}
	for i := 0; i < r.rounds; i++ {
		in := r.start(i%4 == 1)
		where := "before pidfd_open"
		if i/4%2 == 1 {
			where = "before the signal"
		}
		if i%4 == 3 { // whoever has it, has not recorded himself
			where += ", unrecorded"
			recycleMust(os.Truncate(r.l, 0))
		}
		var stranger *exec.Cmd
		var at bool
		// A call that a signal interrupts comes a second time, and has to wait
		// for what is done about the first.
		var mu sync.Mutex
		g.set(func(n seccompNotif) {
			atOpen := n.nr == unix.SYS_PIDFD_OPEN
			mu.Lock()
			defer mu.Unlock()
			if at || atOpen != (i/4%2 == 0) || atOpen && int(n.args[0]) != in.command {
				return
			}
			at = true
			in.kill(in.supervisor, in.command)
			stranger = r.recycle(in.command)
		})
		// Who looked before the gate has found something, and who comes to it
		// later, or looks again, may have not.
		switch i % 3 {
		case 0:
			r.stops++
			if status, said := r.lockrunCmd("stop", "--schedule", "TERM/0.1/KILL/20", r.l); status != 0 {
				r.fail("round %d, %s: stop: %d, %s", i, where, status, said)
			}
		case 1:
			r.sends++
			if status, said := r.lockrunCmd("signal", r.l, "TERM"); status != 0 {
				r.fail("round %d, %s: signal: %d, %s", i, where, status, said)
			}
		case 2:
			r.nativeStops++
			schedule := pidfile.Schedule{{Signal: syscall.SIGTERM, Wait: 100 * time.Millisecond}, {Signal: syscall.SIGKILL, Wait: 20 * time.Second}}
			if err := pidfile.Stop(context.Background(), r.l, schedule); err != nil && !errors.Is(err, pidfile.ErrNotRunning) {
				r.fail("round %d, %s: Stop: %v", i, where, err)
			}
		}
		g.set(nil)
		mu.Lock() // for the race detector, which does not see what goes through the kernel
		came, s := at, stranger
		mu.Unlock()
		if came && s == nil {
			r.lose(in)
			i--
			continue
		}
		r.byKind[where]++
		if !came {
			r.fail("round %d, %s: nobody came to the gate", i, where)
		}
		if state, err := pidfile.Inspect(r.l); i%3 != 1 && (err != nil || state.State == pidfile.Running) {
			r.fail("round %d, %s: after stop %+v, %v", i, where, state, err)
		}
		r.checkUnhurt(s, i, where)
		r.end(in)
	}
}
