package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// configError is what is wrong with the configuration, and where.
type configError struct {
	path   string
	line   int // 0: the file as a whole
	text   string
	status int
}

func (e *configError) Error() string {
	if e.line == 0 {
		return e.path + ": " + e.text
	}
	return fmt.Sprintf("%s:%d: %s", e.path, e.line, e.text)
}

// configDir is where NAME.toml is looked for. Like the instance directory it
// depends on the machine and the user alone: cron and a login shell must mean the
// same file. So $XDG_CONFIG_HOME is not used, and $HOME only for a user of whom
// nothing is known. "" means that there is none.
func configDir() (string, error) {
	dir := os.Getenv("LOCKRUN_CONFIG")
	if dir == "" {
		return defaultConfigDir(os.Geteuid()), nil
	}
	if !filepath.IsAbs(dir) {
		return "", &configError{"LOCKRUN_CONFIG", 0, fmt.Sprintf("it is %q, want an absolute path: a NAME means the same file everywhere", dir), exitUsage}
	}
	return dir, nil
}

func defaultConfigDir(uid int) string {
	if uid == 0 {
		return "/etc/lockrun"
	}
	home := os.Getenv("HOME")
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		home = u.HomeDir
	}
	if !filepath.IsAbs(home) {
		return ""
	}
	return filepath.Join(home, ".config", "lockrun")
}

// openConfigDir returns the configuration directory, once it is known that it can
// be trusted, and "" if there is none.
func openConfigDir() (string, error) {
	dir, err := configDir()
	if dir == "" || err != nil {
		return "", err
	}
	fi, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return "", nil
	}
	if err != nil {
		return "", unreadable(dir, err)
	}
	if fi.Mode()&fs.ModeSymlink == 0 && !fi.IsDir() {
		return "", untrusted(dir, "it is not a directory")
	}
	return dir, checkTrust(dir, fi, 0o755)
}

// checkTrust returns why what is in a file or a directory could be the word of
// somebody else: options are as good as commands.
func checkTrust(path string, fi fs.FileInfo, right fs.FileMode) error {
	uid := int(fi.Sys().(*syscall.Stat_t).Uid)
	switch {
	case fi.Mode()&fs.ModeSymlink != 0:
		return untrusted(path, "it is a symbolic link")
	case uid != 0 && uid != os.Geteuid():
		return untrusted(path, "it belongs to user "+userName(uid))
	case fi.Mode().Perm()&0o022 != 0:
		return untrusted(path, fmt.Sprintf("it may be written by others (mode %04o; %04o is right)", fi.Mode().Perm(), right))
	}
	return nil
}

func untrusted(path, why string) error {
	return &configError{path, 0, "can't be trusted: " + why, exitPermission}
}

func unreadable(path string, err error) error {
	status := exitSystem
	if errors.Is(err, fs.ErrPermission) {
		status = exitPermission
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return &configError{path, 0, "can't be read: " + err.Error(), status}
}

// maxConfig is more than anybody writes, and less than what a command line can
// hold on Linux.
const maxConfig = 64 << 10

// readConfig returns the content of NAME.toml and its path. It is nil if there is
// no such file.
func readConfig(name string) (content []byte, path string, err error) {
	dir, err := openConfigDir()
	if dir == "" || err != nil {
		return nil, "", err
	}
	path = filepath.Join(dir, name+".toml")
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, path, nil
	}
	if err != nil {
		return nil, path, unreadable(path, err)
	}
	if err := checkTrust(path, fi, 0o644); err != nil {
		return nil, path, err
	}
	// A FIFO must not hang us. The directory is ours, so nobody else can have
	// changed what is there.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, path, unreadable(path, err)
	}
	defer f.Close()
	if fi, err = f.Stat(); err != nil {
		return nil, path, unreadable(path, err)
	}
	if !fi.Mode().IsRegular() {
		return nil, path, &configError{path, 0, "it is not a file", exitConfig}
	}
	content, err = io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, path, unreadable(path, err)
	}
	if len(content) > maxConfig {
		return nil, path, &configError{path, 0, fmt.Sprintf("it is longer than %d bytes", maxConfig), exitConfig}
	}
	return append([]byte{}, content...), path, nil
}

// configuredInstances returns the names of the instances that have a file, sorted,
// and what is wrong with the names of the others.
func configuredInstances() (names []lockName, bad []*configError, err error) {
	dir, err := openConfigDir()
	if dir == "" || err != nil {
		return nil, nil, err
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, unreadable(dir, err)
	}
	for _, file := range files {
		word, isTOML := strings.CutSuffix(file.Name(), ".toml")
		if !isTOML || strings.HasPrefix(word, ".") { // an editor's
			continue
		}
		if why := badName(word); why != "" {
			bad = append(bad, &configError{filepath.Join(dir, file.Name()), 0, fmt.Sprintf("bad name %q: %s", word, why), exitConfig})
			continue
		}
		n, err := parseLock(word)
		if err != nil {
			return nil, nil, usageError("%v", err)
		}
		names = append(names, n)
	}
	return names, bad, nil
}
