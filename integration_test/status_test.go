//go:build linux

package integration_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// statusInstances makes an instance directory with one instance in each state.
func statusInstances(t *testing.T) (command func(args ...string) *exec.Cmd, web int) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "instances")
	command = func(args ...string) *exec.Cmd {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "LOCKRUN_DIR="+dir)
		return cmd
	}
	// What a command line may hold: words that move the cursor, broken UTF-8.
	runCmd(t, command(lockrun, "start", "web", "--", "sh", "-c", "exec sleep 600", "\x1b[2J\n\xff"+strings.Repeat("x", 150))).want(t, 0, "")
	t.Cleanup(func() { runCmd(t, command(lockrun, "stop", "web")) })
	web = pidIn(t, filepath.Join(dir, "web.pid"))
	eventually(t, "the shell has become sleep", func() bool {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", web))
		return string(comm) == "sleep\n"
	})
	runCmd(t, command(lockrun, "old", "--", "true")).want(t, 0, "")
	filesWrite(t, filepath.Join(dir, "dead.pid"), filesNobodysPID, 0o600)
	filesMust(t, os.Symlink("nowhere", filepath.Join(dir, "link.pid")))
	mix := filepath.Join(dir, "mix.pid")
	filesWrite(t, mix, filesNobodysPID, 0o600)
	need(t, "flock")
	background(t, exec.Command("flock", "-F", mix, "sleep", "600"))
	eventually(t, "flock holds mix", func() bool {
		return runCmd(t, command(lockrun, "status", "mix")).status == 4
	})
	// Others' files in the directory are no instances.
	filesWrite(t, filepath.Join(dir, "notes.txt"), "x", 0o600)
	filesWrite(t, filepath.Join(dir, ".hidden.pid"), "", 0o600)
	return command, web
}

func TestStatusOfAllInstances(t *testing.T) {
	t.Parallel()
	command, web := statusInstances(t)
	r := runCmd(t, command(lockrun, "status"))
	r.want(t, 0, "")
	var rows [][]string
	for line := range strings.Lines(r.stdout) {
		rows = append(rows, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
	}
	wantStates := [][2]string{{"dead", "stale"}, {"link", "unknown"}, {"mix", "stragglers"}, {"old", "stopped"}, {"web", "running"}}
	if len(rows) != len(wantStates) {
		t.Fatalf("%d rows %q; want %d", len(rows), r.stdout, len(wantStates))
	}
	for i, want := range wantStates {
		if len(rows[i]) != 7 || rows[i][0] != want[0] || rows[i][1] != want[1] {
			t.Errorf("row %q; want %s %s and 5 more columns", rows[i], want[0], want[1])
		}
	}
	if got := rows[4][2]; got != fmt.Sprint(web) {
		t.Errorf("web has PID %s; want %d", got, web)
	}
	for i, pattern := range []string{`[a-z]+`, `[a-z]+`, `\d+`, `\S+`, `\d+`, `\d+`, `sleep 600`} {
		if !regexp.MustCompile(`^` + pattern + `$`).MatchString(rows[4][i]) {
			t.Errorf("column %d is %q; want %s", i, rows[4][i], pattern)
		}
	}
	if !strings.Contains(rows[1][6], "(a symbolic link") {
		t.Errorf("unknown with the reason %q", rows[1][6])
	}
	for _, tt := range []struct {
		args   []string
		status int
		stdout string
	}{
		{[]string{"list"}, 0, "mix\nweb\n"},
		{[]string{"list", "--all"}, 0, "dead\nlink\nmix\nold\nweb\n"},
		{[]string{"status", "-q", "web", "web"}, 0, ""},
		{[]string{"status", "-q", "web", "old", "dead"}, 3, ""},
		{[]string{"status", "-q", "dead", "old"}, 1, ""},
		{[]string{"status", "-q", "web", "mix"}, 4, ""},
	} {
		r := runCmd(t, command(append([]string{lockrun}, tt.args...)...))
		r.want(t, tt.status, "")
		if r.stdout != tt.stdout {
			t.Errorf("%v prints %q; want %q", tt.args, r.stdout, tt.stdout)
		}
	}
}

func TestStatusWithoutInstances(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "none")
	for _, word := range []string{"status", "list"} {
		cmd := exec.Command(lockrun, word)
		cmd.Env = append(os.Environ(), "LOCKRUN_DIR="+dir)
		r := runCmd(t, cmd)
		r.want(t, 0, "")
		if r.stdout != "" || exists(dir) {
			t.Errorf("%s prints %q; want nothing, and no directory", word, r.stdout)
		}
	}
}

