//go:build linux && (amd64 || arm64)

// Torture lets a storm loose on some locks and counts how often two commands ran
// at once:
//
//	go run ./integration_test/torture [-for 60s] [-starts N] [-seed N] [-at-once N] [-lock NAME]
//
// Processes start, wait, queue, replace, stop and restart, by lockrun, by its
// flock, by flock(1) if it is installed, and by the library. Any of them is killed
// or stopped at any time, and lock files are deleted. A witness that has no part in
// the lock, and that the kernel takes away with its process, tells who is alone.
// What the processes do is drawn from the seed; when they do it is up to the
// machine.
//
// It exits 1 if anything happened that must not: two at once, an exit status or a
// message that is not one of those that are meant, a process that hangs, a process
// or a file that is left over.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/lockrun/lockrun/pidfile"
)

func main() {
	if len(os.Args) > 1 {
		if program := programs[os.Args[1]]; program != nil {
			os.Exit(program(os.Args[2:]))
		}
	}
	os.Exit(run())
}

func run() int {
	s := storm{inFlight: make(map[uint64]*attempt)}
	flag.DurationVar(&s.duration, "for", time.Minute, "how long it lasts; 0: until -starts are reached")
	flag.Uint64Var(&s.starts, "starts", 0, "how many processes are started; 0: as many as fit into -for")
	flag.Uint64Var(&s.seed, "seed", uint64(time.Now().UnixNano()%1e6), "what is done is drawn from it")
	flag.IntVar(&s.atOnce, "at-once", 12*runtime.NumCPU(), "how many processes there are at a time")
	flag.StringVar(&s.lockrun, "lockrun", "", "torture this `file` instead of building one")
	only := flag.String("lock", "", "torture this lock alone: service, shaken, jobs, kept or slots")
	flag.Parse()
	set := make(map[string]bool)
	flag.Visit(func(f *flag.Flag) { set[f.Name] = true })
	if s.starts > 0 && !set["for"] {
		s.duration = 0
	}
	if flag.NArg() > 0 || s.atOnce < 1 || s.duration < 0 || s.duration == 0 && s.starts == 0 {
		flag.Usage()
		return 2
	}

	var atExit pidfile.AtExit
	defer atExit.Run()
	if err := s.setUp(&atExit, *only); err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		return 2
	}
	// Who is tired of it gets the report of what was until then.
	tired := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup
		tired = append(tired, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), tired...)
	defer stop()
	if s.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.duration)
		defer cancel()
	}
	s.rage(ctx)
	s.report(os.Stdout)
	if s.log.violations() > 0 {
		return 1
	}
	return 0
}

// setUp makes a directory with the programs, the witnesses and the locks.
func (s *storm) setUp(atExit *pidfile.AtExit, only string) (err error) {
	if s.dir, err = os.MkdirTemp("", "lockrun-torture-"); err != nil {
		return err
	}
	atExit.Push(func() { os.RemoveAll(s.dir) })
	for _, name := range []string{"locks", "instances", "witness", "config"} {
		if err := os.Mkdir(filepath.Join(s.dir, name), 0o700); err != nil {
			return err
		}
	}
	if s.lockrun, err = s.program(s.lockrun); err != nil {
		return err
	}
	// What go run made is in small pieces in the page cache: a copy starts faster.
	if s.self, err = os.Executable(); err == nil {
		s.self, err = s.copyOf(s.self, "torture")
	}
	if err != nil {
		return err
	}
	s.flock, _ = exec.LookPath("flock")
	s.targets = slices.DeleteFunc(s.newTargets(), func(t *target) bool { return only != "" && t.name != only })
	if len(s.targets) == 0 {
		return fmt.Errorf("no lock %q", only)
	}
	for _, name := range append(s.names(), noLock) {
		w, err := newWitness((&duty{dir: s.dir, target: name}).witness())
		if err != nil {
			return err
		}
		atExit.Push(w.remove)
	}
	return s.openLog()
}

func (s *storm) names() (names []string) {
	for _, t := range s.targets {
		names = append(names, t.name)
	}
	return names
}

func (s *storm) program(given string) (string, error) {
	if given != "" {
		return s.copyOf(given, "lockrun")
	}
	linked := filepath.Join(s.dir, "linked")
	build := exec.Command("go", "build", "-o", linked, "github.com/lockrun/lockrun/cmd/lockrun")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("go build: %w", err)
	}
	defer os.Remove(linked)
	return s.copyOf(linked, "lockrun")
}

func (s *storm) copyOf(program, name string) (string, error) {
	content, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	path := filepath.Join(s.dir, name)
	return path, os.WriteFile(path, content, 0o700)
}
