package main

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/lockrun/lockrun/lock"
)

func TestAge(t *testing.T) {
	for _, test := range []struct {
		ago  time.Duration
		want string
	}{
		{-time.Hour, "0s"}, // the clock was set back
		{0, "0s"},
		{900 * time.Millisecond, "0s"},
		{59*time.Second + 500*time.Millisecond, "59s"},
		{90*time.Second + 500*time.Millisecond, "1m30s"},
		{time.Hour + 30*time.Second, "1h0m"},
		{23*time.Hour + 59*time.Minute + 30*time.Second, "23h59m"},
		{24*time.Hour + time.Minute, "1d0h"},
		{400*24*time.Hour + 5*time.Hour + time.Minute, "400d5h"},
	} {
		if got := age(time.Now().Add(-test.ago)); got != test.want {
			t.Errorf("age of %v = %q, want %q", test.ago, got, test.want)
		}
	}
}

func TestOneLine(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"", ""},
		{"plain text, 100 %", "plain text, 100 %"},
		{"naïve 日本", "naïve 日本"},
		{"a\nb\r\tc", "a?b??c"},
		{"\x1b[2J\x07", "?[2J?"},
		{"a\x00b\x7f", "a?b?"},
		{"a\u009bb", "a?b"},                   // CSI in one byte of Latin-1
		{"a\u2028b\u200eb\u202ec", "a?b?b?c"}, // line separator, marks that turn the direction
	} {
		if got := oneLine(test.in); got != test.want {
			t.Errorf("oneLine(%q) = %q, want %q", test.in, got, test.want)
		}
	}
}

func FuzzOneLine(f *testing.F) {
	for _, seed := range []string{"a\nb", "\x1b]0;title\x07", "\xff\xfe", "\u2028", "é"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := oneLine(s)
		if !utf8.ValidString(got) {
			t.Errorf("%q: %q is not UTF-8", s, got)
		}
		for _, r := range got {
			if !unicode.IsPrint(r) {
				t.Errorf("%q: %q has %q in it", s, got, r)
			}
		}
		if again := oneLine(got); again != got {
			t.Errorf("%q: %q becomes %q", s, got, again)
		}
	})
}

func TestRefusal(t *testing.T) {
	sleep := lock.Holder{PID: 812, UID: 0, Args: []string{"sleep", "6\n0"}, Since: time.Now().Add(-90*time.Second - 500*time.Millisecond)}
	for _, test := range []struct {
		err  error
		want string
	}{
		{&lock.HeldError{Path: "/x", Holder: sleep}, "./x: held by process 812 (sleep 6?0), user root, for 1m30s"},
		{&lock.HeldError{Path: "/x", Holder: sleep, Deleted: true}, "./x: held by process 812 (sleep 6?0), user root, for 1m30s, though the file was deleted"},
		{&lock.HeldError{Path: "/x"}, "./x: held by a process that can't be seen from here"},
		{&lock.HeldError{Path: "/x", Holder: lock.Holder{PID: 812, UID: -1}}, "./x: held by process 812 (?)"},
		{&fs.PathError{Op: "open", Path: "/x", Err: fs.ErrNotExist}, "./x: the directory does not exist"},
		{&fs.PathError{Op: "open", Path: "/x", Err: fs.ErrPermission}, "./x: permission denied"},
		{errors.New("something else"), "./x: something else"},
	} {
		if got := refusal("./x", test.err); got != test.want {
			t.Errorf("refusal of %v = %q, want %q", test.err, got, test.want)
		}
	}
}

// The rules at the top of message.go: lower case, no full stop, one line.
func TestUsageMessagesFollowTheRules(t *testing.T) {
	for _, operands := range [][]string{{}, {"./l"}, {"x"}, {"x", "y"}, {"a b"}, {""}, {".x"}, {"./l", "-w", "x"}} {
		_, err := parseOperands(operands, "", false)
		if err == nil {
			t.Errorf("%q: no error", operands)
			continue
		}
		text := err.Error()
		if strings.HasSuffix(text, ".") || strings.Contains(text, "\n") || text != oneLine(text) {
			t.Errorf("%q: %q", operands, text)
		}
	}
}
