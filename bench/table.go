package main

import (
	"fmt"
	"io"
	"math"
	"time"
)

const (
	microseconds = "us"
	milliseconds = "ms"
	megabytes    = "MB"
	times        = "x" // of the peer's
)

// amount is a number with its unit. The zero value is none.
type amount struct {
	value float64
	unit  string
}

func (a amount) String() string {
	if a.unit == "" {
		return ""
	}
	digits := 2
	if a.value != 0 {
		digits = min(3, max(0, 2-int(math.Floor(math.Log10(a.value))))) // three that count
	}
	return fmt.Sprintf("%.*f %s", digits, a.value, a.unit)
}

func inMilliseconds(d time.Duration) amount {
	return amount{float64(d) / float64(time.Millisecond), milliseconds}
}

func inMicroseconds(d time.Duration) amount {
	return amount{float64(d) / float64(time.Microsecond), microseconds}
}

func inMegabytes(bytes int64) amount {
	return amount{float64(bytes) / 1e6, megabytes}
}

// result is what a measure found. The first peer is the one that a limit in
// times is about.
type result struct {
	ours  amount
	note  string
	peers []peer
}

// peer is the same, done by somebody else. missing says why there is no amount.
type peer struct {
	name    string
	amount  amount
	missing string
}

func (r result) ratioTo(p peer) amount {
	if p.amount.value == 0 {
		return amount{}
	}
	return amount{r.ours.value / p.amount.value, times}
}

// within reports whether a limit is reached. Without one it is.
func (r result) within(limit amount) bool {
	switch limit.unit {
	case "":
		return true
	case times:
		return len(r.peers) > 0 && r.peers[0].amount.unit != "" && r.ratioTo(r.peers[0]).value <= limit.value
	}
	if limit.unit != r.ours.unit {
		panic("limit in " + limit.unit + ", measured in " + r.ours.unit)
	}
	return r.ours.value <= limit.value
}

const rowFormat = "%-15s %9s  %9s  %-8s %9s  %-26s %s\n"

// printTable runs the measures and prints each as soon as it is done. It
// reports whether all limits are reached.
func (b *bench) printTable(w io.Writer, measures []measure) (reached bool, err error) {
	fmt.Fprintf(w, rowFormat, "MEASURE", "LOCKRUN", "LIMIT", "REACHED", "PEER", "", "LOCKRUN/PEER")
	reached = true
	for _, m := range measures {
		r, err := m.run(b)
		if err != nil {
			return false, fmt.Errorf("%s: %w", m.name, err)
		}
		r.print(w, m)
		reached = reached && r.within(m.limit)
	}
	return reached, nil
}

func (r result) print(w io.Writer, m measure) {
	verdict := ""
	if m.limit.unit != "" {
		verdict = "no"
		if r.within(m.limit) {
			verdict = "yes"
		}
	}
	left := [4]string{m.name, r.ours.String(), m.limit.String(), verdict}
	for _, p := range r.peers {
		name, ratio := p.name, r.ratioTo(p).String()
		if p.missing != "" {
			name, ratio = p.name+": "+p.missing, ""
		}
		fmt.Fprintf(w, rowFormat, left[0], left[1], left[2], left[3], p.amount, name, ratio)
		left = [4]string{}
	}
	if len(r.peers) == 0 {
		fmt.Fprintf(w, rowFormat, left[0], left[1], left[2], left[3], "", "", "")
	}
	if r.note != "" {
		fmt.Fprintf(w, "%15s %s\n", "", r.note)
	}
}
