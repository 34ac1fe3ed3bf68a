package main

import (
	"errors"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A sink gets what a command writes into a pipe. It must not keep the command
// waiting.
type sink interface {
	take(p []byte)
	hurry(until time.Time) // the command has ended; it is called beside take
	end()                  // nothing comes any more
}

// drain is a pipe that a command writes to, and its restarts too.
type drain struct {
	r, w *os.File
	into sink
	done chan struct{} // closed when nobody reads any more; nil before somebody does
	over atomic.Bool   // the command has ended
}

// pipeSize is the capacity of a pipe; see pipe(7).
const pipeSize = 64 << 10

// forStragglers is how long the end waits for those that the command left behind
// and that write to the pipe: a "tee" that it wrote to, say, needs a moment.
const forStragglers = time.Second

// ofStragglers is how much more is read then, in bytes.
const ofStragglers = 1 << 20

func newDrain(into sink) (*drain, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return &drain{r: r, w: w, into: into}, nil
}

// begin begins to read, when the first command runs.
func (d *drain) begin() {
	if d.done == nil {
		d.done = make(chan struct{})
		go d.read()
	}
}

func (d *drain) read() {
	defer close(d.done)
	buf := make([]byte, pipeSize)
	for late := 0; late < ofStragglers; {
		n, err := d.r.Read(buf)
		if n > 0 {
			d.into.take(buf[:n])
		}
		if err != nil {
			return
		}
		if d.over.Load() {
			late += n
		}
	}
}

// descriptor is what the command writes to. Fd makes it a blocking one, which
// programs expect.
func (d *drain) descriptor() uintptr { return d.w.Fd() }

// close says that the command has ended, and end that it is over with those that
// it left behind, too: when they have ended or had their time. Who writes to the
// pipe afterwards gets SIGPIPE.
func (d *drain) close() {
	d.w.Close()
	d.over.Store(true)
	until := time.Now().Add(forStragglers)
	d.into.hurry(until)
	d.r.SetReadDeadline(until)
}

func (d *drain) end() {
	if d.done != nil {
		<-d.done
	}
	d.rest()
	d.r.Close()
	d.into.end()
}

// rest reads what is in the pipe. After a second it may still be the command's:
// stragglers can write faster than we can.
func (d *drain) rest() {
	d.r.SetReadDeadline(time.Time{})
	conn, err := d.r.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, pipeSize)
	for got := 0; got < pipeSize; {
		n := 0
		conn.Read(func(fd uintptr) bool {
			for {
				n, err = unix.Read(int(fd), buf)
				if !errors.Is(err, unix.EINTR) {
					return true
				}
			}
		})
		if n <= 0 {
			return
		}
		d.into.take(buf[:n])
		got += n
	}
}
