package main

import (
	"io"
	"os"
	"time"
)

// spoolMemory is how much of the output of a command is held in memory; the rest
// goes to a temporary file.
const spoolMemory = 1 << 20

// spool holds the output of a command until it is known whether somebody wants
// to see it. The file has no name, so it is gone when we are.
type spool struct {
	memory []byte
	file   *os.File
	lost   int64 // bytes, because there is no room for them
	why    error
}

// take holds what the command wrote.
func (s *spool) take(p []byte) {
	if s.file == nil && s.why == nil && len(s.memory)+len(p) <= spoolMemory {
		s.memory = append(s.memory, p...)
		return
	}
	if s.file == nil && s.why == nil {
		s.file, s.why = namelessFile()
	}
	n := 0
	if s.why == nil {
		n, s.why = s.file.Write(p)
	}
	s.lost += int64(len(p) - n)
}

func namelessFile() (*os.File, error) {
	f, err := os.CreateTemp("", "lockrun-")
	if err == nil {
		err = os.Remove(f.Name())
	}
	return f, err
}

func (s *spool) hurry(time.Time) {}
func (s *spool) end()            {}

// show writes to one of our standard descriptors what the command wrote.
func (s *spool) show(to *os.File) {
	to.Write(s.memory)
	if s.file != nil {
		s.file.Seek(0, io.SeekStart)
		io.Copy(to, s.file)
	}
	if s.lost > 0 {
		complain("%d bytes of what the command wrote then are lost: %v", s.lost, s.why)
	}
}
