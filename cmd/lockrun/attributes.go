package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// attributes are the flags that say what the command's process is to be like,
// where that is not what it inherits.
type attributes struct {
	chdir    dirValue
	chroot   dirValue
	umask    octalValue
	user     userValue
	nice     niceValue
	limits   limitsValue
	keep     descriptorsValue
	env      variablesValue
	envFiles filesValue
	cleanEnv bool

	// What resolve has found out.
	process   process
	variables []string // of --user and --env-file
}

func (a *attributes) register(fs *flagSet) {
	fs.value(&a.chdir, "chdir")
	fs.value(&a.chroot, "chroot")
	fs.value(&a.umask, "umask")
	fs.value(&a.user, "user")
	fs.value(&a.nice, "nice")
	fs.value(&a.limits, "rlimit")
	fs.value(&a.keep, "keep-fd")
	fs.value(&a.env, "env")
	fs.value(&a.envFiles, "env-file")
	fs.bool(&a.cleanEnv, "clean-env")
}

// resolve looks up what the flags name: users, files, directories. It is called
// in the caller's working directory, before anything is waited for, ended or run.
// twice says that this happens in two processes, one after the other.
func (a *attributes) resolve(twice bool) *execError {
	flag := ""
	switch {
	case a.user != "":
		flag = "--user"
	case a.chroot != "":
		flag = "--chroot"
	}
	if flag != "" && os.Geteuid() != 0 {
		return &execError{status: exitPermission, text: flag + ": not permitted, it needs root"}
	}
	if a.user != "" {
		if err := a.resolveUser(); err != nil {
			return err
		}
	}
	if err := a.resolveDirs(); err != nil {
		return err
	}
	for _, path := range a.envFiles {
		variables, err := readVariables(path, twice)
		if err != nil {
			return err
		}
		a.variables = setVariables(a.variables, variables...)
	}
	a.process.Umask = a.umask.mode
	a.process.Nice = a.nice.n
	a.process.Limits = a.limits
	return nil
}

// resolveUser finds the numbers for --user, and the home directory. The groups
// are those of initgroups(3), of a GROUP too.
func (a *attributes) resolveUser() *execError {
	name, group, hasGroup := strings.Cut(string(a.user), ":")
	refuse := func(format string, args ...any) *execError {
		return &execError{status: exitUsage, text: fmt.Sprintf("--user %q: ", a.user) + fmt.Sprintf(format, args...)}
	}
	u, err := user.Lookup(name)
	var id identity
	if err != nil {
		uid, numErr := parseID(name)
		if numErr != nil {
			return refuse("%v", err)
		}
		id.UID = uid
		if u, err = user.LookupId(strconv.Itoa(uid)); err != nil {
			u = nil
		}
	} else if id.UID, err = parseID(u.Uid); err != nil {
		return refuse("%v", err)
	}
	switch {
	case hasGroup:
		g, err := user.LookupGroup(group)
		if err != nil {
			if id.GID, err = parseID(group); err != nil {
				return refuse("no group has the name %q", group)
			}
		} else if id.GID, err = parseID(g.Gid); err != nil {
			return refuse("%v", err)
		}
	case u == nil:
		return refuse("no user has that number; to use it nevertheless give the group too: %s:GROUP", name)
	default:
		if id.GID, err = parseID(u.Gid); err != nil {
			return refuse("%v", err)
		}
	}
	id.Groups = []int{id.GID}
	a.process.User = &id
	if u == nil {
		// The caller's would be those of somebody else.
		a.variables = []string{"HOME", "USER", "LOGNAME"}
		return nil
	}
	a.variables = []string{"HOME=" + u.HomeDir, "USER=" + u.Username, "LOGNAME=" + u.Username}
	u.Gid = strconv.Itoa(id.GID)
	ids, err := u.GroupIds()
	if err != nil {
		return &execError{status: exitSystem, text: fmt.Sprintf("--user %q: the groups: %v", a.user, err)}
	}
	for _, s := range ids {
		if gid, err := parseID(s); err == nil && gid != id.GID {
			id.Groups = append(id.Groups, gid)
		}
	}
	return nil
}

func parseID(s string) (int, error) {
	// The highest number means "leave it as it is" to the kernel.
	n, err := strconv.ParseUint(s, 10, 32)
	if err == nil && n == 1<<32-1 {
		err = strconv.ErrRange
	}
	return int(n), err
}

// resolveDirs makes the directories absolute and looks whether they are there.
// That of --chdir is left to the process itself if it is behind --chroot.
func (a *attributes) resolveDirs() *execError {
	if a.chroot != "" {
		if err := present("--chroot", string(a.chroot)); err != nil {
			return err
		}
	}
	chdir := string(a.chdir)
	if chdir != "" && a.chroot == "" {
		if err := present("--chdir", chdir); err != nil {
			return err
		}
		if abs, err := absolute(chdir); err != nil {
			return &execError{status: exitSystem, text: fmt.Sprintf("--chdir %s: %v", chdir, err)}
		} else {
			chdir = abs
		}
	}
	a.process.Chdir = []byte(chdir)
	if a.chroot != "" {
		abs, err := absolute(string(a.chroot))
		if err != nil {
			return &execError{status: exitSystem, text: fmt.Sprintf("--chroot %s: %v", a.chroot, err)}
		}
		a.process.Chroot = []byte(abs)
	}
	return nil
}

