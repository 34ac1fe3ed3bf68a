//go:build !linux

package pidfile

import (
	"errors"
	"syscall"
)

// Without a pidfd, or a way to see who carries a lock, no signal is safe.
type process struct{ pid int }

func holdOn(int) (*process, error)               { return nil, errors.ErrUnsupported }
func (p *process) signal(_ syscall.Signal) error { return errors.ErrUnsupported }
func (p *process) ended() bool                   { panic("unreachable") }
func (p *process) close()                        {}
