//go:build linux

package integration_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Where the output of a command goes: docs/daemon.md.

func init() {
	helpers["out-lines"] = outLines
	helpers["out-flood"] = outFlood
}

// outLines writes numbered lines, in turn to standard output and error, each by a
// write of its own. Then it creates a file and waits until that is removed.
//
//	out-lines FIRST LAST [PAUSE [FILE]]
func outLines(args []string) int {
	first, _ := strconv.Atoi(args[0])
	last, _ := strconv.Atoi(args[1])
	var pause time.Duration
	if len(args) > 2 {
		pause, _ = time.ParseDuration(args[2])
	}
	for i := first; i <= last; i++ {
		to := os.Stdout
		if i%2 == 0 {
			to = os.Stderr
		}
		if _, err := to.Write(outLine(i)); err != nil {
			return 1
		}
		time.Sleep(pause)
	}
	if len(args) > 3 {
		os.WriteFile(args[3], nil, 0o600)
		for exists(args[3]) {
			time.Sleep(2 * time.Millisecond)
		}
	}
	return 0
}

// outLine is of differing length, so that the ends of lines meet no boundaries.
func outLine(i int) []byte {
	return fmt.Appendf(nil, "line %d %s.\n", i, strings.Repeat("x", i%37))
}

// outWant checks that text is lines FIRST to LAST, in order, whole, each once.
func outWant(t *testing.T, text []byte, first, last int) {
	t.Helper()
	i := first
	for line := range bytes.Lines(text) {
		if !bytes.Equal(line, outLine(i)) {
			t.Fatalf("%q where line %d should be", line, i)
		}
		i++
	}
	if i != last+1 {
		t.Fatalf("the last line is %d; want %d", i-1, last)
	}
}

// outFlood writes that many MiB to standard output, which it truncates now and
// then if it is a file. Then it does as outLines.
func outFlood(args []string) int {
	mebibytes, _ := strconv.Atoi(args[0])
	block := bytes.Repeat([]byte("0123456789abcde\n"), 1<<16)
	for i := range mebibytes {
		if _, err := os.Stdout.Write(block); err != nil {
			return 1
		}
		if i%32 == 31 {
			os.Stdout.Truncate(0)
		}
	}
	return outLines([]string{"1", "0", "0s", args[1]})
}

// outRotated returns what is in a log and in its predecessors, the oldest first,
// and checks that there are at most that many, and none too big.
func outRotated(t *testing.T, path string, keep, size int) (text []byte, files int) {
	t.Helper()
	for i := keep; i >= 0; i-- {
		name := path
		if i > 0 {
			name += "." + strconv.Itoa(i)
		}
		part, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		if len(part) > size {
			t.Errorf("%s has %d bytes; want at most %d", name, len(part), size)
		}
		if !bytes.HasSuffix(part, []byte("\n")) {
			t.Errorf("%s ends within a line", name)
		}
		if i > 0 && len(part) < size-100 {
			t.Errorf("%s has %d bytes; want it to be full", name, len(part))
		}
		text = append(text, part...)
		files++
	}
	all, err := filepath.Glob(path + "*")
	if err != nil || len(all) != files {
		t.Errorf("files %q; want %d", all, files)
	}
	return text, files
}

func TestRotatedLogLosesNoLine(t *testing.T) {
	t.Parallel()
	const last, size = 100_000, 64 << 10
	dir := t.TempDir()
	c := newCtl(t)
	words := c.helper("out-lines", "1", strconv.Itoa(last))
	c.run(append([]string{"--log", dir + "/log", "--log-rotate", "size:64k,keep:200", "web", "--"}, words...)...).want(t, 0, "")
	text, files := outRotated(t, dir+"/log", 200, size)
	outWant(t, text, 1, last)
	if files < 20 {
		t.Errorf("%d files; want many", files)
	}
}

