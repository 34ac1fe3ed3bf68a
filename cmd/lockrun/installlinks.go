package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// installLinks is lockrun install-links: symbolic links by which lockrun is
// called as one of the tools that it stands in for.
func installLinks(args []string) int {
	flags := newFlags()
	var list bool
	flags.bool(&list, "list")
	var remove bool
	flags.bool(&remove, "remove")
	if status, done := parse(flags, args); done {
		return status
	}
	operands := flags.operands
	switch {
	case len(operands) == 0:
		return usage("DIR is missing")
	case list && remove:
		return usage("--list and --remove exclude each other")
	}
	l, err := newLinks(operands[0], operands[1:])
	if err != nil {
		return misuse(err)
	}
	switch {
	case list:
		err = l.list()
	case remove:
		err = l.remove()
	default:
		err = l.install()
	}
	if err != nil {
		complain("%v", err)
		return exitLockFile
	}
	return exitOK
}

// links are the symbolic links to this program in a directory.
type links struct {
	dir     string
	names   []string
	chosen  bool        // the user named them
	target  string      // the program's path
	program fs.FileInfo // its identity
}

func newLinks(dir string, names []string) (*links, error) {
	l := &links{dir: dir, names: toolNames, chosen: len(names) > 0}
	if l.chosen {
		l.names = names
	}
	for _, name := range names {
		if !slices.Contains(toolNames, name) {
			return nil, fmt.Errorf("%q is none of the tools that lockrun stands in for: %q", name, toolNames)
		}
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if l.program, err = os.Stat(program); err != nil {
		return nil, err
	}
	l.target = l.calledAs(program)
	return l, nil
}

// calledAs returns the path that we were called by, if it is that of the program:
// perhaps it is a link itself, which a newer version gets and the program's own
// path does not.
func (l *links) calledAs(program string) string {
	path, err := exec.LookPath(os.Args[0])
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil || toolOf(lastElement(path)) != nil {
		return program
	}
	if fi, err := os.Stat(path); err != nil || !os.SameFile(fi, l.program) {
		return program
	}
	return path
}

// foreign says that what has a name is not ours.
type foreign struct{ path string }

func (e *foreign) Error() string { return e.path + ": not a link to lockrun, and is left alone" }

// look returns nil if the file of that name is a link to this program,
// fs.ErrNotExist if there is none, and foreign if it is anything else.
func (l *links) look(name string) error {
	path := filepath.Join(l.dir, name)
	fi, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if fi.Mode()&fs.ModeSymlink == 0 {
		return &foreign{path}
	}
	// What it says counts too: it may dangle while the program is replaced.
	if target, err := os.Readlink(path); err == nil && target == l.target {
		return nil
	}
	if fi, err = os.Stat(path); err != nil || !os.SameFile(fi, l.program) {
		return &foreign{path}
	}
	return nil
}

// install makes all links, or none if something else has the name of one.
func (l *links) install() error {
	var missing []string
	for _, name := range l.names {
		switch err := l.look(name); {
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, name)
		case err != nil:
			return err
		}
	}
	for _, name := range missing {
		// symlink(2) does not replace what came there meanwhile.
		if err := os.Symlink(l.target, filepath.Join(l.dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func (l *links) list() error {
	if _, err := os.ReadDir(l.dir); err != nil {
		return err
	}
	for _, name := range l.names {
		if l.look(name) == nil {
			fmt.Println(filepath.Join(l.dir, name))
		}
	}
	return nil
}

// remove removes the links that there are. What is not ours stays, and is an
// error only if the user named it.
func (l *links) remove() error {
	for _, name := range l.names {
		var other *foreign
		switch err := l.look(name); {
		case errors.Is(err, fs.ErrNotExist), errors.As(err, &other) && !l.chosen:
			continue
		case err != nil:
			return err
		}
		if err := os.Remove(filepath.Join(l.dir, name)); err != nil {
			return err
		}
	}
	return nil
}
