// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"context"
	"fmt"
)

// Placer places pods, by some strategy.
type Placer interface {
	// Place places a pod, or says why it fits nowhere: not empty, then. A pod that fits nowhere is dropped.
	Place(pod *Pod) (at Placement, nowhere string, err error)
}

// Run is what came of one strategy and one seed.
type Run struct {
	Strategy string `json:"strategy"`
	Seed     uint64 `json:"seed"`
	// Arrived is which part of the GPUs of the cluster the pods asked for that arrived, those that failed among them: above 1 where
	// they asked for more than there is.
	Arrived float64 `json:"arrived"`
	// Allocated is which part of the GPUs was given away in the end: that of the last point of the curve.
	Allocated float64 `json:"allocated"`
	// Fragmentation is which part of the idle GPUs was then in pieces that typical pods cannot use: that of the last point of the curve.
	Fragmentation float64 `json:"fragmentation"`
	// Failed is how many pods fitted nowhere.
	Failed int     `json:"failed"`
	Curve  []Point `json:"curve"`
}

// Point is the mean over the arrivals after which the part that has arrived rounds to whole percents that are the same.
type Point struct {
	Arrived       float64 `json:"arrived"`
	Allocated     float64 `json:"allocated"`
	Fragmentation float64 `json:"fragmentation"`
}

// At returns the point of the curve at so many percent, or false if no arrival fell there.
func (r *Run) At(percent int) (Point, bool) {
	for _, p := range r.Curve {
		if rounded(p.Arrived) == percent {
			return p, true
		}
	}
	return Point{}, false
}

// Arrive lets pods arrive on nodes, one after the other. The curve ends at so many percent, or before: in a small cluster the
// last pod may ask for far more. step is called after each; nil = nobody.
func Arrive(ctx context.Context, nodes []Node, t *Trace, arrivals []int, percent int, placer Placer, step func()) (*Run, error) {
	b, r := newBooks(nodes, t.Typical()), &Run{}
	var c curve
	asked := int64(0)
	for _, i := range arrivals {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		pod := &t.Pods[i]
		at, nowhere, err := placer.Place(pod)
		switch n := b.fitting(pod); {
		case err != nil:
			return nil, fmt.Errorf("pod %s: %w", pod.Name, err)
		case nowhere != "" && n != nil:
			return nil, fmt.Errorf("pod %s fits on node %s, and was not placed: %s", pod.Name, n.name, nowhere)
		case nowhere != "":
			r.Failed++
		default:
			if err := b.take(pod, at); err != nil {
				return nil, err
			}
		}
		asked += pod.Total()
		r.Arrived = float64(asked) / float64(b.capacity)
		if rounded(r.Arrived) <= percent {
			c.add(Point{r.Arrived, b.allocated(), b.fragmentation()})
		}
		if step != nil {
			step()
		}
	}
	r.Curve = c.points()
	if n := len(r.Curve); n > 0 {
		r.Allocated, r.Fragmentation = r.Curve[n-1].Allocated, r.Curve[n-1].Fragmentation
	}
	return r, nil
}
