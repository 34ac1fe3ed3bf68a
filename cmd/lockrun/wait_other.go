//go:build !linux

package main

import "syscall"

// reap waits for the end of the child pid. There is no way here to look at the
// end first, so a signal that is passed on in that moment may hit a process
// that was given the number.
func reap(pid int, ended func()) (ws syscall.WaitStatus) {
	for {
		if _, err := syscall.Wait4(pid, &ws, 0, nil); err != syscall.EINTR {
			ended()
			return ws
		}
	}
}
