//go:build linux

package integration_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Whoever writes an instance file says what is run. So what others could have
// written is no configuration, neither for a start with a command.
func TestConfigThatCantBeTrusted(t *testing.T) {
	t.Parallel()
	const content = "command = ['mkdir', 'ran']\n"
	file := func(t *testing.T, dir string, mode fs.FileMode) string {
		filesMust(t, os.Mkdir(dir, 0o755))
		path := filepath.Join(dir, "web.toml")
		filesWrite(t, path, content, 0o600)
		filesMust(t, os.Chmod(path, mode))
		return path
	}
	for _, c := range []struct {
		name string
		make func(t *testing.T, dir string)
		says string
		dir  bool // it is the directory that is refused
	}{
		{"directory: symbolic link", func(t *testing.T, dir string) {
			file(t, dir+".real", 0o600)
			filesMust(t, os.Symlink(dir+".real", dir))
		}, "config: can't be trusted: it is a symbolic link", true},
		{"directory: a file", func(t *testing.T, dir string) {
			filesWrite(t, dir, content, 0o600)
		}, "config: can't be trusted: it is not a directory", true},
		{"directory: everybody may write", func(t *testing.T, dir string) {
			file(t, dir, 0o600)
			filesMust(t, os.Chmod(dir, 0o777|fs.ModeSticky))
		}, "config: can't be trusted: it may be written by others (mode 0777; 0755 is right)", true},
		{"directory: the group may write", func(t *testing.T, dir string) {
			file(t, dir, 0o600)
			filesMust(t, os.Chmod(dir, 0o770))
		}, "config: can't be trusted: it may be written by others", true},
		{"directory: another user's", func(t *testing.T, dir string) {
			needRoot(t)
			file(t, dir, 0o600)
			filesMust(t, os.Chown(dir, filesNobody, filesNobody))
		}, "config: can't be trusted: it belongs to user ", true},
		{"file: everybody may write", func(t *testing.T, dir string) {
			file(t, dir, 0o602)
		}, "web.toml: can't be trusted: it may be written by others (mode 0602; 0644 is right)", false},
		{"file: the group may write", func(t *testing.T, dir string) {
			file(t, dir, 0o664)
		}, "web.toml: can't be trusted: it may be written by others", false},
		{"file: symbolic link", func(t *testing.T, dir string) {
			path := file(t, dir, 0o600)
			filesMust(t, os.Rename(path, path+".real"))
			filesMust(t, os.Symlink("web.toml.real", path))
		}, "web.toml: can't be trusted: it is a symbolic link", false},
		{"file: dangling symbolic link", func(t *testing.T, dir string) {
			filesMust(t, os.Mkdir(dir, 0o755))
			filesMust(t, os.Symlink("nowhere", filepath.Join(dir, "web.toml")))
		}, "web.toml: can't be trusted: it is a symbolic link", false},
		{"file: another user's", func(t *testing.T, dir string) {
			needRoot(t)
			filesMust(t, os.Chown(file(t, dir, 0o600), filesNobody, filesNobody))
		}, "web.toml: can't be trusted: it belongs to user ", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			parent := t.TempDir()
			dir := filepath.Join(parent, "config")
			c.make(t, dir)
			before := filesSnapAll(t, parent)
			in := configIn(t, parent)
			for _, words := range []string{"start web", "start web -- mkdir ran", "start --all", "restart web"} {
				r := filesRunCmd(t, in(strings.Fields(words)...))
				r.want(t, 77, c.says)
				filesWantOneLine(t, r)
			}
			r := filesRunCmd(t, in("check", "web"))
			if c.dir {
				r.want(t, 77, c.says)
			} else if r.status != 1 || !strings.Contains(r.stdout, c.says) {
				t.Errorf("check: %v", r)
			}
			filesSame(t, "refused", before, filesSnapAll(t, parent))
			// What runs can be seen and stopped all the same.
			filesRunCmd(t, in("start", "--no-config", "web", "--", "sleep", "60")).want(t, 0, "")
			r = filesRunCmd(t, in("status"))
			if r.status != 0 || !strings.HasPrefix(r.stdout, "web\trunning\t") {
				t.Errorf("status: %v", r)
			}
			filesRunCmd(t, in("stop", "web")).want(t, 0, "")
		})
	}
}

