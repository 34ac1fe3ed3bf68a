//go:build linux && amd64

package integration_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Injections are made by workers. Each is PID 1 of a namespace, so that a walk over
// all processes is the same one each time, that what a killed process leaves behind
// becomes its child, and that it can end them all.

func init() {
	helpers["inj-worker"] = injWorker
	helpers["inj-start"] = injStart
}

// injJob is what a worker is told to do: a scenario once, with an injection or, to
// record its system calls, without.
type injJob struct {
	Scenario string
	Dir      string // is created, and removed
	Lockrun  string
	Daemon   string
	Aim      *injAim
}

// injResult is what became of it.
type injResult struct {
	Struck     bool
	Counts     []injCounted // without an aim
	Status     int
	Stderr     string
	Violations []string
	Took       time.Duration
}

// injWorker reads jobs from its standard input and writes results.
func injWorker([]string) int {
	os.Unsetenv(helperVariable)
	os.Unsetenv("LOCKRUN_DIR")
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "inj-worker: not PID 1 of a namespace")
		return 2
	}
	err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	if err == nil {
		err = unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "inj-worker: mount:", err)
		return 2
	}
	go injReap()
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var job injJob
		if in.Decode(&job) != nil {
			return 0
		}
		out.Encode(job.do())
	}
}

// injEnded are the processes that were reaped.
var injEnded struct {
	sync.Mutex
	status map[int]int
}

// injReap reaps whatever ends.
func injReap() {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		if err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		status := ws.ExitStatus()
		if ws.Signaled() {
			status = 128 + int(ws.Signal())
		}
		injEnded.Lock()
		if injEnded.status == nil {
			injEnded.status = map[int]int{}
		}
		injEnded.status[pid] = status
		injEnded.Unlock()
	}
}

// injStart puts itself under a filter and becomes another program. The worker takes
// the listener out of it.
func injStart(args []string) int {
	runtime.LockOSThread()
	os.Unsetenv(helperVariable)
	calls := []uint32{}
	for _, word := range strings.Split(args[0], ",") {
		if nr, err := strconv.Atoi(word); err == nil {
			calls = append(calls, uint32(nr))
		}
	}
	env := os.Environ()
	err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	if err == nil {
		_, err = seccompInstall(seccompFilterNewListener|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, seccompRetUserNotif, calls...)
	}
	if err == nil {
		err = syscall.Exec(args[1], args[1:], env)
	}
	fmt.Fprintln(os.Stderr, "inj-start:", err)
	return 99
}

// injRun is one run of a scenario.
type injRun struct {
	*injJob
	*injWatcher
	dir        string
	neighbours map[string]string
	violations []string
	processes  int
	target     int32 // the call that is aimed at, -1 for all
}

// injProcess is a program that the worker has started.
type injProcess struct {
	r    *injRun
	name string
	pid  int
}

// injPatience is more than any of them needs: a stop takes at most 15 s.
const injPatience = 40 * time.Second

func (j *injJob) do() (result injResult) {
	begin := time.Now()
	os.RemoveAll(j.Dir)
	r := &injRun{injJob: j, dir: j.Dir, injWatcher: newInjWatcher(j.Dir, j.Lockrun, j.Daemon), target: -1}
	if j.Aim != nil {
		for nr, name := range injCallNames {
			if name == j.Aim.Call {
				r.target = nr
			}
		}
	}
	defer os.RemoveAll(j.Dir)
	defer func() {
		// Whoever is left must not meet a filter that nobody answers.
		syscall.Kill(-1, syscall.SIGKILL)
		for len(injAlive()) > 0 {
			time.Sleep(time.Millisecond)
		}
		r.over.Store(true)
		r.serving.Wait()
		result.Violations, result.Took = r.violations, time.Since(begin)
	}()
	if err := r.settle(); err != nil {
		r.violate("the worker: %v", err)
		return result
	}
	scenario := injScenarios[j.Scenario]
	subject := scenario.begin(r)
	if subject == nil {
		return result
	}
	status, ok := subject.wait(injPatience)
	r.mu.Lock()
	result.Struck = r.struck
	for _, p := range r.order {
		result.Counts = append(result.Counts, injCounted{p, r.counts[p]})
	}
	r.mu.Unlock()
	if !ok {
		r.violate("it hangs; there are: %v", injAlive())
		return result
	}
	result.Status, result.Stderr = status, subject.stderr()
	r.judge(scenario, subject, status)
	r.aftermath(scenario)
	if j.Aim != nil { // what was struck in the background, after its end, counts too
		r.mu.Lock()
		result.Struck = r.struck
		r.mu.Unlock()
	}
	return result
}

