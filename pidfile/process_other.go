//go:build !linux

package pidfile

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// Without a pidfd, or a way to see who carries a lock, no signal is safe.
type process struct{ pid int }

func holdOn(int) (*process, error)                           { return nil, errors.ErrUnsupported }
func (p *process) signal(_ syscall.Signal) error             { return errors.ErrUnsupported }
func (p *process) ended() bool                               { panic("unreachable") }
func (p *process) await(context.Context, time.Duration) bool { panic("unreachable") }
func (p *process) close()                                    {}
