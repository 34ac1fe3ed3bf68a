package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// lockName is the operand LOCK. With a slash it is a path, relative to the
// working directory. Without one it is the NAME of an instance, whose file is
// NAME.pid in the instance directory.
type lockName struct {
	given string
	path  string // absolute
	named bool   // a NAME
}

const maxName = 200 // bytes, so that NAME.pid is a file name everywhere

var errInstanceDir = errors.New("instance directory can't be trusted")

// parseLock checks the operand. It does not look at the file system.
func parseLock(operand string) (lockName, error) {
	n := lockName{given: operand}
	if strings.Contains(operand, "/") {
		n.path = operand
		if operand[0] != '/' {
			wd, err := os.Getwd()
			if err != nil {
				return n, err
			}
			n.path = wd + "/" + strings.TrimPrefix(operand, "./")
		}
		return n, nil
	}
	n.named = true
	if why := badName(operand); why != "" {
		return n, fmt.Errorf("bad lock name %.300q: %s; a path needs a slash (./NAME)", operand, why)
	}
	dir := instanceDir()
	if !filepath.IsAbs(dir) {
		return n, fmt.Errorf("LOCKRUN_DIR is %q, want an absolute path: a NAME means the same lock everywhere", dir)
	}
	n.path = filepath.Join(dir, operand+".pid")
	return n, nil
}

// badName returns why a word can't be a NAME.
func badName(name string) string {
	switch {
	case name == "":
		return "it is empty"
	case len(name) > maxName:
		return fmt.Sprintf("it has %d bytes, at most %d are allowed", len(name), maxName)
	case name[0] == '.' || name[0] == '-':
		return "it begins with a dot or a dash"
	case subcommandOf(name) != nil || slices.Contains(reserved, name):
		return "it is the word of a subcommand"
	}
	for _, c := range []byte(name) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("_.@+-", c) >= 0) {
			return "only letters, digits and _.@+- are allowed"
		}
	}
	return ""
}

// instanceDir is where the files of NAMEs are. It depends on the machine and
// the user alone, since cron and a login shell must mean the same lock; so
// $XDG_RUNTIME_DIR, which cron does not set, is not used.
func instanceDir() string {
	if dir := os.Getenv("LOCKRUN_DIR"); dir != "" {
		return dir
	}
	return defaultInstanceDir(os.Geteuid())
}

func defaultInstanceDir(uid int) string {
	if uid == 0 {
		return "/run/lockrun"
	}
	base := "/tmp"
	// Without the sticky bit anybody could put another directory in the place of
	// ours, and a NAME would be two locks.
	if fi, err := os.Lstat("/run/lock"); err == nil && fi.IsDir() && fi.Mode().Perm()&0o002 != 0 && fi.Mode()&fs.ModeSticky != 0 {
		base = "/run/lock"
	}
	return filepath.Join(base, "lockrun-"+strconv.Itoa(uid))
}

// prepare makes sure of the directory of a NAME: one that belongs to another
// user, or that others may write, could be prepared to trick us. create makes
// it if it is missing.
func (n lockName) prepare(create bool) error {
	if !n.named {
		return nil
	}
	dir := filepath.Dir(n.path)
	fi, err := os.Lstat(dir)
	if create && errors.Is(err, fs.ErrNotExist) {
		if err = os.Mkdir(dir, 0o700); err == nil {
			err = os.Chmod(dir, 0o700) // whatever the umask
		}
		if err == nil || errors.Is(err, fs.ErrExist) {
			fi, err = os.Lstat(dir)
		}
	}
	refuse := func(why string) error { return fmt.Errorf("%w: %s %s", errInstanceDir, dir, why) }
	switch {
	case !create && errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case fi.Mode()&fs.ModeSymlink != 0:
		return refuse("is a symbolic link")
	case !fi.IsDir():
		return refuse("is not a directory")
	case int(fi.Sys().(*syscall.Stat_t).Uid) != os.Geteuid():
		return refuse("belongs to user " + userName(int(fi.Sys().(*syscall.Stat_t).Uid)))
	case fi.Mode().Perm()&0o022 != 0:
		return refuse(fmt.Sprintf("may be written by others (mode %04o; 0700 is right)", fi.Mode().Perm()))
	}
	return nil
}
