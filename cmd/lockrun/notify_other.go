//go:build !linux

package main

import "errors"

// A sender's process can't be told here.

func (s *supervisor) listenNotify() (string, error) { return "", errors.ErrUnsupported }

func (s *supervisor) isOurs(int) bool { return false }
