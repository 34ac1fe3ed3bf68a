//go:build linux && amd64

package integration_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// An injScenario is something that lockrun does, system call by system call.
type injScenario struct {
	lock     string // the lock file
	daemon   bool   // the next start stays
	succeeds int    // exit status of a success
	alone    bool   // after a failure nobody holds the lock
	stays    bool   // what it starts stays, and may be killed after a success
	fails    []int  // exit statuses that the documentation has for a failure
	begin    func(r *injRun) *injProcess
	truth    func(r *injRun) string // what is not as a success says; "" if nothing
	next     func(r *injRun) []string
}

// injWitness is a command that sees by itself whether it is alone: not by the lock,
// but by a symbolic link with its PID, which only one can make. One that was killed
// has left the link; a living one must not be there. $2 says whether it ends by
// itself, or at a line from the gate. (It does not wait in a loop with sleep(1): dash
// loses a signal that comes while it is in vfork(2). And a second one while it is in a
// trap can make it wait for itself.)
const injWitness = `cd "$1"; exec 3<>gate
leave() { trap '' TERM; [ $mine ] && rm witness; exit $1; }
trap 'leave 143' TERM
until ln -s $$ witness 2>/dev/null; do
	other=$(readlink witness)
	[ -n "$other" ] && kill -0 "$other" 2>/dev/null && echo "$$:$other" >>violations
	rm -f witness
done
mine=1
echo $$ >>ran
[ "$2" = stays ] && read _ <&3
echo $$ >>done
leave 7`

func (r *injRun) witness(how string) []string {
	return []string{"/bin/sh", r.file("witness.sh"), r.dir, how}
}

// command is lockrun with flags, a lock and the witness.
func (r *injRun) command(how string, args ...string) []string {
	return append(append([]string{r.Lockrun}, args...), r.witness(how)...)
}

// held returns a holder when its PID is recorded.
func (r *injRun) held(s *injScenario, p *injProcess) *injProcess {
	if p == nil {
		return nil
	}
	if !injUntil(injPatience, func() bool {
		ran := r.lines("ran")
		content, _ := os.ReadFile(r.file(s.lock))
		return len(ran) == 1 && strings.TrimSpace(string(content)) == ran[0]
	}) {
		r.violate("the worker: no holder: %q, alive %v", p.stderr(), injAlive())
		return nil
	}
	return p
}

// lives reports whether the command that has run as number n lives.
func (r *injRun) lives(n int) bool {
	ran := r.lines("ran")
	var pid int
	if len(ran) < n {
		return false
	}
	fmt.Sscan(ran[n-1], &pid)
	return alive(pid)
}

// injRan says what is missing from a run that has ended.
func injRan(r *injRun) string {
	if done := r.lines("done"); len(done) != 1 {
		return fmt.Sprintf("the command did not run once to its end: %q", done)
	}
	return ""
}

// injStands says what is missing from a daemon whose command is number n.
func injStands(lock string, n int) func(*injRun) string {
	return func(r *injRun) string {
		if !injUntil(injPatience, func() bool { return r.lives(n) }) {
			return fmt.Sprintf("no command lives: %q ran, there are %v", r.lines("ran"), injAlive())
		}
		if len(r.holders(r.file(lock))) == 0 {
			return "nobody holds the lock"
		}
		return ""
	}
}

var injOwnFailures = []int{71, 73, 77, 126, 127}

// injScenarios are found by name.
var injScenarios = map[string]*injScenario{}

// injOrder is the order in which they are shown.
var injOrder = []string{"run", "attributes", "refuse", "deleted", "start", "stop", "restart", "replace", "reentrant", "exec", "flock", "release", "daemon"}

const injInstance = "instances/job.pid"

