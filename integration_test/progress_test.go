//go:build linux

package integration_test

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"
)

// screen is what stands on the terminal: what was printed, with carriage
// returns and erasures (ESC [ K) obeyed.
func (x *ttyTerminal) screen() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var lines []string
	for text := range strings.Lines(x.output.String()) {
		var line []rune
		column := 0
		for text = strings.TrimSuffix(text, "\n"); text != ""; {
			if rest, ok := strings.CutPrefix(text, "\x1b[K"); ok {
				line, text = line[:min(column, len(line))], rest
				continue
			}
			r, size := utf8.DecodeRuneInString(text)
			text = text[size:]
			if r == '\r' {
				column = 0
				continue
			}
			if column < len(line) {
				line[column] = r
			} else {
				line = append(line, r)
			}
			column++
		}
		lines = append(lines, string(line))
	}
	return lines
}

// shows waits until a line of the screen has that text.
func (x *ttyTerminal) shows(text string) {
	x.t.Helper()
	eventually(x.t, "on the screen: "+text, func() bool { return strings.Contains(strings.Join(x.screen(), "\n"), text) })
}

// TestWaitIsShownOnATerminal: whom one waits for and for how long, in one line
// that changes in place, fits the width, and is gone in the end.
func TestWaitIsShownOnATerminal(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		command string // waits for ./lock
		says    string // of whom
		end     func(x *ttyTerminal, supervisor int)
	}{
		"run":   {"lockrun -w ./lock -- echo it ran", "waiting for process %d (sleep", nil},
		"start": {"lockrun start -w ./lock -- echo it ran", "waiting for process %d (sleep", nil},
		"wait":  {"lockrun wait ./lock", "waiting for process %d (sleep", nil},
		"bounded": {"lockrun -t 2.5 ./lock -- true", "waiting for process %d (sleep",
			func(x *ttyTerminal, supervisor int) { x.shows("lockrun: ./lock: held by process") }},
		"Ctrl-C": {"lockrun -w ./lock -- true", "waiting for process %d (sleep",
			func(x *ttyTerminal, supervisor int) { x.press(ttyCtrlC) }},
		"Ctrl-C at start": {"lockrun start -w ./lock -- true", "waiting for process %d (sleep",
			func(x *ttyTerminal, supervisor int) { x.press(ttyCtrlC) }},
		"stop": {"lockrun stop --schedule WINCH/forever ./lock", "waiting for the end of process %d (sleep", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := ttyShell(t)
			x.resize(24)
			holder := exec.Command(lockrun, x.path("lock"), "--", "sleep", "600", strings.Repeat("0", 100))
			background(t, holder)
			pid := 0
			eventually(t, "recorded", func() bool { pid = pidIn(t, x.path("lock")); return pid != holder.Process.Pid })
			x.line("TERM=xterm %s", tt.command)
			says := fmt.Sprintf(tt.says, pid)
			x.shows(says)
			x.shows("(1s)")
			if tt.end != nil {
				tt.end(x, holder.Process.Pid)
			} else {
				filesMust(t, syscall.Kill(pid, syscall.SIGTERM))
			}
			x.line("echo ov''er") // what was printed before is there when this is
			eventually(t, "over", func() bool { return slices.Contains(x.screen(), "over") })
			x.mu.Lock()
			drawn := bytes.Split(x.output.Bytes(), []byte("\r"))
			x.mu.Unlock()
			times := 0
			for _, d := range drawn {
				if bytes.Contains(d, []byte(says)) {
					times++
					line, _, _ := bytes.Cut(d, []byte("\x1b[K"))
					if n := utf8.RuneCount(line); n > 79 || !bytes.HasSuffix(line, []byte("s)")) {
						t.Errorf("%d columns: %q", n, d)
					}
				}
			}
			if times < 2 {
				t.Errorf("the line was drawn %d times; want it brought up to date", times)
			}
			if left := strings.Join(x.screen(), "\n"); strings.Contains(left, "waiting") {
				t.Errorf("the line is left on the screen:\n%s", left)
			}
		})
	}
}

// Without a terminal nothing is said of a wait, with -v one line.
func TestWaitIsSilentWithoutATerminal(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"run":   {"-w", "L", "--", "true"},
		"start": {"start", "-w", "L", "--", "true"},
		"wait":  {"wait", "L"},
		"stop":  {"stop", "--schedule", "WINCH/forever", "L"},
	} {
		for _, verbose := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " verbose ", verbose), func(t *testing.T) {
				t.Parallel()
				l := filepath.Join(t.TempDir(), "L")
				cmd, pid := filesHeld(t, l)
				words := append([]string{}, args...)
				for i, w := range words {
					if w == "L" {
						words[i] = l
					}
				}
				if verbose {
					at := 0
					if words[0] == name {
						at = 1
					}
					words = append(words[:at:at], append([]string{"-v"}, words[at:]...)...)
				}
				waiting := exec.Command(lockrun, words...)
				var stderr bytes.Buffer
				waiting.Stderr = &stderr
				filesMust(t, waiting.Start())
				// Longer than a moment, after which it is shown.
				time.Sleep(1500 * time.Millisecond)
				filesMust(t, syscall.Kill(pid, syscall.SIGTERM))
				cmd.Wait()
				waiting.Wait()
				want := 0
				if verbose {
					want = 1
				}
				if got := strings.Count(stderr.String(), "\n"); got != want || strings.Count(stderr.String(), fmt.Sprintf(" process %d (", pid)) != want || strings.Contains(stderr.String(), "\x1b") {
					t.Errorf("stderr %q; want %d lines that name process %d", stderr.String(), want, pid)
				}
			})
		}
	}
}
