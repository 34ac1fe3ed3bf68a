package main

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for _, test := range []struct {
		in   string
		want time.Duration
	}{
		{"0", 0},
		{"0s", 0},
		{"5", 5 * time.Second},
		{"0.5", 500 * time.Millisecond},
		{".5", 500 * time.Millisecond},
		{"1e3", 1000 * time.Second},
		{"300ms", 300 * time.Millisecond},
		{"1m30s", 90 * time.Second},
		{"1h", time.Hour},
		{"+2", 2 * time.Second},
		{"1e-400", 0},
		{"4000000000", 4000000000 * time.Second}, // 126 years
	} {
		if got, err := parseDuration(test.in); err != nil || got != test.want {
			t.Errorf("parseDuration(%q) = %v, %v; want %v", test.in, got, err, test.want)
		}
	}
}

func TestParseDurationRefuses(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"", "want seconds"},
		{" ", "want seconds"},
		{"5 ", "want seconds"},
		{"abc", "want seconds"},
		{"5x", "want seconds"},
		{"5 s", "want seconds"},
		{"NaN", "want seconds"},
		{"1e400", "want seconds"},
		{"-1", "must not be negative"},
		{"-0.5", "must not be negative"},
		{"-300ms", "must not be negative"},
		{"1e300", "too long"},
		{"Inf", "too long"},
		{"9223372036", "too long"},
	} {
		if got, err := parseDuration(test.in); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("parseDuration(%q) = %v, %v; want an error with %q", test.in, got, err, test.want)
		}
	}
}

// Whatever it accepts is a time that can be waited for, also behind what
// time.Duration itself prints and reads.
func FuzzParseDuration(f *testing.F) {
	for _, seed := range []string{"0", "5", "0.5", "-1", "300ms", "1m30s", "1e300", "-1e300", "Inf", "NaN", "0x1p-2", "1_0", "", "9223372036.854775807"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := parseDuration(s)
		if err != nil {
			if d != 0 {
				t.Errorf("%q: %v beside the error %v", s, d, err)
			}
			return
		}
		if d < 0 {
			t.Errorf("%q: %v is negative", s, d)
		}
		again, err := parseDuration(d.String())
		if err != nil || again != d {
			t.Errorf("%q: %v is read back as %v, %v", s, d, again, err)
		}
	})
}

func TestDurationFlagRemembersThatItWasSet(t *testing.T) {
	var d duration
	if d.set || d.d != 0 {
		t.Errorf("zero value: %+v", d)
	}
	if err := d.Set("x"); err == nil || d.set {
		t.Errorf("after a bad value: %v, %+v", err, d)
	}
	// -t 0 is not the same as no -t.
	if err := d.Set("0"); err != nil || !d.set {
		t.Errorf("after 0: %v, %+v", err, d)
	}
}

func TestStatusValue(t *testing.T) {
	for _, in := range []string{"0", "1", "75", "255"} {
		var v statusValue
		if err := v.Set(in); err != nil || v.String() != in {
			t.Errorf("Set(%q): %v, %s", in, err, v.String())
		}
	}
	for _, in := range []string{"", "256", "-1", "x", "1.5", " 1", "99999999999999999999"} {
		v := statusValue(7)
		if err := v.Set(in); err == nil || v != 7 {
			t.Errorf("Set(%q): %v, %d; want an error and no change", in, err, v)
		}
	}
}

func TestHoldFlagsThatContradict(t *testing.T) {
	for _, test := range []struct {
		h    holdFlags
		want string
	}{
		{holdFlags{}, ""},
		{holdFlags{keep: true}, ""},
		{holdFlags{remove: true}, ""},
		{holdFlags{keep: true, noPID: true}, ""},
		{holdFlags{keep: true, remove: true}, "contradict"},
		{holdFlags{remove: true, noPID: true}, "--remove needs a PID file"},
	} {
		err := test.h.check()
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%+v: %v; want %q", test.h, err, test.want)
		}
	}
}

func TestFloatSecondsAreNotRoundedAway(t *testing.T) {
	// The limit in parseDuration is below what a Duration holds.
	if _, err := parseDuration("4611686018"); err != nil {
		t.Error(err)
	}
	if d, err := parseDuration("4611686019"); err == nil && d < 0 {
		t.Errorf("overflow: %v of at most %v", d, time.Duration(math.MaxInt64))
	}
}
