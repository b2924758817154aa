// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package planner

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/pkg/alloc"
)

// fits finds out by trying everything whether all pods go on numbers of nodes: each pod, on each node, by each option, on
// each set of GPUs.
func fits(p *Problem, counts []int) bool {
	type place struct {
		shape             int
		free              []int64
		cpu, memory, pods int64
		has               map[int]bool
	}
	var nodes []*place
	for s, n := range counts {
		for range n {
			shape := &p.Shapes[s]
			nodes = append(nodes, &place{
				s, slices.Repeat([]int64{shape.Memory.Int64()}, shape.GPUs), shape.CPU, shape.HostMemory, shape.Pods, map[int]bool{},
			})
		}
	}
	var pods []int
	for i := range p.Classes {
		pods = append(pods, slices.Repeat([]int{i}, p.Classes[i].Pods)...)
	}
	var try func(at int) bool
	try = func(at int) bool {
		if at == len(pods) {
			return true
		}
		c := &p.Classes[pods[at]]
		for _, n := range nodes {
			limit := &p.Shapes[n.shape]
			if limit.CPU > 0 && n.cpu < c.CPU || limit.HostMemory > 0 && n.memory < c.HostMemory || limit.Pods > 0 && n.pods < 1 || c.Apart && n.has[pods[at]] {
				continue
			}
			had := n.has[pods[at]]
			for _, o := range c.Options[n.shape] {
				for set := 1; set < 1<<len(n.free); set++ {
					var on []int
					ok := true
					for g := range n.free {
						if set&(1<<g) != 0 {
							on = append(on, g)
							ok = ok && n.free[g] >= o.Share.Int64()
						}
					}
					if !ok || len(on) != o.GPUs {
						continue
					}
					add := func(sign int64) {
						for _, g := range on {
							n.free[g] -= sign * o.Share.Int64()
						}
						n.cpu -= sign * c.CPU
						n.memory -= sign * c.HostMemory
						n.pods -= sign
					}
					add(1)
					n.has[pods[at]] = true
					found := try(at + 1)
					add(-1)
					n.has[pods[at]] = had
					if found {
						return true
					}
				}
			}
		}
		return false
	}
	return try(0)
}

// survives is fits with any nodes lost.
func survives(p *Problem, counts []int, lost int) bool {
	if lost == 0 {
		return fits(p, counts)
	}
	for s := range counts {
		if counts[s] == 0 {
			continue
		}
		left := slices.Clone(counts)
		left[s]--
		if !survives(p, left, lost-1) {
			return false
		}
	}
	return total(counts) > 0
}

// small draws a problem that everything can be tried for.
func small(r *rand.Rand) *Problem {
	p := &Problem{}
	for range 1 + r.IntN(2) {
		s := Shape{GPUs: 1 + r.IntN(3), Memory: alloc.GiB(uint64(8 + r.IntN(5)))}
		if r.IntN(2) == 0 {
			s.CPU, s.HostMemory, s.Pods = int64(8+r.IntN(8)), int64(4+r.IntN(4))<<30, int64(2+r.IntN(3))
		}
		p.Shapes = append(p.Shapes, s)
	}
	if r.IntN(2) == 0 {
		for s := range p.Shapes {
			p.Shapes[s].Price = float64(1 + r.IntN(9))
		}
	}
	for range 1 + r.IntN(3) {
		c := Class{Pods: 1 + r.IntN(2), Apart: r.IntN(4) == 0, CPU: int64(r.IntN(7)), HostMemory: int64(r.IntN(4)) << 30}
		memory := uint64(2 + r.IntN(14))
		for s := range p.Shapes {
			var options []Option
			for _, n := range []int{1, 2, 3} {
				o := Option{GPUs: n, Share: alloc.GiB(memory).DividedUp(uint64(n))}
				if n <= p.Shapes[s].GPUs && !p.Shapes[s].Memory.Less(o.Share) && r.IntN(3) > 0 {
					options = append(options, o)
				}
			}
			c.Options = append(c.Options, options)
		}
		if slices.ContainsFunc(c.Options, func(o []Option) bool { return len(o) > 0 }) {
			p.Classes = append(p.Classes, c)
		}
	}
	if r.IntN(3) == 0 {
		p.Lost = 1
	}
	return p
}

