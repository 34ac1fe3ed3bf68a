package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

const (
	testOnlyLong rune = onlyLong + iota
	testOnlyLongArgument
)

// The options have two names for -n, one of which begins the other's word, and
// --ver begins two that differ.
const testShort = "sna:V?"

var testLong = []longOption{
	{"shared", noArgument, 's'},
	{"nonblocking", noArgument, 'n'},
	{"nb", noArgument, 'n'},
	{"no-fork", noArgument, 'F'},
	{"after", requiredArgument, 'a'},
	{"verbose", noArgument, testOnlyLong},
	{"version", noArgument, 'V'},
	{"start", requiredArgument, testOnlyLongArgument},
	{"starting", noArgument, 'S'},
}

// parsed writes down what getopt said of a command line: each option, with its
// argument, then the operands, or the error.
func parsed(args []string) string { return allOf(newGetopt("prog", args, testShort, testLong)) }

func allOf(g *getopt) string {
	var said []string
	for {
		opt, arg, ok, err := g.next()
		if err != nil {
			return strings.Join(append(said, err.Error()), " ")
		}
		if !ok {
			return strings.Join(append(said, fmt.Sprintf("%q", g.operands())), " ")
		}
		name := string(opt)
		switch opt {
		case testOnlyLong:
			name = "verbose"
		case testOnlyLongArgument:
			name = "start"
		}
		if arg != "" {
			name += "=" + arg
		}
		said = append(said, name)
	}
}

func TestGetopt(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, `[]`},
		{[]string{""}, `[""]`},
		{[]string{"-"}, `["-"]`},
		{[]string{"-s"}, `s []`},
		{[]string{"-sn"}, `s n []`},
		{[]string{"-sn", "-V", "x"}, `s n V ["x"]`},
		// It stops at the first operand.
		{[]string{"-s", "x", "-n"}, `s ["x" "-n"]`},
		{[]string{"-s", "-", "-n"}, `s ["-" "-n"]`},
		{[]string{"-s", "--", "-n"}, `s ["-n"]`},
		{[]string{"--", "--"}, `["--"]`},
		{[]string{"--", "-k"}, `["-k"]`},
		// Arguments.
		{[]string{"-a1", "x"}, `a=1 ["x"]`},
		{[]string{"-a", "1", "x"}, `a=1 ["x"]`},
		{[]string{"-a=1"}, `a==1 []`},
		{[]string{"-sa1n"}, `s a=1n []`},
		{[]string{"-sa", "-n"}, `s a=-n []`},
		{[]string{"-a", "--", "x"}, `a=-- ["x"]`},
		{[]string{"-a", ""}, `a []`},
		{[]string{"--after", "1", "x"}, `a=1 ["x"]`},
		{[]string{"--after=1", "x"}, `a=1 ["x"]`},
		{[]string{"--after=", "x"}, `a ["x"]`},
		{[]string{"--after=a=b"}, `a=a=b []`},
		{[]string{"--after", "--shared"}, `a=--shared []`},
		// Long options and what begins them.
		{[]string{"--shared", "--verbose"}, `s verbose []`},
		{[]string{"--sh"}, `s []`},
		{[]string{"--non"}, `n []`},
		{[]string{"--nonblock"}, `n []`},
		{[]string{"--af=1"}, `a=1 []`},
		{[]string{"--af", "1"}, `a=1 []`},
		{[]string{"--start", "1"}, `start=1 []`}, // exact, though it begins another
		{[]string{"--starti"}, `S []`},
		// What is wrong, word by word as the GNU C library says it.
		{[]string{"-k"}, `prog: invalid option -- 'k'`},
		{[]string{"-sk"}, `s prog: invalid option -- 'k'`},
		{[]string{"-:"}, `prog: invalid option -- ':'`},
		{[]string{"-;"}, `prog: invalid option -- ';'`},
		{[]string{"-s-"}, `s prog: invalid option -- '-'`},
		{[]string{"-é"}, "prog: invalid option -- '\xc3'"},
		{[]string{"-a"}, `prog: option requires an argument -- 'a'`},
		{[]string{"-sa"}, `s prog: option requires an argument -- 'a'`},
		{[]string{"--after"}, `prog: option '--after' requires an argument`},
		{[]string{"--af"}, `prog: option '--after' requires an argument`},
		{[]string{"--shared=1"}, `prog: option '--shared' doesn't allow an argument`},
		{[]string{"--sh="}, `prog: option '--shared' doesn't allow an argument`},
		{[]string{"--other"}, `prog: unrecognized option '--other'`},
		{[]string{"--other=1"}, `prog: unrecognized option '--other=1'`},
		{[]string{"--sharedd"}, `prog: unrecognized option '--sharedd'`},
		{[]string{"--Shared"}, `prog: unrecognized option '--Shared'`},
		{[]string{"--ver"}, `prog: option '--ver' is ambiguous; possibilities: '--verbose' '--version'`},
		{[]string{"--ver=1"}, `prog: option '--ver=1' is ambiguous; possibilities: '--verbose' '--version'`},
		// A second name of the first possibility is not told.
		{[]string{"--n"}, `prog: option '--n' is ambiguous; possibilities: '--nonblocking' '--no-fork'`},
		{[]string{"--sta"}, `prog: option '--sta' is ambiguous; possibilities: '--start' '--starting'`},
	} {
		if got := parsed(test.args); got != test.want {
			t.Errorf("%q: %s; want %s", test.args, got, test.want)
		}
	}
}