func TestRotatedLogKeepsSoMany(t *testing.T) {
	t.Parallel()
	for _, keep := range []int{0, 1, 3} {
		const last = 5000
		dir := t.TempDir()
		c := newCtl(t)
		words := c.helper("out-lines", "1", strconv.Itoa(last))
		c.run(append([]string{"--log", dir + "/log", "--log-rotate", fmt.Sprintf("size:10k,keep:%d", keep), "web", "--"}, words...)...).want(t, 0, "")
		text, files := outRotated(t, dir+"/log", keep, 10<<10)
		if files != keep+1 {
			t.Errorf("keep:%d: %d files", keep, files)
		}
		var first int
		fmt.Sscanf(string(text), "line %d ", &first)
		outWant(t, text, first, last)
	}
}

// TestRotatedLogTearsOnlyEndlessLines: what never ends a line must not fill the
// disk.
func TestRotatedLogTearsOnlyEndlessLines(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := newCtl(t)
	c.run("--log", dir+"/log", "--log-rotate", "size:10k,keep:9", "web", "--", "sh", "-c",
		"head -c 20000 /dev/zero; echo; echo short; head -c 3000000 /dev/zero; echo; echo last").want(t, 0, "")
	long := strings.Repeat("\x00", 20000) + "\n"
	want := long + "short\n" + strings.Repeat("\x00", 3000000) + "\nlast\n"
	got, files := "", 0
	for i := 9; i >= 0; i-- {
		name := strings.TrimSuffix(fmt.Sprintf("%s/log.%d", dir, i), ".0")
		part, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		if files++; len(part) > 10<<10+1<<20+64<<10 {
			t.Errorf("%s has %d bytes; want about 1 MiB at most", name, len(part))
		}
		if got == "" && !strings.HasPrefix(string(part), long) {
			t.Errorf("the long line, of %d bytes, is torn: %d bytes", len(long), len(part))
		}
		got += string(part)
	}
	if got != want || files < 4 {
		t.Errorf("%d bytes in %d files; want %d, as they were written", len(got), files, len(want))
	}
}

// TestRotatedLogIsRenamed: by somebody else, as logrotate does, while it is
// written to; the mode is kept, and the next one has the same.
func TestRotatedLogIsRenamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := newCtl(t)
	log, up := dir+"/log", dir+"/up"
	filesMust(t, os.WriteFile(log, nil, 0o600))
	filesMust(t, os.Chmod(log, 0o604))
	const last = 1500
	words := c.helper("out-lines", "1", strconv.Itoa(last), "500us", up)
	c.run(append([]string{"start", "--log", log, "--log-rotate", "size:1M", "web", "--"}, words...)...).want(t, 0, "")
	for i := range 3 {
		eventually(t, "a log", func() bool { fi, err := os.Stat(log); return err == nil && fi.Size() > 0 })
		filesMust(t, os.Rename(log, fmt.Sprintf("%s-%d", log, i)))
	}
	eventually(t, "all is written", func() bool { return exists(up) })
	// A message of lockrun itself goes to the new file.
	eventually(t, "the last line", func() bool { return strings.Contains(filesContent(log), fmt.Sprintf("line %d ", last)) })
	fi, err := os.Stat(log)
	if err != nil || fi.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v; want 0640", fi.Mode(), err)
	}
	supervisor := detLook(t, c.pid("web")).ppid
	for _, fd := range []string{"fd/1", "fd/2"} {
		if to := detLink(t, supervisor, fd); to != log {
			t.Errorf("%s of the supervisor is %s; want the log", fd, to)
		}
	}
	os.Remove(up)
	eventually(t, "the end", func() bool { return c.run("status", "web").status == 3 })
	var text []byte
	for _, name := range []string{"-0", "-1", "-2", ""} {
		part, err := os.ReadFile(log + name)
		filesMust(t, err)
		text = append(text, part...)
	}
	outWant(t, text, 1, last)
}

