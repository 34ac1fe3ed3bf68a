//go:build !linux

package lock

import (
	"errors"
	"os"
	"time"
)

// Without /proc nothing shows who carries a lock.

type carrier struct {
	pid    int
	shared bool
}

func (c *carrier) open() (*os.File, error)  { panic("unreachable") }
func (c *carrier) describe() (Holder, bool) { panic("unreachable") }

func carries(int, fileID) (shared, ok bool, err error) { return false, false, errors.ErrUnsupported }

func carried(fd int, shared bool) error { return relock(fd, shared) }

func ownDescriptor(fileID, bool) (int, error) { return -1, errors.ErrUnsupported }

func findCarriers(fileID) ([]carrier, error) { return nil, errors.ErrUnsupported }

type search struct{}

func newSearch() *search                               { return &search{} }
func (s *search) file(int, fileID)                     {}
func (s *search) deleted(int, string)                  {}
func (s *search) findHolders() (map[int]Holder, error) { return nil, errors.ErrUnsupported }

func findAny(string, fileID, bool) (holder, deleted *carrier) { return nil, nil }

func findDeleted(string, fileID, bool) (*carrier, bool, error) { return nil, false, nil }

func parentOf(int) (int, time.Time) { return 0, time.Time{} }

func isThread(int) bool { return false }

func describeProcess(pid int) (Holder, bool) { return Holder{PID: pid, UID: -1}, true }

func describe(pid int, shared bool, recorded time.Time) Holder {
	return Holder{PID: pid, UID: -1, Shared: shared, Since: recorded}
}
