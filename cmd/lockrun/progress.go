package main

import (
	"os"
	"sync"
	"time"

	"github.com/lockrun/lockrun/lock"
	"github.com/lockrun/lockrun/pidfile"
)

// waitFlags say what is shown of a wait.
type waitFlags struct {
	quiet   bool
	verbose bool
}

func (w *waitFlags) register(fs *flagSet) {
	fs.bool(&w.quiet, "quiet", "q")
	fs.bool(&w.verbose, "verbose", "v")
}

// A wait that takes longer than a moment is shown on a terminal, in one line that
// is brought up to date every second and erased in the end. Elsewhere nothing is
// shown, and with --verbose one line.
const moment = 300 * time.Millisecond

// show shows a wait until the function that it returns is called. doing stands
// before the holder: "waiting for". catches says that the line is to be erased
// when a signal ends the process; if not, somebody else sees to it.
func (w waitFlags) show(name lockName, doing string, catches bool) (end func()) {
	width, isTerminal := terminalWidth(os.Stderr)
	isTerminal = isTerminal && os.Getenv("TERM") != "dumb"
	if w.quiet || !isTerminal && !w.verbose {
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	begin := time.Now()
	go func() {
		defer close(done)
		select {
		case <-quit:
			return
		case <-time.After(moment):
		}
		if !isTerminal {
			complain("%s: %s", name.given, holderNow(name, doing))
			return
		}
		var atExit pidfile.AtExit
		atExit.Push(func() { os.Stderr.WriteString("\r\x1b[K") })
		if catches {
			defer atExit.Catch()()
		}
		defer atExit.Run()
		redraw(name, doing, width, begin, quit)
	}()
	var once sync.Once
	return func() {
		once.Do(func() { close(quit) })
		<-done
	}
}

func redraw(name lockName, doing string, width int, begin time.Time, quit <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	text := ""
	for n := 0; ; n++ {
		if n%5 == 0 { // to look may take some milliseconds
			text = oneLine("lockrun: " + name.given + ": " + holderNow(name, doing))
		}
		if inForeground(os.Stderr) {
			took := " (" + time.Since(begin).Truncate(time.Second).String() + ")"
			line := []rune(text)
			if most := max(0, width-1-len(took)); len(line) > most {
				line = line[:most]
			}
			os.Stderr.WriteString("\r" + string(line) + took + "\x1b[K")
		}
		select {
		case <-quit:
			return
		case <-tick.C:
		}
	}
}

// holderNow says who holds the lock.
func holderNow(name lockName, doing string) string {
	in, err := lock.Inspect(name.path)
	if err != nil || in.State != lock.Held {
		return "waiting"
	}
	return doing + " " + who(in.Holder)
}