// TestRotationKeepsTheMode of a file, whatever the umask.
func TestRotationKeepsTheMode(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	filesMust(t, os.WriteFile(log, bytes.Repeat([]byte("old\n"), 1000), 0o600))
	filesMust(t, os.Chmod(log, 0o664))
	c := newCtl(t)
	c.run("--log", log, "--log-rotate", "size:1k,keep:2", "web", "--", "echo", "new").want(t, 0, "")
	if got := filesContent(log); got != "new\n" {
		t.Errorf("log: %q", got)
	}
	fi, err := os.Stat(log)
	if err != nil || fi.Mode().Perm() != 0o664 || len(filesContent(log+".1")) != 4000 {
		t.Errorf("%v, %v; want the mode of the old one", fi.Mode(), err)
	}
}

// TestRotatedLogIsNotInherited: a command that is started later must not have it.
func TestRotatedLogIsNotInherited(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	cmd := background(t, newCtl(t).command("--log", log, "--log-rotate", "size:1k", "web", "--", "sh", "-c", "seq 1000; exec sleep 600"))
	eventually(t, "the last line", func() bool { return strings.HasSuffix(filesContent(log), "\n1000\n") })
	found := false
	for fd, d := range detDescriptors(t, cmd.Process.Pid) {
		if d.target != log {
			continue
		}
		found = true
		info := filesContent(fmt.Sprintf("/proc/%d/fdinfo/%d", cmd.Process.Pid, fd))
		var flags int
		_, rest, _ := strings.Cut(info, "flags:\t")
		if fmt.Sscanf(rest, "%o", &flags); flags&unix.O_CLOEXEC == 0 {
			t.Errorf("descriptor %d is not close-on-exec: %s", fd, info)
		}
	}
	if !found {
		t.Error("no descriptor is the log")
	}
}

// TestLogThatCanNotBeRotated goes on.
func TestLogThatCanNotBeRotated(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := dir + "/log"
	filesMust(t, os.Mkdir(log+".1", 0o700))
	filesMust(t, os.WriteFile(log+".1/of-others", nil, 0o600))
	c := newCtl(t)
	words := c.helper("out-lines", "1", "2000")
	c.run(append([]string{"--log", log, "--log-rotate", "size:10k,keep:1", "web", "--"}, words...)...).want(t, 0, "")
	said, lines := 0, ""
	for line := range strings.Lines(filesContent(log)) {
		if strings.HasPrefix(line, "lockrun: the log can't be rotated: ") {
			said++
		} else {
			lines += line
		}
	}
	outWant(t, []byte(lines), 1, 2000)
	if said < 2 || said > 10 {
		t.Errorf("said %d times; want it now and then", said)
	}
	if !exists(log + ".1/of-others") {
		t.Error("a directory of others is gone")
	}
}

// TestRestartKeepsTheLog: the pipe, and the file, outlive a command.
func TestRestartKeepsTheLog(t *testing.T) {
	t.Parallel()
	for _, flags := range []string{"--log log", "--log log --log-rotate size:1M", "--stdout log --stderr log"} {
		t.Run(flags, func(t *testing.T) {
			t.Parallel()
			c := newCtl(t)
			dir := t.TempDir()
			start := c.command(append(append([]string{"start"}, strings.Fields(flags)...), "web", "--", "sh", "-c", "echo begun $$; sleep 600 & wait")...)
			start.Dir = dir
			filesRunCmd(t, start).want(t, 0, "")
			want := fmt.Sprintf("begun %d\n", c.pid("web"))
			eventually(t, "a line", func() bool { return filesContent(dir+"/log") == want })
			for range 3 {
				c.run("restart", "web").want(t, 0, "")
				want += fmt.Sprintf("begun %d\n", c.pid("web"))
				eventually(t, "another line", func() bool { return filesContent(dir+"/log") == want })
			}
			// After a rename the next one writes to a new file, and so do we.
			filesMust(t, os.Rename(dir+"/log", dir+"/old"))
			c.run("restart", "web").want(t, 0, "")
			next := fmt.Sprintf("begun %d\n", c.pid("web"))
			eventually(t, "a line in the new log", func() bool { return filesContent(dir+"/log") == next })
			if got := filesContent(dir + "/old"); got != want {
				t.Errorf("in the old one: %q; want %q", got, want)
			}
			if to := detLink(t, detLook(t, c.pid("web")).ppid, "fd/2"); to != dir+"/log" {
				t.Errorf("standard error of the supervisor is %s", to)
			}
			for fd, d := range detDescriptors(t, c.pid("web")) {
				if fd > 2 && !d.lock && d.target != c.dir+"/web.pid" {
					t.Errorf("the command has descriptor %d, %s", fd, d.target)
				}
			}
			c.run("stop", "web").want(t, 0, "")
		})
	}
}

