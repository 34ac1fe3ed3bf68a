//go:build !linux

package main

import (
	"context"
	"errors"
	"net"
)

// A peer's process can't be told here, so there are no control sockets.

func listenControl(lockName) (*control, error) { return nil, errors.ErrUnsupported }

func peerOf(*net.UnixConn) (peer, error) { return peer{}, errors.ErrUnsupported }

func dialUnix(context.Context, string) (*net.UnixConn, error) { return nil, errors.ErrUnsupported }

func hungUpOn(*net.UnixConn) bool { return true }
