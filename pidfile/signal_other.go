//go:build !linux || mips || mipsle || mips64 || mips64le

package pidfile

import (
	"os/signal"
	"syscall"
)

// resetSignal gives a signal its default action, which for SIGQUIT is the Go
// runtime's: it prints all goroutines and exits with 2.
func resetSignal(s syscall.Signal) { signal.Reset(s) }
