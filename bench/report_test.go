package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var sampleResult = result{ours: amount{2.4, milliseconds}, peers: []peer{
	{name: "quick & small", amount: amount{1.6, milliseconds}},
	{name: "absent", missing: "not installed"},
}}

func TestLimits(t *testing.T) {
	for _, test := range []struct {
		limit         limit
		text, verdict string
	}{
		{limit{amount{1.5, times}, "quick & small"}, "1.50 x quick & small", "reached"},
		{limit{amount{1.4, times}, "quick & small"}, "1.40 x quick & small", notReached},
		{limit{amount{900, microseconds}, "quick & small"}, "quick & small + 900 us", "reached"},
		{limit{amount{700, microseconds}, "quick & small"}, "quick & small + 700 us", notReached},
		{limit{amount{3, milliseconds}, ""}, "3.00 ms", "reached"},
		{limit{amount{2, milliseconds}, ""}, "2.00 ms", notReached},
		{limit{amount{1, times}, "absent"}, "1.00 x absent", "not measured"},
	} {
		if text, verdict := test.limit.String(), test.limit.verdict(sampleResult); text != test.text || verdict != test.verdict {
			t.Errorf("%q, %s; want %q, %s", text, verdict, test.text, test.verdict)
		}
	}
}

// Every limit is about a contestant that there is, in a unit that can be had; an
// unknown one panics only at the end of a long run.
func TestLimitsAreOfTheirMeasure(t *testing.T) {
	for _, m := range measures {
		for _, l := range m.limits {
			if l.value <= 0 || l.unit == times && l.peer == "" {
				t.Errorf("%s: %+v", m.name, l)
			}
		}
	}
}

func TestReportReplacesWhatItWrote(t *testing.T) {
	file := filepath.Join(t.TempDir(), "performance.md")
	if err := os.WriteFile(file, []byte("# Head\n"+reportBegin+"old\n"+reportEnd+"tail\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b := bench{rounds: 7, tools: tools{flock: "/bin/true"}}
	found := []finding{{measure{name: "run", about: "a run", limits: []limit{{amount{1, milliseconds}, ""}}}, sampleResult}}
	var first []byte
	for range 2 {
		if err := b.writeReport(file, found); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = content
		}
		if string(content) != string(first) {
			t.Errorf("it is written in another way the second time:\n%s\n%s", first, content)
		}
	}
	for _, want := range []string{"# Head\n" + reportBegin, reportEnd + "tail\n", "(performance.svg)",
		"| a run | 1.00 ms | 2.40 ms | **not reached** |", "| | quick & small | 1.60 ms | 1.50 x |", "| | absent |  | not installed |"} {
		if !strings.Contains(string(first), want) {
			t.Errorf("%q is not in it:\n%s", want, first)
		}
	}
	if strings.Contains(string(first), "old") {
		t.Errorf("what stood there is left:\n%s", first)
	}
	wellFormed(t, filepath.Join(filepath.Dir(file), "performance.svg"))
	if err := os.WriteFile(file, []byte("# no marks\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := b.writeReport(file, found); err == nil {
		t.Error("a file without marks was written")
	}
}

func wellFormed(t *testing.T, file string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	bars := 0
	for d := xml.NewDecoder(f); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			bars++
		}
	}
	if bars != 2 {
		t.Errorf("%d bars, want one for each that took part, 2", bars)
	}
}
