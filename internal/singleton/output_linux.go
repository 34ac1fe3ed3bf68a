package singleton

import (
	"os"
	"strings"
	"sync"
	"time"
	"unicode"
)

// output is the end of what a start says. It is read at once, however much it
// is, so that nobody has to wait because a pipe is full.
type output struct {
	r     *os.File
	ended chan struct{} // closed when nobody can write any more

	mu   sync.Mutex
	tail []byte
}

const maxTail = 4096

// newOutput returns a pipe's writing end, which the caller closes.
func newOutput() (*output, *os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	o := &output{r: r, ended: make(chan struct{})}
	go o.read()
	return o, w, nil
}

func (o *output) read() {
	defer close(o.ended)
	buf := make([]byte, 4096)
	for {
		n, err := o.r.Read(buf)
		o.mu.Lock()
		o.tail = append(o.tail, buf[:n]...)
		o.tail = o.tail[max(0, len(o.tail)-maxTail):]
		o.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// lastLine is the last line that has something in it: a program that tells why
// it ends does so at its end. It is asked of a start that has ended; whoever
// else has the pipe is not waited for.
func (o *output) lastLine() string {
	select {
	case <-o.ended:
	case <-time.After(time.Second):
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	text := strings.TrimRightFunc(printable(string(o.tail)), unicode.IsSpace)
	return shorten(strings.TrimSpace(text[strings.LastIndexByte(text, '\n')+1:]), 200)
}

// printable replaces what could move the cursor, but not the ends of lines.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			return r
		case unicode.IsSpace(r):
			return ' '
		}
		return '?'
	}, s)
}

func shorten(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-3]) + "..."
	}
	return s
}
