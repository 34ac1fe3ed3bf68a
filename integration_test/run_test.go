package integration_test

import (
	"os/exec"
	"path/filepath"
	"testing"
)

func TestSecondStartIsRefused(t *testing.T) {
	t.Parallel()
	l := filepath.Join(t.TempDir(), "L")
	background(t, exec.Command(lockrun, l, "--", "sleep", "60"))
	pid := pidIn(t, l)
	_ = pid
	run(t, l, "--", "true").want(t, 75, "held by process ")
}
