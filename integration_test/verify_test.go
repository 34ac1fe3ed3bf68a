//go:build linux

package integration_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// verEnv is a directory for services that are verified. Whatever runs there, or
// has it among its words or settings, must be gone when verify returns.
type verEnv struct {
	*srvEnv
}

func verNew(t *testing.T) *verEnv {
	return &verEnv{srvNew(t)}
}

// verify runs lockrun verify, and checks that it leaves no process. args are
// words, in which DIR is the directory. want are regular expressions, one for
// each line of the output.
func (e *verEnv) verify(status int, want []string, args ...string) {
	e.t.Helper()
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "DIR", e.dir)
	}
	r := runCmd(e.t, e.lockrun(append([]string{"verify"}, args...)...))
	if left := detProcesses(e.dir); len(left) > 0 {
		e.t.Errorf("processes %d are left", left)
	}
	got := strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
	match := len(got) == len(want)
	for i := 0; match && i < len(got); i++ {
		match = regexp.MustCompile("^(?:" + want[i] + ")$").MatchString(got[i])
	}
	if r.status != status || !match || r.stderr != "" {
		e.t.Errorf("status %d, want %d; stderr %q\n%s\nwant\n%s", r.status, status, r.stderr, r.stdout, strings.Join(want, "\n"))
	}
}

// What verify prints of a service that is as it should be, where a refused start
// ends with that status and says that.
func verFine(status int, said string) []string {
	race := fmt.Sprintf(`20 starts at once: 1 runs, 19 refused with status %d: ".*%s.*"`, status, said)
	return []string{
		`ok: ` + race,
		fmt.Sprintf(`ok: another start: refused with status %d: ".*%s.*"`, status, said),
		fmt.Sprintf(`ok: and another one: refused with status %d: ".*%s.*"`, status, said),
		`ok: SIGKILL, and ` + race,
		`ok: SIGTERM to process [0-9]+ \(.*\): ended after [0-9.]+m?s`,
		`ok: and ` + race,
		`ok`,
	}
}

func TestVerifyOurOwn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		want []string
		args []string
	}{
		{"single", verFine(1, "single: lock .*: held by process"), []string{exBuild(t, "single"), "-pidfile", "DIR/pid"}},
		{"daemon", verFine(1, "daemon: lock .*: held by process"), []string{exBuild(t, "daemon"), "-pidfile", "DIR/pid", "-log", "DIR/log"}},
		{"lockrun", verFine(75, "held by process"), []string{"--refused", "75", lockrun, "DIR/lock", "--", "sleep", "1000"}},
		{"lockrun start", verFine(75, "held by process"), []string{"--refused", "75", "--", lockrun, "start", "DIR/lock", "--", "sleep", "1000"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			verNew(t).verify(0, c.want, append([]string{"-t", "1m"}, c.args...)...)
		})
	}
}

// TestVerifyFlock: who starts a service with flock(1) gets what verify says. By
// itself flock does not pass a SIGTERM on, and the service outlives it.
func TestVerifyFlock(t *testing.T) {
	t.Parallel()
	need(t, "flock")
	race := `20 starts at once: 1 runs, 19 refused with status 1`
	silent := `note: 19 of the refused ones did not say why`
	begin := []string{
		`ok: ` + race, silent,
		`ok: another start: refused with status 1`, `note: it did not say why`,
		`ok: and another one: refused with status 1`, `note: it did not say why`,
		`ok: SIGKILL, and ` + race, silent,
	}
	t.Run("flock", func(t *testing.T) {
		t.Parallel()
		verNew(t).verify(1, append(begin[:len(begin):len(begin)],
			`FAILED: SIGTERM to process [0-9]+ \(flock .*\): ended, but process [0-9]+ \(sleep 1000\) still runs after 5s`,
			`FAILED`,
		), "-t", "5", "--", "flock", "-n", "DIR/lock", "sleep", "1000")
	})
	t.Run("flock --no-fork", func(t *testing.T) {
		t.Parallel()
		verNew(t).verify(0, append(begin[:len(begin):len(begin)],
			`ok: SIGTERM to process [0-9]+ \(sleep 1000\): ended after [0-9.]+m?s`,
			`ok: and `+race, silent,
			`ok`,
		), "-t", "1m", "--", "flock", "-n", "--no-fork", "DIR/lock", "sleep", "1000")
	})
}