func TestBSDGetopt(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, `[]`},
		{[]string{"-"}, `["-"]`},
		{[]string{"-sn", "x", "-n"}, `s n ["x" "-n"]`},
		{[]string{"-s", "--", "-n"}, `s ["-n"]`},
		{[]string{"-a1", "-a", "2", "-a", "--"}, `a=1 a=2 a=-- []`},
		{[]string{"-k"}, `prog: illegal option -- k`},
		{[]string{"-sk"}, `s prog: illegal option -- k`},
		{[]string{"-s-n"}, `s prog: illegal option -- -`},
		{[]string{"--shared"}, `prog: illegal option -- -`},
		{[]string{"-:"}, `prog: illegal option -- :`},
		{[]string{"-a"}, `prog: option requires an argument -- a`},
	} {
		if got := allOf(newBSDGetopt("prog", test.args, "sna:")); got != test.want {
			t.Errorf("%q: %s; want %s", test.args, got, test.want)
		}
	}
}

// FuzzGetopt: every word is either read as an option, or as an option's
// argument, or is the operands' first, and nothing but the tail of the words is
// operands.
func FuzzGetopt(f *testing.F) {
	for _, seed := range []string{"-s x", "-sna1 --", "--after=1 x -n", "--ver", "- -s", "-- -s", "--af 1 -?"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, " ")
		g := newGetopt("prog", args, testShort, testLong)
		letters := 0
		for {
			opt, arg, ok, err := g.next()
			if err != nil {
				if ok || !strings.HasPrefix(err.Error(), "prog: ") {
					t.Fatalf("%q: %v, %v", args, ok, err)
				}
				return
			}
			if !ok {
				break
			}
			if letters++; letters > len(line) {
				t.Fatalf("%q: more options than letters", args)
			}
			if takes := opt == 'a' || opt == testOnlyLongArgument; arg != "" && !takes {
				t.Fatalf("%q: %q has the argument %q", args, opt, arg)
			}
			if !strings.Contains(line, arg) {
				t.Fatalf("%q: the argument %q is not theirs", args, arg)
			}
		}
		rest := g.operands()
		read := len(args) - len(rest)
		if read < 0 || !slices.Equal(args[read:], rest) {
			t.Fatalf("%q: %q are not the last words", args, rest)
		}
		// Once it has ended it stays so.
		if _, _, ok, err := g.next(); ok || err != nil {
			t.Fatalf("%q: goes on behind the operands", args)
		}
	})
}