func (r *injRun) violate(format string, args ...any) {
	r.violations = append(r.violations, fmt.Sprintf(format, args...))
}

// settle makes the directory, with the files of others beside the lock.
func (r *injRun) settle() error {
	r.neighbours = map[string]string{}
	for _, dir := range []string{r.dir, r.instances()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		for name, content := range map[string]string{"other.pid": "4711\n", "loc": "text\n", "lock.bak": "1\n", ".lock": "", "lock.1": "hello"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o640); err != nil {
				return err
			}
		}
	}
	if err := os.WriteFile(r.file("witness.sh"), []byte(injWitness), 0o600); err != nil {
		return err
	}
	if err := unix.Mkfifo(r.file("gate"), 0o600); err != nil {
		return err
	}
	return r.eachNeighbour(func(path, state string) { r.neighbours[path] = state })
}

func (r *injRun) instances() string { return filepath.Join(r.dir, "instances") }
func (r *injRun) file(name string) string {
	return filepath.Join(r.dir, name)
}

// eachNeighbour calls do with every file of others, and all that it is.
func (r *injRun) eachNeighbour(do func(path, state string)) error {
	for _, dir := range []string{r.dir, r.instances()} {
		for _, name := range []string{"other.pid", "loc", "lock.bak", ".lock", "lock.1"} {
			path := filepath.Join(dir, name)
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			var st unix.Stat_t
			if err := unix.Lstat(path, &st); err != nil {
				return err
			}
			do(path, fmt.Sprintf("%q mode %o inode %d links %d owner %d:%d modified %d.%09d", content, st.Mode, st.Ino, st.Nlink, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec))
		}
	}
	return nil
}

// watch starts a program whose system calls are seen.
func (r *injRun) watch(name string, argv ...string) *injProcess {
	calls := ""
	if r.target >= 0 {
		calls = fmt.Sprintf("%d,%d", unix.SYS_EXECVE, r.target)
	}
	self, _ := os.Executable()
	p := r.start(name, append([]string{self, calls}, argv...), helperVariable+"=inj-start")
	if p == nil {
		return nil
	}
	listener, err := injListenerOf(p.pid)
	if err != nil {
		r.violate("the worker: no listener of %s: %v", name, err)
		return nil
	}
	r.serving.Add(1)
	go r.serve(listener, name)
	return p
}

// injListenerOf takes the listener out of a process that has put itself under a
// filter. That process waits meanwhile, with its next call.
func injListenerOf(pid int) (int, error) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(pidfd)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Microsecond) {
		dir := fmt.Sprintf("/proc/%d/fd", pid)
		entries, err := os.ReadDir(dir)
		if err != nil {
			return 0, err
		}
		for _, entry := range entries {
			if target, _ := os.Readlink(filepath.Join(dir, entry.Name())); target == "anon_inode:seccomp notify" {
				fd, _ := strconv.Atoi(entry.Name())
				return unix.PidfdGetfd(pidfd, fd, 0)
			}
		}
	}
	return 0, errors.New("it did not come up")
}

// start starts a program in the run's directory, with its output in files.
func (r *injRun) start(name string, argv []string, env ...string) *injProcess {
	r.processes++
	p := &injProcess{r: r, name: fmt.Sprintf("%d.%s", r.processes, name)}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		r.violate("the worker: %v", err)
		return nil
	}
	files := []uintptr{}
	for _, file := range []string{"/dev/null", p.output("stdout"), p.output("stderr")} {
		f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			r.violate("the worker: %v", err)
			return nil
		}
		defer f.Close()
		files = append(files, f.Fd())
	}
	p.pid, err = syscall.ForkExec(path, argv, &syscall.ProcAttr{
		Dir: r.dir, Files: files, Sys: &syscall.SysProcAttr{Setsid: true},
		Env: append(os.Environ(), append(env, "LOCKRUN_DIR="+r.instances())...),
	})
	if err != nil {
		r.violate("the worker: %v", err)
		return nil
	}
	return p
}

// run runs a program to its end, unseen.
func (r *injRun) run(name string, argv ...string) (status int, stderr string) {
	p := r.start(name, argv)
	if p == nil {
		return -1, ""
	}
	status, ok := p.wait(injPatience)
	if !ok {
		r.violate("%v hangs", argv)
	}
	return status, p.stderr()
}

func (p *injProcess) output(which string) string { return p.r.file(p.name + "." + which) }

func (p *injProcess) stderr() string {
	text, _ := os.ReadFile(p.output("stderr"))
	return string(text)
}

func (p *injProcess) ended() (status int, ok bool) {
	injEnded.Lock()
	defer injEnded.Unlock()
	status, ok = injEnded.status[p.pid]
	return status, ok
}

