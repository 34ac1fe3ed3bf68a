// Package detach turns the running program into a daemon, and tells the
// terminal that started it what really happened.
//
//	d, err := detach.Detach(&detach.Config{PIDFile: "/run/example.pid", Log: "/var/log/example.log"})
//	if err != nil {
//		fmt.Fprintln(os.Stderr, err) // lock /run/example.pid: held by process 812 (example)
//		os.Exit(1)
//	}
//	defer d.Close()
//	// ... listen, open files ...
//	d.Ready() // the terminal gets its prompt back only now
//
// A [Service] gives the program the words start, stop, restart, status and run
// in one call.
//
// # Why the program runs itself again
//
// A Go program can't fork without exec: the runtime's threads do not survive it
// (go.dev/issue/227). So Detach starts the program anew, twice:
//
//	launcher   the process that the terminal started; it waits for the outcome
//	leader     setsid(2): a new session, without a terminal; it starts the
//	           daemon and exits
//	daemon     not a session leader, so that it can never get a controlling
//	           terminal again by opening one
//
// A pipe runs from the daemon to the launcher. Each of the three runs main from
// its beginning and stops, or goes on, in Detach: call it before anything that
// should happen once. How a process knows which one it is: see marker.go.
//
// # What the daemon has
//
//   - init (or the nearest subreaper) as its parent once the launcher has ended
//   - a session of its own, and it is not the session's leader
//   - the working directory / or Config.Dir
//   - the umask 022 or Config.Umask
//   - standard input from /dev/null, standard output and error to /dev/null or
//     Config.Log, where the trace of a panic lands too
//   - no other descriptor but those in Config.Keep
//   - all signals unblocked and at their default, but SIGHUP and SIGINT stay
//     ignored if they were (nohup). The terminal's stop signals need no care:
//     without a controlling terminal none can come. SIGCHLD at its default is
//     what wait(2) needs; ignored, it would lose every child's status.
//   - its own PID in the PID file, which it has locked
//
// # When not to use it
//
// Under systemd (but for Type=forking), in a container, or under any
// supervisor: those want the program in the foreground.
package detach
