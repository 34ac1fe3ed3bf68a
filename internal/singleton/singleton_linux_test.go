package singleton

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestParseStat(t *testing.T) {
	t.Parallel()
	const rest = " 0 -1 4194560 105 0 0 0 0 0 0 0 20 0 1 0 8374583 2560000"
	alive := process{identity{812, 8374583}, 811, 800, false}
	dead := alive
	dead.dead = true
	for _, test := range []struct {
		stat string
		want process
		ok   bool
	}{
		{"812 (sleep) S 811 812 800" + rest, alive, true},
		{"812 (a (b) c) S 811 812 800" + rest, alive, true},
		{"812 () 1 2) 3) S 811 812 800" + rest, alive, true},
		{"812 (a\nb) T 811 812 800" + rest, alive, true},
		{"812 (sleep) Z 811 812 800" + rest, dead, true},
		{"812 (sleep) X 811 812 800" + rest, dead, true},
		{"812 (sleep) S 811 812 800", process{}, false},
		{"812 (sleep) S x 812 800" + rest, process{}, false},
		{"", process{}, false},
		{")", process{}, false},
	} {
		got, ok := parseStat([]byte(test.stat))
		if ok != test.ok || ok && got != test.want {
			t.Errorf("%q: %+v, %t; want %+v, %t", test.stat, got, ok, test.want, test.ok)
		}
	}
}

func TestReadProcess(t *testing.T) {
	t.Parallel()
	p, ok := readProcess(os.Getpid())
	if !ok || p.pid != os.Getpid() || p.parent != os.Getppid() || p.start == 0 || !p.alive() {
		t.Errorf("%+v, %t; want this process", p, ok)
	}
	// The same number and another start is another process: it gets nothing.
	p.start++
	if p.alive() {
		t.Error("a process that started at another time is alive")
	}
	if err := p.signal(syscall.SIGKILL); err != nil {
		t.Error(err)
	}
}

func TestMainOf(t *testing.T) {
	t.Parallel()
	at := func(pid int, start uint64, parent int) process {
		return process{identity: identity{pid, start}, parent: parent}
	}
	for _, test := range []struct {
		processes []process
		want      int
	}{
		{nil, 0},
		{[]process{at(5, 1, 2)}, 5},
		{[]process{at(5, 1, 2), at(6, 1, 5)}, 5},
		{[]process{at(5, 9, 2), at(6, 9, 5)}, 5}, // PIDs began anew, in one tick
		{[]process{at(5, 9, 30000), at(30000, 9, 2)}, 30000},
		{[]process{at(5, 9, 2), at(30000, 3, 2)}, 30000},
	} {
		if got := mainOf(test.processes); got.pid != test.want {
			t.Errorf("%+v: process %d, want %d", test.processes, got.pid, test.want)
		}
	}
}

func TestComplaint(t *testing.T) {
	t.Parallel()
	exited := func(n int) syscall.WaitStatus { return syscall.WaitStatus(n << 8) }
	for _, test := range []struct {
		status  syscall.WaitStatus
		refused *int
		want    string
	}{
		{exited(1), nil, ""},
		{exited(75), nil, ""},
		{exited(0), nil, "ended with status 0, as if started"},
		{exited(75), new(75), ""},
		{exited(0), new(0), ""},
		{exited(1), new(75), "ended with status 1, not 75"},
		{exited(0), new(75), "ended with status 0, not 75"},
		{exited(1), new(0), "ended with status 1, not 0"},
		{syscall.WaitStatus(syscall.SIGKILL), nil, "killed by SIGKILL"},
		{syscall.WaitStatus(syscall.SIGSEGV), new(139), "killed by SIGSEGV"},
	} {
		v := verifier{Config: Config{Refused: test.refused}}
		if got := v.complaint(&attempt{status: test.status}); got != test.want {
			t.Errorf("%#x: %q, want %q", test.status, got, test.want)
		}
	}
}

func TestTally(t *testing.T) {
	t.Parallel()
	var attempts []*attempt
	for _, n := range []int{75, 1, 75, 0, 75} {
		attempts = append(attempts, &attempt{status: syscall.WaitStatus(n << 8)})
	}
	if got := tally(attempts, (*attempt).outcome); got != "3 status 75, 1 status 1, 1 status 0" {
		t.Error(got)
	}
	if got := tally(attempts, new(verifier).complaint); got != "1 ended with status 0, as if started" {
		t.Error(got)
	}
}

func TestLastLine(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ said, want string }{
		{"", ""},
		{" \n\n\t\n", ""},
		{"held\n", "held"},
		{"held", "held"},
		{"one\n\n  two \r\n\n", "two"},
		{"a\tb\x1b[2Jc\xff\n", "a b?[2Jc\ufffd"},
		{strings.Repeat("x\n", 100_000) + "held\n", "held"},
		{strings.Repeat("x", 201), strings.Repeat("x", 197) + "..."},
	} {
		o, w, err := newOutput()
		if err != nil {
			t.Fatal(err)
		}
		w.WriteString(test.said)
		w.Close()
		if got := o.lastLine(); got != test.want {
			t.Errorf("%.20q: %q, want %q", test.said, got, test.want)
		}
		o.r.Close()
	}
}
