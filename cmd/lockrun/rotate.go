package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// rotation is a flag's word: how big a log may get, and how many old ones are
// kept.
type rotation struct {
	given string
	size  int64
	keep  int
}

const defaultKeep = 5

// A variable would be made at each start of the program.
func badRotation() error {
	return errors.New("want size:N,keep:N, such as size:10M,keep:5 (bytes, or with k, M, G; keep is at most 999)")
}

func (r *rotation) Set(s string) error {
	set := rotation{given: s, keep: -1}
	for word := range strings.SplitSeq(s, ",") {
		key, value, _ := strings.Cut(word, ":")
		switch {
		case key == "size" && set.size == 0:
			if set.size = rotationSize(value); set.size == 0 {
				return badRotation()
			}
		case key == "keep" && set.keep < 0:
			n, err := strconv.ParseUint(value, 10, 16)
			if err != nil || n > 999 {
				return badRotation()
			}
			set.keep = int(n)
		default:
			return badRotation()
		}
	}
	if set.size == 0 {
		return badRotation()
	}
	if set.keep < 0 {
		set.keep = defaultKeep
	}
	*r = set
	return nil
}

// rotationSize returns 0 for what is no size.
func rotationSize(s string) int64 {
	shift := 0
	for i, unit := range []string{"k", "M", "G"} {
		if number, ok := strings.CutSuffix(s, unit); ok {
			s, shift = number, 10*(i+1)
		}
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0
	}
	return int64(n) << shift
}

// longestLine is how far a line may go beyond the size before it is torn.
const longestLine = 1 << 20

// rotatedLog appends output to a file and renames it when it is full: FILE to
// FILE.1, FILE.1 to FILE.2 and so on, as logrotate does. A line is in one file.
//
// It never waits and never gives up: what can't be written is dropped, and
// counted where there is room again.
//
// It is not gopkg.in/natefinch/lumberjack because that loses lines (two
// rotations in one millisecond have the same name), tears them, does not see that
// somebody renamed its file, and counts in megabytes.
type rotatedLog struct {
	*logFile
	rotation

	size   int64 // of the file
	limit  int64 // the size at which it is full; more than rotation.size after a failure
	inLine bool  // the file does not end in a newline

	lost     int64 // bytes that were dropped
	why      error
	lostLine bool // they do not end in a newline, so what comes next is the rest of a line
}

// take writes what the command wrote.
func (r *rotatedLog) take(p []byte) {
	if r.renamed() && r.reopen() == nil {
		r.inLine = false
	}
	r.look()
	for len(p) > 0 {
		n := r.fits(p)
		if n == 0 {
			r.rotate()
			continue
		}
		r.append(p[:n])
		p = p[n:]
	}
}

// look asks for the size of the file: somebody may have truncated it.
func (r *rotatedLog) look() {
	if fi, err := r.Stat(); err == nil {
		r.size = fi.Size()
	}
	if r.size < r.rotation.size {
		r.limit = r.rotation.size
	}
}

// fits returns how much of p goes into the file before it is full: whole lines,
// and the rest of one that was begun, however long. 0 means that it is full.
func (r *rotatedLog) fits(p []byte) int {
	room := r.limit - r.size
	if int64(len(p)) <= room {
		return len(p)
	}
	if i := bytes.LastIndexByte(p[:max(0, room)], '\n'); i >= 0 {
		return i + 1
	}
	if r.size > 0 && (!r.inLine || room < -longestLine) {
		return 0
	}
	if i := bytes.IndexByte(p, '\n'); i >= 0 {
		return i + 1
	}
	return len(p)
}

// append writes p at the end of the file.
func (r *rotatedLog) append(p []byte) {
	if r.lost > 0 {
		if r.lostLine {
			n := bytes.IndexByte(p, '\n') + 1
			if n == 0 {
				n = len(p)
			}
			r.drop(p[:n], r.why)
			p = p[n:]
		}
		if len(p) == 0 {
			return
		}
		if !r.sayLost() {
			r.drop(p, r.why)
			return
		}
	}
	n, err := r.write(p)
	if err != nil {
		r.drop(p[n:], err)
	}
}

func (r *rotatedLog) write(p []byte) (int, error) {
	n, err := r.Write(p)
	if n > 0 {
		r.size += int64(n)
		r.inLine = p[n-1] != '\n'
	}
	return n, err
}

func (r *rotatedLog) drop(p []byte, why error) {
	r.lost += int64(len(p))
	r.why = why
	r.lostLine = p[len(p)-1] != '\n'
}

// sayLost writes into the log how much is missing there, and reports whether
// that could be done.
func (r *rotatedLog) sayLost() bool {
	var pe *fs.PathError
	if errors.As(r.why, &pe) {
		r.why = pe.Err
	}
	if !r.say("%d bytes of output are lost here: %v", r.lost, r.why) {
		return false
	}
	r.lost, r.lostLine = 0, false
	return true
}

// say writes a line of our own into the log.
func (r *rotatedLog) say(format string, args ...any) bool {
	text := "lockrun: " + fmt.Sprintf(format, args...) + "\n"
	if r.inLine {
		text = "\n" + text
	}
	_, err := r.write([]byte(text))
	return err == nil
}

// rotate makes place for another file. If that can't be done the file grows on,
// and it is tried again when it has grown by as much as it may.
func (r *rotatedLog) rotate() {
	old, _ := r.Stat()
	err := r.shift()
	if err == nil {
		err = r.reopen()
	}
	if err != nil {
		r.limit = r.size + r.rotation.size
		r.say("the log can't be rotated: %v", err)
		return
	}
	// Who could read the old one can read the new one.
	if st, ok := old.Sys().(*syscall.Stat_t); ok {
		r.Chown(int(st.Uid), int(st.Gid))
		r.Chmod(old.Mode().Perm())
	}
	r.size, r.limit, r.inLine = 0, r.rotation.size, false
}

// shift renames the files, the oldest first: so none is lost that should stay,
// whenever we are killed.
func (r *rotatedLog) shift() error {
	if r.keep == 0 {
		return os.Remove(r.path)
	}
	for i := r.keep; i > 0; i-- {
		err := os.Rename(r.numbered(i-1), r.numbered(i))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (r *rotatedLog) numbered(i int) string {
	if i == 0 {
		return r.path
	}
	return r.path + "." + strconv.Itoa(i)
}

func (r *rotatedLog) hurry(time.Time) {}

// end says what is still to be said.
func (r *rotatedLog) end() {
	if r.lost > 0 {
		r.sayLost()
	}
}

// mayRotate returns why a file can't be renamed, and another one put in its
// place.
func mayRotate(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && !fi.Mode().IsRegular() {
		err = &fs.PathError{Op: "rotate", Path: path, Err: errors.New("not a regular file")}
	}
	return err
}
