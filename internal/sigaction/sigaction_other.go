//go:build !linux || mips || mipsle || mips64 || mips64le

package sigaction

import "syscall"

// SetDefault does nothing: the Go runtime's handler stays, which for SIGQUIT
// prints all goroutines and exits with 2.
func SetDefault(syscall.Signal) {}
