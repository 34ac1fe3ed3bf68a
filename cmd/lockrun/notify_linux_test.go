package main

import (
	"strings"
	"testing"
	"time"
)

func FuzzNotice(f *testing.F) {
	for _, seed := range []string{"READY=1", "STATUS=up\nREADY=1\n", "ERRNO=2", "EXTEND_TIMEOUT_USEC=5000000", "STOPPING=1", "READY=0", "=\n=", "ERRNO=-1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n := parseNotice(text)
		switch {
		case n.ready && !strings.Contains(text, "READY=1"), n.stopping && !strings.Contains(text, "STOPPING=1"):
			t.Errorf("%q: %+v; it does not say so", text, n)
		case n.extend < 0 || n.extend > 24*time.Hour:
			t.Errorf("%q: %v more", text, n.extend)
		case strings.Contains(n.status, "\n"):
			t.Errorf("%q: the status has two lines: %q", text, n.status)
		}
	})
}
