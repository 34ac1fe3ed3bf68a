package main

import (
	"fmt"
	"os"
)

// check says on standard output what is wrong with instance files, and runs
// nothing.
func check(args []string) int {
	flags := newFlags()
	if status, done := parse(flags, args); done {
		return status
	}
	names, err := lockOperands(flags.operands)
	if err != nil {
		return misuse(err)
	}
	for _, n := range names {
		if !n.named {
			return usage("check takes NAMEs of instances; %q is a path", n.given)
		}
	}
	var bad []*configError
	if len(names) == 0 {
		names, bad, err = configuredInstances()
	} else {
		_, err = openConfigDir()
	}
	if err != nil {
		return notConfigured(err)
	}
	for _, n := range names {
		file, faults := loadInstance(n)
		if file != nil {
			// Also when something else is wrong: one look shows all.
			faults = append(faults, file.checkSurroundings(len(faults) == 0)...)
		}
		if file == nil && len(faults) == 0 {
			faults = append(faults, missing(n))
		}
		sortFaults(faults)
		bad = append(bad, faults...)
	}
	for _, e := range bad {
		fmt.Fprintln(os.Stdout, oneLine(e.Error()))
	}
	if len(bad) > 0 {
		return exitFaults
	}
	return exitOK
}

// missing is the fault of an instance that has no file.
func missing(name lockName) *configError {
	dir, _ := configDir()
	return &configError{dir + "/" + name.given + ".toml", 0, "there is no such file", exitConfig}
}
