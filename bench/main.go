// Bench measures lockrun beside flock(1) and prints a table:
//
//	go run ./bench [flags] [MEASURE...]
//
// It builds lockrun, and two small Go programs that show what of the time is
// the Go runtime's. Everything that is compared runs in turn in the same run,
// on whatever else the machine does, so believe the ratios before the times.
// With -check it exits 1 when a limit that the project set itself is not
// reached. It needs Linux and flock(1); other peers are measured if installed.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/lockrun/lockrun/pidfile"
)

// measure is one thing that is measured.
type measure struct {
	name   string
	about  string
	limits []limit
	run    func(*bench) (result, error)
}

var measures = []measure{
	{"run", "`lockrun L -- true`, lock free", []limit{{amount{1.6, times}, "flock(1)"}, {amount{1.15, times}, bareSameCalls}}, measureRun},
	{"refuse", "the same, held by a lockrun", []limit{{amount{1.6, times}, "flock(1) -n"}, {amount{1.15, times}, bareSameCalls}}, measureRefuse},
	{"refuse-flock", "the same, held by flock(1), whose PID is not in the file", nil, measureRefuseFlock},
	{"exec", "`lockrun --exec L -- true`: it becomes the command", nil, measureExec},
	{"flock-run", "`flock L true`, by a link to lockrun", []limit{{amount{1.6, times}, "flock(1)"}}, measureFlockRun},
	{"flock-exec", "`flock -F L true`, by the link", []limit{{amount{1.4, times}, "flock(1)"}}, measureFlockExec},
	{"start", "`lockrun start NAME -- CMD` until CMD says its first word and the terminal is free",
		[]limit{{amount{10, milliseconds}, ""}, {amount{1, times}, "start-stop-daemon -b"}, {amount{0.25, times}, "python-daemon"}}, measureStart},
	{"wake-up", "from the release to the first word of the waiter's command", []limit{{amount{100, microseconds}, "flock(1)"}}, measureWakeUp},
	{"wake-up-kill", "the same, from SIGKILL of the holder", []limit{{amount{100, microseconds}, "flock(1)"}}, measureWakeUpKill},
	{"queue", "200 jobs that wait for the lock, from its release to the last one's end", nil, measureQueue},
	{"simultaneous", "1,000 starts on one lock, until 999 were refused", []limit{{amount{1.6, times}, "flock(1) -n"}}, measureSimultaneous},
	{"status", "`lockrun status` of 1,000 instances, 200 of which run", []limit{{amount{150, milliseconds}, ""}}, measureStatus},
	{"rss-wait", "resident memory, waiting (`-w`)", []limit{{amount{6, megabytes}, ""}}, measureWaitRSS},
	{"rss-timed-wait", "the same with `-t`", []limit{{amount{6, megabytes}, ""}}, measureTimedWaitRSS},
	{"rss-supervise", "resident memory, supervising", []limit{{amount{6, megabytes}, ""}}, measureSuperviseRSS},
	{"rss-start", "the same as a daemon, with its control socket", []limit{{amount{6, megabytes}, ""}}, measureStartRSS},
	{"cpu-wait", "CPU time of 10 s of waiting", []limit{{amount{10, milliseconds}, ""}}, measureWaitCPU},
	{"cpu-timed-wait", "the same with `-t`", []limit{{amount{10, milliseconds}, ""}}, measureTimedWaitCPU},
	{"cpu-supervise", "CPU time of 10 s of supervising", []limit{{amount{10, milliseconds}, ""}}, measureSuperviseCPU},
	{"cpu-start", "the same as a daemon", []limit{{amount{10, milliseconds}, ""}}, measureStartCPU},
	{"library", "`lock.TryAcquire` and `Release` of an existing file", []limit{{amount{3, times}, "open, flock, close"}}, measureLibrary},
	{"pidfile", "`pidfile.Hold` and `Close` of an existing file that is kept", nil, measurePIDFile},
}

func main() {
	os.Exit(run())
}

func run() int {
	var b bench
	flag.IntVar(&b.rounds, "rounds", 400, "how often each contestant of a measure runs")
	flag.DurationVar(&b.idle, "idle", 10*time.Second, "how long the processes of rss-* and cpu-* are left alone")
	flag.StringVar(&b.lockrun, "lockrun", "", "measure this `file` instead of building one")
	flag.StringVar(&b.before, "before", "", "another lockrun `file` to measure beside it")
	check := flag.Bool("check", false, "exit 1 if a limit is not reached")
	write := flag.String("write", "", "write the tables into this `file`, docs/performance.md, and the plot beside it")
	flag.Usage = usage
	flag.Parse()
	chosen, err := choose(flag.Args())
	if err == nil && b.rounds < 1 {
		err = errors.New("-rounds must be 1 at least")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}

	var atExit pidfile.AtExit // ends what runs, removes what was built
	defer atExit.Run()
	atExit.Catch()
	if err := b.setUp(&atExit); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	b.printFacts(os.Stdout)
	found, err := b.printTable(os.Stdout, chosen)
	if err == nil && *write != "" {
		err = b.writeReport(*write, found)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	if *check && slices.ContainsFunc(found, func(f finding) bool { return !f.reached() }) {
		return 1
	}
	return 0
}

func usage() {
	fmt.Fprintln(flag.CommandLine.Output(), "usage: bench [flags] [MEASURE...]")
	flag.PrintDefaults()
	for _, m := range measures {
		fmt.Fprintf(flag.CommandLine.Output(), "%-14s %s\n", m.name, strings.ReplaceAll(m.about, "`", ""))
	}
}

// choose returns the measures of those names; "rss" or "rss-" stands for all
// that begin so, and no name for all.
func choose(names []string) ([]measure, error) {
	if len(names) == 0 {
		return measures, nil
	}
	chosen := make([]measure, 0, len(measures))
	for _, name := range names {
		exact := slices.ContainsFunc(measures, func(m measure) bool { return m.name == name })
		before := len(chosen)
		for _, m := range measures {
			if m.name == name || !exact && strings.HasPrefix(m.name, name) {
				chosen = append(chosen, m)
			}
		}
		if len(chosen) == before {
			return nil, fmt.Errorf("no measure %q", name)
		}
	}
	return chosen, nil
}
