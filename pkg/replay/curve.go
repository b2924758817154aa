// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package replay

import "math"

// curve collects points by the whole percent that their arrived part rounds to.
type curve struct{ sums []sum }

type sum struct {
	n                        int
	allocated, fragmentation float64
}

func rounded(part float64) int { return int(math.Round(part * 100)) }

func (c *curve) add(p Point) {
	at := rounded(p.Arrived)
	for len(c.sums) <= at {
		c.sums = append(c.sums, sum{})
	}
	s := &c.sums[at]
	s.n++
	s.allocated += p.Allocated
	s.fragmentation += p.Fragmentation
}

// points returns the means, without those percents that no point fell on.
func (c *curve) points() []Point {
	points := []Point{}
	for at, s := range c.sums {
		if s.n > 0 {
			points = append(points, Point{float64(at) / 100, s.allocated / float64(s.n), s.fragmentation / float64(s.n)})
		}
	}
	return points
}

// Spread is a mean with the least and the most of what it is the mean of.
type Spread struct {
	Mean float64 `json:"mean"`
	Min  float64 `json:"min"`
	Max  float64 `json:"max"`
}

// SpreadOf returns the spread of some values; of none, zeros.
func SpreadOf(values []float64) (s Spread) {
	if len(values) == 0 {
		return s
	}
	s.Min, s.Max = math.Inf(1), math.Inf(-1)
	for _, v := range values {
		s.Mean += v / float64(len(values))
		s.Min, s.Max = min(s.Min, v), max(s.Max, v)
	}
	return s
}

// MeanCurve returns the mean of curves at each percent that any of them has, over those that have it.
func MeanCurve(runs []*Run) []Point {
	var c curve
	for _, r := range runs {
		for _, p := range r.Curve {
			c.add(p)
		}
	}
	return c.points()
}
