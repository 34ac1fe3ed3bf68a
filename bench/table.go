package main

import (
	"fmt"
	"io"
	"math"
	"slices"
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
		digits = min(3, max(0, 2-int(math.Floor(math.Log10(math.Abs(a.value)))))) // three that count
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

// result is what a measure found.
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

func (r result) peer(name string) peer {
	for _, p := range r.peers {
		if p.name == name {
			return p
		}
	}
	panic("no peer " + name)
}

// limit is what is to be reached: an amount, so many times what a peer takes, or so
// much more than that.
type limit struct {
	amount
	peer string // "" without
}

func (l limit) String() string {
	switch {
	case l.peer == "":
		return l.amount.String()
	case l.unit == times:
		return l.amount.String() + " " + l.peer
	}
	return l.peer + " + " + l.amount.String()
}

// measured returns what the limit is about. It is no amount if the peer is missing.
func (l limit) measured(r result) amount {
	switch {
	case l.peer == "":
		return r.ours.in(l.unit)
	case r.peer(l.peer).missing != "":
		return amount{}
	case l.unit == times:
		return r.ratioTo(r.peer(l.peer))
	}
	difference := amount{r.ours.value - r.peer(l.peer).amount.value, r.ours.unit}
	return difference.in(l.unit)
}

// verdict says whether the limit is reached.
func (l limit) verdict(r result) string {
	switch got := l.measured(r); {
	case got.unit == "":
		return "not measured"
	case got.value <= l.value:
		return "reached"
	}
	return notReached
}

const notReached = "not reached"

// in returns the same amount in another unit.
func (a amount) in(unit string) amount {
	switch {
	case a.unit == unit:
		return a
	case a.unit == milliseconds && unit == microseconds:
		return amount{a.value * 1000, unit}
	}
	panic(a.unit + " is not to be had in " + unit)
}

// finding is a measure with its result.
type finding struct {
	measure
	result
}

// reached reports whether all limits are.
func (f finding) reached() bool {
	return !slices.ContainsFunc(f.limits, func(l limit) bool { return l.verdict(f.result) == notReached })
}

const rowFormat = "%-13s %-32s %9s  %s\n"

// printTable runs the measures and prints each as soon as it is done.
func (b *bench) printTable(w io.Writer, measures []measure) (found []finding, err error) {
	fmt.Fprintf(w, rowFormat, "MEASURE", "WHO", "TOOK", "LOCKRUN/IT")
	for _, m := range measures {
		r, err := m.run(b)
		if err != nil {
			return found, fmt.Errorf("%s: %w", m.name, err)
		}
		f := finding{m, r}
		f.print(w)
		found = append(found, f)
	}
	return found, nil
}

func (f finding) print(w io.Writer) {
	fmt.Fprintf(w, rowFormat, f.name, "lockrun", f.ours, "")
	for _, p := range f.peers {
		ratio := f.ratioTo(p).String()
		if p.missing != "" {
			ratio = p.missing
		}
		fmt.Fprintf(w, rowFormat, "", p.name, p.amount, ratio)
	}
	for _, l := range f.limits {
		fmt.Fprintf(w, "%13s limit %v: %v, %s\n", "", l, l.measured(f.result), l.verdict(f.result))
	}
	if f.note != "" {
		fmt.Fprintf(w, "%13s %s\n", "", f.note)
	}
}