// TestLogIsOneDescription: neither stream overwrites the other, whatever the file
// system makes of O_APPEND.
func TestLogIsOneDescription(t *testing.T) {
	t.Parallel()
	for _, flags := range []string{"--log log", "--stdout log --stderr ./log", "start --log log", "start --stdout log --stderr ./log"} {
		c := newCtl(t)
		cmd := c.command(append(strings.Fields(flags), "web", "--", "sleep", "600")...)
		cmd.Dir = t.TempDir()
		if strings.HasPrefix(flags, "start") {
			filesRunCmd(t, cmd).want(t, 0, "")
		} else {
			background(t, cmd)
		}
		eventually(t, "it runs", func() bool { return strings.Contains(c.run("status", "web").stdout, "(sleep 600)") })
		pids := []int{c.pid("web")}
		if strings.HasPrefix(flags, "start") {
			pids = append(pids, detLook(t, pids[0]).ppid)
		}
		for _, pid := range pids {
			differ, _, err := unix.Syscall6(unix.SYS_KCMP, uintptr(pid), uintptr(pid), 0 /* KCMP_FILE */, 1, 2, 0)
			if err != 0 {
				missing(t, "kcmp: %v", err)
			}
			if differ != 0 {
				t.Errorf("%s: process %d has two descriptions", flags, pid)
			}
			if d := detDescriptors(t, pid)[1]; d.target != cmd.Dir+"/log" {
				t.Errorf("%s: output of process %d goes to %s", flags, pid, d.target)
			}
		}
		c.run("stop", "web").want(t, 0, "")
	}
}

// TestLogIsCopiedAndTruncated: logrotate's copytruncate. What comes next stands
// at the beginning, and not where the old one ended.
func TestLogIsCopiedAndTruncated(t *testing.T) {
	t.Parallel()
	for _, rotate := range []string{"", "--log-rotate=size:1M"} {
		dir := t.TempDir()
		c := newCtl(t)
		log, up := dir+"/log", dir+"/up"
		words := append(strings.Fields("start --log "+log+" "+rotate+" web -- env"), c.helper("out-lines", "1", "1000", "500us", up)[1:]...)
		c.run(words...).want(t, 0, "")
		eventually(t, "a log", func() bool { return len(filesContent(log)) > 5000 })
		filesMust(t, os.Truncate(log, 0))
		eventually(t, "all is written", func() bool { return strings.Contains(filesContent(log), "\nline 1000 ") })
		text := filesContent(log)
		var first int
		if _, err := fmt.Sscanf(text, "line %d ", &first); err != nil || first < 2 {
			t.Errorf("the log begins with %.40q, line %d", text, first)
		}
		outWant(t, []byte(text), first, 1000)
		c.run("stop", "web").want(t, 0, "")
	}
}

