package pidfile_test

import (
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lockrun/lockrun/pidfile"
	"golang.org/x/sys/unix"
)

func TestParseSchedule(t *testing.T) {
	t.Parallel()
	const s = time.Second
	type schedule = pidfile.Schedule
	for _, tt := range []struct {
		text string
		want schedule
	}{
		{"TERM/10/KILL/5", schedule{{Signal: syscall.SIGTERM, Wait: 10 * s}, {Signal: syscall.SIGKILL, Wait: 5 * s}}},
		{"-TERM/10/-9/5", schedule{{Signal: syscall.SIGTERM, Wait: 10 * s}, {Signal: syscall.SIGKILL, Wait: 5 * s}}},
		{"sigint/0.5/SIGQUIT/300ms", schedule{{Signal: syscall.SIGINT, Wait: s / 2}, {Signal: syscall.SIGQUIT, Wait: 300 * time.Millisecond}}},
		{"HUP/TERM/1m", schedule{{Signal: syscall.SIGHUP}, {Signal: syscall.SIGTERM, Wait: time.Minute}}},
		{"TERM/forever", schedule{{Signal: syscall.SIGTERM, Wait: pidfile.Forever}}},
		{"TERM/0", schedule{{Signal: syscall.SIGTERM}}},
		{"7", schedule{{Signal: syscall.SIGUSR1, Wait: 7 * s}, {Signal: syscall.SIGKILL, Wait: 7 * s}}},
		{"forever", schedule{{Signal: syscall.SIGUSR1, Wait: pidfile.Forever}, {Signal: syscall.SIGKILL, Wait: pidfile.Forever}}},
	} {
		got, err := pidfile.ParseSchedule(tt.text, syscall.SIGUSR1)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("ParseSchedule(%q) = %v, %v; want %v", tt.text, got, err, tt.want)
		}
		if again, err := pidfile.ParseSchedule(got.String(), syscall.SIGHUP); err != nil || !slices.Equal(again, got) {
			t.Errorf("ParseSchedule(%q) = %v, %v; want %v again", got, again, err, got)
		}
	}
	for text, item := range map[string]string{
		"": `""`, "TERM": `"TERM"`, "TERM/": `""`, "/5": `""`, "5/TERM": `"5"`, "TERM/5/5": `"5"`, "TERM/-1": `"-1"`, "TERM/5/KILL": `"KILL"`,
		"BLA/1": `"BLA"`, "TERM/x": `"x"`, "TERM/NaN": `"NaN"`, "TERM/1e300": `"1e300"`, "TERM/-5s": `"-5s"`, "-65/1": `"-65"`, "SIG/1": `"SIG"`,
	} {
		if got, err := pidfile.ParseSchedule(text, syscall.SIGTERM); err == nil || !strings.Contains(err.Error(), item) {
			t.Errorf("ParseSchedule(%q) = %v, %v; want an error that names %s", text, got, err, item)
		}
	}
}

func FuzzParseSchedule(f *testing.F) {
	for _, s := range []string{"TERM/10/KILL/5", "-9/forever", "1.5", "HUP/300ms", "//", "-/1", "TERM/300000h", "TERM/800000000.123456789", "1.000000001s"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := pidfile.ParseSchedule(text, syscall.SIGTERM)
		if err != nil {
			return
		}
		if len(s) == 0 {
			t.Fatalf("ParseSchedule(%q) is empty", text)
		}
		for _, step := range s {
			if step.Signal < 1 || step.Signal > 64 || step.Wait < 0 {
				t.Errorf("ParseSchedule(%q) = %v", text, s)
			}
		}
		if again, err := pidfile.ParseSchedule(s.String(), syscall.SIGTERM); err != nil || !slices.Equal(again, s) {
			t.Errorf("ParseSchedule(%q) = %v, printed and parsed again %v, %v", text, s, again, err)
		}
	})
}

// FuzzParseSignal: a signal has its number by every spelling of its name.
func FuzzParseSignal(f *testing.F) {
	for _, s := range []string{"TERM", "SIGTERM", "-9", "sigrtmin", "65", "0", "-0", "+1", "SIGSIGTERM"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		sig, err := pidfile.ParseSignal(s)
		if err != nil {
			if sig != 0 {
				t.Errorf("ParseSignal(%q) = %d beside the error %v", s, sig, err)
			}
			return
		}
		if sig < 1 || sig > 64 {
			t.Errorf("ParseSignal(%q) = %d", s, sig)
		}
		for _, same := range []string{unix.SignalName(sig), strings.ToLower(s), strconv.Itoa(int(sig))} {
			if again, err := pidfile.ParseSignal(same); same != "" && (again != sig || err != nil) {
				t.Errorf("ParseSignal(%q) = %d, but %q is %d, %v", s, sig, same, again, err)
			}
		}
	})
}
