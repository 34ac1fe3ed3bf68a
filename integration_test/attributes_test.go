//go:build linux

package integration_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// attrProcess is what a process is like, in the kernel's own words.
type attrProcess struct {
	cwd, root, umask, uid, gid, groups, nofile, core string
	nice                                             int
	environ                                          []string
}

func attrLook(t *testing.T, pid int) (p attrProcess) {
	t.Helper()
	read := func(name string) string {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		filesMust(t, err)
		return string(content)
	}
	p.cwd, p.root = detLink(t, pid, "cwd"), detLink(t, pid, "root")
	for line := range strings.Lines(read("status")) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.Join(strings.Fields(value), " ")
		switch key {
		case "Umask":
			p.umask = value
		case "Uid":
			p.uid = value
		case "Gid":
			p.gid = value
		case "Groups":
			p.groups = value
		}
	}
	for line := range strings.Lines(read("limits")) {
		if rest, ok := strings.CutPrefix(line, "Max open files"); ok {
			p.nofile = strings.Join(strings.Fields(rest)[:2], ":")
		}
		if rest, ok := strings.CutPrefix(line, "Max core file size"); ok {
			p.core = strings.Join(strings.Fields(rest)[:2], ":")
		}
	}
	stat := read("stat")
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	p.nice, _ = strconv.Atoi(fields[16])
	p.environ = strings.FieldsFunc(read("environ"), func(r rune) bool { return r == 0 })
	slices.Sort(p.environ)
	return p
}

// attrValues returns all values of a variable.
func (p attrProcess) values(name string) (values []string) {
	for _, s := range p.environ {
		if value, ok := strings.CutPrefix(s, name+"="); ok {
			values = append(values, value)
		}
	}
	return values
}

// attrWays starts a command under lockrun in each way, and calls look with the
// command's PID and what its lockrun is called.
func attrWays(t *testing.T, flags []string, look func(t *testing.T, pid int)) {
	t.Helper()
	t.Run("run", func(t *testing.T) {
		t.Parallel()
		l := filepath.Join(t.TempDir(), "L")
		cmd := background(t, exec.Command(lockrun, append(flags, l, "--", "sleep", "600")...))
		eventually(t, "sleep", func() bool {
			pid := pidIn(t, l)
			return pid != cmd.Process.Pid && attrExe(pid) == "sleep"
		})
		look(t, pidIn(t, l))
	})
	t.Run("start", func(t *testing.T) {
		t.Parallel()
		c := newCtl(t)
		c.run(append(append([]string{"start"}, flags...), "web", "--", "sleep", "600")...).want(t, 0, "")
		first := c.pid("web")
		// The PID that start tells of is that of the command, by now.
		if exe := attrExe(first); exe != "sleep" {
			t.Errorf("process %d is %s", first, exe)
		}
		look(t, first)
		c.run("restart", "web").want(t, 0, "")
		second := c.pid("web")
		if second == first {
			t.Fatal("not restarted")
		}
		look(t, second)
		c.run("restart", "web", "--", "sleep", "601").want(t, 0, "")
		look(t, c.pid("web"))
		c.run("stop", "web").want(t, 0, "")
	})
}

func attrExe(pid int) string {
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(comm))
}

