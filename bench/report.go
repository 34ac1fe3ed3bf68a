package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// What is written stands between these lines of the file.
const (
	reportBegin = "<!-- written by go run ./bench -write -->\n"
	reportEnd   = "<!-- end -->\n"
)

// writeReport replaces what stands between the marks of a file, and writes the plot
// beside it.
func (b *bench) writeReport(path string, found []finding) error {
	before, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, ok := bytes.Cut(before, []byte(reportBegin))
	_, tail, ended := bytes.Cut(rest, []byte(reportEnd))
	if !ok || !ended {
		return fmt.Errorf("%s: the lines %s and %s are not in it", path, strings.TrimSpace(reportBegin), strings.TrimSpace(reportEnd))
	}
	plot := strings.TrimSuffix(path, filepath.Ext(path)) + ".svg"
	var w bytes.Buffer
	w.Write(head)
	w.WriteString(reportBegin)
	fmt.Fprintf(&w, "%s\n\n![the same as a plot](%s)\n\n", b.machine(), filepath.Base(plot))
	printLimits(&w, found)
	printAll(&w, found)
	w.WriteString(reportEnd)
	w.Write(tail)
	if err := os.WriteFile(plot, drawPlot(found), 0o644); err != nil {
		return err
	}
	return os.WriteFile(path, w.Bytes(), 0o644)
}

// machine is the sentence that says on what was measured.
func (b *bench) machine() string {
	kernel, _, _ := strings.Cut(contentOf("/proc/sys/kernel/osrelease"), "-")
	return fmt.Sprintf("Medians of %d rounds on a virtual machine with %d cores (%s), Linux %s, %s, %s.",
		b.rounds, runtime.NumCPU(), cpuModel(), kernel, runtime.Version(), version(b.flock))
}

// printLimits prints those measures for which there is a limit.
func printLimits(w *bytes.Buffer, found []finding) {
	w.WriteString("| what | limit | measured | |\n| --- | --- | --- | --- |\n")
	for _, f := range found {
		about := f.about
		for _, l := range f.limits {
			fmt.Fprintf(w, "| %s | %v | %v | %s |\n", about, l, l.measured(f.result), emphasize(l.verdict(f.result)))
			about = ""
		}
	}
	w.WriteString("\n")
}

func emphasize(verdict string) string {
	if verdict == notReached {
		return "**" + verdict + "**"
	}
	return verdict
}

// printAll prints all that was measured.
func printAll(w *bytes.Buffer, found []finding) {
	w.WriteString("| measure | who | took | lockrun takes |\n| --- | --- | --- | --- |\n")
	for _, f := range found {
		fmt.Fprintf(w, "| %s: %s | lockrun | **%v** | |\n", f.name, f.about, f.ours)
		for _, p := range f.peers {
			ratio := f.ratioTo(p).String()
			if p.missing != "" {
				ratio = p.missing
			}
			fmt.Fprintf(w, "| | %s | %v | %s |\n", p.name, p.amount, ratio)
		}
	}
}
