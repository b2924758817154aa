// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/berth-dev/berth/pkg/replay"
)

// shownAt are the parts that have arrived, in percent, at which a table tells the fragmentation.
var shownAt = []int{50, 80}

// title says what was replayed.
func (a *Answer) title() string {
	return fmt.Sprintf("%d nodes, %d GPUs, a list of %d pods, %.0f%% of the GPUs asked for, %s, %s",
		a.Nodes, a.GPUs, a.Pods, a.Arrive*100, seedsOf(a.Seeds), orderOf(a.ShuffledNodes))
}

func seedsOf(n int) string {
	if n == 1 {
		return "1 seed"
	}
	return fmt.Sprintf("%d seeds", n)
}

func orderOf(shuffled bool) string {
	if shuffled {
		return "nodes shuffled by the seed"
	}
	return "nodes in the order of the list"
}

// Render writes a table: means, and in brackets the range over the seeds.
func (a *Answer) Render(out io.Writer) error {
	fmt.Fprintln(out, a.title())
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "STRATEGY\tALLOCATED %\tIDLE IN PIECES %")
	for _, at := range shownAt {
		fmt.Fprintf(w, ", AT %d", at)
	}
	fmt.Fprintln(w, ", AT THE END\tFAILED PODS\tMORE ALLOCATED THAN FGD")
	for _, s := range a.Strategies {
		fmt.Fprintf(w, "%s\t%s\t", s.Strategy, percents(s.Allocated))
		mean := replay.Run{Curve: s.Curve}
		for _, at := range shownAt {
			if p, ok := mean.At(at); ok {
				fmt.Fprintf(w, "%.1f, ", p.Fragmentation*100)
			} else {
				fmt.Fprint(w, "-, ")
			}
		}
		fmt.Fprintf(w, "%.1f\t%.0f\t", s.Fragmentation.Mean*100, s.Failed.Mean)
		if s.AgainstFGD != nil {
			fmt.Fprintf(w, "%+.2f (%+.2f to %+.2f)\n", s.AgainstFGD.Mean*100, s.AgainstFGD.Min*100, s.AgainstFGD.Max*100)
		} else {
			fmt.Fprintln(w, "-")
		}
	}
	return w.Flush()
}

func percents(s replay.Spread) string {
	return fmt.Sprintf("%.2f (%.2f to %.2f)", s.Mean*100, s.Min*100, s.Max*100)
}

// WriteSVG draws the mean curves.
func (a *Answer) WriteSVG(out io.Writer) error {
	var series []replay.Series
	for _, s := range a.Strategies {
		series = append(series, replay.Series{Name: s.Strategy, Curve: s.Curve})
	}
	return replay.WriteSVG(out, a.title(), series)
}
