//go:build !linux

package singleton

import (
	"context"
	"errors"
	"fmt"
)

// Without a subreaper and /proc, a service that detaches is out of sight.
func verify(context.Context, Config, func(Step)) (bool, error) {
	return false, fmt.Errorf("verify: %w", errors.ErrUnsupported)
}
