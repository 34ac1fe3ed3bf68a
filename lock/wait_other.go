//go:build !linux || mips || mipsle || mips64 || mips64le

package lock

import "context"

// block asks again and again: see poll. Without a context that can end, lock
// waits in the kernel's queue.
func block(ctx context.Context, lock func() error, try func() (bool, error)) (bool, error) {
	if ctx.Done() == nil {
		err := ignoringEINTR(lock)
		return err == nil, err
	}
	return poll(ctx, try)
}
