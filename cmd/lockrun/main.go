// Lockrun runs a command while it holds a lock, so that one instance runs.
//
// See the README and "lockrun --help".
package main

import "os"

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
	case "verify":
		return verify
	case "help":
		return help
	case "version":
		return version
	}
	return nil
}

// reserved are words that may become subcommands.
var reserved = []string{
	"run", "check", "exec",
	"flock", "lockf", "setlock", "run-one", "run-this-one", "install-links",
}

func main() {
	if socket := executorSocket(); socket != nil {
		os.Exit(execute(socket))
	}
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	if len(args) > 0 {
		if sub := subcommandOf(args[0]); sub != nil {
			return sub(args[1:])
		}
	}
	return runCommand(args)
}
