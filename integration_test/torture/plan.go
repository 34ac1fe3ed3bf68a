//go:build linux && (amd64 || arm64)

package main

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// target is a lock, and what is done to it.
type target struct {
	name    string
	operand string // as lockrun has it: a NAME or a path
	path    string // of the file
	doings  []doing
	deleted bool // its file is deleted all the time
	slots   bool
	share   int // of the starts
}

// doing is something that is done at a lock, more or less often.
type doing struct {
	name  string
	often int
	words func(s *storm, a *attempt) []string
	rules []rule // how it may end
}

// attempt is one process that the storm starts, and what happens to it. All of it
// is drawn from the seed and the number.
type attempt struct {
	n      uint64
	target *target
	doing  *doing
	duty   duty
	argv   []string
	strike []strike
	delete time.Duration // when it deletes the file, negative: never

	stopped bool // it was stopped for a time
	killed  bool
	told    bool // to end, by SIGTERM
	outcome *rule
}

func (a *attempt) String() string {
	return fmt.Sprintf("%s: %s", a.doing.name, strings.Join(a.argv, " "))
}

// strike is a signal to somebody. SIGSTOP is followed by SIGCONT or SIGKILL.
type strike struct {
	after  time.Duration
	whom   string
	signal syscall.Signal
	then   syscall.Signal
	pause  time.Duration
}

// Whom a strike hits.
const (
	itself  = "itself"  // the process that was started
	runs    = "command" // the command that runs under the lock
	watches = "parent"  // its parent: lockrun, the supervisor of a daemon
)

// plan draws what attempt n is.
func (s *storm) plan(n uint64) *attempt {
	r := rand.New(rand.NewPCG(s.seed, n))
	a := &attempt{n: n, delete: -1}
	all := 0
	for _, t := range s.targets {
		all += t.share
	}
	at := r.IntN(all)
	for _, t := range s.targets {
		if at -= t.share; at < 0 {
			a.target = t
			break
		}
	}
	all = 0
	for _, d := range a.target.doings {
		all += d.often
	}
	at = r.IntN(all)
	for i := range a.target.doings {
		if at -= a.target.doings[i].often; at < 0 {
			a.doing = &a.target.doings[i]
			break
		}
	}
	a.duty = duty{dir: s.dir, target: a.target.name, attempt: n, kind: exclusive, hold: spread(r, 10*time.Microsecond, 60*time.Millisecond)}
	if r.IntN(10) == 0 {
		a.duty.status = 7
	}
	switch r.IntN(40) {
	case 0:
		a.duty.temper = deaf
	case 1:
		a.duty.temper = parent
	case 2, 3, 4, 5, 6, 7, 8, 9:
		a.duty.temper = slow
	}
	switch r.IntN(16) {
	case 0:
		a.strike = append(a.strike, draw(r, itself))
	case 1:
		a.strike = append(a.strike, draw(r, runs))
	case 2:
		a.strike = append(a.strike, draw(r, watches))
	}
	if a.target.deleted && r.IntN(8) == 0 {
		a.delete = spread(r, 10*time.Microsecond, 30*time.Millisecond)
	}
	a.argv = a.doing.words(s, a)
	return a
}

func draw(r *rand.Rand, whom string) strike {
	k := strike{after: spread(r, 100*time.Microsecond, 50*time.Millisecond), whom: whom, signal: syscall.SIGKILL}
	switch r.IntN(4) {
	case 0:
		k.signal = syscall.SIGTERM
	case 1:
		k.signal, k.then = syscall.SIGSTOP, syscall.SIGCONT
		k.pause = spread(r, 100*time.Microsecond, 100*time.Millisecond)
		if r.IntN(3) == 0 {
			k.then = syscall.SIGKILL
		}
		if r.IntN(50) == 0 { // longer than a client waits for a supervisor's answer
			k.pause = 3 * time.Second
		}
	}
	return k
}

// spread draws a time; each power of two is as likely as another.
func spread(r *rand.Rand, least, most time.Duration) time.Duration {
	for least *= 2; least < most && r.IntN(12) > 0; {
		least *= 2
	}
	return least/2 + time.Duration(r.Int64N(int64(least/2)+1))
}

// command is the command line of a command under the lock.
func (s *storm) command(a *attempt) []string {
	return append([]string{s.self, "command"}, a.duty.words()...)
}

// lockrunWith makes the words of lockrun: flags, the lock, the command.
func lockrunWith(flags ...string) func(s *storm, a *attempt) []string {
	return func(s *storm, a *attempt) []string {
		words := append([]string{s.lockrun}, flags...)
		return append(append(words, a.target.operand, "--"), s.command(a)...)
	}
}

// with is lockrunWith for a duty that is not the usual one.
func with(change func(d *duty), words func(s *storm, a *attempt) []string) func(s *storm, a *attempt) []string {
	return func(s *storm, a *attempt) []string {
		change(&a.duty)
		return words(s, a)
	}
}

func sharing(d *duty) { d.kind = shared }
func slotted(d *duty) { d.kind = slot }

// long is for daemons: somebody ends them.
func long(d *duty) { d.hold = 50 * d.hold }

// asks is a subcommand on the lock, without a command.
func asks(words ...string) func(s *storm, a *attempt) []string {
	return func(s *storm, a *attempt) []string {
		return append(append([]string{s.lockrun}, words...), a.target.operand)
	}
}