func TestAttributesOfTheCommand(t *testing.T) {
	t.Parallel()
	need(t, "sleep")
	dir, err := filepath.EvalSymlinks(filesDir(t))
	filesMust(t, err)
	filesMust(t, os.Mkdir(dir+"/work", 0o755))
	filesWrite(t, dir+"/env", "# a comment\n\nFILE=a \"b\" $c # d\nBOTH=file\nLAST=1", 0o600)
	flags := []string{"--chdir", dir + "/work", "--umask", "027", "--nice", "7",
		"--rlimit", "nofile=100:200", "--rlimit", "core=0", "--rlimit", "nofile=101:201",
		"--env", "BOTH=env", "--env", "EMPTY=", "--env-file", dir + "/env"}
	attrWays(t, flags, func(t *testing.T, pid int) {
		p := attrLook(t, pid)
		if p.cwd != dir+"/work" || p.umask != "0027" || p.nice != 7 || p.nofile != "101:201" || p.core != "0:0" {
			t.Errorf("%+v", p)
		}
		for name, want := range map[string]string{"FILE": `a "b" $c # d`, "BOTH": "env", "LAST": "1", "EMPTY": "",
			"PATH": os.Getenv("PATH"), runVariable: os.Getenv(runVariable)} {
			if got := p.values(name); len(got) != 1 || got[0] != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		if got := p.values("LOCKRUN_EXECUTOR"); got != nil {
			t.Errorf("LOCKRUN_EXECUTOR is %q", got)
		}
		attrInherits(t, pid)
		// Lockrun itself is not touched by any of it.
		parent := attrLook(t, detLook(t, pid).ppid)
		if parent.cwd == p.cwd || parent.umask == p.umask || parent.nice == p.nice || parent.nofile == p.nofile {
			t.Errorf("lockrun itself: %+v", parent)
		}
	})
}

// attrInherits checks that the command has the lock, and nothing that was only
// needed to start it. (Who runs the tests may leave more to all of us.)
func attrInherits(t *testing.T, pid int) {
	t.Helper()
	locks := 0
	for fd, d := range detDescriptors(t, pid) {
		if d.lock {
			locks++
		}
		if fd > 2 && strings.HasPrefix(d.target, "socket:") && !exists(fmt.Sprintf("/proc/self/fd/%d", fd)) {
			t.Errorf("descriptor %d is %s", fd, d.target)
		}
	}
	if locks != 1 {
		t.Errorf("%d of the descriptors are locks", locks)
	}
}

// Each alone, for one could hide that another does nothing.
func TestEachAttributeAlone(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(filesDir(t))
	filesMust(t, err)
	filesMust(t, os.Symlink("/usr", dir+"/sub"))
	for _, tt := range []struct {
		flags          []string
		script, stdout string
	}{
		{[]string{"--chdir", "/"}, "pwd", "/\n"},
		{[]string{"--chdir", "."}, "pwd", dir + "\n"},
		{[]string{"--chdir", "sub/.."}, "pwd -P", "/\n"}, // sub is a link to /usr
		{[]string{"--umask", "0"}, "umask", "0000\n"},
		{[]string{"--umask", "777"}, "umask", "0777\n"},
		{[]string{"--rlimit", "core=0"}, "ulimit -c", "0\n"},
		{[]string{"--rlimit", "nofile=20"}, "ulimit -Sn; ulimit -Hn", "20\n20\n"},
		{[]string{"--rlimit", "as=60000000"}, "ulimit -v", "58593\n"},
		{[]string{"--rlimit", "fsize=0"}, "ulimit -f", "0\n"},
		{[]string{"--rlimit", "cpu=7:8"}, "ulimit -St; ulimit -Ht", "7\n8\n"},
		{[]string{"--rlimit", "stack=1000000:unlimited"}, "ulimit -s", "976\n"},
		{[]string{"--nice", "3"}, "nice", "3\n"},
		{[]string{"--env", "X=1", "--env", "X=2"}, "echo $X", "2\n"},
		{[]string{"--clean-env", "--env", "X=1"}, "env | sed 's/=.*//' | sort | tr '\n' ' '", "LOCKRUN_LOCK LOCKRUN_WAITED PATH PWD X "},
	} {
		t.Run(strings.Join(tt.flags, " "), func(t *testing.T) {
			t.Parallel()
			cmd := filesCommand(t, lockrun, append(tt.flags, filepath.Join(t.TempDir(), "L"), "--", "sh", "-c", tt.script)...)
			cmd.Dir = dir
			r := filesRunCmd(t, cmd)
			if r.status != 0 || r.stdout != tt.stdout || r.stderr != "" {
				t.Errorf("%v; want %q", r, tt.stdout)
			}
		})
	}
}

func TestUserOfTheCommand(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := filesDir(t)
	for _, tt := range []struct{ user, uid, gid, groups, home string }{
		{"nobody", "65534 65534 65534 65534", "65534 65534 65534 65534", "65534", "/nonexistent"},
		{"65534", "65534 65534 65534 65534", "65534 65534 65534 65534", "65534", "/nonexistent"},
		{"nobody:12", "65534 65534 65534 65534", "12 12 12 12", "12", "/nonexistent"},
		{"4711:12", "4711 4711 4711 4711", "12 12 12 12", "12", ""},
	} {
		t.Run(tt.user, func(t *testing.T) {
			t.Parallel()
			attrWays(t, []string{"--user", tt.user, "--env", "HERE=" + dir}, func(t *testing.T, pid int) {
				p := attrLook(t, pid)
				if p.uid != tt.uid || p.gid != tt.gid || p.groups != tt.groups {
					t.Errorf("%+v", p)
				}
				if home := strings.Join(p.values("HOME"), " "); home != tt.home {
					t.Errorf("HOME is %q, want %q", home, tt.home)
				}
				if tt.home != "" && (!slices.Equal(p.values("USER"), []string{"nobody"}) || !slices.Equal(p.values("LOGNAME"), []string{"nobody"})) {
					t.Errorf("%q", p.environ)
				}
			})
		})
	}
	for user, says := range map[string]string{
		"no-such-user":   `lockrun: --user "no-such-user": user: unknown user no-such-user`,
		"4711":           `lockrun: --user "4711": no user has that number; to use it nevertheless give the group too: 4711:GROUP`,
		"nobody:nowhere": `lockrun: --user "nobody:nowhere": no group has the name "nowhere"`,
		"4294967295:1":   `lockrun: --user "4294967295:1": `,
		"nobody:-1":      `lockrun: --user "nobody:-1": `,
	} {
		run(t, "--user", user, dir+"/L", "--", "true").want(t, 64, says)
	}
	// No way back: what root can do it can't.
	shadow := filepath.Join(dir, "secret")
	filesWrite(t, shadow, "secret", 0o600)
	run(t, "--user", "nobody", dir+"/L", "--", "cat", shadow).want(t, 1, "ermission denied")
	run(t, "--user", "nobody", "--env", "HOME=/tmp", dir+"/L", "--", "sh", "-c", `test "$HOME" = /tmp`).want(t, 0, "")
}

// The groups are looked up by the kernel's users, so these are made up in a mount
// namespace of their own.
func TestSupplementaryGroups(t *testing.T) {
	t.Parallel()
	needRoot(t)
	unshare := need(t, "unshare")
	dir := filesDir(t)
	filesWrite(t, dir+"/passwd", "root:x:0:0::/root:/bin/sh\nweb:x:700:701::/srv:/bin/sh\n", 0o644)
	filesWrite(t, dir+"/group", "root:x:0:\nweb:x:701:\nlog:x:702:other,web\nmail:x:703:web\nnone:x:704:other\n", 0o644)
	script := `mount --bind "$1/passwd" /etc/passwd && mount --bind "$1/group" /etc/group || exit 99
		"$2" --user web "$1/L" -- id -G
		"$2" --user 700 "$1/L" -- id -G
		"$2" --user web:none "$1/L" -- id -G
		"$2" --user 710:web "$1/L" -- id -G`
	r := filesRunCmd(t, filesCommand(t, unshare, "--mount", "sh", "-c", script, "sh", dir, lockrun))
	if r.status == 99 || strings.Contains(r.stderr, "unshare failed") {
		missing(t, "mount: %v", r)
	}
	if want := "701 702 703\n701 702 703\n704 702 703\n701\n"; r.stdout != want || r.stderr != "" {
		t.Errorf("%v; want %q", r, want)
	}
}

// The directory is entered by the user.
func TestChdirIsTheUsers(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := filesDir(t)
	filesMust(t, os.Mkdir(dir+"/closed", 0o700))
	ran := filepath.Join(dir, "ran")
	for _, start := range [][]string{nil, {"start"}} {
		run(t, append(start, "--user", "nobody", "--chdir", dir+"/closed", dir+"/L", "--", "touch", ran)...).
			want(t, 77, "lockrun: can't enter the directory "+dir+"/closed: permission denied\n")
	}
	run(t, "--user", "nobody", "--chdir", dir+"/closed/sub", dir+"/L", "--", "touch", ran).want(t, 71, "no such directory")
	// And the command is looked for with the user's rights.
	exclFile(t, dir+"/closed/tool", "#!/bin/sh\n", 0o755)
	run(t, "--user", "nobody", "--env", "PATH="+dir+"/closed", dir+"/L", "--", "tool").want(t, 127, "tool: not found in PATH")
	exclFile(t, dir+"/roots", "#!/bin/sh\n", 0o700)
	run(t, "--user", "nobody", "--env", "PATH="+dir, dir+"/L", "--", "roots").want(t, 126, "can't execute roots: permission denied")
	run(t, "--user", "nobody", dir+"/L", "--", dir+"/roots").want(t, 126, "can't execute "+dir+"/roots: permission denied")
	exclFree(t, dir+"/L")
	if exists(ran) {
		t.Error("it ran")
	}
}

func TestChroot(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir, err := filepath.EvalSymlinks(filesDir(t))
	filesMust(t, err)
	for _, d := range []string{"/bin", "/sub"} {
		filesMust(t, os.Mkdir(dir+d, 0o755))
	}
	program, err := os.ReadFile(lockrun)
	filesMust(t, err)
	exclFile(t, dir+"/bin/inside", string(program), 0o755)
	// What the command in there waits for.
	held := exclFlock(t, dir+"/held")
	defer held.Close()
	for _, tt := range []struct {
		flags []string
		cwd   string
	}{
		{nil, ""},
		{[]string{"--chdir", "/sub"}, "/sub"},
		{[]string{"--chdir", "sub"}, "/sub"},
		{[]string{"--chdir", "/sub", "--user", "0", "--nice", "1"}, "/sub"},
	} {
		for _, start := range [][]string{nil, {"start"}} {
			t.Run(fmt.Sprint(start, tt.flags), func(t *testing.T) {
				l := filepath.Join(t.TempDir(), "L")
				args := append(slices.Concat(start, tt.flags), "--chroot", dir, "--env", "PATH=/bin", l, "--", "inside", "-w", "/held", "--", "/none")
				cmd := exec.Command(lockrun, args...)
				if start == nil {
					background(t, cmd)
				} else {
					runCmd(t, cmd).want(t, 0, "")
					defer func() { run(t, "stop", l).want(t, 0, "") }()
				}
				eventually(t, "inside", func() bool { return attrExe(pidIn(t, l)) == "inside" })
				if p := attrLook(t, pidIn(t, l)); p.root != dir || p.cwd != dir+tt.cwd {
					t.Errorf("%+v", p)
				}
			})
		}
	}
	l := filepath.Join(dir, "L")
	run(t, "--chroot", dir, l, "--", "sh").want(t, 127, "sh: not found in PATH")
	run(t, "--chroot", dir, "--chdir", "/none", l, "--", "inside").want(t, 71, "can't enter the directory /none: no such file or directory")
	run(t, "--chroot", dir+"/none", l, "--", "inside").want(t, 71, "--chroot "+dir+"/none: no such directory")
	exclFree(t, l)
}

func TestNotPermittedAttributes(t *testing.T) {
	t.Parallel()
	dir := filesDir(t)
	filesMust(t, os.Mkdir(dir+"/nobodys", 0o777))
	filesMust(t, os.Chmod(dir+"/nobodys", 0o777))
	ran, l := filepath.Join(dir, "nobodys/ran"), filepath.Join(dir, "nobodys/L")
	for _, tt := range []struct{ flag, value, says string }{
		{"--user", "root", "lockrun: --user: not permitted, it needs root\n"},
		{"--user", "no-such-user", "lockrun: --user: not permitted, it needs root\n"},
		{"--chroot", "/", "lockrun: --chroot: not permitted, it needs root\n"},
		{"--nice", "-5", "lockrun: can't set the nice value -5: permission denied\n"},
		{"--rlimit", "nofile=unlimited", "lockrun: can't set the limit nofile=unlimited: operation not permitted\n"},
	} {
		for _, start := range [][]string{nil, {"start"}} {
			// Root may raise what it likes, but not the number of files over all bounds.
			cmd := filesCommand(t, lockrun, append(start, tt.flag, tt.value, l, "--", "touch", ran)...)
			if os.Geteuid() == 0 {
				filesAs(cmd, filesNobody)
			}
			filesRunCmd(t, cmd).want(t, 77, tt.says)
		}
	}
	if exists(ran) {
		t.Error("it ran")
	}
}

// A restart that can't succeed leaves the old command alone.
func TestRestartLooksAtTheAttributesFirst(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	dir := t.TempDir()
	work := filepath.Join(dir, "work")
	filesMust(t, os.Mkdir(work, 0o755))
	exclFile(t, work+"/tool", "#!/bin/sh\nexec sleep 600\n", 0o755)
	// The path is seen from the directory of the command.
	c.run("start", "--chdir", work, "--umask", "0", "web", "--", "./tool").want(t, 0, "")
	pid := c.pid("web")
	eventually(t, "the tool is read by its shell", func() bool { return attrExe(pid) == "sleep" })
	filesMust(t, os.Rename(work+"/tool", work+"/away"))
	c.run("restart", "web").want(t, 127, "web: can't execute ./tool: not found")
	filesMust(t, os.Rename(work, dir+"/away"))
	c.run("restart", "web").want(t, 71, "web: can't enter the directory "+work+": no such file or directory")
	c.run("restart", "web", "--", "sleep", "1").want(t, 71, "web: can't enter the directory "+work)
	if c.pid("web") != pid || !alive(pid) {
		t.Error("the command was ended")
	}
	filesMust(t, os.Rename(dir+"/away", work))
	c.run("restart", "web", "--", "no-such-command").want(t, 127, "web: no-such-command: not found in PATH")
	c.run("restart", "web", "--", "sleep", "600").want(t, 0, "")
	c.run("stop", "web").want(t, 0, "")
}

func TestKeptDescriptors(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	kept, err := os.Open(t.TempDir())
	filesMust(t, err)
	defer kept.Close()
	for _, flags := range [][]string{nil, {"--keep-fd", "4"}, {"--keep-fd", "4", "--keep-fd=3", "--umask", "0"}} {
		cmd := c.command(append(append([]string{"start"}, flags...), "web", "--", "sleep", "600")...)
		cmd.ExtraFiles = []*os.File{kept, kept}
		filesRunCmd(t, cmd).want(t, 0, "")
		for range 2 {
			fds := detDescriptors(t, c.pid("web"))
			want := []bool{len(flags) > 2, len(flags) > 0}
			for i, want := range want {
				if got := fds[3+i].target == kept.Name(); got != want {
					t.Errorf("%q: descriptor %d is %q; want it kept: %t", flags, 3+i, fds[3+i].target, want)
				}
			}
			c.run("restart", "web").want(t, 0, "")
		}
		c.run("stop", "web").want(t, 0, "")
	}
	// A run keeps them anyway.
	for _, flags := range [][]string{nil, {"--keep-fd", "3"}, {"--umask", "0"}} {
		cmd := c.command(append(flags, "web", "--", "readlink", "/proc/self/fd/3")...)
		cmd.ExtraFiles = []*os.File{kept}
		if r := filesRunCmd(t, cmd); r.stdout != kept.Name()+"\n" {
			t.Errorf("%q: %v", flags, r)
		}
	}
	for _, bad := range []string{"3", "5", "2", "x", "-1", "99999999999"} {
		r := c.run("--keep-fd", bad, "web", "--", "true")
		if r.status != 64 || !strings.Contains(r.stderr, fmt.Sprintf("invalid argument %q for \"--keep-fd\" flag: ", bad)) {
			t.Errorf("--keep-fd %s: %v", bad, r)
		}
	}
}

func TestVariablesOfLockrun(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	dir := t.TempDir()
	show := `env | grep -E '^LOCKRUN_(LOCK|NAME|SLOT|WAITED|EXECUTOR|DETACH)=' | sed 's/^LOCKRUN_WAITED=0\.[0-9]*$/LOCKRUN_WAITED=0/' | sort | tr '\n' ' '`
	for _, flags := range [][]string{nil, {"--umask", "0"}} {
		for _, tt := range []struct{ lock, want string }{
			{"web", "LOCKRUN_LOCK=" + c.dir + "/web.pid LOCKRUN_NAME=web LOCKRUN_WAITED=0 "},
			{"./L", "LOCKRUN_LOCK=" + dir + "/L LOCKRUN_WAITED=0 "},
		} {
			cmd := c.command(append(flags, tt.lock, "--", "sh", "-c", show)...)
			cmd.Dir = dir
			// Those of an outer one, and what nobody has.
			cmd.Env = append(cmd.Env, "LOCKRUN_LOCK=/outer", "LOCKRUN_NAME=outer", "LOCKRUN_SLOT=1", "LOCKRUN_WAITED=2",
				"LOCKRUN_EXECUTOR=0:0:0", "LOCKRUN_DETACH=x")
			cmd.Env = append(cmd.Env, "LOCKRUN_LOCK=/outer2")
			r := filesRunCmd(t, cmd)
			got := strings.Replace(r.stdout, "LOCKRUN_DETACH=x ", "", 1) // read by start alone
			if got != tt.want || r.status != 0 {
				t.Errorf("%q: %v; want %q", flags, r, tt.want)
			}
		}
	}
	r := c.run("web", "--", lockrun, filepath.Join(dir, "inner"), "--", "sh", "-c", show)
	if want := "LOCKRUN_LOCK=" + dir + "/inner LOCKRUN_WAITED=0 "; r.stdout != want {
		t.Errorf("%v; want %q", r, want)
	}
}

// The role of the one that executes the command is not to be had by a variable.
func TestForgedExecutor(t *testing.T) {
	t.Parallel()
	l := filepath.Join(t.TempDir(), "L")
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	filesMust(t, err)
	socket, other := os.NewFile(uintptr(pair[0]), "socket"), os.NewFile(uintptr(pair[1]), "other")
	defer socket.Close()
	defer other.Close()
	var st unix.Stat_t
	filesMust(t, unix.Fstat(pair[0], &st))
	for _, value := range []string{"", "3", "3:1:1", "0:0:0", "99:1:1", "x", fmt.Sprintf("3:%d:%d ", st.Dev, st.Ino), fmt.Sprintf("3:%d:%d", st.Dev, st.Ino+1)} {
		cmd := filesCommand(t, lockrun, l, "--", "sh", "-c", `echo "ran $LOCKRUN_EXECUTOR"`)
		cmd.Env = append(os.Environ(), "LOCKRUN_EXECUTOR="+value)
		cmd.ExtraFiles = []*os.File{socket}
		if r := filesRunCmd(t, cmd); r.status != 0 || r.stdout != "ran \n" {
			t.Errorf("%q: %v", value, r)
		}
	}
}

// With attributes as without: the status and the words for what can't be
// executed, and the lock is free afterwards.
func TestExecutedWithAttributes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	exclFile(t, path("attrscript"), "[ \"$1\" = word ] && exit 4\n", 0o755)
	exclFile(t, path("plain"), "#!/bin/sh\n", 0o644)
	exclFile(t, path("orphan"), "#!/no/such/interpreter\n", 0o755)
	for _, tt := range []struct {
		argv   []string
		status int
	}{
		{[]string{"sh", "-c", "exit 3"}, 3},
		{[]string{"sh", "-c", "kill -KILL $$"}, 137},
		{[]string{path("attrscript"), "word"}, 4},
		{[]string{"attrscript", "word"}, 4},
		{[]string{"plain"}, 126},
		{[]string{path("plain")}, 126},
		{[]string{path("orphan")}, 126},
		{[]string{dir}, 126},
		{[]string{"none"}, 127},
		{[]string{path("none")}, 127},
		{[]string{path("plain/none")}, 126},
		{[]string{""}, 127},
	} {
		for _, start := range [][]string{nil, {"start"}} {
			l := path("L")
			words := append([]string{"--env", "PATH=" + os.Getenv("PATH") + ":" + dir, l, "--"}, tt.argv...)
			if start != nil && tt.status != 126 && tt.status != 127 {
				continue // it is ended before anybody asks
			}
			plain := run(t, slices.Concat(start, words)...)
			with := run(t, slices.Concat(start, []string{"--rlimit", "core=0"}, words)...)
			if plain.status != tt.status || with.status != tt.status || plain.stderr != with.stderr {
				t.Errorf("%.40q %q: with attributes %v; without %v", tt.argv, start, with, plain)
			}
			exclFree(t, l)
		}
	}
	filesWrite(t, path("huge"), "HUGE="+strings.Repeat("x", 200_000)+"\n", 0o600)
	for _, flags := range [][]string{nil, {"--umask", "0"}, {"start"}, {"start", "--umask", "0"}} {
		run(t, append(flags, "--env-file", path("huge"), path("L"), "--", "true")...).
			want(t, 126, "lockrun: can't execute true: argument list too long\n")
	}
}

