package main

import (
	"slices"
	"strings"
	"testing"
)

func TestParseOperands(t *testing.T) {
	w := strings.Fields
	sh := func(s string) []string { return []string{"/bin/sh", "-c", s} }
	for _, test := range []struct {
		operands []string
		shell    string
		hasShell bool
		lock     string
		argv     []string
	}{
		{w("./l true"), "", false, "./l", w("true")},
		{w("./l -- true"), "", false, "./l", w("true")},
		{w("./l -- true -- x"), "", false, "./l", w("true -- x")},
		{w("./l -- -- x"), "", false, "./l", w("-- x")},
		{w("./l true -- x"), "", false, "./l", w("true -- x")},
		{w("./l -- -x"), "", false, "./l", w("-x")},
		{w("./l true -w"), "", false, "./l", w("true -w")},
		{w("name -- true"), "", false, "name", w("true")},
		{w("./start -- true"), "", false, "./start", w("true")},
		{[]string{"./l", "--", ""}, "", false, "./l", []string{""}},

		{w("./l"), "a b", true, "./l", sh("a b")},
		{w("name"), "a b", true, "name", sh("a b")},
		{w("./l --"), "a b", true, "./l", sh("a b")},
		{w("./l"), "", true, "./l", sh("")},
		{[]string{"./l", "-c", "a b"}, "", false, "./l", sh("a b")}, // flock(1)
		{[]string{"name", "-c", "a b"}, "", false, "name", sh("a b")},
		{[]string{"./l", "--", "-c", "a b"}, "", false, "./l", []string{"-c", "a b"}},
	} {
		c, err := parseOperands(test.operands, test.shell, test.hasShell)
		if err != nil || c.lock.given != test.lock || !slices.Equal(c.argv, test.argv) {
			t.Errorf("%q, shell %q: lock %q, command %q, %v; want %q, %q",
				test.operands, test.shell, c.lock.given, c.argv, err, test.lock, test.argv)
		}
	}
}

func TestParseOperandsRefuses(t *testing.T) {
	w := strings.Fields
	for _, test := range []struct {
		operands []string
		hasShell bool
		want     string
	}{
		{nil, false, "LOCK is missing"},
		{nil, true, "LOCK is missing"},
		{w("--"), false, "bad lock name"},
		{w("./l"), false, "COMMAND is missing"},
		{w("./l --"), false, "COMMAND is missing"},
		{w("name --"), false, "COMMAND is missing"},
		{w("name"), false, "is no subcommand"},
		{w("name true"), false, "is no subcommand"},
		{w("name true -- x"), false, "is no subcommand"},
		{w("stats backup"), false, "is no subcommand"},
		{w("start -- true"), false, "word of a subcommand"},
		{w("run -- true"), false, "word of a subcommand"},
		{w("./l -w true"), false, "-w stands behind LOCK"},
		{w("./l -c"), false, "-c stands behind LOCK"},
		{w("./l -c a b"), false, "-c stands behind LOCK"},
		{w("./l true"), true, "whole command as one word"},
		{w("./l -- true"), true, "whole command as one word"},
		{w("a:b -- true"), false, "only letters"},
	} {
		if c, err := parseOperands(test.operands, "", test.hasShell); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: command %q, %v; want an error with %q", test.operands, c.argv, err, test.want)
		}
	}
}

func TestOneLock(t *testing.T) {
	if n, err := oneLock("stop", []string{"./l"}); err != nil || n.given != "./l" {
		t.Errorf("%+v, %v", n, err)
	}
	for _, test := range []struct {
		operands []string
		want     string
	}{
		{nil, "LOCK is missing"},
		{[]string{"./l", "./m"}, `stop takes one LOCK; there is another word: "./m"`},
		{[]string{"stop"}, "word of a subcommand"},
	} {
		if _, err := oneLock("stop", test.operands); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v; want an error with %q", test.operands, err, test.want)
		}
	}
}

// FuzzParseOperands: the command is what stands at the end, word by word, or one
// for the shell.
func FuzzParseOperands(f *testing.F) {
	f.Add("./l", "--", "true", "x", false)
	f.Add("name", "--", "--", "-x", false)
	f.Add("./l", "-c", "a b", "", false)
	f.Add("./l", "--", "", "", true)
	f.Setenv("LOCKRUN_DIR", f.TempDir())
	f.Fuzz(func(t *testing.T, lock, a, b, c string, hasShell bool) {
		const shell = "the shell's"
		for _, operands := range [][]string{{lock}, {lock, a}, {lock, a, b}, {lock, a, b, c}} {
			got, err := parseOperands(operands, shell, hasShell)
			if err != nil {
				continue
			}
			if got.lock.given != lock || len(got.argv) == 0 {
				t.Fatalf("%q: lock %q, command %q", operands, got.lock.given, got.argv)
			}
			switch rest := operands[len(operands)-min(len(got.argv), len(operands)):]; {
			case hasShell:
				if !slices.Equal(got.argv, []string{"/bin/sh", "-c", shell}) {
					t.Errorf("%q: command %q", operands, got.argv)
				}
			case slices.Equal(got.argv, rest):
				if got.lock.named && a != "--" {
					t.Errorf("%q: a NAME without --", operands)
				}
			case !slices.Equal(got.argv, []string{"/bin/sh", "-c", b}) || a != "-c" || len(operands) != 3:
				t.Errorf("%q: command %q", operands, got.argv)
			}
		}
	})
}
