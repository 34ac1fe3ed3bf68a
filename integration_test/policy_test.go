//go:build linux

package integration_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// waitingFor waits until a process is queued in the kernel for the lock on a file.
func waitingFor(t *testing.T, path string, pid int) {
	t.Helper()
	eventually(t, fmt.Sprintf("process %d waits for %s", pid, filepath.Base(path)), func() bool { return detBlockedOn(path, pid) })
}

func TestQueue(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	file := filepath.Join(c.dir, "job.pid")
	_, holder := c.held("job")
	job := func(name string) *exec.Cmd {
		return c.command("--if-held", "queue:2", "job", "--", "sh", "-c", `echo "$1" >>"$2"`, "sh", name, c.dir+".ran")
	}
	first, second := background(t, job("first")), job("second")
	waitingFor(t, file, first.Process.Pid)
	background(t, second)
	waitingFor(t, file, second.Process.Pid)
	full := fmt.Sprintf("job: held by process %d (sleep 600), user", holder)
	r := filesRunCmd(t, job("third"))
	r.want(t, 75, full)
	r.want(t, 75, "and enough others wait for it")
	// Who asks for a longer queue finds a place in it.
	third := background(t, c.command("--if-held=queue:3", "job", "--", "true"))
	waitingFor(t, file, third.Process.Pid)
	// The place of one that is killed is free at once.
	filesMust(t, second.Process.Kill())
	second.Wait()
	fourth := background(t, job("fourth"))
	waitingFor(t, file, fourth.Process.Pid)
	filesRunCmd(t, job("fifth")).want(t, 75, full)
	// So is that of one who gives up.
	c.run("--if-held", "queue:4", "-t", "0.05", "job", "--", "true").want(t, 75, full)
	filesRunCmd(t, job("sixth")).want(t, 75, full)

	filesMust(t, syscall.Kill(holder, syscall.SIGTERM))
	for _, waiter := range []*exec.Cmd{first, third, fourth} {
		filesMust(t, waiter.Wait())
	}
	if got := filesContent(c.dir + ".ran"); got != "first\nfourth\n" {
		t.Errorf("%q ran; want first and fourth", got)
	}
	if left, _ := filepath.Glob(file + ".queue.*"); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
	c.run("--if-held", "queue", "job", "--", "true").want(t, 0, "")
}

func TestReplace(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	first, pid := c.held("job")
	c.run("--if-held", "replace:1h", "job", "--", "true").want(t, 75, fmt.Sprintf("held by process %d ", pid))
	if !alive(pid) {
		t.Fatal("a holder that is too young was ended")
	}
	c.run("--if-held", "replace", "job", "--", "true").want(t, 0, "")
	first.Wait()
	if status := statusOf(first.ProcessState); status != 128+15 || alive(pid) {
		t.Errorf("the one that was replaced: status %d, alive %v; want 143", status, alive(pid))
	}
	c.run("--if-held", "replace", "job", "--", "true").want(t, 0, "") // free

	// One that was started, and flock(1), which records no PID. One that is old
	// enough, by the time of the file.
	c.run("start", "job", "--", "sleep", "600").want(t, 0, "")
	old := c.pid("job")
	eventually(t, "a holder that is a second old", func() bool {
		return c.run("--if-held", "replace:1s", "job", "--", "true").status == 0
	})
	if alive(old) {
		t.Error("a holder that is old enough lives")
	}
	l := filepath.Join(t.TempDir(), "L")
	flock := exec.Command(need(t, "flock"), l, "sleep", "600")
	background(t, flock)
	eventually(t, "locked", func() bool { return c.run("status", l).status == 0 })
	c.run("start", "--if-held", "replace", l, "--", "sleep", "600").want(t, 0, "")
	c.run("stop", l).want(t, 0, "")

	// One that resists is killed; one of another user is not touched (needs root).
	_, pid = c.held("stubborn", "sh", "-c", `trap "" TERM; while :; do sleep 1; done`)
	if os.Getuid() == 0 {
		cmd := filesAs(exec.Command(lockrun, "--if-held", "replace", filepath.Join(c.dir, "stubborn.pid"), "--", "true"), filesNobody)
		if r := filesRunCmd(t, cmd); r.status == 0 || !alive(pid) {
			t.Errorf("nobody replaces root's: %v, alive %v", r, alive(pid))
		}
	}
	filesMust(t, syscall.Kill(pid, syscall.SIGKILL))
}

