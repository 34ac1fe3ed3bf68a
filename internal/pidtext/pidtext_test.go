package pidtext

import (
	"bytes"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		content string
		pid     int
		ok      bool
	}{
		{"", 0, true},
		{"\n", 0, true},
		{"812", 812, true},
		{"812\n", 812, true},
		{" 812 \r\n", 812, true},
		{"00812\n", 812, true},
		{"1\n", 1, true},
		{"4194304\n", 4194304, true},
		{"4194305\n", 0, true},
		{"0\n", 0, true},
		{"-1\n", 0, true},
		{"99999999999\n", 0, true},
		{"99999999999999999999999999\n", 0, true},
		{"\x00\x00\x00\x00", 0, true},
		{"abc\n", 0, false},
		{"hello", 0, false},
		{"12 34\n", 0, false},
		{"12\n34\n", 0, false},
		{"1\x002\n", 0, false},
		{"-", 0, false},
		{"--1", 0, false},
		{"+1", 0, false},
		{"0x10", 0, false},
		{"1.5", 0, false},
		{"#!/bin/sh\n", 0, false},
		{"812" + strings.Repeat(" ", MaxSize-3), 812, true},
		{"812" + strings.Repeat(" ", MaxSize-2), 0, false},
	} {
		pid, ok := Parse([]byte(tc.content))
		if pid != tc.pid || ok != tc.ok {
			t.Errorf("Parse(%.20q) = %d, %v; want %d, %v", tc.content, pid, ok, tc.pid, tc.ok)
		}
	}
}

func TestFormatIsParsedBack(t *testing.T) {
	for _, pid := range []int{1, 9, 10, 32768, maxPID} {
		if got, ok := Parse(Format(pid)); got != pid || !ok {
			t.Errorf("Parse(Format(%d)) = %d, %v; want %d, true", pid, got, ok, pid)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "1\n", "-1", "abc", "\x00", "99999999999"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		pid, ok := Parse(content)
		if pid < 0 || pid > maxPID || (pid != 0 && !ok) {
			t.Errorf("Parse(%q) = %d, %v", content, pid, ok)
		}
		if pid == 0 {
			return
		}
		if again, ok := Parse(Format(pid)); again != pid || !ok {
			t.Errorf("Parse(Format(%d)) = %d, %v", pid, again, ok)
		}
		// What a new number leaves of a longer old one is never another number.
		shorter := append(Format(1), bytes.Repeat([]byte("\n"), max(0, len(content)-2))...)
		if n, ok := Parse(shorter); n != 1 || !ok {
			t.Errorf("Parse(%q) = %d, %v; want 1, true", shorter, n, ok)
		}
	})
}