func (p *injProcess) wait(patience time.Duration) (status int, ok bool) {
	injUntil(patience, func() bool { status, ok = p.ended(); return ok })
	return status, ok
}

// injUntil waits for a condition, and reports whether it came about.
func injUntil(patience time.Duration, condition func() bool) bool {
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if condition() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// injAlive returns all processes but the worker, with their command lines.
func injAlive() map[int]string {
	processes := map[int]string{}
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil && pid != 1 && alive(pid) {
			command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			processes[pid] = string(bytes.ReplaceAll(bytes.TrimRight(command, "\x00"), []byte{0}, []byte{' '}))
		}
	}
	return processes
}

// injEndAll asks all processes to end, more than once: see injWitness.
func injEndAll() bool {
	for range 30 {
		syscall.Kill(-1, syscall.SIGTERM)
		if injUntil(500*time.Millisecond, func() bool { return len(injAlive()) == 0 }) {
			return true
		}
	}
	return false
}

// carries reports whether a process has a locked descriptor of the lock file.
func (r *injRun) carries(pid int, path string) bool {
	fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	for _, fd := range fds {
		target, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd.Name()))
		if target != path && target != path+" (deleted)" {
			continue
		}
		info, _ := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, fd.Name()))
		if bytes.Contains(info, []byte("\nlock:")) {
			return true
		}
	}
	return false
}

// holders are the processes that carry the lock.
func (r *injRun) holders(path string) (pids []int) {
	for pid := range injAlive() {
		if r.carries(pid, path) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// lines returns the lines of a file that commands write to.
func (r *injRun) lines(name string) []string {
	content, _ := os.ReadFile(r.file(name))
	return strings.Fields(string(content))
}

// injUnseen is in a refusal by somebody who can't be named.
var injUnseen = regexp.MustCompile(`held by (a process that can't be seen|another process)`)

var injNamed = regexp.MustCompile(`held by process ([0-9]+) \(`)

// aftermath sees that nothing is left that should not be, and that the next start
// wins, at once or when the holder that it names has ended.
func (r *injRun) aftermath(s *injScenario) {
	path := r.file(s.lock)
	stray := func() map[int]string {
		processes := injAlive()
		for pid := range processes {
			if r.carries(pid, path) {
				delete(processes, pid)
			}
		}
		return processes
	}
	if !injUntil(15*time.Second, func() bool { return len(stray()) == 0 }) {
		r.violate("left behind, without the lock: %v", stray())
	}
	wins := 7
	if s.daemon {
		wins = 0
	}
	for try := 0; ; try++ {
		begin := time.Now()
		status, stderr := r.run("next", s.next(r)...)
		if status == wins {
			break
		}
		var pid int
		if m := injNamed.FindStringSubmatch(stderr); m != nil {
			pid, _ = strconv.Atoi(m[1])
		}
		switch {
		case injUnseen.MatchString(stderr) && len(r.holders(path)) == 0 && try < 3:
			// Who ends has no descriptors any more before the kernel has closed them.
			time.Sleep(100 * time.Millisecond)
			continue
		case pid == 0 || try == 3:
			r.violate("the next start ends with %d after %v: %q; holders %v of %v", status, time.Since(begin), stderr, r.holders(path), injAlive())
			return
		case !r.carries(pid, path) && alive(pid):
			r.violate("the next start names a process that does not hold the lock: %q; holders %v of %v", stderr, r.holders(path), injAlive())
		}
		if !injEndAll() {
			r.violate("left behind after SIGTERM: %v", injAlive())
			return
		}
	}
	if s.daemon {
		injEndAll()
	}
	if !injUntil(15*time.Second, func() bool { return len(injAlive()) == 0 }) {
		r.violate("left behind by the next start: %v", injAlive())
	}
	if two := r.lines("violations"); len(two) > 0 {
		r.violate("two at a time: %q", two)
	}
	err := r.eachNeighbour(func(path, state string) {
		if r.neighbours[path] != state {
			r.violate("changed: %s was %s and is %s", path, r.neighbours[path], state)
		}
	})
	if err != nil {
		r.violate("a file of others: %v", err)
	}
	filepath.WalkDir(r.dir, func(path string, _ fs.DirEntry, _ error) error {
		if name := filepath.Base(path); r.neighbours[path] == "" && path != r.dir && !injExpected.MatchString(name) {
			r.violate("a file is left: %s", path)
		}
		return nil
	})
}

// injExpected are the files of a scenario, and the lock with its socket.
var injExpected = regexp.MustCompile(`^(instances|lock|job\.pid|job\.sock|\.path-[0-9a-f]+\.sock|log|ran|done|witness(\.sh)?|gate|[0-9]+\.[a-z]+\.std(out|err))$`)
