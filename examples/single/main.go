// Single runs in the foreground, and only once: a second copy is refused.
//
//	$ single -pidfile /tmp/single.pid &
//	$ single -pidfile /tmp/single.pid
//	single: lock /tmp/single.pid: held by process 812 (single -pidfile /tmp/single.pid)
package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/lockrun/lockrun/pidfile"
)

func main() {
	path := flag.String("pidfile", "/run/single.pid", "hold this PID `file`")
	work := flag.Duration("work", time.Hour, "work that long")
	fail := flag.Bool("panic", false, "panic instead, to see that the PID file goes away all the same")
	flag.Parse()

	// From here on the PID file goes away when main returns or panics, and on
	// SIGINT, SIGTERM, SIGHUP and SIGQUIT.
	var atExit pidfile.AtExit
	defer atExit.Run()
	atExit.Catch()

	file, err := pidfile.Hold(*path, nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, "single:", err)
		atExit.Exit(1)
	}
	atExit.Push(func() { file.Close() })

	fmt.Println("single: working")
	if *fail {
		panic("this is a test")
	}
	time.Sleep(*work)
}
