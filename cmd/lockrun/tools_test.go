package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fuzzLines fuzzes what reads a command line, whose words are split at blanks, and
// which complains to nobody.
func fuzzLines(f *testing.F, seeds []string, read func(t *testing.T, args []string)) {
	for _, seed := range seeds {
		f.Add(seed)
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		f.Fatal(err)
	}
	stdout, stderr := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = null, null
	f.Cleanup(func() { os.Stdout, os.Stderr = stdout, stderr })
	f.Fuzz(func(t *testing.T, line string) { read(t, strings.Split(line, " ")) })
}

// isTail reports whether words are the last of args.
func isTail(words, args []string) bool {
	return len(words) <= len(args) && slices.Equal(words, args[len(args)-len(words):])
}

func FuzzFlock(f *testing.F) {
	seeds := []string{"-n L true", "L -c true", "--fd 9 -c true", "-w 0.5 -E 7 9", "--start 1KiB --length 5 L x", "-u 3", "-Fo L x", "--nonb L -- x"}
	fuzzLines(f, seeds, func(t *testing.T, args []string) {
		c := &flock{program: "flock", name: "flock", operation: unix.LOCK_EX, conflictStatus: exConflict, fd: -1}
		status, done := c.parse(args)
		switch {
		case done && status != 0 && status != exUsage:
			t.Errorf("%q: status %d", args, status)
		case done:
		case c.hasFile && c.command == nil, c.conflictStatus < 0, c.conflictStatus > 255:
			t.Errorf("%q: %+v", args, c)
		case c.command != nil && (len(c.command) != 3 || c.command[1] != "-c") && !isTail(c.command, args):
			t.Errorf("%q: the command is %q", args, c.command)
		}
	})
}

func FuzzLockf(f *testing.F) {
	seeds := []string{"-knst 5 L true", "-t -1 L x", "9", "/dev/fd/9 x", "-p 9", "-t 4294967296 L x", "-T L -- x"}
	fuzzLines(f, seeds, func(t *testing.T, args []string) {
		c, status := parseLockf(args)
		switch {
		case c == nil && status != exitUsage:
			t.Errorf("%q: status %d", args, status)
		case c == nil:
		case c.fd < -1, c.fd == -1 && len(c.argv) == 0, c.timeout < 0, !isTail(c.argv, args):
			t.Errorf("%q: %+v", args, c)
		}
	})
}

func FuzzFriedl(f *testing.F) {
	seeds := []string{"--lockfile=L -- true", "-L L -W -S 5 -R=3 -- x", "--maxtime 5 -L= -- x y", "--lockfile", "-L L -n -- x", "-L L --"}
	fuzzLines(f, seeds, func(t *testing.T, args []string) {
		c, status := parseFriedl("lockrun", args)
		switch {
		case c == nil && status != 0 && status != friedlFailed && status != exitUsage:
			t.Errorf("%q: status %d", args, status)
		case c != nil && (!c.hasFile || len(c.argv) == 0 || !isTail(c.argv, args) || !slices.Contains(args, "--")):
			t.Errorf("%q: %+v", args, c)
		}
	})
}