// A supervisor that is killed leaves a command that was started with attributes
// locked too.
func TestKilledLockrunLeavesCommandWithAttributesLocked(t *testing.T) {
	t.Parallel()
	l := filepath.Join(t.TempDir(), "L")
	cmd, pid := filesHeld(t, "--umask", "0", "--rlimit", "nofile=50", l)
	defer syscall.Kill(pid, syscall.SIGKILL)
	cmd.Process.Kill()
	cmd.Wait()
	run(t, l, "--", "true").want(t, 75, fmt.Sprintf("held by process %d (sleep 60)", pid))
}

func TestModeOfTheLockFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, flags := range [][]string{nil, {"--no-pid"}, {"-w"}, {"-w", "--no-pid"}} {
		l := filepath.Join(dir, fmt.Sprint(len(flags), flags))
		cmd := filesShell(t, `umask 077; exec "$@"`, slices.Concat([]string{lockrun}, flags, []string{"--mode", "0644", l, "--", "true"})...)
		filesRunCmd(t, cmd).want(t, 0, "")
		if fi, err := os.Lstat(l); err != nil || fi.Mode() != 0o644 {
			t.Errorf("%q: %v, %v; want 0644", flags, fi.Mode(), err)
		}
		// What is there keeps its own.
		run(t, slices.Concat(flags, []string{"--mode", "666", l, "--", "true"})...).want(t, 0, "")
		if fi, err := os.Lstat(l); err != nil || fi.Mode() != 0o644 {
			t.Errorf("%q, again: %v, %v; want 0644", flags, fi.Mode(), err)
		}
	}
	l := filepath.Join(dir, "daemon")
	run(t, "start", "--mode", "640", l, "--", "sleep", "600").want(t, 0, "")
	if fi, err := os.Lstat(l); err != nil || fi.Mode() != 0o640 {
		t.Errorf("start: %v, %v; want 0640", fi.Mode(), err)
	}
	run(t, "stop", l).want(t, 0, "")
}

// A pipe can be read once: by a run, and not by start, which would find it empty.
func TestVariablesFromAPipe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, start := range []string{"", "start"} {
		cmd := filesCommand(t, lockrun, append(strings.Fields(start), "--env-file", "/dev/stdin", dir+"/L", "--", "sh", "-c", `test "$SECRET" = "a b"`)...)
		cmd.Stdin = bytes.NewBufferString("SECRET=a b\n")
		r := filesRunCmd(t, cmd)
		if start == "" {
			r.want(t, 0, "")
		} else {
			r.want(t, 64, "lockrun: --env-file /dev/stdin: not a regular file; start reads it twice\n")
		}
	}
}