// TestLogOfAKilledSupervisor: nothing of lockrun is between the command and a
// plain log.
func TestLogOfAKilledSupervisor(t *testing.T) {
	t.Parallel()
	c := newCtl(t)
	log := filepath.Join(t.TempDir(), "log")
	c.run("start", "--log", log, "web", "--", "sh", "-c", "while :; do echo line; echo err >&2; sleep 0.01; done").want(t, 0, "")
	pid := c.pid("web")
	syscall.Kill(detLook(t, pid).ppid, syscall.SIGKILL)
	eventually(t, "the supervisor is gone", func() bool { return c.run("restart", "web").status == 64 })
	before := len(filesContent(log))
	eventually(t, "it goes on", func() bool { return len(filesContent(log)) > before+100 })
	c.run("stop", "web").want(t, 0, "")
}

// TestPlainLogCostsNothing: the kernel writes it.
func TestPlainLogCostsNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := newCtl(t)
	up := dir + "/up"
	c.run(append([]string{"start", "--log", dir + "/log", "web", "--"}, c.helper("out-flood", "512", up)...)...).want(t, 0, "")
	supervisor := detLook(t, c.pid("web")).ppid
	before := exclTicks(t, supervisor)
	eventually(t, "all is written", func() bool { return exists(up) })
	if used := exclTicks(t, supervisor) - before; used > 1 {
		t.Errorf("%d ticks of CPU for 512 MiB", used)
	}
	c.run("stop", "web").want(t, 0, "")
}

// TestFullDiskHarmsNoDaemon: what can't be written is dropped, and counted when
// there is room again.
func TestFullDiskHarmsNoDaemon(t *testing.T) {
	t.Parallel()
	nsOwnMounts(t)
	dir := t.TempDir()
	nsTmpfs(t, dir, "mode=755,size=512k")
	filesWrite(t, dir+"/fill", strings.Repeat("x", 384<<10), 0o600)
	c := newCtl(t)
	log, up := dir+"/log", filepath.Join(t.TempDir(), "up")
	words := append([]string{"sh", "-c", `up=$1; shift; "$@"; printf half; touch "$up"; while [ -e "$up" ]; do sleep 0.01; done; echo " rest"; echo after; sleep 600`, "sh", up}, c.helper("out-lines", "1", "20000", "0s", up)...)
	c.run(append([]string{"start", "--log", log, "--log-rotate", "size:1M", "web", "--"}, words...)...).want(t, 0, "")
	eventually(t, "all is written", func() bool { return exists(up) })
	filesMust(t, os.Remove(up))
	eventually(t, "half a line is written", func() bool { return exists(up) })
	time.Sleep(100 * time.Millisecond) // for it to be read, and dropped
	filesMust(t, os.Remove(dir+"/fill"))
	filesMust(t, os.Remove(up))
	eventually(t, "a line is written again", func() bool { return strings.HasSuffix(filesContent(log), "after\n") })
	text := filesContent(log)
	// What was in the pipe when there was room again comes behind it.
	lost := regexp.MustCompile(`(?s)^(.*)\nlockrun: (\d+) bytes of output are lost here: no space left on device\n(.*)after\n$`).FindStringSubmatch(text)
	if lost == nil {
		t.Fatalf("the log ends with %q", text[max(0, len(text)-300):])
	}
	if rest := lost[3]; rest != "" {
		var first int
		fmt.Sscanf(rest, "line %d ", &first)
		outWant(t, []byte(strings.TrimSuffix(rest, "half rest\n")), first, 20000)
	}
	all := len("half rest\n")
	for i := range 20000 {
		all += len(outLine(i + 1))
	}
	// The newline is ours if the last line is not whole.
	n, _ := strconv.Atoi(lost[2])
	if there := len(lost[1]) + len(lost[3]); there+n != all && there+1+n != all {
		t.Errorf("%d bytes are there and %d lost; %d were written", there, n, all)
	}
	c.run("stop", "web").want(t, 0, "")
}

// outOwnDev gives this goroutine a /dev without a log in it.
func outOwnDev(t *testing.T) {
	t.Helper()
	nsOwnMounts(t)
	real := t.TempDir()
	filesMust(t, unix.Mount("/dev", real, "", unix.MS_BIND|unix.MS_REC, ""))
	t.Cleanup(func() { unix.Unmount(real, unix.MNT_DETACH) })
	nsTmpfs(t, "/dev", "mode=755")
	for _, name := range []string{"null", "zero", "urandom", "tty"} {
		filesMust(t, os.Symlink(filepath.Join(real, name), "/dev/"+name))
	}
}

