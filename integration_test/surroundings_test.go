//go:build linux

package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A file size limit of 0 is a full disk for everybody, and sends SIGXFSZ.
func TestFileSizeLimit(t *testing.T) {
	t.Parallel()
	for _, limited := range []string{`ulimit -f 0; exec "$@"`, `trap "" XFSZ; ulimit -f 0; exec "$@"`} {
		for _, old := range []string{"no file", "", "12345\n", "99999999999\n"} {
			for _, flags := range []string{"", "--keep", "--remove", "start", "start --keep"} {
				t.Run(fmt.Sprintf("%.4s %q %s", limited, old, flags), func(t *testing.T) {
					t.Parallel()
					dir := t.TempDir()
					l := filepath.Join(dir, "L")
					if old != "no file" {
						filesWrite(t, l, old, 0o600)
					}
					before := filesUntimed(filesSnapAll(t, dir))
					args := append([]string{lockrun}, append(strings.Fields(flags), l, "--", "mkdir", dir+"/ran")...)
					r := filesRunCmd(t, filesShell(t, limited, args...))
					r.want(t, 73, "file too large")
					filesWantOneLine(t, r)
					filesSame(t, "refused", before, filesUntimed(filesSnapAll(t, dir)))
					for _, args := range [][]string{{"--no-pid", l, "--", "true"}, {"stop", l}} {
						if r := filesRunCmd(t, filesShell(t, limited, append([]string{lockrun}, args...)...)); r.status != 0 {
							t.Errorf("%q: %v; want 0", args, r)
						}
					}
				})
			}
		}
	}
}

func filesContent(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(content)
}

// Who is started without standard descriptors opens the lock file under one of
// their numbers, if nobody takes care, and prints into it.
func TestClosedStandardDescriptors(t *testing.T) {
	t.Parallel()
	for _, closed := range []string{"<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"} {
		t.Run(closed, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			l := filepath.Join(dir, "L")
			shell := func(args ...string) result {
				t.Helper()
				return filesRunCmd(t, filesShell(t, `exec "$@" `+closed, append([]string{lockrun}, args...)...))
			}
			// cmp's own messages, too, would go into the file.
			script := `echo junk; echo junk >&2
				while ! printf '%d\n' $$ | cmp -s - "$1/L"; do sleep 0.01; done
				echo junk; echo junk >&2
				printf '%d\n' $$ | cmp -s - "$1/L" && mkdir "$1/fine"; exec sleep "$2"`
			shell(l, "--", "sh", "-c", script, "sh", dir, "0")
			if !exists(dir+"/fine") || filesContent(l) != "" {
				t.Errorf("lockrun: fine %v, the file holds %q", exists(dir+"/fine"), filesContent(l))
			}
			os.Remove(dir + "/fine")
			if r := shell("start", l, "--", "sh", "-c", script, "sh", dir, "60"); r.status != 0 {
				t.Errorf("start: %v", r)
			}
			eventually(t, "fine", func() bool { return exists(dir + "/fine") })
			before := filesSnap(t, l)
			for _, args := range [][]string{{l, "--", "true"}, {"--no-pid", l, "--", "true"}, {"start", l, "--", "true"}} {
				if r := shell(args...); r.status != 75 {
					t.Errorf("%q: %v; want 75", args, r)
				}
			}
			shell("status", l)
			filesSame(t, "refused", before, filesSnap(t, l))
			if r := shell("stop", l); r.status != 0 {
				t.Errorf("stop: %v", r)
			}
		})
	}
}

// Who may read a lock file may lock it, so its mode does not depend on the
// umask, neither in this direction nor in the other.
func TestUmask(t *testing.T) {
	t.Parallel()
	users := []func(*exec.Cmd) *exec.Cmd{func(cmd *exec.Cmd) *exec.Cmd { return cmd }}
	if os.Geteuid() == 0 {
		// Root may do anything with a file of mode 0000, its owner may not.
		users = append(users, func(cmd *exec.Cmd) *exec.Cmd { return filesAs(cmd, filesNobody) })
	}
	for i, user := range users {
		for _, umask := range []string{"0777", "0", "0027", "0400", "0200"} {
			t.Run(fmt.Sprint(umask, " user ", i), func(t *testing.T) {
				t.Parallel()
				dir := filesDir(t)
				if i > 0 {
					filesMust(t, os.Chown(dir, filesNobody, filesNobody))
				}
				instances := filepath.Join(dir, "instances")
				shell := func(args ...string) {
					t.Helper()
					cmd := user(filesShell(t, "umask "+umask+`; exec "$@"`, append([]string{lockrun}, args...)...))
					cmd.Env = append(os.Environ(), "LOCKRUN_DIR="+instances)
					filesRunCmd(t, cmd).want(t, 0, "")
				}
				mode := func(path, want string) {
					t.Helper()
					if s := filesSnap(t, path); !strings.HasPrefix(s, want) {
						t.Errorf("%s: %s; want %s", path, s, want)
					}
				}
				shell(dir+"/L", "--", "true")
				mode(dir+"/L", "-rw------- ")
				shell("--no-pid", dir+"/no-pid", "--", "true")
				mode(dir+"/no-pid", "-rw------- ")
				shell("start", dir+"/S", "--", "sleep", "60")
				mode(dir+"/S", "-rw------- ")
				shell("stop", dir+"/S")
				shell("name", "--", "true")
				mode(instances, "drwx------ ")
				mode(instances+"/name.pid", "-rw------- ")
			})
		}
	}
}
