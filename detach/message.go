package detach

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"github.com/lockrun/lockrun/lock"
)

// message is what the daemon tells the launcher, once, in one line:
//
//	ready
//	executing
//	failed STATUS held|denied|other "reason"
//
// After executing comes the end of the pipe, which execve(2) has closed, or failed.
// The reason is quoted as a Go string. Launcher and daemon are the same
// program, so the protocol has no version; a program that was replaced between
// two starts of itself is started from /proc/self/exe.
type message struct {
	ready     bool
	executing bool
	status    int
	kind      error // one of kinds
	text      string
}

// kinds are the errors that errors.Is is to find in the launcher too.
var kinds = []struct {
	word string
	err  error
}{
	{"held", lock.ErrHeld},
	{"denied", fs.ErrPermission},
	{"other", nil},
}

// kindOf returns the error of kinds that reason is.
func kindOf(reason error) error {
	for _, k := range kinds {
		if k.err != nil && errors.Is(reason, k.err) {
			return k.err
		}
	}
	return nil
}

// maxMessage is more than a reason needs; a pipe takes that much in one write.
const maxMessage = 4096

func (m message) encode() []byte {
	if m.ready {
		return []byte("ready\n")
	}
	if m.executing {
		return []byte("executing\n")
	}
	var word string
	for _, k := range kinds {
		if m.kind == k.err {
			word = k.word
		}
	}
	text := m.text
	for end := len(text) / 2; ; end = end * 3 / 4 {
		if line := fmt.Appendf(nil, "failed %d %s %q\n", m.status, word, text); len(line) <= maxMessage {
			return line
		}
		// What is long is a path in the middle.
		text = m.text[:end] + "..." + m.text[len(m.text)-end:]
	}
}

func decodeMessage(line []byte) (message, bool) {
	line, complete := bytes.CutSuffix(line, []byte("\n"))
	if !complete {
		return message{}, false
	}
	switch string(line) {
	case "ready":
		return message{ready: true}, true
	case "executing":
		return message{executing: true}, true
	}
	f := bytes.SplitN(line, []byte(" "), 4)
	if len(f) != 4 || string(f[0]) != "failed" {
		return message{}, false
	}
	status, err := strconv.Atoi(string(f[1]))
	if err != nil || status < 1 || status > 255 {
		return message{}, false
	}
	text, err := strconv.Unquote(string(f[3]))
	if err != nil {
		return message{}, false
	}
	for _, k := range kinds {
		if string(f[2]) == k.word {
			return message{status: status, kind: k.err, text: text}, true
		}
	}
	return message{}, false
}
