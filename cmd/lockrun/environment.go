package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// What the command finds in its environment. An outer lockrun's are never passed
// on: they tell of another lock.
const (
	lockVariable   = "LOCKRUN_LOCK" // the absolute path
	nameVariable   = "LOCKRUN_NAME" // the NAME; unset for a path
	slotVariable   = "LOCKRUN_SLOT"
	waitedVariable = "LOCKRUN_WAITED"
)

// environment returns that of the command. Of several settings the last one
// counts:
//
//   - ours, or with --clean-env nothing but PATH
//   - HOME, USER and LOGNAME of --user
//   - --env-file
//   - --env
//   - what lockrun tells
func (a *attributes) environment(l lockName) []string {
	var env []string
	if !a.cleanEnv {
		env = os.Environ()
	} else if path, ok := os.LookupEnv("PATH"); ok {
		env = []string{"PATH=" + path}
	}
	env = setVariables(env, a.variables...)
	env = setVariables(env, a.env...)
	env = setVariables(env, lockVariable, nameVariable, slotVariable, waitedVariable)
	env = append(env, lockVariable+"="+l.path)
	if l.named {
		env = append(env, nameVariable+"="+l.given)
	}
	return env
}

// setVariables sets each NAME=VALUE, and removes a NAME that stands alone.
func setVariables(env []string, settings ...string) []string {
	for _, setting := range settings {
		name, _, hasValue := strings.Cut(setting, "=")
		env = slices.DeleteFunc(env, func(s string) bool {
			return strings.HasPrefix(s, name) && (len(s) == len(name) || s[len(name)] == '=')
		})
		if hasValue {
			env = append(env, setting)
		}
	}
	return env
}

// variable returns the value of a variable, as getenv(3) does.
func variable(env []string, name string) (value string, ok bool) {
	for _, s := range env {
		if value, ok := strings.CutPrefix(s, name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// variablesValue are the NAME=VALUE of a flag that can be repeated.
type variablesValue []string

func (v *variablesValue) Set(s string) error {
	if err := checkVariable(s); err != nil {
		return err
	}
	*v = append(*v, s)
	return nil
}

// checkVariable returns what is wrong with a NAME=VALUE.
func checkVariable(s string) error {
	name, _, found := strings.Cut(s, "=")
	if !found {
		return errors.New("want NAME=VALUE")
	}
	for i, c := range []byte(name) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || '0' <= c && c <= '9' && i > 0) {
			return fmt.Errorf("%q is no name: it has letters, digits and _, and begins with no digit", name)
		}
	}
	if name == "" {
		return errors.New("the name is empty, want NAME=VALUE")
	}
	return nil
}

const maxVariables = 1 << 20 // bytes in a file of them

// readVariables reads a file of NAME=VALUE lines. There is no quoting: a value is
// all that stands behind the first "=", up to the end of the line. Empty lines,
// and those whose first character that is no blank is a "#", are passed over.
//
// twice says that the file is read twice, which can't be done with a pipe.
func readVariables(path string, twice bool) ([]string, *execError) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fileFailure(path, err)
	}
	defer f.Close()
	if fi, err := f.Stat(); err == nil && twice && !fi.Mode().IsRegular() {
		return nil, &execError{status: exitUsage, text: fmt.Sprintf("--env-file %s: not a regular file; start reads it twice", path)}
	}
	content, err := io.ReadAll(io.LimitReader(f, maxVariables+1))
	switch {
	case err != nil:
		return nil, fileFailure(path, err)
	case len(content) > maxVariables:
		return nil, &execError{status: exitUsage, text: fmt.Sprintf("--env-file %s: longer than %d bytes", path, maxVariables)}
	}
	var variables []string
	n := 0
	for line := range strings.Lines(string(content)) {
		n++
		line = strings.TrimSuffix(line, "\n")
		if start := strings.TrimLeft(line, " \t"); start == "" || start[0] == '#' {
			continue
		}
		err := checkVariable(line)
		switch {
		case strings.HasSuffix(line, "\r"):
			err = errors.New("ends with a carriage return: lines end with a newline alone")
		case strings.Contains(line, "\x00"):
			err = errors.New("has a NUL byte")
		}
		if err != nil {
			return nil, &execError{status: exitUsage, text: fmt.Sprintf("--env-file %s: line %d: %v", path, n, err)}
		}
		variables = append(variables, line)
	}
	return variables, nil
}

// fileFailure says why a file of variables can't be read.
func fileFailure(path string, err error) *execError {
	status := exitSystem
	if errors.Is(err, fs.ErrPermission) {
		status = exitPermission
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return &execError{status: status, text: fmt.Sprintf("--env-file %s: %v", path, err)}
}
