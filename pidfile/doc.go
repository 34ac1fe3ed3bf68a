// Package pidfile keeps PID files that are their own locks.
//
// The file holds the PID of a process and is locked with flock(2) as long as
// that process, or one that it handed the lock to, lives. So whether it runs is
// answered by the kernel, and never guessed from a number in a file: not after
// kill -9, not after a reboot, not in a container where every PID is taken
// again.
//
//	f, err := pidfile.Hold("/run/example.pid", nil)
//	if err != nil {
//		log.Fatal(err) // lock /run/example.pid: held by process 812 (example)
//	}
//	defer f.Close()
//
// # What is not promised
//
//   - The number in the file of a holder can be old: between taking the lock
//     and writing the number, and when the process ended and left the lock to a
//     child. [Stop] and [Inspect] look whether that process really carries the
//     lock.
//   - Nothing depends on the removal of the file. What SIGKILL leaves behind is
//     stale, and harmless.
//
// For what the lock itself promises, and where it does not hold, see package
// lock.
package pidfile