// outSyslog is a syslog on /dev/log.
func outSyslog(t *testing.T) *net.UnixConn {
	t.Helper()
	os.Remove("/dev/log")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "/dev/log"})
	filesMust(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// outMessage reads the next message, "" if there is none for a while.
func outMessage(conn *net.UnixConn, patience time.Duration) string {
	buf := make([]byte, 1<<16)
	conn.SetReadDeadline(time.Now().Add(patience))
	n, err := conn.Read(buf)
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

func TestSyslog(t *testing.T) {
	t.Parallel()
	outOwnDev(t)
	conn := outSyslog(t)
	c := newCtl(t)
	c.run("start", "--log", "syslog:daemon.info", "web", "--", "sh", "-c",
		`printf 'out\r\n\033[1mbold\tx\n\n'; echo err >&2; head -c 5000 /dev/zero | tr '\0' x; echo; printf last; read x < /dev/tty; sleep 600`).want(t, 0, "")
	pid := c.pid("web")
	head := regexp.MustCompile(`^<30>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d web\[(\d+)\]: (.*)$`)
	want := func(text string, of int) {
		t.Helper()
		m := head.FindStringSubmatch(outMessage(conn, 10*time.Second))
		if m == nil || m[2] != text || m[1] != strconv.Itoa(of) {
			t.Fatalf("%.200q; want %.100q of process %d", m, text, of)
		}
	}
	want("out", pid)
	want("?[1mbold\tx", pid)
	want("err", pid)
	long := strings.Repeat("x", 5000)
	want(long[:2048], pid)
	want(long[:2048], pid)
	want(long[:5000-2*2048], pid)
	for {
		// The shell complains about the terminal that it has not.
		m := outMessage(conn, 300*time.Millisecond)
		if m == "" {
			break
		}
		if !strings.Contains(m, "tty") {
			t.Fatalf("message %q", m)
		}
	}
	c.run("stop", "web").want(t, 0, "")
	c.run("--log", "syslog:local7.err", filepath.Join(t.TempDir(), "my [job].lock"), "--", "echo", "out").want(t, 0, "")
	if m := outMessage(conn, 10*time.Second); !regexp.MustCompile(`^<187>.* my__job_\[\d+\]: out$`).MatchString(m) {
		t.Errorf("%q", m)
	}
}

// TestSyslogIsAway, comes, does not read, and is started anew: the daemon is not
// harmed, and what is lost is counted.
func TestSyslogIsAway(t *testing.T) {
	t.Parallel()
	outOwnDev(t)
	c := newCtl(t)
	dir := t.TempDir()
	const many = 20000
	// Each round is a file that the test creates and the command removes when it
	// has written its lines.
	script := fmt.Sprintf(`while :; do
		if [ -e %[1]s/many ]; then i=0; while [ $i -lt %[2]d ]; do echo many; i=$((i+1)); done; rm %[1]s/many; fi
		if [ -e %[1]s/one ]; then echo one; rm %[1]s/one; fi
		sleep 0.01
	done`, dir, many)
	c.run("start", "--log", "syslog:user.notice", "web", "--", "sh", "-c", script).want(t, 0, "lockrun: no syslog, so the output is lost until there is one: ")
	round := func(name string) {
		t.Helper()
		begin := time.Now()
		filesMust(t, os.WriteFile(dir+"/"+name, nil, 0o600))
		eventually(t, "the command has written", func() bool { return !exists(dir + "/" + name) })
		t.Logf("%s took %v", name, time.Since(begin))
	}
	notice := regexp.MustCompile(`^<13>.*: lockrun: (\d+) lines of output are lost here: syslog did not take them$`)
	// count writes a line a time until one comes, and returns how many lines
	// came and were lost.
	count := func(conn *net.UnixConn, written int) {
		t.Helper()
		got, lost := 0, 0
		for deadline := time.Now().Add(20 * time.Second); got == 0 || got+lost < written; {
			if time.Now().After(deadline) {
				t.Fatalf("%d lines came and %d are said to be lost; want %d", got, lost, written)
			}
			m := outMessage(conn, 300*time.Millisecond)
			switch said := notice.FindStringSubmatch(m); {
			case said != nil:
				n, _ := strconv.Atoi(said[1])
				lost += n
			case m == "":
				round("one")
				written++
			default:
				got++
			}
		}
		if got+lost != written {
			t.Errorf("%d lines came and %d are said to be lost; want %d", got, lost, written)
		}
	}
	round("many") // nobody is there
	conn := outSyslog(t)
	count(conn, many)
	round("many") // nobody reads
	count(conn, many)
	conn.Close() // nobody is there any more
	conn = outSyslog(t)
	round("one")
	count(conn, 1)
	c.run("stop", "web").want(t, 0, "")
}

// TestSlowSyslogDoesNotHoldUpTheEnd: much is still in the pipe then.
func TestSlowSyslogDoesNotHoldUpTheEnd(t *testing.T) {
	t.Parallel()
	outOwnDev(t)
	conn := outSyslog(t)
	c := newCtl(t)
	ended, slow := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(slow)
		for {
			select {
			case <-ended:
				return
			case <-time.After(200 * time.Microsecond):
				outMessage(conn, time.Millisecond)
			}
		}
	}()
	r := c.run("--log", "syslog:user.info", "web", "--", "sh", "-c", "yes | head -c 60000")
	close(ended)
	<-slow
	if r.want(t, 0, ""); r.took > 5*time.Second {
		t.Errorf("took %v", r.took)
	}
	last := ""
	for m := outMessage(conn, time.Second); m != ""; m = outMessage(conn, 10*time.Millisecond) {
		last = m
	}
	if !strings.Contains(last, " lines of output are lost here") {
		t.Errorf("the last message is %q", last)
	}
}

// TestQuietSuccessIsBounded: however much the command writes.
func TestQuietSuccessIsBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := newCtl(t)
	up, temp := dir+"/up", dir+"/temp"
	filesMust(t, os.Mkdir(temp, 0o700))
	words := append([]string{"--quiet-success", "web", "--", "sh", "-c", `"$@"; echo err >&2; exit 5`, "sh"}, c.helper("out-flood", "100", up)...)
	cmd := c.command(words...)
	cmd.Env = append(cmd.Env, "TMPDIR="+temp)
	var stdout outCounter
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	background(t, cmd)
	eventually(t, "all is written", func() bool { return exists(up) })
	rss := exclRSS(t, cmd.Process.Pid)
	t.Logf("%d kB", rss)
	if rss > 16<<10 {
		t.Errorf("%d kB of memory", rss)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("temporary files %v, %v", left, err)
	}
	if n := stdout.Load(); n != 0 {
		t.Errorf("%d bytes are shown while it runs", n)
	}
	os.Remove(up)
	cmd.Wait()
	if stdout.Load() != 100<<20 || stderr.String() != "err\n" || statusOf(cmd.ProcessState) != 5 {
		t.Errorf("%d bytes, stderr %q, status %d", stdout.Load(), &stderr, statusOf(cmd.ProcessState))
	}
}