// configIn returns lockrun with the configuration directory parent/config, the
// instance directory parent/instances, and the working directory parent.
func configIn(t *testing.T, parent string) func(args ...string) *exec.Cmd {
	return func(args ...string) *exec.Cmd {
		cmd := filesCommand(t, lockrun, args...)
		cmd.Dir = parent
		cmd.Env = append(os.Environ(), "LOCKRUN_CONFIG="+parent+"/config", "LOCKRUN_DIR="+parent+".instances")
		return cmd
	}
}

// What is no file, or none that can be read, is refused, and nothing hangs.
func TestOddInstanceFiles(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		make   func(t *testing.T, path string)
		status int
		says   string
	}{
		{"FIFO", func(t *testing.T, path string) { filesMust(t, unix.Mkfifo(path, 0o600)) }, 78, "it is not a file"},
		{"directory", func(t *testing.T, path string) { filesMust(t, os.Mkdir(path, 0o700)) }, 78, "it is not a file"},
		{"too long", func(t *testing.T, path string) {
			filesWrite(t, path, "command = 'true'\n#"+strings.Repeat("x", 1<<16), 0o600)
		}, 78, "it is longer than 65536 bytes"},
		{"nested", func(t *testing.T, path string) {
			filesWrite(t, path, "command = "+strings.Repeat("[", 60000), 0o600)
		}, 78, "web.toml:1: not TOML: "},
		{"control characters", func(t *testing.T, path string) {
			filesWrite(t, path, "\"\\u001b[31m\\n\" = 1\n", 0o600)
		}, 78, "is no key"},
		{"binary", func(t *testing.T, path string) {
			filesWrite(t, path, "\x00\xff\x1b[31m", 0o600)
		}, 78, "web.toml:1: not TOML: "},
		{"may not be read", func(t *testing.T, path string) {
			if os.Geteuid() == 0 {
				t.Skip("root may read everything")
			}
			filesWrite(t, path, "command = 'true'\n", 0)
		}, 77, "web.toml: can't be read: permission denied"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			parent := t.TempDir()
			filesMust(t, os.Mkdir(filepath.Join(parent, "config"), 0o755))
			c.make(t, filepath.Join(parent, "config", "web.toml"))
			in := configIn(t, parent)
			for _, words := range []string{"start web", "start --all", "restart web"} {
				r := filesRunCmd(t, in(strings.Fields(words)...))
				r.want(t, c.status, c.says)
				filesWantOneLine(t, r)
			}
			r := filesRunCmd(t, in("check"))
			if r.status != 1 || !strings.Contains(r.stdout, c.says) || strings.Count(r.stdout, "\n") != 1 || strings.Contains(r.stdout, "\x1b") {
				t.Errorf("check: %v", r)
			}
		})
	}
}

// An ordinary user's files are below his home directory, whatever $HOME is; he
// trusts himself and root, and nobody else.
func TestConfigOfAnOrdinaryUser(t *testing.T) {
	needRoot(t)
	t.Parallel()
	parent := filesDir(t)
	config, instances := filepath.Join(parent, "config"), filepath.Join(parent, "instances")
	filesMust(t, os.Mkdir(config, 0o755))
	filesMust(t, os.Mkdir(instances, 0o700))
	filesMust(t, os.Chown(instances, filesNobody, filesNobody))
	file := filepath.Join(config, "web.toml")
	filesWrite(t, file, "command = ['sleep', '60']\n", 0o644)
	user := func(args ...string) *exec.Cmd {
		cmd := filesAs(filesCommand(t, lockrun, args...), filesNobody)
		cmd.Dir = parent
		cmd.Env = append(os.Environ(), "LOCKRUN_CONFIG="+config, "LOCKRUN_DIR="+instances)
		return cmd
	}
	for _, owner := range []struct{ dir, file int }{{0, 0}, {filesNobody, filesNobody}, {0, filesNobody}, {filesNobody, 0}} {
		filesMust(t, os.Chown(config, owner.dir, 0))
		filesMust(t, os.Chown(file, owner.file, 0))
		filesRunCmd(t, user("check")).want(t, 0, "")
		filesRunCmd(t, user("start", "--all")).want(t, 0, "")
		filesRunCmd(t, user("status", "web")).want(t, 0, "")
		filesRunCmd(t, user("stop", "web")).want(t, 0, "")
	}
	const stranger = 12345
	filesMust(t, os.Chown(file, stranger, 0))
	filesRunCmd(t, user("start", "web")).want(t, 77, fmt.Sprintf("web.toml: can't be trusted: it belongs to user %d", stranger))
	filesMust(t, os.Chown(file, filesNobody, 0))
	filesMust(t, os.Chown(config, stranger, 0))
	filesRunCmd(t, user("start", "web")).want(t, 77, fmt.Sprintf("config: can't be trusted: it belongs to user %d", stranger))
}

