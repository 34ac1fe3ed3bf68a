//go:build linux

package integration_test

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// TestStorm is a short form of "go run ./integration_test/torture".
func TestStorm(t *testing.T) {
	t.Parallel()
	starts := sized(300, 1200, 30_000)
	r := runCmd(t, exec.Command(stormProgram(t), "-starts", strconv.Itoa(starts), "-lockrun", lockrun))
	r.want(t, 0, "")
	t.Logf("\n%s", r.stdout)
	for _, what := range []string{"processes started", `commands that ran \(acquisitions\)`, "lock files deleted", "  refused: held", "SIGKILL to itself"} {
		count := regexp.MustCompile(`(?m)^` + what + ` +(\d+)`).FindStringSubmatch(r.stdout)
		if count == nil {
			t.Fatalf("no line %q in %s", what, r.stdout)
		}
		if n, _ := strconv.Atoi(count[1]); n < starts/200 {
			t.Errorf("%s: %d of %d starts; that was no storm", what, n, starts)
		}
	}
}

// TestStormSeesTwo: a lockrun that takes no lock does not pass.
func TestStormSeesTwo(t *testing.T) {
	t.Parallel()
	unlocked := filepath.Join(t.TempDir(), "unlocked")
	filesWrite(t, unlocked, `#!/bin/sh
while [ $# -gt 0 ]; do
	word=$1
	shift
	[ "$word" != -- ] || exec "$@"
done
`, 0o700)
	r := runCmd(t, exec.Command(stormProgram(t), "-starts", "300", "-lockrun", unlocked))
	r.want(t, 1, "")
	if !regexp.MustCompile(`(?m)^VIOLATION: lock \w+, attempt \d+: two at once: process \d+`).MatchString(r.stdout) {
		t.Errorf("two at once were not seen: %s", r.stdout)
	}
}

func stormProgram(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "torture")
	runCmd(t, exec.Command("go", "build", "-o", program, "./torture")).want(t, 0, "")
	return program
}
