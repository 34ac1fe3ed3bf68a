//go:build !mips && !mipsle && !mips64 && !mips64le

package sigaction

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SetDefault gives a signal its default action. Where [os/signal] does not deal
// with it the Go runtime's handler does, which for SIGQUIT prints all goroutines
// and exits with 2, and for others, SIGUSR1 for example, does nothing.
func SetDefault(s syscall.Signal) {
	var action [16]uintptr // a zero struct sigaction (rt_sigaction(2)) is SIG_DFL
	const setSize = 8
	unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&action)), 0, setSize, 0, 0)
}