// Without LOCKRUN_CONFIG it is /etc/lockrun for root, and below the home directory
// of the user database for others.
func TestConfigDirectories(t *testing.T) {
	nsOwnMounts(t)
	passwd, err := os.ReadFile("/etc/passwd")
	filesMust(t, err)
	home := filesDir(t)
	// Nobody else sees what is mounted here.
	const uid = 54321
	replaced := filepath.Join(home, "passwd")
	filesWrite(t, replaced, string(passwd)+fmt.Sprintf("lockruntest:x:%d:%d::%s:/bin/sh\n", uid, uid, home), 0o644)
	filesMust(t, unix.Mount(replaced, "/etc/passwd", "", unix.MS_BIND, ""))
	t.Cleanup(func() { unix.Unmount("/etc/passwd", unix.MNT_DETACH) })
	dir := filepath.Join(home, ".config", "lockrun")
	filesMust(t, os.MkdirAll(dir, 0o755))
	filesMust(t, os.Chmod(filepath.Join(home, ".config"), 0o755))
	filesWrite(t, filepath.Join(dir, "web.toml"), "bad = 1\n", 0o644)
	cmd := filesAs(filesCommand(t, lockrun, "check"), uid)
	cmd.Env = append(os.Environ(), "LOCKRUN_CONFIG=", "HOME=/", "XDG_CONFIG_HOME=/")
	if r := filesRunCmd(t, cmd); r.status != 1 || !strings.HasPrefix(r.stdout, dir+"/web.toml:1: ") {
		t.Errorf("%v; want the fault of %s", r, dir)
	}
	cmd = filesCommand(t, lockrun, "start", "lockrun-test-no-such-name")
	cmd.Env = append(os.Environ(), "LOCKRUN_CONFIG=")
	filesRunCmd(t, cmd).want(t, 64, "put it into /etc/lockrun/lockrun-test-no-such-name.toml")
}

// Who is told to end while start --all waits for an instance ends that start, and
// starts no other one.
func TestEndOfStartAll(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	config := filepath.Join(parent, "config")
	filesMust(t, os.Mkdir(config, 0o755))
	in := configIn(t, parent)
	filesMust(t, os.Mkdir(parent+".instances", 0o700))
	t.Cleanup(func() { os.RemoveAll(parent + ".instances") })
	lock := filepath.Join(parent, "L")
	filesHeld(t, lock)
	filesWrite(t, filepath.Join(config, "a.toml"), "wait = true\nlock = '"+lock+"'\ncommand = 'sleep 60'\n", 0o600)
	filesWrite(t, filepath.Join(config, "b.toml"), "command = 'sleep 60'\n", 0o600)
	cmd := in("start", "--all")
	filesMust(t, cmd.Start())
	eventually(t, "a is being started", func() bool { return exists(parent + ".instances/a.pid") })
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait()
	if got := statusOf(cmd.ProcessState); got != 128+int(syscall.SIGTERM) {
		t.Errorf("status %d, want that of SIGTERM", got)
	}
	eventually(t, "a is free", func() bool { return filesRunCmd(t, in("status", "-q", "a")).status == 3 })
	if r := filesRunCmd(t, in("status", "b")); r.status != 3 {
		t.Errorf("b: %v", r)
	}
}
