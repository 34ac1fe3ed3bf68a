package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strings"
)

// The plot has a bar for each of those that took part, in two columns. Its colours
// are readable on white and on black.
const (
	plotColumn = 490 // width
	plotLabel  = 215 // where the bars begin
	plotBars   = 190 // the longest
	plotRow    = 17
	plotBar    = 11 // height
	plotTitle  = 30 // height, with the gap above it

	// Who takes so many times longer than lockrun has a bar that is cut, or the
	// others could not be told from each other.
	plotCut = 4
)

const plotStyle = `<style>
text { font: 11px sans-serif; fill: #333 }
.measure { font-weight: bold }
.ours { fill: #d9480f }
.peer { fill: #7c8fa6 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .ours { fill: #ff8a4c } }
</style>
`

// drawPlot draws the measures of time that have peers.
func drawPlot(found []finding) []byte {
	var drawn []finding
	rows := 0 // of a title and its bars, as high as bars
	for _, f := range found {
		if f.isTime() && len(f.plotted()) > 1 {
			drawn = append(drawn, f)
			rows += len(f.plotted()) + 2
		}
	}
	var bars bytes.Buffer
	x, y, height, done := 0, 0, 0, 0
	for _, f := range drawn {
		if x == 0 && done >= rows/2 {
			x, y = plotColumn, 0
		}
		y = f.draw(&bars, x, y)
		height = max(height, y+plotRow)
		done += len(f.plotted()) + 2
	}
	var svg bytes.Buffer
	fmt.Fprintf(&svg, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%[1]d\" height=\"%[2]d\" viewBox=\"0 0 %[1]d %[2]d\" role=\"img\" aria-label=\"what lockrun and others take\">\n",
		2*plotColumn, height)
	svg.WriteString(plotStyle)
	svg.Write(bars.Bytes())
	svg.WriteString("</svg>\n")
	return svg.Bytes()
}

func (f finding) isTime() bool {
	return f.ours.value > 0 && (f.ours.unit == milliseconds || f.ours.unit == microseconds)
}

// plotted are those who have a bar, lockrun first.
func (f finding) plotted() []peer {
	all := []peer{{name: "lockrun", amount: f.ours}}
	for _, p := range f.peers {
		if p.missing == "" {
			all = append(all, p)
		}
	}
	return all
}

// draw draws a measure below y, and returns where it ends.
func (f finding) draw(w *bytes.Buffer, x, y int) int {
	longest := 0.0
	for _, p := range f.plotted() {
		if p.amount.value <= plotCut*f.ours.value {
			longest = max(longest, p.amount.value)
		}
	}
	y += plotTitle
	fmt.Fprintf(w, "<text x=\"%d\" y=\"%d\"><tspan class=\"measure\">%s</tspan>: %s</text>\n", x+8, y-6, escape(f.name), escape(strings.ReplaceAll(f.about, "`", "")))
	for i, p := range f.plotted() {
		class, took := "peer", p.amount.String()
		if i == 0 {
			class = "ours"
		}
		width := p.amount.value / longest * plotBars
		if p.amount.value > longest {
			width = plotBars
			took = "... " + took
		}
		fmt.Fprintf(w, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>", x+plotLabel-6, y+plotBar-2, escape(p.name))
		fmt.Fprintf(w, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\"/>", class, x+plotLabel, y, width, plotBar)
		fmt.Fprintf(w, "<text x=\"%.1f\" y=\"%d\">%s</text>\n", float64(x+plotLabel)+width+5, y+plotBar-2, took)
		y += plotRow
	}
	return y
}

func escape(text string) string {
	var b bytes.Buffer
	xml.EscapeText(&b, []byte(text))
	return b.String()
}
