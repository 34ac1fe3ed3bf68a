//go:build !(linux && (amd64 || arm64))

// Torture needs Linux.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "torture: it needs /proc and pidfds, that is Linux")
	os.Exit(2)
}
