// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package planner

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// Answer is what Packs says.
type Answer uint8

const (
	// Unknown: it was not found out within the steps that there are.
	Unknown Answer = iota
	// No: there is no placement.
	No
	// Yes: there is one.
	Yes
)

const (
	// maxSteps bounds the nodes' states that are looked at for an answer, and maxCells the GPUs in them.
	maxSteps = 10_000
	maxCells = 500_000
)

// Packs looks for a placement of all pods on numbers of nodes: depth first, the largest pods first, each first where least is
// left. States that are the same but for which node is which are looked at once.
func (p *Problem) Packs(counts []int) Answer {
	if p.Bounds(counts) {
		return No
	}
	k := &packing{problem: p, seen: map[string]bool{}}
	gpus := 0
	for s, n := range counts {
		for range n {
			k.nodes = append(k.nodes, newNode(s, &p.Shapes[s], len(p.Classes)))
			gpus += p.Shapes[s].GPUs
		}
	}
	k.steps = min(maxSteps, maxCells/max(gpus, 1))
	for i := range p.Classes {
		k.order = append(k.order, slices.Repeat([]int{i}, p.Classes[i].Pods)...)
	}
	slices.SortStableFunc(k.order, func(a, b int) int { return cmp.Compare(p.Size(b), p.Size(a)) })
	if k.place(0) {
		return Yes
	}
	if k.steps <= 0 {
		return Unknown
	}
	return No
}

// Size is how hard a pod of a class is to place: the bytes that its least option takes, of GPUs of which it leaves less than
// half all.
func (p *Problem) Size(class int) (least int64) {
	c := &p.Classes[class]
	for s, options := range c.Options {
		for i := range options {
			each := options[i].Share.Int64()
			if room := p.Shapes[s].Memory.Int64(); 2*each > room {
				each = room
			}
			if size := each * int64(options[i].GPUs); least == 0 || size < least {
				least = size
			}
		}
	}
	return least
}

// node is a node while it is filled.
type node struct {
	shape int
	// free is what is free on each GPU, the most first.
	free []int64
	// cpu, memory and pods are what is left beside GPUs, of what is limited.
	cpu, memory, pods int64
	// has says of which classes that keep apart there is a pod.
	has []bool
}

func newNode(shape int, s *Shape, classes int) node {
	return node{
		shape: shape, free: slices.Repeat([]int64{s.Memory.Int64()}, s.GPUs),
		cpu: s.CPU, memory: s.HostMemory, pods: s.Pods, has: make([]bool, classes),
	}
}

// takes returns the node with a pod on it, for each way in which an option goes there.
func (n *node) takes(p *Problem, class int, yield func(node) (done bool)) (done bool) {
	c := &p.Classes[class]
	shape := &p.Shapes[n.shape]
	switch {
	case c.Apart && n.has[class], shape.CPU > 0 && n.cpu < c.CPU, shape.HostMemory > 0 && n.memory < c.HostMemory, shape.Pods > 0 && n.pods < 1:
		return false
	}
	for i := range c.Options[n.shape] {
		o := &c.Options[n.shape][i]
		chosen := make([]int, 0, o.GPUs)
		if n.choose(o, len(n.free)-1, chosen, func(chosen []int) bool {
			next := node{shape: n.shape, free: slices.Clone(n.free), has: n.has, cpu: n.cpu - c.CPU, memory: n.memory - c.HostMemory, pods: n.pods - 1}
			for _, g := range chosen {
				next.free[g] -= o.Share.Int64()
			}
			slices.SortFunc(next.free, func(a, b int64) int { return cmp.Compare(b, a) })
			if c.Apart {
				next.has = slices.Clone(n.has)
				next.has[class] = true
			}
			return yield(next)
		}) {
			return true
		}
	}
	return false
}

// choose chooses GPUs for an option from those up to one, the tightest first; of GPUs that are alike the last ones.
func (n *node) choose(o *Option, last int, chosen []int, yield func([]int) bool) (done bool) {
	if len(chosen) == o.GPUs {
		return yield(chosen)
	}
	for g := last; g >= o.GPUs-len(chosen)-1; g-- {
		if n.free[g] < o.Share.Int64() || g < last && n.free[g] == n.free[g+1] {
			continue
		}
		if n.choose(o, g-1, append(chosen, g), yield) {
			return true
		}
	}
	return false
}

func (n *node) key(out []byte) []byte {
	out = binary.AppendUvarint(out, uint64(n.shape))
	for _, f := range n.free {
		out = binary.AppendUvarint(out, uint64(f))
	}
	for _, h := range []int64{n.cpu, n.memory, n.pods} {
		out = binary.AppendVarint(out, h)
	}
	for _, has := range n.has {
		if has {
			out = append(out, 1)
		} else {
			out = append(out, 0)
		}
	}
	return out
}

// packing is a search under way.
type packing struct {
	problem *Problem
	nodes   []node
	// order are the classes of the pods, in the order in which they are placed.
	order []int
	seen  map[string]bool
	steps int
}

// state names what is still to be done: pods from one on, on nodes that are told apart by what is left on them.
func (k *packing) state(from int) string {
	keys := make([]string, len(k.nodes))
	for i := range k.nodes {
		keys[i] = string(k.nodes[i].key(nil))
	}
	slices.Sort(keys)
	out := binary.AppendUvarint(nil, uint64(from))
	for _, key := range keys {
		out = append(binary.AppendUvarint(out, uint64(len(key))), key...)
	}
	return string(out)
}

func (k *packing) place(from int) bool {
	if from == len(k.order) {
		return true
	}
	if k.steps--; k.steps <= 0 {
		return false
	}
	state := k.state(from)
	if k.seen[state] {
		return false
	}
	k.seen[state] = true
	tried := map[string]bool{}
	for _, i := range k.fullestFirst() {
		old := k.nodes[i]
		key := string(old.key(nil))
		if tried[key] {
			continue
		}
		tried[key] = true
		done := old.takes(k.problem, k.order[from], func(next node) bool {
			k.nodes[i] = next
			return k.place(from+1) || k.steps <= 0
		})
		if done {
			return k.steps > 0
		}
		k.nodes[i] = old
	}
	return false
}

func (k *packing) fullestFirst() []int {
	order := make([]int, len(k.nodes))
	sums := make([]int64, len(k.nodes))
	for i := range k.nodes {
		order[i] = i
		for _, f := range k.nodes[i].free {
			sums[i] += f
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(sums[a], sums[b]) })
	return order
}