// TestReplaceAtOnce: many replace each other. Never two at once, one is left.
func TestReplaceAtOnce(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	witness := filepath.Join(t.TempDir(), "W")
	var all sync.WaitGroup
	var won atomic.Int32
	for range 10 {
		all.Go(func() {
			cmd := c.command(append([]string{"start", "--if-held", "replace", "job", "--"}, c.helper("ctl-witness", witness)...)...)
			if cmd.Run(); statusOf(cmd.ProcessState) == 0 {
				won.Add(1)
			}
		})
	}
	all.Wait()
	eventually(t, "the last one is up", func() bool {
		conn, err := net.Dial("unix", "@"+witness)
		if err == nil {
			conn.Close()
		}
		return err == nil && len(ctlWitnesses(witness)) == 1
	})
	if won.Load() < 1 || exists(witness+".violations") {
		t.Errorf("%d won; %s", won.Load(), filesContent(witness+".violations"))
	}
	c.run("stop", "job").want(t, 0, "")
}

func TestSlots(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	slots := func(args ...string) *exec.Cmd {
		return c.command(append([]string{"--slots", "3"}, args...)...)
	}
	numbers := filepath.Join(t.TempDir(), "numbers")
	var running []*exec.Cmd
	for n := 1; n <= 3; n++ {
		running = append(running, background(t, slots("job", "--", "sh", "-c", `echo $LOCKRUN_SLOT >>"$1"; exec sleep 600`, "sh", numbers)))
		eventually(t, "its number", func() bool { return strings.Count(filesContent(numbers), "\n") == n })
	}
	if got := filesContent(numbers); got != "1\n2\n3\n" {
		t.Errorf("slots %q; want 1, 2, 3", got)
	}
	filesRunCmd(t, slots("job", "--", "true")).want(t, 75, "job: all 3 slots are taken, one by process ")
	c.run("job", "--", "true").want(t, 75, "job: held by process ")
	c.run("--shared", "job", "--", "true").want(t, 0, "") // it shares LOCK

	// A slot whose holders were killed is free at once.
	second := pidIn(t, filepath.Join(c.dir, "job.pid.2"))
	running[1].Process.Kill()
	syscall.Kill(second, syscall.SIGKILL)
	running[1].Wait()
	eventually(t, "the slot's number again", func() bool {
		r := filesRunCmd(t, slots("job", "--", "sh", "-c", "echo $LOCKRUN_SLOT"))
		return r.status == 0 && r.stdout == "2\n"
	})
	for _, cmd := range running {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
	}
	// A run that wants it for itself keeps those with slots out, and they wait.
	_, holder := c.held("job")
	filesRunCmd(t, slots("job", "--", "true")).want(t, 75, fmt.Sprintf("held by process %d ", holder))
	waiter := background(t, slots("-w", "job", "--", "sh", "-c", `test "$LOCKRUN_WAITED" != 0.000`))
	waitingFor(t, filepath.Join(c.dir, "job.pid"), waiter.Process.Pid)
	filesMust(t, syscall.Kill(holder, syscall.SIGTERM))
	filesMust(t, waiter.Wait())
	// The files of the slots stay, as the lock's own does, or are removed like it.
	files := filepath.Join(c.dir, "job.pid.[1-3]")
	if stay, _ := filepath.Glob(files); len(stay) != 3 {
		t.Errorf("%v stay; want those of three slots", stay)
	}
	filesRunCmd(t, slots("--remove", "job", "--", "true")).want(t, 0, "")
	if left, _ := filepath.Glob(files); len(left) != 2 {
		t.Errorf("%v are left", left)
	}
}

