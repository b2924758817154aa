// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/template"
)

// Series is a curve with its name.
type Series struct {
	Name  string
	Curve []Point
}

// Sizes of a drawing, in pixels.
const (
	svgWidth, svgHeight = 960, 820
	plotLeft, plotWidth = 70, 640
	plotHeight          = 290
	legendLeft          = plotLeft + plotWidth + 20
)

// styles tell lines apart: by colours of a palette that people with any kind of colour vision can tell apart (Okabe and Ito), and by
// dashes.
var styles = []struct{ colour, dashes string }{
	{"#000000", ""}, {"#0072B2", "8 3"}, {"#D55E00", "2 3"}, {"#009E73", "12 3 2 3"}, {"#CC79A7", "5 2"}, {"#56B4E9", ""}, {"#E69F00", "1 2"},
}

// WriteSVG draws how much was allocated, and how much of what was idle was in pieces, over what had arrived.
func WriteSVG(w io.Writer, title string, series []Series) error {
	right := 100 // percent
	for _, s := range series {
		if n := len(s.Curve); n > 0 {
			right = max(right, rounded(s.Curve[n-1].Arrived))
		}
	}
	right = (right + 9) / 10 * 10
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s" font-family="sans-serif" font-size="13">`+"\n",
		svgWidth, svgHeight, svgWidth, svgHeight, template.HTMLEscapeString(title))
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/><text x="%d" y="26" font-size="16" font-weight="bold">%s</text>`+"\n", plotLeft, template.HTMLEscapeString(title))
	drawPlot(&b, 66, right, "GPUs allocated, % of all", series, func(p Point) float64 { return p.Allocated })
	drawPlot(&b, 452, right, "Idle GPUs in pieces that typical pods cannot use, % of what is idle", series, func(p Point) float64 { return p.Fragmentation })
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// drawPlot draws one quantity. The legend has its last values, the largest first, as the lines end.
func drawPlot(b *strings.Builder, top, right int, title string, series []Series, value func(Point) float64) {
	x := func(part float64) float64 { return plotLeft + part*100/float64(right)*plotWidth }
	y := func(part float64) float64 { return float64(top) + (1-part)*plotHeight }
	fmt.Fprintf(b, `<text x="%d" y="%d" font-weight="bold">%s</text>`+"\n", plotLeft, top-10, title)
	for percent := 0; percent <= 100; percent += 10 {
		at := y(float64(percent) / 100)
		fmt.Fprintf(b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%d</text>`+"\n",
			plotLeft, at, plotLeft+plotWidth, at, plotLeft-8, at+4, percent)
	}
	for percent := 0; percent <= right; percent += 10 {
		at := x(float64(percent) / 100)
		fmt.Fprintf(b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle">%d</text>`+"\n",
			at, top, at, top+plotHeight, at, top+plotHeight+18, percent)
	}
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle">GPUs that arrived pods ask for, %% of all</text>`+"\n", plotLeft+plotWidth/2, top+plotHeight+38)

	type entry struct {
		name, style string
		last        float64
	}
	var legend []entry
	for i, s := range series {
		if len(s.Curve) == 0 {
			continue
		}
		st := styles[i%len(styles)]
		style := fmt.Sprintf(`fill="none" stroke="%s" stroke-width="2" stroke-dasharray="%s"`, st.colour, st.dashes)
		if st.dashes == "" {
			style = fmt.Sprintf(`fill="none" stroke="%s" stroke-width="2"`, st.colour)
		}
		points := make([]string, len(s.Curve))
		for j, p := range s.Curve {
			points[j] = fmt.Sprintf("%.1f,%.1f", x(p.Arrived), y(value(p)))
		}
		fmt.Fprintf(b, `<polyline points="%s" %s/>`+"\n", strings.Join(points, " "), style)
		legend = append(legend, entry{s.Name, style, value(s.Curve[len(s.Curve)-1])})
	}
	slices.SortStableFunc(legend, func(a, b entry) int { return cmp.Compare(b.last, a.last) })
	for i, e := range legend {
		at := top + 8 + 20*i
		fmt.Fprintf(b, `<line x1="%d" y1="%d" x2="%d" y2="%d" %s/><text x="%d" y="%d">%s %.1f</text>`+"\n",
			legendLeft, at, legendLeft+30, at, e.style, legendLeft+36, at+4, template.HTMLEscapeString(e.name), e.last*100)
	}
}