// verPort returns a port that is free at the moment.
func verPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// TestVerifyRedis: redis is protected by its port, and not at all by its socket.
func TestVerifyRedis(t *testing.T) {
	t.Parallel()
	need(t, "redis-server")
	redis := []string{"--", "redis-server", "--bind", "127.0.0.1", "--save", "", "--dir", "DIR"}
	t.Run("port", func(t *testing.T) {
		t.Parallel()
		verNew(t).verify(0, verFine(1, "Failed listening on port"), append(append([]string{"-t", "1m"}, redis...), "--port", verPort(t))...)
	})
	t.Run("socket", func(t *testing.T) {
		t.Parallel()
		verNew(t).verify(1, []string{
			`FAILED: 5 starts at once: [2-5] of 5 still run after 5s: process [0-9]+ \(.*redis-server .*`,
			`FAILED`,
		}, append(append([]string{"-t", "5", "--starts", "5"}, redis...), "--port", "0", "--unixsocket", "DIR/sock")...)
	})
	// It detaches first and listens then, so a start seems to succeed.
	t.Run("daemonize", func(t *testing.T) {
		t.Parallel()
		verNew(t).verify(1, []string{
			`FAILED: 5 starts at once: 1 runs, but 4 ended with status 0, as if started`,
			`FAILED: another start: ended with status 0, as if started`,
			`FAILED: and another one: ended with status 0, as if started`,
			`FAILED: SIGKILL, and 5 starts at once: 1 runs, but 4 ended with status 0, as if started`,
			`ok: SIGTERM to process [0-9]+ \(redis-server .*\): ended after .*`,
			`FAILED: and 5 starts at once: 1 runs, but 4 ended with status 0, as if started`,
			`FAILED`,
		}, append(append([]string{"-t", "1m", "--starts", "5"}, redis...), "--port", verPort(t), "--daemonize", "yes")...)
	})
}

func TestVerifyMemcached(t *testing.T) {
	t.Parallel()
	need(t, "memcached")
	memcached := []string{"--", "memcached", "-m", "8", "-t", "1"}
	if os.Geteuid() == 0 {
		memcached = append(memcached, "-u", "root")
	}
	t.Run("port", func(t *testing.T) {
		t.Parallel()
		verNew(t).verify(0, verFine(71, "Address already in use"),
			append(append([]string{"-t", "1m"}, memcached...), "-l", "127.0.0.1", "-U", "0", "-p", verPort(t))...)
	})
	// Each takes the socket away from the one before, and that one runs on.
	t.Run("socket", func(t *testing.T) {
		t.Parallel()
		verNew(t).verify(1, []string{
			`FAILED: 5 starts at once: [2-5] of 5 still run after 5s: process [0-9]+ \(memcached .*`,
			`FAILED`,
		}, append(append([]string{"-t", "5", "--starts", "5"}, memcached...), "-s", "DIR/sock")...)
	})
}

