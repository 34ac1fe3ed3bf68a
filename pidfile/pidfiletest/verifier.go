package pidfiletest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"syscall"

	"github.com/lockrun/lockrun/internal/singleton"
)

// variable in the environment makes this program a verifier.
const variable = "LOCKRUN_PIDFILETEST_VERIFIER"

// The descriptor for messages. Standard output may be used by other packages'
// init.
const messagesFD = 3

// An init function, so that Verify needs no help of TestMain: it runs before
// that, and before the tests' own variables are set.
func init() {
	if _, ok := os.LookupEnv(variable); ok {
		os.Exit(beVerifier())
	}
}

// beVerifier reads a config from standard input, and ends what it has started
// when that is closed: then the test is no more.
func beVerifier() int {
	syscall.CloseOnExec(messagesFD)
	messages := json.NewEncoder(os.NewFile(messagesFD, "messages"))
	var c singleton.Config
	input := json.NewDecoder(os.Stdin)
	if err := input.Decode(&c); err != nil {
		return 2
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	_, err := singleton.Verify(ctx, c, func(s singleton.Step) { messages.Encode(message{Step: &s}) })
	m := message{Ended: true}
	if err != nil {
		m.Err = err.Error()
		m.Unsupported = errors.Is(err, errors.ErrUnsupported)
	}
	if messages.Encode(m) != nil {
		return 1
	}
	return 0
}