type outCounter struct{ atomic.Int64 }

func (c *outCounter) Write(p []byte) (int, error) {
	c.Add(int64(len(p)))
	return len(p), nil
}

// TestQuietSuccessWithoutRoom: the command is not harmed, and what is there is
// shown.
func TestQuietSuccessWithoutRoom(t *testing.T) {
	t.Parallel()
	nsOwnMounts(t)
	dir := t.TempDir()
	nsFullTmpfs(t, dir)
	c := newCtl(t)
	cmd := c.command("--quiet-success", "web", "--", "sh", "-c", "head -c 3000000 /dev/zero && exit 4")
	cmd.Env = append(cmd.Env, "TMPDIR="+dir)
	r := filesRunCmd(t, cmd)
	lost := regexp.MustCompile(`^lockrun: (\d+) bytes of what the command wrote then are lost: .*no space left on device\n$`).FindStringSubmatch(r.stderr)
	if r.status != 4 || lost == nil {
		t.Fatalf("status %d, %d bytes, stderr %q", r.status, len(r.stdout), r.stderr)
	}
	if n, _ := strconv.Atoi(lost[1]); n+len(r.stdout) != 3_000_000 || len(r.stdout) < 500_000 {
		t.Errorf("%d bytes are shown and %d lost", len(r.stdout), n)
	}
}

