// Daemon runs in the background, and only once. The terminal gets its prompt
// back when the daemon is up, or the reason why it is not.
//
//	$ daemon -pidfile /tmp/daemon.pid -log /tmp/daemon.log
//	$ daemon -pidfile /tmp/daemon.pid -log /tmp/daemon.log
//	daemon: lock /tmp/daemon.pid: held by process 812 (daemon -pidfile /tmp/daemon.pid -log /tmp/daemon.log)
//	$ lockrun stop /tmp/daemon.pid
package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/lockrun/lockrun/detach"
	"github.com/lockrun/lockrun/pidfile"
)

func main() {
	path := flag.String("pidfile", "/run/daemon.pid", "hold this PID `file`")
	log := flag.String("log", "/var/log/daemon.log", "append the output to this `file`")
	fail := flag.Bool("panic", false, "panic once up, to see its trace in the log")
	flag.Parse()

	daemon, err := detach.Detach(&detach.Config{PIDFile: *path, Log: *log})
	if err != nil { // only in the process that the terminal started
		fmt.Fprintln(os.Stderr, "daemon:", err)
		os.Exit(1)
	}
	var atExit pidfile.AtExit
	defer atExit.Run()
	atExit.Push(func() { daemon.Close() })
	atExit.Catch()

	// Listen and open files here. If that fails, daemon.Fail(1, err) tells the
	// terminal; else it gets its prompt back now.
	daemon.Ready()

	if *fail {
		panic("this is a test")
	}
	for {
		fmt.Println(time.Now().Format(time.DateTime), "still here")
		time.Sleep(time.Minute)
	}
}
