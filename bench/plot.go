package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
)

// The plot is a bar for each of those that took part, longest to the measure's
// slowest. Its colours are readable on white and on black.
const (
	plotWidth  = 760
	plotLabel  = 250 // where the bars begin
	plotBars   = 400 // the longest
	plotRow    = 18
	plotHeight = 12 // of a bar
	plotGap    = 30 // above a measure, for its name
)

const plotStyle = `<style>
text { font: 12px sans-serif; fill: #333 }
.measure { font-weight: bold }
.ours { fill: #d9480f }
.peer { fill: #7c8fa6 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .ours { fill: #ff8a4c } }
</style>
`

// drawPlot draws the measures that took time of several.
func drawPlot(found []finding) []byte {
	var bars bytes.Buffer
	y := 0
	for _, f := range found {
		if f.ours.unit != milliseconds && f.ours.unit != microseconds || len(f.peers) == 0 || f.ours.value == 0 {
			continue
		}
		rows := []peer{{name: "lockrun", amount: f.ours}}
		most := f.ours.value
		for _, p := range f.peers {
			if p.missing == "" && p.amount.value > 0 {
				rows = append(rows, p)
				most = max(most, p.amount.value)
			}
		}
		y += plotGap
		fmt.Fprintf(&bars, "<text class=\"measure\" x=\"8\" y=\"%d\">%s</text>\n", y-6, escape(f.name))
		for i, p := range rows {
			class := "peer"
			if i == 0 {
				class = "ours"
			}
			width := max(1, p.amount.value/most*plotBars)
			fmt.Fprintf(&bars, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>", plotLabel-8, y+plotHeight-1, escape(p.name))
			fmt.Fprintf(&bars, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\"/>", class, plotLabel, y, width, plotHeight)
			fmt.Fprintf(&bars, "<text x=\"%.1f\" y=\"%d\">%v</text>\n", plotLabel+width+6, y+plotHeight-1, p.amount)
			y += plotRow
		}
	}
	y += plotRow
	var svg bytes.Buffer
	fmt.Fprintf(&svg, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"what lockrun and others take\">\n",
		plotWidth, y, plotWidth, y)
	svg.WriteString(plotStyle)
	svg.Write(bars.Bytes())
	svg.WriteString("</svg>\n")
	return svg.Bytes()
}

func escape(text string) string {
	var b bytes.Buffer
	xml.EscapeText(&b, []byte(text))
	return b.String()
}