// TestVerifyFindsFlaws: what services are known to do wrong is found, and said
// in words. Each script gets the directory as $1.
func TestVerifyFindsFlaws(t *testing.T) {
	t.Parallel()
	need(t, "flock")
	race, ok := `3 starts at once: 1 runs, 2 refused with status 1: "held"`, `ok: another start: refused with status 1: "held"`
	another := `ok: and another one: refused with status 1: "held"`
	// mkdir(1) is a lock that is never freed by itself.
	mkdir := `mkdir "$1/lock" 2>/dev/null || { echo held; exit 1; }; `
	flock := `exec 9>"$1/lock"; flock -n 9 || { echo held; exit 1; }; `
	// Who comes after three at once may do something else.
	fourth := `fourth() { test "$(wc -l <"$dir/starts")" -gt 3; }; dir=$1; echo >>"$1/starts"; `
	for _, c := range []struct {
		name, script string
		want         []string
	}{
		{"checks before it writes", `
			test -e "$1/pid" && kill -0 "$(cat "$1/pid")" && exit 1
			sleep 1; echo $$ >"$1/pid"; exec sleep 1000`,
			[]string{`FAILED: 3 starts at once: 3 of 3 still run after 5s: process [0-9]+ \(sleep 1000\), process .*, process [0-9]+ \(sleep 1000\)`}},
		{"is blocked by what is stale", mkdir + `exec sleep 1000`,
			[]string{`ok: ` + race, ok, another,
				`FAILED: SIGKILL, and 3 starts at once: none runs: 3 ended with status 1: "held"`}},
		{"removes what is stale, whoever else does so", `
			if ! mkdir "$1/lock" 2>/dev/null; then
				until test -s "$1/lock/pid"; do sleep 0.01; done
				kill -0 "$(cat "$1/lock/pid")" 2>/dev/null && { echo held; exit 1; }
				sleep 1; rm -rf "$1/lock"; mkdir "$1/lock"
			fi
			echo $$ >"$1/lock/pid"; exec sleep 1000`,
			[]string{`ok: ` + race, ok, another,
				`FAILED: SIGKILL, and 3 starts at once: 3 of 3 still run after 5s: .*`}},
		{"ignores SIGTERM", flock + `trap '' TERM; exec sleep 1000`,
			[]string{`ok: ` + race, ok, another, `ok: SIGKILL, and ` + race,
				`FAILED: SIGTERM to process [0-9]+ \(sleep 1000\): still runs after 5s`}},
		{"detaches and ignores SIGTERM", `
			` + flock + `trap '' TERM
			setsid sleep 1000 >/dev/null 2>&1 &
			exit 0`,
			[]string{`ok: ` + race, ok, another, `ok: SIGKILL, and ` + race,
				`FAILED: SIGTERM to process [0-9]+ \(sleep 1000\): still runs after 5s`}},
		{"ends at once", `echo bye; exit 0`,
			[]string{`FAILED: 3 starts at once: none runs: 3 ended with status 0: "bye"`}},
		{"fails", `echo out of order >&2; exit 7`,
			[]string{`FAILED: 3 starts at once: none runs: 3 ended with status 7: "out of order"`}},
		// Who is slow is not yet one that runs.
		{"is refused slowly", `
			mkdir "$1/first" 2>/dev/null && sleep 0.5
			sleep 2; echo held; exit 1`,
			[]string{`FAILED: 3 starts at once: none runs: 3 ended with status 1: "held"`}},
		{"crashes", `exec 9>"$1/lock"; flock -n 9 || kill -SEGV $$; exec sleep 1000`,
			[]string{`FAILED: 3 starts at once: 1 runs, but 2 killed by SIGSEGV`,
				`FAILED: another start: killed by SIGSEGV`, `FAILED: and another one: killed by SIGSEGV`,
				`FAILED: SIGKILL, and 3 starts at once: 1 runs, but 2 killed by SIGSEGV`,
				`ok: SIGTERM .*`, `FAILED: and 3 starts at once: 1 runs, but 2 killed by SIGSEGV`}},
		{"refuses with status 0", `exec 9>"$1/lock"; flock -n 9 || { echo held; exit 0; }; exec sleep 1000`,
			[]string{`FAILED: 3 starts at once: 1 runs, but 2 ended with status 0, as if started: "held"`,
				`FAILED: another start: ended with status 0, as if started: "held"`,
				`FAILED: and another one: ended with status 0, as if started: "held"`,
				`FAILED: SIGKILL, and 3 starts at once: 1 runs, but 2 ended with status 0, as if started: "held"`,
				`ok: SIGTERM .*`,
				`FAILED: and 3 starts at once: 1 runs, but 2 ended with status 0, as if started: "held"`}},
		{"ends the one that runs", fourth + `
			exec 9>"$1/lock"
			if ! flock -n 9; then
				fourth || { echo held; exit 1; }
				kill "$(cat "$1/pid")"; flock 9
			fi
			echo $$ >"$1/pid"; exec sleep 1000`,
			[]string{`ok: ` + race,
				`FAILED: another start: it runs, and the first one \(process [0-9]+\) has ended`}},
		{"ends the one that runs, and itself", fourth + `
			exec 9>"$1/lock"
			flock -n 9 || { fourth && kill "$(cat "$1/pid")"; echo held; exit 1; }
			echo $$ >"$1/pid"; exec sleep 1000`,
			[]string{`ok: ` + race,
				`FAILED: another start: the first one \(process [0-9]+\) has ended, and this one too, with status 1`}},
		{"removes the lock when it is refused", fourth + `
			exec 9>"$1/lock"
			flock -n 9 || { fourth && rm -f "$1/lock"; echo held; exit 1; }
			exec sleep 1000`,
			[]string{`ok: ` + race, ok,
				`FAILED: and another one: it still runs after 5s, beside the first one: process [0-9]+ \(sleep 1000\), process [0-9]+ \(sleep 1000\)`}},
		{"refused, it leaves something running", `
			exec 9>"$1/lock"
			flock -n 9 && exec sleep 1000
			setsid sleep 999 & echo held; exit 1`,
			[]string{`FAILED: 3 starts at once: 3 of 3 still run after 5s: .*process [0-9]+ \(sleep 999\).*`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			verNew(t).verify(1, append(c.want, "FAILED"), "-t", "5", "--starts", "3", "--", "sh", "-c", c.script, "sh", "DIR")
		})
	}
}

