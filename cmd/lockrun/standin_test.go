package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestIsFriedl(t *testing.T) {
	for line, want := range map[string]bool{
		"":                             false,
		"--lockfile=F -- true":         true,
		"--lockfile F -- true":         true,
		"-L=F":                         true,
		"-L":                           true,
		"-W -q -V -L=F -- true":        true,
		"--sleep 5 --lockfile F -- x":  true,
		"-R 5 -T 5 -S 5 -L F -- x":     true,
		"-R=5 -L F -- x":               true,
		"-t 5 -E 3 -L=F -- x":          true, // a mixture
		"--if-held skip -L=F":          true,
		"--timeout=5 -L=F":             true,
		"./l -L=F":                     false,
		"-- -L=F":                      false,
		"--sleep -- -L=F":              true, // "--" is the argument
		"-t 5 ./l -- -L=F":             false,
		"-w ./l ls -L":                 false,
		"-L5":                          false,
		"--lockfiles=F":                false,
		"name -- --lockfile=F":         false,
		"-c x ./l --lockfile=F":        false,
		"--command=x ./l --lockfile=F": false,
	} {
		if got := isFriedl(strings.Fields(line)); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
}

func TestLeadingNumber(t *testing.T) {
	for in, want := range map[string]int{
		"": 0, "5": 5, " \t7": 7, "12x": 12, "x": 0, "-3": -3, "+4": 4, "-": 0, "1.9": 1, "1-2": 1, "--5": 0, "0x10": 0,
	} {
		if got := leadingNumber(in); got != want {
			t.Errorf("leadingNumber(%q) = %d, want %d", in, got, want)
		}
	}
}

func TestNameOfCommand(t *testing.T) {
	var names []string
	for _, args := range [][]string{
		{"rsync"}, {"/usr/bin/rsync"}, {"rsync", ""}, {"rsync", "a b"}, {"rsync", "a", "b"}, {"rsync", "b", "a"},
		{"rsynca b"}, {""}, {"..."}, {"-c", "x"}, {"/"}, {"\x00\xff/a:b\xff\n"}, {strings.Repeat("ü", 200)},
		{"a", strings.Repeat("x", 5000)},
	} {
		name := nameOfCommand(args)
		if why := badName(name); why != "" {
			t.Errorf("%q: %q: %s", args, name, why)
		}
		if slices.Contains(names, name) {
			t.Errorf("%q has another one's name, %s", args, name)
		}
		if again := nameOfCommand(slices.Clone(args)); again != name {
			t.Errorf("%q: %s, then %s", args, name, again)
		}
		names = append(names, name)
	}
	if !regexp.MustCompile(`^run-one-rsync-[0-9a-f]{32}$`).MatchString(names[0]) {
		t.Errorf("%s", names[0])
	}
}
