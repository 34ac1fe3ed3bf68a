package detach

import (
	"bytes"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/lockrun/lockrun/lock"
)

func TestMessage(t *testing.T) {
	t.Parallel()
	for _, m := range []message{
		{ready: true},
		{executing: true},
		{status: 1},
		{status: 75, kind: lock.ErrHeld, text: "lock /run/x.pid: held by process 812 (x)"},
		{status: 255, text: "two\nlines, \"quotes\", a \\, a \t and \x00\xff"},
		{status: 73, text: "grüße 🙂"},
		{status: 1, kind: fs.ErrPermission, text: "listen: permission denied"},
		{status: 42, text: "failed 1 other \"x\"\n"},
	} {
		line := m.encode()
		if bytes.IndexByte(line, '\n') != len(line)-1 {
			t.Errorf("encode(%+v) = %q; want one line", m, line)
		}
		if got, ok := decodeMessage(line); !ok || got != m {
			t.Errorf("decode(%q) = %+v, %t; want %+v", line, got, ok, m)
		}
		// A daemon that was killed while it wrote has said nothing.
		for n := range len(line) {
			if got, ok := decodeMessage(line[:n]); ok {
				t.Errorf("decode(%q) = %+v; want it to be refused as incomplete", line[:n], got)
			}
		}
	}
}

// TestLongMessage: the text is cut so that one write to a pipe takes the line as
// a whole, and one read buffer too. What stands at its end, the reason, stays.
func TestLongMessage(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		strings.Repeat("x", maxMessage), strings.Repeat("\x00", maxMessage), strings.Repeat("🙂", 1<<18),
	} {
		line := message{status: 9, kind: lock.ErrHeld, text: text}.encode()
		if len(line) > maxMessage {
			t.Errorf("%d bytes; want at most %d", len(line), maxMessage)
		}
		m, ok := decodeMessage(line)
		if !ok || m.status != 9 || m.kind != lock.ErrHeld || len(m.text) < 500 {
			t.Errorf("decode = %t, %d, %v, %d bytes", ok, m.status, m.kind, len(m.text))
		}
		begin, end, cut := strings.Cut(m.text, "...")
		if !cut || begin == "" || !strings.HasPrefix(text, begin) || end == "" || !strings.HasSuffix(text, end) {
			t.Errorf("decode = %.20q...; want the beginning and the end of the text", m.text)
		}
		got, ok, err := hear(bytes.NewReader(line))
		if err != nil || !ok || got != m {
			t.Errorf("hear = %d bytes, %t, %v; want %d", len(got.text), ok, err, len(m.text))
		}
	}
}

func TestMessageRefused(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		"", "\n", "ready", "ready \n", "Ready\n", "failed\n", "failed 1\n", "failed 1 other\n", "failed 1 other \n",
		"failed 1 other x\n", "failed 1 other \"x\n", "failed 1 other \"x\" y\n", "failed 1 else \"x\"\n",
		"failed 0 other \"x\"\n", "failed -1 other \"x\"\n", "failed 256 other \"x\"\n", "failed x other \"x\"\n",
		"failed 1 other \"x\"\nready\n", "passed 1 other \"x\"\n",
	} {
		if m, ok := decodeMessage([]byte(line)); ok {
			t.Errorf("decode(%q) = %+v; want it to be refused", line, m)
		}
	}
}

// TestHear: a line may come in pieces; the end of the pipe, or a flood, ends it.
// After executing the end of the pipe is good news.
func TestHear(t *testing.T) {
	t.Parallel()
	ready := message{ready: true}
	failed := message{status: 127, text: "x: not found"}
	for _, c := range []struct {
		said pieces
		want message
		ok   bool
	}{
		{pieces{"re", "", "ad", "y\n"}, ready, true},
		{pieces{"rea"}, message{}, false},
		{pieces{}, message{}, false},
		{pieces{strings.Repeat("x", 2*maxMessage)}, message{}, false},
		{pieces{"exec", "uting\n"}, ready, true},
		{pieces{"executing\n", string(failed.encode())}, failed, true},
		{pieces{"executing\n" + string(failed.encode())}, failed, true},
		{pieces{"executing\n", "fai"}, message{}, false},
		{pieces{"executing\nexecuting\n"}, message{}, false},
		{pieces{"executing"}, message{}, false},
	} {
		reader := slices.Clone(c.said)
		if m, ok, err := hear(&reader); ok != c.ok || ok && m != c.want {
			t.Errorf("hear(%q) = %+v, %t, %v; want %+v, %t", c.said, m, ok, err, c.want, c.ok)
		}
	}
}

// pieces is a reader that gives one piece at a time.
type pieces []string

func (p *pieces) Read(buf []byte) (int, error) {
	if len(*p) == 0 {
		return strings.NewReader("").Read(buf)
	}
	n := copy(buf, (*p)[0])
	if (*p)[0] = (*p)[0][n:]; (*p)[0] == "" {
		*p = (*p)[1:]
	}
	return n, nil
}

func FuzzMessage(f *testing.F) {
	f.Add(1, true, "reason")
	f.Add(255, false, "\x00\n\xff")
	f.Add(71, true, strings.Repeat("\xcb", maxMessage/2)) // is cut
	f.Fuzz(func(t *testing.T, status int, held bool, text string) {
		m := message{status: status, text: text}
		if held {
			m.kind = lock.ErrHeld
		}
		line := m.encode()
		if len(line) > maxMessage || bytes.IndexByte(line, '\n') != len(line)-1 {
			t.Fatalf("encode(%+v) = %q; want one line of at most %d bytes", m, line, maxMessage)
		}
		got, ok := decodeMessage(line)
		if possible := 1 <= status && status <= 255; ok != possible {
			t.Fatalf("decode(%q) = %t; want %t", line, ok, possible)
		}
		if !ok {
			return
		}
		if got.ready || got.status != status || got.kind != m.kind {
			t.Fatalf("decode(%q) = %+v; want %+v", line, got, m)
		}
		if got.text == text {
			return
		}
		middle := max(0, len(got.text)-len("...")) / 2
		end, cut := strings.CutPrefix(got.text[middle:], "...")
		if !cut || !strings.HasPrefix(text, got.text[:middle]) || !strings.HasSuffix(text, end) || len(line) < maxMessage/2 {
			t.Fatalf("decode(%q) = %+v; want the text %q, or its beginning and end", line, got, text)
		}
	})
}

// FuzzDecodeMessage: whatever the daemon writes, the launcher understands it or
// refuses it.
func FuzzDecodeMessage(f *testing.F) {
	f.Add([]byte("ready\n"))
	f.Add([]byte("failed 75 held \"held by process 1\"\n"))
	f.Add([]byte("failed 1 other `x`\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		m, ok := decodeMessage(line)
		if !ok {
			return
		}
		if !m.ready && (m.status < 1 || m.status > 255) {
			t.Fatalf("decode(%q) = %+v; want a status from 1 to 255", line, m)
		}
		again := m.encode()
		if got, ok := decodeMessage(again); !ok || got != m && len(again) < maxMessage/2 {
			t.Fatalf("decode(%q) = %+v, but decode(%q) = %+v, %t", line, m, again, got, ok)
		}
	})
}
