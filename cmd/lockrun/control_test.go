package main

import (
	"slices"
	"strings"
	"testing"
)

// FuzzRequest: a supervisor gets every command that execve(2) can have, as the
// client has it, also when it is not UTF-8.
func FuzzRequest(f *testing.F) {
	f.Add(doRestart, "TERM/10/KILL/5", "sleep", "60")
	f.Add(doRestart, "", "\xff", "")
	f.Add(doRestart, "", "\xc3", "\xa9") // UTF-8 only together
	f.Add(doStop, "7", "<>&\u2028", "a\n\"b\"")
	f.Fuzz(func(t *testing.T, do, schedule, word, next string) {
		command := []string{word, next}
		line, err := request{Do: do, Schedule: schedule, Command: command}.encode()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(line), "\n") {
			t.Errorf("encode = %q; want one line", line)
		}
		var r request
		err = r.decode(line)
		if nul := strings.Contains(word+next, "\x00"); nul != (err != nil) {
			t.Fatalf("decode(%q) = %v; a NUL in it: %t", line, err, nul)
		}
		if err == nil && !slices.Equal(r.Command, command) {
			t.Errorf("decode(%q) = %q; want %q", line, r.Command, command)
		}
	})
}

// FuzzDecodeRequest: what is not of this version, or no command, is refused, and
// no field is touched that is not the client's.
func FuzzDecodeRequest(f *testing.F) {
	f.Add([]byte(`{"lockrun":1,"do":"stop"}`))
	f.Add([]byte(`{"lockrun":1,"do":"restart","command":["a"],"command_base64":["YQ=="]}`))
	f.Add([]byte(`{"lockrun":2}`))
	f.Add([]byte(`{"lockrun":1,"answered":1,"Done":null}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var r request
		if err := r.decode(line); err != nil {
			return
		}
		if r.Version != controlVersion || r.answered != nil || r.done != nil {
			t.Errorf("decode(%q) = %+v", line, r)
		}
		for _, word := range r.Command {
			if strings.Contains(word, "\x00") {
				t.Errorf("decode(%q): a NUL in %q", line, r.Command)
			}
		}
		again, err := r.encode()
		if err != nil {
			t.Fatal(err)
		}
		var same request
		if err := same.decode(again); err != nil || same.Do != r.Do || same.Schedule != r.Schedule || !slices.Equal(same.Command, r.Command) {
			t.Errorf("decode(%q) = %+v, %v; want %+v", again, same, err, r)
		}
	})
}