// TestStatusTableOnATerminal: on a real one of 80 and of 200 columns no row is
// wider than it, and none moves the cursor.
func TestStatusTableOnATerminal(t *testing.T) {
	t.Parallel()
	need(t, "script")
	command, web := statusInstances(t)
	// The long command line must still be there: status shows the shell's words
	// until it has become sleep, so give it one that stays.
	long := strings.Repeat("y", 250)
	runCmd(t, command(lockrun, "start", "long", "--", "sh", "-c", "trap 'exit' TERM; while :; do sleep 0.05; done", "\x1b[2J"+long)).want(t, 0, "")
	defer func() { runCmd(t, command(lockrun, "stop", "long")).want(t, 0, "") }()
	for _, columns := range []int{80, 200} {
		r := runCmd(t, command("script", "-qec", fmt.Sprintf("stty cols %d; exec %s status", columns, lockrun), "/dev/null"))
		lines := strings.Split(strings.TrimSuffix(strings.ReplaceAll(r.stdout, "\r\n", "\n"), "\n"), "\n")
		if len(lines) != 7 || !regexp.MustCompile(`^NAME +STATE +PID +USER +SINCE +MEMORY +COMMAND$`).MatchString(lines[0]) {
			t.Fatalf("%d columns: %q", columns, r.stdout)
		}
		cut := 0
		for _, line := range lines {
			runes := []rune(line)
			if len(runes) > columns || strings.ContainsAny(line, "\x1b\r") {
				t.Errorf("%d columns: row %q", columns, line)
			}
			if len(runes) == columns && strings.HasSuffix(line, "…") {
				cut++
			}
		}
		// At 200 columns the 120 characters of a command line have room.
		if want := map[int]int{80: 1, 200: 0}[columns]; cut < want || want == 0 && cut > 0 {
			t.Errorf("%d columns: %d rows are cut\n%s", columns, cut, r.stdout)
		}
		if !regexp.MustCompile(fmt.Sprintf(`(?m)^web +running +%d +\S+ +\d+m?\d*s +\d+\.\d MB +sleep 600$`, web)).MatchString(strings.Join(lines, "\n")) {
			t.Errorf("%d columns: no row of web in\n%s", columns, r.stdout)
		}
	}
}

// TestStatusJSONIsAsDocumented reads the table of fields in docs/status.md and
// holds the output to it.
func TestStatusJSONIsAsDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/status.md")
	filesMust(t, err)
	type field struct{ kind, there string }
	documented := make(map[string]field)
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (\\w+) \\| ([\\w ]+) \\|").FindAllStringSubmatch(string(page), -1) {
		documented[m[1]] = field{m[2], m[3]}
	}
	if len(documented) != 11 {
		t.Fatalf("%d fields are documented: %v", len(documented), documented)
	}
	command, web := statusInstances(t)
	r := runCmd(t, command(lockrun, "status", "--json"))
	r.want(t, 0, "")
	var all []map[string]any
	if err := json.Unmarshal([]byte(r.stdout), &all); err != nil || len(all) != 5 {
		t.Fatalf("%d objects, %v in %s", len(all), err, r.stdout)
	}
	for _, object := range all {
		state := object["state"].(string)
		for name, value := range object {
			kind := map[string]string{"string": "string", "float64": "number", "[]interface {}": "array"}[fmt.Sprintf("%T", value)]
			if f, ok := documented[name]; !ok || f.kind != kind {
				t.Errorf("%s: field %s is a %s; documented is %+v", object["name"], name, kind, f)
			}
		}
		for name, f := range documented {
			_, there := object[name]
			want := f.there == "always" || f.there == "if unknown" && state == "unknown" || f.there == "if seen" && (state == "running" || state == "stragglers") ||
				f.there == "if it answers" && object["name"] == "web"
			if there != want {
				t.Errorf("%s is %s: field %s is there: %v; want %v", object["name"], state, name, there, want)
			}
		}
	}
	last := all[4]
	if last["name"] != "web" || last["pid"] != float64(web) {
		t.Errorf("web: %v", last)
	}
	since, err := time.Parse(time.RFC3339, last["since"].(string))
	if age := time.Since(since); err != nil || age < -time.Second || age > time.Minute {
		t.Errorf("since %v, %v", last["since"], err)
	}
	runCmd(t, command(lockrun, "status", "--json", "-q", "web")).want(t, 64, "--quiet and --json contradict each other")
	if r := runCmd(t, command(lockrun, "status", "--json", "./none")); r.status != 3 || !strings.Contains(r.stdout, `"state": "stopped"`) {
		t.Errorf("status --json of nothing: %v", r)
	}
}
