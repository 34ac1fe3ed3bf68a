package pidfiletest_test

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/lockrun/lockrun/pidfile/pidfiletest"
)

func ExampleVerify() {
	var t *testing.T // of func TestRefusesASecondStart(t *testing.T)

	pid := filepath.Join(t.TempDir(), "example.pid")
	pidfiletest.Verify(t, exec.Command("./example", "--pidfile", pid), nil)
}

func ExampleVerify_options() {
	var t *testing.T

	cmd := exec.Command("./example", "--daemon", "--pidfile", filepath.Join(t.TempDir(), "example.pid"))
	pidfiletest.Verify(t, cmd, &pidfiletest.Options{
		Starts:  100,
		Timeout: time.Minute,
		Refused: new(75), // what a refused start exits with
	})
}
