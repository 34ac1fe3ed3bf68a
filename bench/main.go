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
	name  string
	limit amount // of ours, or in times of flock(1) or the first peer; zero for none
	run   func(*bench) (result, error)
}

var measures = []measure{
	{"run", amount{1.6, times}, measureRun},
	{"refuse", amount{1.6, times}, measureRefuse},
	{"refuse-flock", amount{}, measureRefuseFlock},
	{"flock-run", amount{1.6, times}, measureFlockRun},
	{"flock-exec", amount{1.4, times}, measureFlockExec},
	{"start", amount{10, milliseconds}, measureStart},
	{"rss-wait", amount{6, megabytes}, measureWaitRSS},
	{"rss-timed-wait", amount{6, megabytes}, measureTimedWaitRSS},
	{"rss-supervise", amount{6, megabytes}, measureSuperviseRSS},
	{"rss-start", amount{6, megabytes}, measureStartRSS},
	{"cpu-wait", amount{10, milliseconds}, measureWaitCPU},
	{"cpu-timed-wait", amount{10, milliseconds}, measureTimedWaitCPU},
	{"cpu-supervise", amount{10, milliseconds}, measureSuperviseCPU},
	{"cpu-start", amount{10, milliseconds}, measureStartCPU},
	{"library", amount{3, times}, measureLibrary},
	{"wake-up", amount{}, measureWakeUp},
}

const legend = `
run            lockrun L -- true, lock free
refuse         lockrun L -- true, while a lockrun holds L
refuse-flock   lockrun L -- true, while flock(1) holds L and its PID is not in the file
flock-run      flock L true, by a link to lockrun and the original
flock-exec     flock -F L true, the same
start          lockrun start L -- sleep, until it returns
rss-*          resident memory of a process that waits (-w; timed: -t) or supervises (start: as a daemon)
cpu-*          CPU time of the same, while it has nothing to do
library        lock.TryAcquire and Release of an existing file
wake-up        from the release to the first word of the waiter's command
`

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
	reached, err := b.printTable(os.Stdout, chosen)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	fmt.Print(legend)
	if *check && !reached {
		return 1
	}
	return 0
}

func usage() {
	fmt.Fprintln(flag.CommandLine.Output(), "usage: bench [flags] [MEASURE...]")
	flag.PrintDefaults()
	fmt.Fprint(flag.CommandLine.Output(), legend)
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
