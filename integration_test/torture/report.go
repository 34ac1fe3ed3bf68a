//go:build linux && (amd64 || arm64)

package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// report prints what there was.
func (s *storm) report(w io.Writer) {
	l := s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	seconds := s.took.Seconds()
	line := func(name string, n uint64) {
		fmt.Fprintf(w, "%-44s %9d  %8.1f/s\n", name, n, float64(n)/seconds)
	}
	fmt.Fprintf(w, "seed %d, %v, %d at once, %d locks; %s, %s, %d CPUs\n",
		s.seed, s.took.Round(100*time.Millisecond), s.atOnce, len(s.targets), kernel(), runtime.Version(), runtime.NumCPU())
	line("processes started", s.last.Load())
	line("commands that ran (acquisitions)", l.counts["begin"])
	line("lock files deleted", l.counts["delete"])
	for _, name := range slices.Sorted(maps.Keys(l.counts)) {
		if strings.HasPrefix(name, "SIG") {
			line(name, l.counts[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.counts)) {
		if kind, ok := strings.CutPrefix(name, "ended: "); ok {
			line("  "+kind, l.counts[name])
		}
	}
	if l.waits.n > 0 {
		mean := l.waits.sum / time.Duration(l.waits.n)
		longest := l.waits.longest
		fmt.Fprintf(w, "%d waited and got the lock: %v on average, %v at most (lock %s, attempt %d), %.0f times as long\n",
			l.waits.n, mean.Round(100*time.Microsecond), longest.waited.Round(time.Millisecond), longest.target, longest.attempt,
			float64(longest.waited)/float64(max(1, mean)))
	}
	for _, text := range l.wrong {
		fmt.Fprintf(w, "\nVIOLATION: %s", text)
	}
	fmt.Fprintf(w, "violations: %d\n", len(l.wrong)+l.more)
}

func kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "an unknown kernel"
	}
	return "Linux " + unix.ByteSliceToString(u.Release[:])
}

// showProgress keeps a line on a terminal up to date.
func (s *storm) showProgress() (stop func()) {
	if _, err := unix.IoctlGetTermios(int(os.Stderr.Fd()), unix.TCGETS); err != nil {
		return func() {}
	}
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-over:
				fmt.Fprint(os.Stderr, "\r\033[K")
				return
			case <-time.After(time.Second):
			}
			took := time.Since(s.began)
			s.log.mu.Lock()
			commands := s.log.counts["begin"]
			s.log.mu.Unlock()
			fmt.Fprintf(os.Stderr, "\r\033[K%v: %d starts (%.0f/s), %d commands, %d violations",
				took.Round(time.Second), s.last.Load(), float64(s.last.Load())/took.Seconds(), commands, s.log.violations())
		}
	}()
	return func() { close(over); <-ended }
}
