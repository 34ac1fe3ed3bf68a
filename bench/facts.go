package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// printFacts says on what the numbers were measured.
func (b *bench) printFacts(w io.Writer) {
	fact := func(name string, value any) { fmt.Fprintf(w, "%-18s %v\n", name, value) }
	fact("cpu", fmt.Sprintf("%s, %d cores", cpuModel(), runtime.NumCPU()))
	fact("load", contentOf("/proc/loadavg"))
	fact("kernel", strings.TrimSpace(contentOf("/proc/sys/kernel/osrelease")))
	fact("go", runtime.Version())
	if fi, err := os.Stat(b.lockrun); err == nil {
		fact("lockrun", fmt.Sprintf("%.2f MB", float64(fi.Size())/1e6))
	}
	fact("flock", version(b.flock))
	fact("setlock", version(b.setlock))
	fact("chpst", version(b.chpst))
	fact("start-stop-daemon", version(b.startStopDaemon))
	fact("daemonize", version(b.daemonize))
	fact("daemon", version(b.daemon))
	fact("python", version(b.python))
	fact("python-daemon", cmp.Or(string(b.pythonDaemon), tool("").missing()))
	fact("rounds", b.rounds)
	fmt.Fprintln(w)
}

func cpuModel() string {
	for line := range strings.Lines(contentOf("/proc/cpuinfo")) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// version is the line with a version that a tool prints for --version. Those
// that do not know the flag print their usage, with the version in it.
func version(t tool) string {
	if t == "" {
		return t.missing()
	}
	out, _ := exec.Command(string(t), "--version").CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.ContainsAny(line, "0123456789") {
			return strings.TrimSpace(line)
		}
	}
	return string(t)
}

func contentOf(path string) string {
	content, _ := os.ReadFile(path)
	return strings.TrimSpace(string(content))
}
