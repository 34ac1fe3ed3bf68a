// Package sigaction takes signals away from the Go runtime, so that a process
// dies of them as any other does.
package sigaction