// flockWith are the words of flock(1), ours or the original.
func flockWith(original bool, flags ...string) func(s *storm, a *attempt) []string {
	return func(s *storm, a *attempt) []string {
		words := []string{s.lockrun, "flock"}
		if original && s.flock != "" {
			words = []string{s.flock}
		}
		return append(append(append(words, flags...), a.target.path), s.command(a)...)
	}
}

func program(name string, more ...string) func(s *storm, a *attempt) []string {
	return func(s *storm, a *attempt) []string {
		words := append([]string{s.self, name}, a.duty.words()...)
		return append(append(words, a.target.path), more...)
	}
}

// newTargets are the locks of the storm.
func (s *storm) newTargets() []*target {
	service := func(restarts int) []doing {
		return []doing{
			{"start", 30, with(long, lockrunWith("start")), startEnds},
			{"start, and again on failure", 4, with(long, lockrunWith("start", "--restart", "on-failure")), startEnds},
			{"stop", 5, asks("stop"), stopEnds},
			{"stop, and soon SIGKILL", 4, asks("stop", "--schedule", "TERM/0.02/KILL/10"), stopEnds},
			{"restart", restarts, asks("restart"), restartEnds},
			{"restart, and soon SIGKILL", restarts / 2, asks("restart", "--schedule", "TERM/0.02/KILL/10"), restartEnds},
			{"restart with a command", restarts / 2, with(long, lockrunWith("restart")), restartEnds},
			{"run", 50, lockrunWith("-n"), runEnds},
			{"wait for it", 2, asks("wait", "-t", "0.05"), awaitEnds},
			{"status", 2, asks("status"), statusEnds},
			{"signal", 1, func(s *storm, a *attempt) []string { return []string{s.lockrun, "signal", a.target.operand, "CONT"} }, signalEnds},
			{"replace", 2, lockrunWith("--if-held", "replace"), runEnds},
		}
	}
	jobs := []doing{
		{"run", 80, lockrunWith("-n"), runEnds},
		{"run and wait", 4, lockrunWith("-w"), runEnds},
		{"run and wait a bit", 6, lockrunWith("-t", "0.05"), runEnds},
		{"queue", 6, lockrunWith("--if-held", "queue:3"), runEnds},
		{"replace", 2, lockrunWith("--if-held", "replace"), runEnds},
		{"become", 4, lockrunWith("--exec"), runEnds},
		{"start", 4, lockrunWith("start"), startEnds},
		{"start and become", 2, lockrunWith("start", "--exec"), startEnds},
		{"stop", 1, asks("stop", "--schedule", "TERM/0.02/KILL/10"), stopEnds},
		{"library: pidfile.Hold", 6, program("library", "hold"), runEnds},
		{"library: pidfile.Open", 3, program("library", "open"), runEnds},
		{"library: lock.TryAcquire", 6, program("library", "try"), runEnds},
		{"library: lock.Acquire", 3, program("library", "acquire"), runEnds},
		{"hold and remove", 2, program("remove"), runEnds},
		{"hold and rename", 2, program("rename"), runEnds},
	}
	kept := []doing{
		{"run", 30, lockrunWith("-n"), runEnds},
		{"run and wait", 4, lockrunWith("-w"), runEnds},
		{"run without a PID", 4, lockrunWith("--no-pid"), runEnds},
		{"run, shared", 6, with(sharing, lockrunWith("--shared")), runEnds},
		{"run, shared, and wait", 3, with(sharing, lockrunWith("--shared", "-w")), runEnds},
		{"flock", 6, flockWith(false, "-n"), flockEnds},
		{"flock and wait", 4, flockWith(false), flockEnds},
		{"flock and wait a bit", 2, flockWith(false, "-w", "0.05"), flockEnds},
		{"flock, shared", 3, with(sharing, flockWith(false, "-s")), flockEnds},
		{"flock, become", 3, flockWith(false, "-F"), flockEnds},
		{"flock(1)", 6, flockWith(true, "-n"), flockEnds},
		{"flock(1) and wait", 4, flockWith(true), flockEnds},
		{"library: lock.TryAcquire", 4, program("library", "try"), runEnds},
		{"library: shared", 3, with(sharing, program("library", "try")), runEnds},
		{"start", 3, lockrunWith("start", "--keep"), startEnds},
		{"stop", 1, asks("stop", "--schedule", "TERM/0.02/KILL/10"), stopEnds},
	}
	slots := []doing{
		{"run in a slot", 50, with(slotted, lockrunWith("--slots", fmt.Sprint(mostSlots))), runEnds},
		{"run in a slot, and wait", 6, with(slotted, lockrunWith("--slots", fmt.Sprint(mostSlots), "-w")), runEnds},
		{"run in a slot, and wait a bit", 4, with(slotted, lockrunWith("--slots", fmt.Sprint(mostSlots), "-t", "0.05")), runEnds},
		{"run alone", 4, lockrunWith("-n"), runEnds},
		{"run alone, and wait", 1, lockrunWith("-w"), runEnds},
	}
	named := func(name string) string { return filepath.Join(s.dir, "instances", name+".pid") }
	path := func(name string) string { return filepath.Join(s.dir, "locks", name) }
	targets := []*target{
		{name: "service", operand: "service", path: named("service"), doings: service(20), share: 50},
		{name: "shaken", operand: "shaken", path: named("shaken"), doings: service(8), deleted: true, share: 12},
		{name: "jobs", operand: path("jobs"), path: path("jobs"), doings: jobs, deleted: true, share: 20},
		{name: "kept", operand: path("kept"), path: path("kept"), doings: kept, share: 14},
		{name: "slots", operand: path("slots"), path: path("slots"), doings: slots, deleted: true, slots: true, share: 4},
	}
	return targets
}
