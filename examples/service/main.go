// Service tells the time to whoever connects to it, and understands the words of
// an init script.
//
//	$ service -pidfile /tmp/service.pid -log /tmp/service.log start
//	$ service -pidfile /tmp/service.pid status
//	running: lock /tmp/service.pid: held by process 812 (service -pidfile /tmp/service.pid -log /tmp/service.log start)
//	$ service -pidfile /tmp/service.pid stop
//	$ service -pidfile /tmp/service.pid run
//	listening on 127.0.0.1:1313
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/lockrun/lockrun/detach"
)

func main() {
	var s detach.Service
	flag.StringVar(&s.PIDFile, "pidfile", "/run/service.pid", "hold this PID `file`")
	flag.StringVar(&s.Log, "log", "/var/log/service.log", "append the daemon's output to this `file`")
	address := flag.String("listen", "127.0.0.1:1313", "listen on this `address`")
	flag.Parse()
	s.Run = func(d *detach.Daemon) error { return serve(*address, d) }

	status, message := s.Command(flag.Args())
	switch {
	case message == "":
	case flag.Arg(0) == "status": // what was asked for
		fmt.Println(message)
	default:
		fmt.Fprintln(os.Stderr, "service:", message)
	}
	os.Exit(status)
}

// serve is the program: in the background (start, restart) and in the foreground
// (run) the same. On SIGTERM, SIGINT, SIGHUP and SIGQUIT the PID file is removed
// and the process dies of the signal; see Service.Handles for a better end.
func serve(address string, d *detach.Daemon) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err // start prints it, and its status is 1
	}
	fmt.Println("listening on", l.Addr())
	d.Ready() // start ends now, with status 0
	for {
		c, err := l.Accept()
		if err != nil {
			return err // into the log
		}
		fmt.Fprintln(c, time.Now().Format(time.DateTime))
		c.Close()
	}
}
