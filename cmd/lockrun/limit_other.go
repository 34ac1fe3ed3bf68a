//go:build !linux

package main

import (
	"golang.org/x/sys/unix"
)

const resourceNames = "core, cpu, data, fsize, memlock, nofile, nproc, rss, stack"

func resourceOf(name string) (resource int, ok bool) {
	switch name {
	case "core":
		return unix.RLIMIT_CORE, true
	case "cpu":
		return unix.RLIMIT_CPU, true
	case "data":
		return unix.RLIMIT_DATA, true
	case "fsize":
		return unix.RLIMIT_FSIZE, true
	case "memlock":
		return unix.RLIMIT_MEMLOCK, true
	case "nofile":
		return unix.RLIMIT_NOFILE, true
	case "nproc":
		return unix.RLIMIT_NPROC, true
	case "rss":
		return unix.RLIMIT_RSS, true
	case "stack":
		return unix.RLIMIT_STACK, true
	}
	return 0, false
}

func (l limit) set() error {
	resource, _ := resourceOf(l.Name)
	var r unix.Rlimit
	setLimit(&r.Cur, l.Soft)
	setLimit(&r.Max, l.Hard)
	return unix.Setrlimit(resource, &r)
}

// setLimit is there because the type is not the same on all systems.
func setLimit[T int64 | uint64](to *T, n uint64) {
	*to = T(min(n, unix.RLIM_INFINITY))
}