// TestPacksIsBruteForce compares what is excluded, and what is found, with trying everything.
func TestPacksIsBruteForce(t *testing.T) {
	answers := map[Answer]int{}
	bounds := 0
	for seed := range uint64(1500) {
		r := rand.New(rand.NewPCG(seed, 1))
		p := small(r)
		counts := make([]int, len(p.Shapes))
		for s := range counts {
			counts[s] = r.IntN(4)
		}
		want := fits(p, counts)
		got := p.Packs(counts)
		answers[got]++
		if got == Unknown || (got == Yes) != want {
			t.Fatalf("seed %d: %d, by trying everything %v\n%+v on %v", seed, got, want, p, counts)
		}
		if p.Bounds(counts) {
			bounds++
		}
	}
	t.Logf("yes %d, no %d, of these by bounds %d", answers[Yes], answers[No], bounds)
	if answers[Yes] < 300 || answers[No] < 300 || bounds < answers[No]/2 {
		t.Errorf("that shows little: yes %d, no %d, of these by bounds %d", answers[Yes], answers[No], bounds)
	}
}

// TestFewestIsBruteForce compares plans with the best of all numbers of nodes that are enough by trying everything.
func TestFewestIsBruteForce(t *testing.T) {
	const most = 5
	compared := 0
	for seed := range uint64(200) {
		p := small(rand.New(rand.NewPCG(seed, 2)))
		if p.pods() == 0 {
			continue
		}
		var best []int
		for _, counts := range upTo(len(p.Shapes), most) {
			if (best == nil || p.Compare(counts, best) < 0) && survives(p, counts, p.Lost) {
				best = counts
			}
		}
		got, err := Fewest(p, func(counts []int) (bool, error) { return survives(p, counts, p.Lost), nil })
		if errors.Is(err, ErrTooMany) && best == nil {
			continue // a pod's CPUs are more than any node has
		}
		if err != nil {
			t.Fatalf("seed %d: %v\n%+v", seed, err, p)
		}
		if best == nil || slices.Max(got.Counts) > most {
			continue
		}
		compared++
		if diff := cmp.Diff(best, got.Counts); diff != "" || !got.Proven {
			t.Fatalf("seed %d: proven %v (-brute force +planner)\n%s%+v", seed, got.Proven, diff, p)
		}
	}
	if compared < 150 {
		t.Errorf("only %d were compared", compared)
	}
}

// upTo returns all numbers of nodes, up to so many of each shape.
func upTo(shapes, most int) [][]int {
	out := [][]int{{}}
	for range shapes {
		var longer [][]int
		for _, counts := range out {
			for n := range most + 1 {
				longer = append(longer, append(slices.Clone(counts), n))
			}
		}
		out = longer
	}
	return out
}

// of is a problem of one shape.
func of(s Shape, classes ...Class) *Problem { return &Problem{Shapes: []Shape{s}, Classes: classes} }

// on is pods on GPUs of one shape.
func on(pods int, options ...Option) Class { return Class{Pods: pods, Options: [][]Option{options}} }

func TestBounds(t *testing.T) {
	h100 := Shape{GPUs: 8, Memory: alloc.GiB(78)}
	each := func(gpus int, gi uint64) Option { return Option{GPUs: gpus, Share: alloc.GiB(gi)} }
	limited := func(cpu, memory, pods int64) Shape {
		s := h100
		s.CPU, s.HostMemory, s.Pods = cpu, memory<<30, pods
		return s
	}
	heavy := func(pods int, cpu, memory int64) Class {
		c := on(pods, each(1, 4))
		c.CPU, c.HostMemory = cpu, memory<<30
		return c
	}
	apart := on(3, each(1, 4))
	apart.Apart = true
	tests := []struct {
		name string
		p    *Problem
		want int // the least number that is not excluded
	}{
		{"the sum of the memory", of(h100, on(17, each(1, 39))), 2}, // 16 on a node
		{"no two go on one GPU", of(h100, on(9, each(1, 40))), 2},   // the sum of 9 × 40 is less than 8 × 78
		{"two of three parts", of(h100, on(17, each(1, 30))), 2},    // two on a GPU, though 2.6 would be by the sum
		{"large ones, and small ones that fit beside none", of(h100, on(8, each(1, 70)), on(8, each(1, 10))), 2},
		{"GPUs of a node, of which three at a time leave two", of(h100, on(3, each(3, 60))), 2},
		{"the smaller of two options", of(h100, on(8, each(2, 70), each(1, 78))), 1},
		{"so many of a size and of larger ones on each GPU of two shapes", &Problem{
			Shapes:  []Shape{h100, {GPUs: 8, Memory: alloc.GiB(44)}},
			Classes: []Class{{Pods: 40, Options: [][]Option{{each(1, 22)}, {each(1, 22)}}}},
		}, 1}, // 24 and 16 on a node
		{"CPUs", of(limited(10, 0, 0), heavy(5, 4, 0)), 3}, // two on a node
		{"memory of the host", of(limited(0, 10, 0), heavy(5, 0, 4)), 3},
		{"the number of pods", of(limited(0, 0, 3), heavy(7, 0, 0)), 3},
		{"pods that keep apart", of(h100, apart), 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := 0
			each := func() []int { return slices.Repeat([]int{got}, len(tt.p.Shapes)) }
			for tt.p.Bounds(each()) {
				got++
			}
			if got != tt.want {
				t.Errorf("%d nodes are not excluded, want %d", got, tt.want)
			}
			if tt.p.Packs(each()) != Yes {
				t.Error("that many are not enough")
			}
		})
	}
}

