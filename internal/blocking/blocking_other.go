//go:build !linux || mips || mipsle || mips64 || mips64le

package blocking

import "context"

// interruptible asks again and again: see poll.
func interruptible(ctx context.Context, _ func() error, try func() (bool, error)) (bool, error) {
	return poll(ctx, try)
}