// TestQueueForSlots: of many queued jobs never more than there are slots run at
// once, and all run.
func TestQueueForSlots(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	const slots = 4
	dir := t.TempDir()
	jobs := sized(20, 40, 1000)
	// A job makes a directory for its slot, which must not be there, and counts.
	script := `mkdir "$1/$LOCKRUN_SLOT" || echo "two on $LOCKRUN_SLOT" >>"$1/violations"
		test "$LOCKRUN_SLOT" -le 4 || echo "slot $LOCKRUN_SLOT" >>"$1/violations"
		echo ran >>"$1/ran"; rmdir "$1/$LOCKRUN_SLOT"`
	var all sync.WaitGroup
	for range jobs {
		all.Go(func() {
			cmd := exec.Command(lockrun, "-w", "--slots", strconv.Itoa(slots), "job", "--", "sh", "-c", script, "sh", dir)
			cmd.Env = append(os.Environ(), "LOCKRUN_DIR="+c.dir)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	all.Wait()
	if ran := strings.Count(filesContent(filepath.Join(dir, "ran")), "\n"); ran != jobs || exists(filepath.Join(dir, "violations")) {
		t.Errorf("%d of %d ran; %s", ran, jobs, filesContent(filepath.Join(dir, "violations")))
	}
}

func TestShared(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	l := filepath.Join(t.TempDir(), "L")
	filesWrite(t, l, "any text\n", 0o600)
	reader := background(t, c.command("--shared", l, "--", "sleep", "600"))
	eventually(t, "held", func() bool { return c.run("status", "-q", l).status == 0 })
	c.run("--shared", l, "--", "true").want(t, 0, "")
	flock := need(t, "flock")
	filesRunCmd(t, exec.Command(flock, "-s", "-n", l, "true")).want(t, 0, "")
	filesRunCmd(t, exec.Command(flock, "-n", l, "true")).want(t, 1, "")
	c.run("--no-pid", l, "--", "true").want(t, 75, "held by process ")
	if got := filesContent(l); got != "any text\n" {
		t.Errorf("%q stands in the file; a shared lock writes nothing", got)
	}
	reader.Process.Signal(syscall.SIGTERM)
	reader.Wait()
	c.run("--no-pid", l, "--", "true").want(t, 0, "")
}

func TestSeveralLocks(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	cmd := background(t, c.command("--lock", b, "--lock", a, "--", "sleep", "600"))
	eventually(t, "both are held", func() bool { return c.run("status", "-q", a).status == 0 && c.run("status", "-q", b).status == 0 })
	pid := pidIn(t, a)
	eventually(t, "the same PID in both", func() bool { pid = pidIn(t, a); return pid == pidIn(t, b) && pid != cmd.Process.Pid })
	for _, l := range []string{a, b} {
		c.run(l, "--", "true").want(t, 75, fmt.Sprintf("%s: held by process %d ", l, pid))
	}
	// All or none: what it got it gives back, and says which one it did not get.
	z := filepath.Join(dir, "0")
	c.run("--lock", a, z, "--", "true").want(t, 75, a+": held by process ")
	c.run(z, "--", "true").want(t, 0, "")
	syscall.Kill(pid, syscall.SIGTERM)
	cmd.Wait()
	c.run("--lock", a, b, "--", "true").want(t, 0, "")
	c.run("--lock", a, a, "--", "true").want(t, 64, "is given twice")

	// Whoever takes them in whatever order of words, nobody waits for ever.
	var all sync.WaitGroup
	for n := range 20 {
		all.Go(func() {
			first, second := a, b
			if n%2 == 1 {
				first, second = b, a
			}
			if r := filesRunCmd(t, c.command("-w", "--lock", first, second, "--", "true")); r.status != 0 {
				t.Errorf("%v", r)
			}
		})
	}
	all.Wait()
}

func TestNested(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	under := func(args ...string) result {
		t.Helper()
		return c.run(append([]string{"job", "--", lockrun}, args...)...)
	}
	says := "under which this command runs; with --reentrant it runs all the same"
	under("-w", "job", "--", "true").want(t, 75, says)
	under("--if-held", "queue:9", "job", "--", "true").want(t, 75, says)
	under("--if-held", "replace", "job", "--", "true").want(t, 75, says)
	under("-t", "60", "job", "--", "true").want(t, 75, says)
	under("start", "-w", "job", "--", "true").want(t, 75, says)
	under("job", "--", "true").want(t, 75, "job: held by process ")
	under("--reentrant", "job", "--", "sh", "-c", "exit 3").want(t, 3, "")
	under("--reentrant", "-w", "job", "--", "sh", "-c", "exit 3").want(t, 3, "")
	under("-w", "other", "--", "true").want(t, 0, "")
	// With the descriptor closed, it is still a command of that lock.
	c.run("job", "--", "bash", "-c", `for n in /proc/$$/fd/*; do n=${n##*/}; test $n -lt 64 || eval "exec $n>&-"; done; "$1" -w job -- true`, "bash", lockrun).want(t, 75, says)

	// The lock stays that of the outer one, whatever the inner ones do.
	r := c.run("job", "--", "sh", "-c", `"$1" --reentrant job -- true; flock -n "$2" true; echo $?`, "sh", lockrun, filepath.Join(c.dir, "job.pid"))
	if need(t, "flock"); r.status != 0 || r.stdout != "1\n" {
		t.Errorf("after a reentrant run: %v; want the lock still held", r)
	}
	// The environment proves nothing: without the lock it is taken.
	cmd := c.command("--reentrant", "job", "--", "flock", "-n", filepath.Join(c.dir, "job.pid"), "true")
	cmd.Env = append(cmd.Env, "LOCKRUN_LOCK="+filepath.Join(c.dir, "job.pid"), "LOCKRUN_NAME=job")
	filesRunCmd(t, cmd).want(t, 1, "")
	_, holder := c.held("job")
	c.run("--reentrant", "job", "--", "true").want(t, 75, fmt.Sprintf("held by process %d ", holder))
	// Under flock(1) too.
	l := filepath.Join(t.TempDir(), "L")
	filesRunCmd(t, exec.Command("flock", l, lockrun, "-w", l, "--", "true")).want(t, 75, says)
	filesRunCmd(t, exec.Command("flock", l, lockrun, "--reentrant", l, "--", "true")).want(t, 0, "")
}

// With --hold tree the lock is held until the last of those who inherited it has
// ended, as with flock(1).
func TestHoldTree(t *testing.T) {
	t.Parallel()
	for _, word := range []string{"run", "start"} {
		t.Run(word, func(t *testing.T) {
			t.Parallel()
			c := newCtl(t)
			child := filepath.Join(t.TempDir(), "child")
			args := []string{"--hold", "tree", "job", "--", "sh", "-c", `setsid sleep 600 >/dev/null 2>&1 & echo $! >"$1"; exit 7`, "sh", child}
			if word == "start" {
				c.run(append([]string{"start"}, args...)...).want(t, 0, "")
			} else {
				c.run(args...).want(t, 7, "")
			}
			pid := pidIn(t, child)
			t.Cleanup(func() { syscall.Kill(pid, syscall.SIGKILL) })
			eventually(t, "the command has ended", func() bool {
				return strings.Contains(c.run("status", "job").stdout, fmt.Sprintf("running, held by process %d (sleep 600)", pid))
			})
			c.run("job", "--", "true").want(t, 75, fmt.Sprintf("held by process %d ", pid))
			c.run("stop", "job").want(t, 0, "")
			c.run("job", "--", "true").want(t, 0, "")
			eventually(t, "it has ended", func() bool { return !alive(pid) })
		})
	}
}

// lockrun --fd N, in a shell script.
func TestDescriptorOfAScript(t *testing.T) {
	t.Parallel()
	l := filepath.Join(t.TempDir(), "L")
	script := func(body string) result {
		t.Helper()
		return filesRunCmd(t, exec.Command("sh", "-c", body, "sh", lockrun, l))
	}
	if r := script(`( "$1" --fd 9 || exit; flock -n "$2" true; echo $? ) 9>"$2"`); need(t, "flock") == "" || r.status != 0 || r.stdout != "1\n" {
		t.Errorf("%v; want it held until the end of the block", r)
	}
	filesRunCmd(t, exec.Command("flock", "-n", l, "true")).want(t, 0, "")
	_, holder := filesHeld(t, l)
	eventually(t, "recorded", func() bool { return pidIn(t, l) == holder })
	script(`"$1" --fd 9 9<"$2"`).want(t, 75, fmt.Sprintf("descriptor 9: held by process %d ", holder))
	script(`"$1" --fd 9 --if-held skip 9<"$2"`).want(t, 0, "")
	script(`"$1" --fd 9 -q -E 3 9<"$2"`).want(t, 3, "")
	script(`"$1" --fd 9 -t 0.05 9<"$2"`).want(t, 75, "held by process")
	script(`"$1" --fd 9`).want(t, 73, "descriptor 9: bad file descriptor")
	script(`"$1" --fd x`).want(t, 64, `invalid argument "x" for "--fd"`)
	script(`"$1" --fd 9 -- true 9<"$2"`).want(t, 64, `runs nothing; there is a word: "true"`)
	script(`"$1" --fd 9 --slots 2 9<"$2"`).want(t, 64, "--slots makes no sense")
	script(`"$1" --fd 9 --if-held replace 9<"$2"`).want(t, 64, "contradict")
	filesMust(t, syscall.Kill(holder, syscall.SIGTERM))
	script(`"$1" --fd 9 -w --shared 9<"$2" && "$1" --fd 8 --shared 8<"$2"`).want(t, 0, "")
}

func TestJitterAndWaited(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	// Nothing is locked during the delay.
	begin := time.Now()
	late := background(t, c.command("--jitter", "600", "job", "--", "true"))
	c.run("job", "--", "true").want(t, 0, "")
	late.Process.Signal(syscall.SIGTERM)
	late.Wait()
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("a signal ends the delay; it took %v", took)
	}
	for range 3 {
		if r := c.run("--jitter", "200ms", "job", "--", "sh", "-c", "echo $LOCKRUN_WAITED$LOCKRUN_SLOT"); r.status != 0 || !strings.HasPrefix(r.stdout, "0.0") {
			t.Errorf("%v; the delay does not count as a wait", r)
		}
	}
	_, holder := c.held("job")
	var stdout bytes.Buffer
	waiter := c.command("-w", "job", "--", "sh", "-c", "echo $LOCKRUN_WAITED")
	waiter.Stdout = &stdout
	background(t, waiter)
	waitingFor(t, filepath.Join(c.dir, "job.pid"), waiter.Process.Pid)
	waited := time.Now()
	time.Sleep(150 * time.Millisecond)
	least := time.Since(waited)
	filesMust(t, syscall.Kill(holder, syscall.SIGTERM))
	filesMust(t, waiter.Wait())
	if seconds, err := strconv.ParseFloat(strings.TrimSpace(stdout.String()), 64); err != nil || seconds < least.Seconds()-0.001 {
		t.Errorf("LOCKRUN_WAITED is %q; it waited at least %v", stdout.String(), least)
	}
	// What an outer lockrun said is not passed on.
	if r := c.run("--slots", "2", "a", "--", lockrun, "b", "--", "sh", "-c", "echo slot$LOCKRUN_SLOT; env | grep -c ^LOCKRUN_WAITED"); r.stdout != "slot\n1\n" {
		t.Errorf("nested: %v", r)
	}
}
