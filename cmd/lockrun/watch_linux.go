package main

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// directoryWatch tells when a file in a directory was written, made or moved
// there (inotify(7)).
type directoryWatch struct{ f *os.File } // nil: it can't be told

func watchDirectory(dir string) directoryWatch {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return directoryWatch{}
	}
	f := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO); err != nil {
		f.Close()
		return directoryWatch{}
	}
	return directoryWatch{f}
}

// wait returns after a change, or after d. The error is the context's.
func (w directoryWatch) wait(ctx context.Context, d time.Duration) error {
	if w.f == nil {
		return pause(ctx, d)
	}
	w.f.SetReadDeadline(time.Now().Add(d))
	defer context.AfterFunc(ctx, func() { w.f.SetReadDeadline(time.Unix(1, 0)) })()
	w.f.Read(make([]byte, 64<<10))
	return ctx.Err()
}

func (w directoryWatch) close() {
	if w.f != nil {
		w.f.Close()
	}
}