func init() {
	next := func(args ...string) func(*injRun) []string {
		return func(r *injRun) []string { return r.command("ends", args...) }
	}
	subject := func(name string, argv func(r *injRun) []string) func(*injRun) *injProcess {
		return func(r *injRun) *injProcess {
			r.arm(r.Aim)
			return r.watch(name, argv(r)...)
		}
	}
	foreground := func(name string, args ...string) *injScenario {
		return &injScenario{
			lock: "lock", succeeds: 7, fails: injOwnFailures, truth: injRan, next: next("./lock", "--"),
			begin: subject(name, func(r *injRun) []string { return r.command("ends", args...) }),
		}
	}
	injScenarios["run"] = foreground("run", "./lock", "--")
	// By the executor, which changes itself before it becomes the command.
	injScenarios["attributes"] = foreground("run", "--umask", "027", "./lock", "--")
	injScenarios["exec"] = foreground("run", "--exec", "./lock", "--")
	// flock(1) becomes the command, which has the descriptor.
	injScenarios["flock"] = foreground("flock", "flock", "-F", "./lock")
	injScenarios["flock"].fails = []int{66, 69, 71, 73, 126, 127}
	// The command is a lockrun that inherits the lock, by lock.Inherit.
	injScenarios["reentrant"] = foreground("run", "./lock", "--")
	injScenarios["reentrant"].begin = subject("run", func(r *injRun) []string {
		return append([]string{r.Lockrun, "./lock", "--"}, r.command("ends", "--reentrant", "./lock", "--")...)
	})

	for _, name := range []string{"refuse", "deleted"} {
		refuse := foreground("run", "./lock", "--")
		refuse.succeeds, refuse.fails = 75, []int{71, 73, 77}
		refuse.begin = func(r *injRun) *injProcess {
			// Unseen, so nothing of the holder is struck.
			if r.held(refuse, r.start("holder", r.command("stays", "./lock", "--"))) == nil {
				return nil
			}
			if name == "deleted" {
				os.Remove(r.file("lock"))
			}
			r.arm(r.Aim)
			return r.watch("run", r.command("ends", "./lock", "--")...)
		}
		refuse.truth = func(r *injRun) string {
			switch {
			case !r.lives(1) || len(r.lines("ran")) != 1:
				return fmt.Sprintf("the holder does not run alone: %q ran", r.lines("ran"))
			case name == "deleted" && r.Aim == nil && exists(r.file("lock")):
				return "the file that it created is there"
			}
			return ""
		}
		injScenarios[name] = refuse
	}

	start := &injScenario{
		lock: injInstance, alone: true, stays: true, fails: append([]int{75, 124, 137, 143, 1}, injOwnFailures...), truth: injStands(injInstance, 1), next: next("job", "--"),
		begin: subject("start", func(r *injRun) []string { return r.command("stays", "start", "job", "--") }),
	}
	injScenarios["start"] = start

	// The supervisor takes part.
	instance := func(s *injScenario, name string, argv func(r *injRun) []string) {
		s.lock = injInstance
		s.next = next("job", "--")
		s.begin = func(r *injRun) *injProcess {
			if r.held(s, r.watch("holder", r.command("stays", "start", "job", "--")...)) == nil {
				return nil
			}
			r.arm(r.Aim)
			return r.watch(name, argv(r)...)
		}
		injScenarios[name] = s
	}
	instance(&injScenario{
		fails: []int{71, 73, 75, 77},
		truth: func(r *injRun) string {
			// The next start wins, at once.
			if status, stderr := r.run("after", r.command("ends", "job", "--")...); status != 7 {
				return fmt.Sprintf("the next start ends with %d: %q", status, stderr)
			}
			return ""
		},
	}, "stop", func(r *injRun) []string { return []string{r.Lockrun, "stop", "job"} })
	instance(&injScenario{
		stays: true, fails: append([]int{75, 3, 64, 137}, injOwnFailures...),
		truth: func(r *injRun) string {
			if r.lives(1) {
				return "the command before lives"
			}
			return injStands(injInstance, 2)(r)
		},
	}, "restart", func(r *injRun) []string { return []string{r.Lockrun, "restart", "job"} })

	// A holder in the foreground has no socket: he is ended by pidfd.
	replace := foreground("replace", "./lock", "--")
	replace.fails = append([]int{75}, injOwnFailures...)
	replace.begin = func(r *injRun) *injProcess {
		if r.held(replace, r.watch("holder", r.command("stays", "./lock", "--")...)) == nil {
			return nil
		}
		r.arm(r.Aim)
		return r.watch("replace", r.command("ends", "--if-held", "replace", "./lock", "--")...)
	}
	injScenarios["replace"] = replace

	// The end of a run, and the removal of the file.
	release := foreground("release", "--remove", "./lock", "--")
	release.begin = func(r *injRun) *injProcess {
		p := r.held(release, r.watch("holder", r.command("stays", "--remove", "./lock", "--")...))
		if p != nil {
			r.arm(r.Aim)
			os.WriteFile(r.file("gate"), []byte("\n"), 0)
		}
		return p
	}
	release.truth = func(r *injRun) string {
		if exists(r.file("lock")) && r.Aim == nil {
			return "the file is there"
		}
		return injRan(r)
	}
	injScenarios["release"] = release

	daemonArgv := func(r *injRun) []string { return []string{r.Daemon, "-pidfile", r.file("lock"), "-log", r.file("log")} }
	injScenarios["daemon"] = &injScenario{
		lock: "lock", daemon: true, alone: true, stays: true, fails: []int{1}, next: daemonArgv, begin: subject("daemon", daemonArgv),
		truth: func(r *injRun) string {
			if holders := r.holders(r.file("lock")); len(holders) != 1 {
				return fmt.Sprintf("holders %v; want one", holders)
			}
			return ""
		},
	}
}

// judge compares what the subject says with what there is.
func (r *injRun) judge(s *injScenario, subject *injProcess, status int) {
	stderr := subject.stderr()
	lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
	prefix := "lockrun: "
	switch r.Scenario {
	case "daemon":
		prefix = "daemon: "
	case "flock":
		prefix = "flock: "
	}
	for _, line := range lines {
		if line != "" && !strings.HasPrefix(line, prefix) || strings.Contains(line, "panic") {
			r.violate("a message that is none: %q", stderr)
			break
		}
	}
	unspeakable := r.Aim != nil && r.Aim.Call == "write" && strings.HasSuffix(r.Aim.Detail, ".stderr")
	struck := func(role string) bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.struck && r.aim.Errno == 0 && strings.HasPrefix(r.aim.Role, role)
	}
	switch {
	case status == s.succeeds:
		// Who was killed later stands no more.
		if lie := s.truth(r); lie != "" && !(s.stays && struck("")) {
			r.violate("status %d, stderr %q, but %s", status, stderr, lie)
		}
		if s.succeeds == 75 && (stderr == "" || len(lines) != 1) && !unspeakable {
			r.violate("a refusal without its line: %q", stderr)
		}
	case r.Aim == nil:
		r.violate("status %d, stderr %q; want %d", status, stderr, s.succeeds)
	case status == 137 && struck(""):
		// By our own SIGKILL, its or that of its command before it was executed.
	case s.alone && r.Aim.Errno != 0 && !injUntil(5*time.Second, func() bool { return len(r.holders(r.file(s.lock))) == 0 }):
		r.violate("status %d, stderr %q, but it runs: %v", status, stderr, injAlive())
	case !slices.Contains(s.fails, status):
		r.violate("status %d is not documented; stderr %q", status, stderr)
	case (stderr == "" || len(lines) != 1) && !unspeakable:
		r.violate("status %d with %d lines: %q", status, strings.Count(stderr, "\n"), stderr)
	}
}
