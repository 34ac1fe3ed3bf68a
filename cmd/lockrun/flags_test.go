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
	for line, want := range map[string]string{
		"":                            "",
		"--keep":                      "",
		"--remove":                    "",
		"--keep --no-pid":             "",
		"--if-held wait -t 5":         "",
		"--if-held queue:2 -t 5":      "",
		"--if-held skip -t 5":         "",
		"-n":                          "",
		"-w -t 5":                     "",
		"--slots 3 -w":                "",
		"--shared -w":                 "",
		"--keep --remove":             "--keep and --remove contradict",
		"--remove --no-pid":           "--remove needs a PID file",
		"-n -w":                       "contradict",
		"-n -t 5":                     "--no-wait and --timeout contradict",
		"-w --if-held skip":           "contradict",
		"--if-held wait:5 -t 5":       "--if-held wait:5s and --timeout contradict",
		"--if-held skip -E 3":         "--if-held skip and --exit-code contradict",
		"--shared --slots 2":          "--shared and --slots contradict",
		"--shared --remove":           "--shared and --remove contradict",
		"--slots 2 --if-held replace": "--if-held replace is for one lock",
		"--lock ./a --if-held queue":  "--if-held queue is for one lock",
		"--reentrant --slots 2":       "--reentrant is for one lock",
	} {
		var h holdFlags
		flags := newFlags()
		h.register(flags)
		if err := flags.parse(strings.Fields(line)); err != nil {
			t.Fatal(line, err)
		}
		if err := h.check(); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v; want %q", line, err, want)
		}
	}
}

func TestIfHeldValues(t *testing.T) {
	for in, want := range map[string]ifHeldValue{
		"fail":       {word: "fail"},
		"skip":       {word: "skip"},
		"wait":       {word: "wait"},
		"wait:10m":   {word: "wait", bound: 10 * time.Minute},
		"wait:1.5":   {word: "wait", bound: 1500 * time.Millisecond},
		"replace":    {word: "replace"},
		"replace:1h": {word: "replace", bound: time.Hour},
		"queue":      {word: "queue", most: 1},
		"queue:20":   {word: "queue", most: 20},
	} {
		var v ifHeldValue
		if err := v.Set(in); err != nil || v != want {
			t.Errorf("%s: %+v, %v; want %+v", in, v, err, want)
		}
		var again ifHeldValue
		if err := again.Set(v.String()); err != nil || again != v {
			t.Errorf("%s is printed as %s, which is %+v, %v", in, v.String(), again, err)
		}
	}
	for _, in := range []string{"", "no", "fail:1", "skip:", "wait:", "wait:x", "wait:0", "wait:-1", "replace:", "replace:0", "queue:0", "queue:", "queue:x", "queue:1001", "WAIT"} {
		if err := new(ifHeldValue).Set(in); err == nil {
			t.Errorf("%q was taken", in)
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
