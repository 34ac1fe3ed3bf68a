// Package singleton finds out, by trying, whether a service refuses a second
// start.
//
// Nothing of the service is known but its command. It may stay in the
// foreground or detach; what counts is which processes are there in the end.
package singleton

import (
	"context"
	"time"
)

// Config says what is to be tried.
type Config struct {
	Path    string        // the program's file
	Args    []string      // its words, beginning with its name
	Env     []string      // nil means that of this process
	Dir     string        // "" means that of this process
	Starts  int           // how many at once; 0 means 20
	Timeout time.Duration // for whatever is waited for; 0 means 10 s
	Refused *int          // the exit status of a refused start; nil means any but 0
}

// Defaults of Config.
const (
	DefaultStarts  = 20
	DefaultTimeout = 10 * time.Second
)

// Step is one thing that was tried.
type Step struct {
	Tried string
	Saw   string
	OK    bool     // the service did what it should
	Notes []string // what is no failure, and could be better
}

func (s Step) String() string { return s.Tried + ": " + s.Saw }

// Verify tries, and reports each step when it is done: that of many starts at
// once one runs, that it is not disturbed by others, that one starts after
// SIGKILL and after SIGTERM. ok says that all of that held. An error means that
// something could not be tried at all. When Verify returns, nothing that it
// started is there any more; if that could not be achieved, it is an error.
//
// It needs a process of its own, which ends afterwards: it adopts orphans, and
// reaps whatever ends. Only Linux has what that takes; elsewhere the error is
// errors.ErrUnsupported.
func Verify(ctx context.Context, c Config, report func(Step)) (ok bool, err error) {
	if c.Starts == 0 {
		c.Starts = DefaultStarts
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	return verify(ctx, c, report)
}