// TestPricesDecide: what is cheapest is best, and without prices what is fewest, then least memory.
func TestPricesDecide(t *testing.T) {
	large, small := Shape{GPUs: 8, Memory: alloc.GiB(78)}, Shape{GPUs: 4, Memory: alloc.GiB(44)}
	option := []Option{{GPUs: 1, Share: alloc.GiB(20)}}
	for name, tt := range map[string]struct {
		pods         int
		large, small float64
		want         string
	}{
		"one small node is enough":      {8, 0, 0, "[0 1]"}, // two on each of 4 GPUs
		"one large node instead of two": {9, 0, 0, "[1 0]"}, // three on each of 8
		"two small ones are cheaper":    {9, 98, 20, "[0 2]"},
		"one large one is cheaper":      {9, 98, 50, "[1 0]"},
	} {
		t.Run(name, func(t *testing.T) {
			large, small := large, small
			large.Price, small.Price = tt.large, tt.small
			p := &Problem{Shapes: []Shape{large, small}, Classes: []Class{{Pods: tt.pods, Options: [][]Option{option, option}}}}
			got, err := Fewest(p, func(counts []int) (bool, error) { return p.Packs(counts) == Yes, nil })
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(got.Counts) != tt.want {
				t.Errorf("%v, want %s", got.Counts, tt.want)
			}
		})
	}
}

// TestWhatIsNotProvenIsNotSaidToBe: if a number of nodes that could be enough is not confirmed, the next is no proven answer.
func TestWhatIsNotProvenIsNotSaidToBe(t *testing.T) {
	p := of(Shape{GPUs: 1, Memory: alloc.GiB(78)}, on(4, Option{1, alloc.GiB(39)}))
	got, err := Fewest(p, func(counts []int) (bool, error) { return counts[0] == 3, nil })
	if diff := cmp.Diff(&Plan{Counts: []int{3}, Bound: []int{2}, Tried: 1}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	if _, err := Fewest(p, func([]int) (bool, error) { return false, nil }); !errors.Is(err, ErrTooMany) {
		t.Errorf("%v", err)
	}
}

// TestSpareMemory: 10 % of 8 × 78 GiB are free of 7 pods of 78, and not of 8.
func TestSpareMemory(t *testing.T) {
	for pods, want := range map[int]int{7: 1, 8: 2} {
		p := of(Shape{GPUs: 8, Memory: alloc.GiB(78)}, on(pods, Option{1, alloc.GiB(78)}))
		p.Spare = 0.1
		got, err := Fewest(p, func([]int) (bool, error) { return true, nil })
		if err != nil || got.Counts[0] != want || !got.Proven {
			t.Errorf("%d pods: %+v, %v", pods, got, err)
		}
	}
}

func TestUsable(t *testing.T) {
	gi := func(each ...uint64) (out []alloc.Bytes) {
		for _, n := range each {
			out = append(out, alloc.GiB(n))
		}
		return out
	}
	p := of(Shape{GPUs: 3, Memory: alloc.GiB(78), CPU: 8}, on(1, Option{1, alloc.GiB(40)}, Option{2, alloc.GiB(20)}))
	p.Classes[0].CPU = 4
	for name, tt := range map[string]struct {
		left Left
		want uint64
	}{
		"a piece that is large enough":             {Left{GPUs: gi(40, 10, 10), CPU: 8}, 40},
		"two that are together, one that is alone": {Left{GPUs: gi(25, 20, 19), CPU: 8}, 45},
		"one that would need another":              {Left{GPUs: gi(25, 0, 0), CPU: 8}, 0},
		"no CPUs are left":                         {Left{GPUs: gi(78, 78, 78), CPU: 3}, 0},
	} {
		if got := p.Usable(&tt.left); got != alloc.GiB(tt.want) {
			t.Errorf("%s: %s, want %dGi", name, got, tt.want)
		}
	}
}
