// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package planner

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Plan is how many nodes of each shape there are to be.
type Plan struct {
	Counts []int
	// Bound are the best numbers that could not be excluded: nothing better than these is enough. Proven says that they are
	// Counts.
	Bound  []int
	Proven bool
	// Tried counts the numbers of nodes that were neither excluded nor confirmed before.
	Tried int
}

// maxTries bounds the numbers of nodes that are asked about one after the other, and maxLooked those that are looked at.
const (
	maxTries  = 30
	maxLooked = 100_000
)

// ErrTooMany is that no answer was found within bounds.
var ErrTooMany = errors.New("no numbers of nodes were found to be enough")

// Fewest finds the best numbers of nodes that are confirmed to be enough. It fails with what confirm fails with, and with
// ErrTooMany.
func Fewest(p *Problem, confirm func(counts []int) (bool, error)) (*Plan, error) {
	q := &queue{problem: p, seen: map[string]bool{}}
	q.add(make([]int, len(p.Shapes)))
	useful := p.useful()
	most := p.most()
	plan := &Plan{}
	for looked := 0; q.Len() > 0 && looked < maxLooked && plan.Tried < maxTries; looked++ {
		counts := heap.Pop(q).([]int)
		if !p.excluded(counts) {
			if plan.Bound == nil {
				plan.Bound = counts
			}
			enough, err := confirm(counts)
			if err != nil {
				return nil, err
			}
			if enough {
				plan.Counts, plan.Proven = counts, plan.Tried == 0
				return plan, nil
			}
			plan.Tried++
		}
		if total(counts) >= most {
			continue
		}
		for _, s := range useful {
			next := slices.Clone(counts)
			next[s]++
			q.add(next)
		}
	}
	if plan.Bound == nil || len(useful) == 0 {
		return nil, ErrTooMany
	}
	return plan, p.roughly(plan, useful, most, confirm)
}

// roughly finds numbers of nodes that are enough, and of which none can be left out: nodes of all shapes are added in turn
// until they are enough, then those are taken away that are not needed, of the last shape first.
func (p *Problem) roughly(plan *Plan, useful []int, most int, confirm func([]int) (bool, error)) error {
	counts := slices.Clone(plan.Bound)
	for i := 0; ; i++ {
		enough, err := confirm(slices.Clone(counts))
		if err != nil {
			return err
		}
		if enough {
			break
		}
		plan.Tried++
		if total(counts) >= most*len(useful) {
			return ErrTooMany
		}
		counts[useful[i%len(useful)]]++
	}
	for _, s := range slices.Backward(useful) {
		for counts[s] > 0 {
			fewer := slices.Clone(counts)
			fewer[s]--
			enough, err := confirm(slices.Clone(fewer))
			if err != nil {
				return err
			}
			if !enough {
				break
			}
			counts = fewer
		}
	}
	plan.Counts = counts
	_, err := confirm(slices.Clone(counts))
	return err
}

// useful are the shapes that any pod runs on.
func (p *Problem) useful() (shapes []int) {
	for s := range p.Shapes {
		if slices.ContainsFunc(p.Classes, func(c Class) bool { return c.runs(s) }) {
			shapes = append(shapes, s)
		}
	}
	return shapes
}

// most is more nodes than can be needed: one for each pod, those that are lost, and as many again as are to be spare.
func (p *Problem) most() int {
	return int(math.Ceil(float64(p.pods()+p.Lost)/(1-p.Spare))) + 1
}

// excluded says whether numbers of nodes are proven to be too small.
func (p *Problem) excluded(counts []int) bool {
	if p.pods() > 0 && total(counts) <= p.Lost {
		return true
	}
	for set := 1; set < 1<<len(p.Shapes) && p.Spare > 0; set++ {
		if p.tooFull(counts, set) {
			return true
		}
	}
	return p.anyLoss(counts, 0, p.Lost, func(left []int) bool { return p.Packs(left) == No })
}

// tooFull says whether the pods that run only on a set of shapes leave too little free there.
func (p *Problem) tooFull(counts []int, set int) bool {
	return p.weigh(counts, set,
		func(c *Class, s int) int64 { return p.onGPUs(c, s, asItIs) },
		func(s *Shape) int64 {
			room := mibUp(s.Memory.Uint64()) * int64(s.GPUs)
			return room - int64(math.Floor(float64(room)*p.Spare))
		})
}

// anyLoss says whether something holds of what is left when nodes are lost, in any of the ways to lose so many.
func (p *Problem) anyLoss(counts []int, shape, lost int, holds func(left []int) bool) bool {
	if lost == 0 {
		return holds(counts)
	}
	for s := shape; s < len(counts); s++ {
		if counts[s] == 0 {
			continue
		}
		left := slices.Clone(counts)
		left[s]--
		if p.anyLoss(left, s, lost-1, holds) {
			return true
		}
	}
	return false
}

// queue has the numbers of nodes that are to be looked at, the best first.
type queue struct {
	problem *Problem
	all     [][]int
	seen    map[string]bool
}

func (q *queue) add(counts []int) {
	if key := fmt.Sprint(counts); !q.seen[key] {
		q.seen[key] = true
		heap.Push(q, counts)
	}
}

// Compare orders numbers of nodes: the lower price first where all shapes have one, then fewer nodes, less GPU memory, and
// more of the shapes that were named first.
func (p *Problem) Compare(a, b []int) int {
	return cmp.Or(cmp.Compare(p.Price(a), p.Price(b)), cmp.Compare(total(a), total(b)), cmp.Compare(p.memory(a), p.memory(b)), slices.Compare(b, a))
}

// Priced says whether all shapes have a price.
func (p *Problem) Priced() bool {
	return !slices.ContainsFunc(p.Shapes, func(s Shape) bool { return s.Price == 0 })
}

// Price adds up the prices of nodes; zero if not all shapes have one.
func (p *Problem) Price(counts []int) (sum float64) {
	if !p.Priced() {
		return 0
	}
	for s := range counts {
		sum += float64(counts[s]) * p.Shapes[s].Price
	}
	return sum
}

func (p *Problem) memory(counts []int) (sum uint64) {
	for s := range counts {
		sum += p.Shapes[s].Memory.Times(uint64(p.Shapes[s].GPUs * counts[s])).Uint64()
	}
	return sum
}

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (q *queue) Len() int           { return len(q.all) }
func (q *queue) Less(i, j int) bool { return q.problem.Compare(q.all[i], q.all[j]) < 0 }
func (q *queue) Swap(i, j int)      { q.all[i], q.all[j] = q.all[j], q.all[i] }
func (q *queue) Push(x any)         { q.all = append(q.all, x.([]int)) }
func (q *queue) Pop() any {
	last := len(q.all) - 1
	x := q.all[last]
	q.all = q.all[:last]
	return x
}
