//go:build !mips && !mipsle && !mips64 && !mips64le

package pidfile

import (
	"os/signal"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// resetSignal gives a signal its default action. signal.Reset alone leaves
// the Go runtime's handler, which for SIGQUIT prints all goroutines and exits
// with 2; a program that cleaned up should die of the signal, like any other.
func resetSignal(s syscall.Signal) {
	signal.Reset(s)
	var action [16]uintptr // a zero struct sigaction (rt_sigaction(2)) is SIG_DFL
	const setSize = 8
	unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&action)), 0, setSize, 0, 0)
}