// TestVerifyRefusedStatus: which status a refusal has can be asked for. However
// much a refused one has to say, it is not held up.
func TestVerifyRefusedStatus(t *testing.T) {
	t.Parallel()
	need(t, "flock")
	e := verNew(t)
	service := []string{"--", "sh", "-c", `exec 9>"$1/lock"; flock -n 9 || { seq 100000; echo held; exit 0; }; exec sleep 1000`, "sh", e.dir}
	r := runCmd(t, e.lockrun(append([]string{"verify", "-q", "--refused", "0", "--starts", "3"}, service...)...))
	r.want(t, 0, "")
	r = runCmd(t, e.lockrun(append([]string{"verify", "--refused", "75", "--starts", "3"}, service...)...))
	if r.want(t, 1, ""); !strings.Contains(r.stdout, "1 runs, but 2 ended with status 0, not 75: \"held\"\n") {
		t.Errorf("stdout:\n%s", r.stdout)
	}
}

// TestVerifyIsInterrupted: who is told to end takes everything along, also what
// has detached, before it dies of the signal.
func TestVerifyIsInterrupted(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(unix.SignalName(sig), func(t *testing.T) {
			t.Parallel()
			if detOurIgnored(t)&detBits(sig) != 0 {
				t.Skip("ignored when the tests were started")
			}
			e := verNew(t)
			cmd := e.lockrun("verify", "-t", "10m", "--starts", "3", "--", "sh", "-c", `setsid sleep 1000 & exec sleep 1000`, e.dir)
			background(t, cmd)
			eventually(t, "all run", func() bool { return len(detProcesses(e.dir)) == 1+2*3 })
			cmd.Process.Signal(sig)
			state, err := cmd.Process.Wait()
			if err != nil {
				t.Fatal(err)
			}
			if ws := state.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != sig {
				t.Errorf("ended with %v; want death by %v", state, sig)
			}
			if left := detProcesses(e.dir); len(left) > 0 {
				t.Errorf("processes %d are left", left)
			}
		})
	}
}

// TestVerifyLeavesOthersAlone: a process that was there before, as a child of
// the shell that became lockrun, is neither counted nor killed.
func TestVerifyLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	e := verNew(t)
	file := e.path("other")
	cmd := exec.Command("sh", "-c", `sleep 1000 >/dev/null 2>&1 & echo $! >"$1"; shift; exec "$@"`, "sh", file,
		lockrun, "verify", "--starts", "3", "--", lockrun, e.path("lock"), "--", "sleep", "1000")
	runCmd(t, cmd).want(t, 0, "")
	pid := pidIn(t, file)
	command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if string(command) != "sleep\x001000\x00" {
		t.Fatalf("process %d, which was there before, is gone", pid)
	}
	syscall.Kill(pid, syscall.SIGKILL)
}
