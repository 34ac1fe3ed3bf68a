package main

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// sample is a flag set with a flag of each kind.
type sample struct {
	flags    *flagSet
	no, quit bool
	fd       int
	shell    string
	lock     []string
	timeout  duration
}

func newSample() *sample {
	s := &sample{flags: newFlags()}
	s.flags.bool(&s.no, "no-wait", "n")
	s.flags.bool(&s.quit, "quiet", "q")
	s.flags.int(&s.fd, "fd")
	s.flags.string(&s.shell, "command", "c")
	s.flags.strings(&s.lock, "lock")
	s.flags.value(&s.timeout, "timeout", "t")
	return s
}

// given are the flags that were changed, with their values.
func (s *sample) given() string {
	values := map[string]string{
		"no-wait": "no", "quiet": "quiet", "command": s.shell,
		"lock": strings.Join(s.lock, "+"), "timeout": s.timeout.String(),
	}
	var given []string
	for _, f := range s.flags.flags {
		if f.changed {
			given = append(given, values[f.name])
		}
	}
	return strings.Join(given, " ")
}

func TestFlagsThatAreRead(t *testing.T) {
	for _, test := range []struct {
		line, given, operands string
		dashed                bool
	}{
		{"", "", "", false},
		{"L -- true", "", "L -- true", false},
		{"-n L -q", "no", "L -q", false}, // the flags of a command are its own
		{"-nq L", "no quiet", "L", false},
		{"--no-wait --quiet L", "no quiet", "L", false},
		{"--quiet=true --no-wait=0 L", "no quiet", "L", false},
		{"-t5 L", "5s", "L", false},
		{"-t 5 L", "5s", "L", false},
		{"-t=5 L", "5s", "L", false},
		{"-nt5 L", "no 5s", "L", false},
		{"-nqt 5 L", "no quiet 5s", "L", false},
		{"--timeout 5 L", "5s", "L", false},
		{"--timeout=5 L", "5s", "L", false},
		{"-t 1 -t 2 L", "2s", "L", false},
		{"--lock a --lock=b L", "a+b", "L", false},
		{"-c -n L", "-n", "L", false},           // an argument is one, whatever it looks like
		{"--command -- L", "--", "L", false},    //
		{"-cn=q L", "n=q", "L", false},          //
		{"--command=a=b L", "a=b", "L", false},  //
		{"--command= L", "", "L", false},        //
		{"-n -- -q L", "no", "-q L", true},      //
		{"-- -- L", "", "-- L", true},           // the first ends them
		{"- L", "", "- L", false},               // an operand
		{"-n -c - - -q", "no -", "- -q", false}, //
		{"-c=x L", "x", "L", false},             //
		{"-c= L", "=", "L", false},              //
	} {
		s := newSample()
		if err := s.flags.parse(strings.Fields(test.line)); err != nil {
			t.Errorf("%s: %v", test.line, err)
			continue
		}
		if got := strings.Join(s.flags.operands, " "); s.given() != test.given || got != test.operands || s.flags.dashed != test.dashed {
			t.Errorf("%s: %q, operands %q, dashed %v; want %q, %q, %v", test.line, s.given(), got, s.flags.dashed, test.given, test.operands, test.dashed)
		}
	}
}

func TestBooleansThatAreGivenAsFalse(t *testing.T) {
	s := newSample()
	if err := s.flags.parse([]string{"-n", "--no-wait=false", "-q=false"}); err != nil || s.no || s.quit || !s.flags.changed("quiet") {
		t.Errorf("%v: no-wait %v, quiet %v", err, s.no, s.quit)
	}
}

func TestFlagsThatAreRefused(t *testing.T) {
	for line, want := range map[string]string{
		"--no-such L":      "unknown flag: --no-such",
		"--no-such=5 L":    "unknown flag: --no-such",
		"--no-wai L":       "unknown flag: --no-wai", // no abbreviations
		"-Z L":             "unknown shorthand flag: 'Z' in -Z",
		"-nZq L":           "unknown shorthand flag: 'Z' in -Zq",
		"-\x00 L":          `unknown shorthand flag: '\x00' in -` + "\x00",
		"-n= L":            "unknown shorthand flag: '=' in -=",
		"--=5 L":           "unknown flag: --",
		"--timeout":        "flag needs an argument: --timeout",
		"-t":               "flag needs an argument: 't' in -t",
		"-nt":              "flag needs an argument: 't' in -t",
		"--timeout=x":      `invalid argument "x" for "-t, --timeout" flag: want seconds (5, 0.5) or a duration (300ms, 1m30s)`,
		"--timeout=":       `invalid argument "" for "-t, --timeout" flag: want seconds (5, 0.5) or a duration (300ms, 1m30s)`,
		"-nt x":            `invalid argument "x" for "-t, --timeout" flag: want seconds (5, 0.5) or a duration (300ms, 1m30s)`,
		"--fd x":           `invalid argument "x" for "--fd" flag: want a number`,
		"--no-wait=maybe":  `invalid argument "maybe" for "-n, --no-wait" flag: want true or false`,
		"-q=maybe -n L":    `invalid argument "maybe" for "-q, --quiet" flag: want true or false`,
		"-n --help L":      errHelp.Error(),
		"-nh L":            errHelp.Error(),
		"--fd 1 -t 5 --x ": "unknown flag: --x",
	} {
		s := newSample()
		if err := s.flags.parse(strings.Fields(line)); err == nil || err.Error() != want {
			t.Errorf("%q: %v; want %s", line, err, want)
		}
	}
}

func TestWrongValuesAreTold(t *testing.T) {
	err := newSample().flags.parse([]string{"--timeout=-1"})
	var e *invalidValueError
	if !errors.As(err, &e) || e.flag.name != "timeout" || e.value != "-1" {
		t.Errorf("%#v", err)
	}
}

// No name and no letter stands for two flags.
func TestFlagsAreDistinct(t *testing.T) {
	var run runOptions
	var start startOptions
	for _, register := range []func(*flagSet){run.register, start.register} {
		flags := newFlags()
		register(flags)
		var seen []string
		for _, f := range flags.flags {
			words := []string{f.name}
			if f.letter != 0 {
				words = append(words, string(f.letter))
			}
			for _, word := range words {
				if slices.Contains(seen, word) {
					t.Errorf("%s is there twice", word)
				}
				seen = append(seen, word)
			}
		}
	}
}

func FuzzFlags(f *testing.F) {
	for _, seed := range []string{"-nq L", "-t=5", "--timeout 5 -- L", "-c", "--no-wait=x", "-=", "--=", "-- --", "-\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		words := strings.Fields(line)
		s := newSample()
		if err := s.flags.parse(slices.Clone(words)); err != nil {
			return
		}
		// The operands are the last words, as they are, and no flag is left.
		rest := words[len(words)-len(s.flags.operands):]
		if !slices.Equal(rest, s.flags.operands) {
			t.Errorf("%q: operands %q", words, s.flags.operands)
		}
		if len(rest) > 0 && !s.flags.dashed && len(rest[0]) > 1 && rest[0][0] == '-' {
			t.Errorf("%q: the flag %q is left over", words, rest[0])
		}
	})
}
