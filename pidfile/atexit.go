package pidfile

import (
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/lockrun/lockrun/internal/sigaction"
)

// AtExit is a list of functions that run when the program ends: when main
// returns or panics, by Exit, and on signals. The last one that was pushed runs
// first, and each runs once, whoever comes first. The zero value is ready.
//
//	var atExit pidfile.AtExit
//	defer atExit.Run()
//	atExit.Catch()
//	f, err := pidfile.Hold("/run/example.pid", nil)
//	...
//	atExit.Push(func() { f.Close() })
//
// Nothing can run on SIGKILL, on os.Exit and log.Fatal, and on a panic in a
// goroutine without a deferred Run. A PID file does not need it: what is left
// behind is stale and harmless.
type AtExit struct {
	mu      sync.Mutex
	funcs   []func()
	running bool
	idle    sync.Cond // on mu; signalled when running becomes false
	dying   bool      // a caught signal ends the process
}

// Push adds a function. One that is pushed while the list runs is run too.
func (a *AtExit) Push(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.funcs = append(a.funcs, f)
}

// Run runs the functions and is meant to be deferred in main. It does not
// recover: a panic goes on after it, with its trace. If somebody else runs them
// at the moment, Run waits; if that is because of a signal, Run does not return,
// since the process is about to die of it. A function must not call Run or Exit.
//
// If a function panics, the rest is run all the same.
func (a *AtExit) Run() {
	a.run()
	a.mu.Lock()
	dying := a.dying
	a.mu.Unlock()
	if dying {
		select {}
	}
}

func (a *AtExit) run() {
	a.mu.Lock()
	for a.running {
		if a.idle.L == nil {
			a.idle.L = &a.mu
		}
		a.idle.Wait()
	}
	a.running = true
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		a.running = false
		a.idle.Broadcast()
		a.mu.Unlock()
	}()
	a.runRest()
}

func (a *AtExit) runRest() {
	for {
		a.mu.Lock()
		n := len(a.funcs) - 1
		if n < 0 {
			a.mu.Unlock()
			return
		}
		f := a.funcs[n]
		a.funcs = a.funcs[:n]
		a.mu.Unlock()
		a.runOne(f)
	}
}

// runOne runs the rest of the list before a panic of f goes on.
func (a *AtExit) runOne(f func()) {
	done := false
	defer func() {
		if !done {
			a.runRest()
		}
	}()
	f()
	done = true
}

// Exit runs the functions and ends the process with that status, as os.Exit
// does. Deferred functions of the callers do not run.
func (a *AtExit) Exit(code int) {
	a.Run()
	os.Exit(code)
}

// Catch makes the functions run when one of the signals comes, by default
// SIGINT, SIGTERM, SIGHUP and SIGQUIT. Then the process dies of that signal, so
// that its parent sees "killed by SIGTERM" and not an exit status; as PID 1,
// which no signal of its own kills, it exits with 128+n. A second signal while
// the functions run kills at once.
//
// SIGHUP and SIGINT stay ignored if they were when the program started (nohup, a
// background job of a script). Of other signals a Go program can't know it: the
// runtime takes them over before main.
//
// Do not use Catch beside a handler of your own for the same signal, such as
// signal.NotifyContext for a graceful end: call Run after that instead.
//
// The returned function ends it, and gives the signals back their default.
func (a *AtExit) Catch(signals ...os.Signal) (stop func()) {
	if len(signals) == 0 {
		signals = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}
	}
	var caught []os.Signal
	for _, s := range signals {
		if !signal.Ignored(s) {
			caught = append(caught, s)
		}
	}
	if len(caught) == 0 {
		return func() {}
	}
	c := make(chan os.Signal, 1)
	signal.Notify(c, caught...)
	done := make(chan struct{})
	go func() {
		select {
		case s := <-c:
			a.mu.Lock()
			a.dying = true
			a.mu.Unlock()
			for _, other := range caught {
				resetSignal(other.(syscall.Signal))
			}
			defer dieOf(s.(syscall.Signal)) // even when a function panics
			a.run()
		case <-done:
		}
	}()
	var once sync.Once
	return func() {
		once.Do(func() {
			signal.Stop(c)
			close(done)
		})
	}
}

// dieOf ends the process by a signal.
func dieOf(s syscall.Signal) {
	resetSignal(s)
	syscall.Kill(os.Getpid(), s)
	if os.Getpid() == 1 {
		os.Exit(128 + int(s))
	}
	select {}
}

// resetSignal gives a signal its default action: a program that cleaned up
// should die of the signal, like any other.
func resetSignal(s syscall.Signal) {
	signal.Reset(s)
	sigaction.SetDefault(s)
}
