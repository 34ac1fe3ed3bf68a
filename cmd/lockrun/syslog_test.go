package main

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSyslogHurries: when its time at the end is over nothing is sent any more
// but how much was not.
func TestSyslogHurries(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	server, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	conn, err := net.Dial("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s := &syslogLog{tag: "web", conn: conn}
	s.take([]byte("one\n"))
	s.hurry(time.Now())
	time.Sleep(time.Millisecond)
	s.take([]byte("two\nthree\n"))
	s.end()
	server.SetReadDeadline(time.Now().Add(10 * time.Second))
	for _, want := range []string{": one", ": lockrun: 2 lines of output are lost here: syslog did not take them"} {
		buf := make([]byte, 1000)
		n, err := server.Read(buf)
		if got := string(buf[:n]); !strings.HasSuffix(got, want) {
			t.Errorf("message %q, %v; want it to end in %q", got, err, want)
		}
	}
}