// present refuses what is surely no directory. What we may not look at, the user
// of the command may: root on NFS is nobody.
func present(flag, path string) *execError {
	fi, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return &execError{status: exitSystem, text: fmt.Sprintf("%s %s: no such directory", flag, path)}
	case err == nil && !fi.IsDir():
		return &execError{status: exitSystem, text: fmt.Sprintf("%s %s: not a directory", flag, path)}
	}
	return nil
}

// absolute is not filepath.Abs: that would drop "dir/.." even where dir is a
// symbolic link.
func absolute(path string) (string, error) {
	if filepath.IsAbs(path) {
		return path, nil
	}
	wd, err := os.Getwd()
	return wd + "/" + path, err
}

// moves reports whether the command has another directory than we.
func (a *attributes) moves() bool { return a.chdir != "" || a.chroot != "" }

// userValue is a flag's USER or USER:GROUP, "" without.
type userValue string

func (v *userValue) Set(s string) error {
	if name, group, found := strings.Cut(s, ":"); name == "" || found && group == "" {
		return errors.New("want USER or USER:GROUP, names or numbers")
	}
	*v = userValue(s)
	return nil
}

// filesValue are the paths of a flag that can be repeated.
type filesValue []string

func (v *filesValue) Set(s string) error {
	if s == "" {
		return errors.New("want the name of a file")
	}
	*v = append(*v, s)
	return nil
}

// dirValue is a flag's directory, "" without.
type dirValue string

func (v *dirValue) Set(s string) error {
	if s == "" {
		return errors.New("want a directory")
	}
	*v = dirValue(s)
	return nil
}

// octalValue is a flag's file mode or mask, nil without.
type octalValue struct{ mode *int }

func (v *octalValue) Set(s string) error {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || n > 0o777 {
		return errors.New("want an octal number from 0 to 777")
	}
	mode := int(n)
	v.mode = &mode
	return nil
}

// modeValue is the permission of a lock file.
type modeValue fs.FileMode

func (v *modeValue) Set(s string) error {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || n > 0o777 || n&0o600 != 0o600 {
		return errors.New("want an octal number such as 0644, which lets the owner read and write")
	}
	*v = modeValue(n)
	return nil
}

// niceValue is a flag's nice value, nil without.
type niceValue struct{ n *int }

func (v *niceValue) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < -20 || n > 19 {
		return errors.New("want a number from -20, the first to run, to 19")
	}
	v.n = &n
	return nil
}

// limit is a resource limit.
type limit struct {
	Name       string
	Soft, Hard uint64
}

const unlimited = ^uint64(0)

func (l limit) String() string {
	word := func(n uint64) string {
		if n == unlimited {
			return "unlimited"
		}
		return strconv.FormatUint(n, 10)
	}
	if l.Soft == l.Hard {
		return l.Name + "=" + word(l.Soft)
	}
	return l.Name + "=" + word(l.Soft) + ":" + word(l.Hard)
}

// limitsValue are the resource limits of a flag that can be repeated; of the
// same name the last one counts.
type limitsValue []limit

func (v *limitsValue) Set(s string) error {
	name, value, found := strings.Cut(s, "=")
	if !found {
		return errors.New("want NAME=SOFT or NAME=SOFT:HARD, such as nofile=1024 or core=unlimited")
	}
	if _, ok := resourceOf(name); !ok {
		return fmt.Errorf("no limit %q, want one of %s", name, resourceNames)
	}
	soft, hard, found := strings.Cut(value, ":")
	if !found {
		hard = soft
	}
	l := limit{Name: name}
	for _, half := range []struct {
		n    *uint64
		word string
	}{{&l.Soft, soft}, {&l.Hard, hard}} {
		n, err := strconv.ParseUint(half.word, 10, 63)
		if half.word == "unlimited" {
			n, err = unlimited, nil
		}
		if err != nil {
			return fmt.Errorf("%q is neither a number nor unlimited", half.word)
		}
		*half.n = n
	}
	if l.Soft > l.Hard {
		return errors.New("the soft limit is above the hard one")
	}
	*v = append(slices.DeleteFunc(*v, func(old limit) bool { return old.Name == name }), l)
	return nil
}

// descriptorsValue are the numbers of inherited descriptors.
type descriptorsValue []int

func (v *descriptorsValue) Set(s string) error {
	fd, err := strconv.ParseUint(s, 10, 31)
	if err != nil || fd < 3 {
		return errors.New("want the number of a descriptor, 3 or higher")
	}
	// Whatever is close-on-exec here is our own: we have not inherited it.
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC != 0 {
		return errors.New("no such descriptor is open")
	}
	*v = append(*v, int(fd))
	return nil
}