// TestStragglersDoNotHoldUpTheEnd: what the command wrote is there, and what it
// left behind may write as it likes.
func TestStragglersDoNotHoldUpTheEnd(t *testing.T) {
	t.Parallel()
	for _, flags := range []string{"--quiet-success", "--log log --log-rotate size:10M,keep:99"} {
		for _, straggler := range []string{"sleep 600", "yes"} {
			t.Run(flags+" "+straggler, func(t *testing.T) {
				t.Parallel()
				c := newCtl(t)
				dir := t.TempDir()
				cmd := c.command(append(strings.Fields(flags), "web", "--", "sh", "-c", straggler+" & echo $! > pid; echo last; exit 3")...)
				cmd.Dir = dir
				r := filesRunCmd(t, cmd)
				pid := pidIn(t, dir+"/pid")
				defer syscall.Kill(pid, syscall.SIGKILL)
				if r.took > 5*time.Second || r.status != 3 {
					t.Errorf("status %d after %v", r.status, r.took)
				}
				if logged, _ := exec.Command("sh", "-c", "cat "+dir+"/log*").Output(); !regexp.MustCompile(`(?m)^last$`).MatchString(r.stdout + string(logged)) {
					t.Error("the last line is missing")
				}
			})
		}
	}
}

// TestOutputOfAPipeline: a straggler that only needs a moment is waited for.
func TestOutputOfAPipeline(t *testing.T) {
	t.Parallel()
	for _, flags := range []string{"--quiet-success", "--log log --log-rotate size:10M"} {
		c := newCtl(t)
		cmd := c.command(append(strings.Fields(flags), "web", "--", "sh", "-c", "(sleep 0.3; echo late) & exit 3")...)
		cmd.Dir = t.TempDir()
		r := filesRunCmd(t, cmd)
		logged, _ := os.ReadFile(cmd.Dir + "/log")
		if got := r.stdout + string(logged); got != "late\n" || r.status != 3 {
			t.Errorf("%s: %q, status %d", flags, got, r.status)
		}
	}
}

// TestReadingOutputCostsNothing while there is none.
func TestReadingOutputCostsNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var idle []*exec.Cmd
	for i, flags := range []string{"--quiet-success", "--log=log --log-rotate=size:1M", "--log=syslog:user.info"} {
		cmd := exec.Command(lockrun, append(strings.Fields(flags), fmt.Sprintf("./L%d", i), "--", "sleep", "60")...)
		cmd.Dir = dir
		idle = append(idle, background(t, cmd))
	}
	for i := range idle {
		pidIn(t, fmt.Sprintf("%s/L%d", dir, i))
	}
	time.Sleep(200 * time.Millisecond)
	var before []int
	for _, cmd := range idle {
		before = append(before, exclTicks(t, cmd.Process.Pid))
	}
	time.Sleep(2 * time.Second)
	for i, cmd := range idle {
		if used := exclTicks(t, cmd.Process.Pid) - before[i]; used >= 2 {
			t.Errorf("%q: %d ticks of CPU in 2 s", cmd.Args, used)
		}
	}
}
