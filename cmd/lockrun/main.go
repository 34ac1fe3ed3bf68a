// Lockrun runs a command while it holds a lock, so that one instance runs.
//
// See the README and "lockrun --help".
package main

import (
	"os"
	"strings"
)

// A subcommand gets the arguments after its name and returns the exit status.
type subcommand func(args []string) int

// subcommandOf knows the subcommands by name. Every word here, and every word
// that is reserved, can't be the NAME of a lock.
func subcommandOf(word string) subcommand {
	switch word {
	case "start":
		return start
	case "restart":
		return restart
	case "stop":
		return stop
	case "status":
		return status
	case "list":
		return list
	case "signal":
		return sendSignal
	case "wait":
		return wait
	case "check":
		return check
	case "verify":
		return verify
	case "install-links":
		return installLinks
	case "help":
		return help
	case "version":
		return version
	}
	if t := toolOf(word); t != nil {
		return func(args []string) int { return t(word, args) }
	}
	return nil
}

// A tool is a command line of somebody else's that scripts in the world use. It
// gets the word that it was called by, for its messages, which may be a path, and
// the arguments.
type tool func(program string, args []string) int

// toolOf knows the tools that we stand in for. They are called as a subcommand,
// or by a symbolic link of that name.
func toolOf(name string) tool {
	switch name {
	case "flock":
		return flockTool
	case "lockf":
		return lockf
	case "setlock":
		return setlock
	case "run-one":
		return runOne
	case "run-this-one":
		return runThisOne
	}
	return nil
}

// toolNames are those that toolOf knows.
var toolNames = []string{"flock", "lockf", "run-one", "run-this-one", "setlock"}

// reserved are words that may become subcommands.
var reserved = []string{"run", "exec"}

func main() {
	socket, err := executorSocket()
	switch {
	case err != nil:
		os.Exit(exitSystem) // its parent says so
	case socket != nil:
		os.Exit(execute(socket))
	}
	os.Exit(run(os.Args))
}

func run(argv []string) int {
	if len(argv) == 0 {
		return runCommand(nil)
	}
	program, args := argv[0], argv[1:]
	if t := toolOf(lastElement(program)); t != nil {
		return t(program, args)
	}
	if len(args) > 0 {
		if sub := subcommandOf(args[0]); sub != nil {
			return sub(args[1:])
		}
	}
	if isFriedl(args) {
		return friedl(program, args)
	}
	return runCommand(args)
}

// lastElement returns what stands behind the last slash of a path.
func lastElement(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }
