// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"encoding/binary"
	"slices"

	"github.com/berth-dev/berth/pkg/replay/fgd"
)

// gradient is fragmentation gradient descent: it takes the node, and the GPU on it, whose fragmentation grows the least.
//
// A score depends on what is idle on a node and on what the pod asks for, so that it is worked out once for each pair of them, and
// nodes that are alike share it.
type gradient struct {
	weight int64
	// kinds numbers what pods ask for.
	kinds map[fgd.Request]int
	// states has what there is to know of each state that a node was in, and of is the state of each node.
	states map[string]*state
	of     []*state
	after  []int // room for the GPUs of a node
}

// state is what is idle on a node, GPUs in no order.
type state struct {
	// scores has the score of a pod of each kind; -1 = not worked out yet.
	scores []int8
}

func newGradient(b *books, t *Trace) *gradient {
	g := &gradient{weight: b.weight, kinds: map[fgd.Request]int{}, states: map[string]*state{}, of: make([]*state, len(b.nodes))}
	for i := range t.Pods {
		if r := requestOf(&t.Pods[i]); g.kinds[r] == 0 {
			g.kinds[r] = len(g.kinds) + 1
		}
	}
	for i := range b.nodes {
		g.changed(b, i)
	}
	return g
}

// requestOf returns what of a pod's request the score depends on.
func requestOf(pod *Pod) fgd.Request {
	r := pod.Request
	r.Models = "" // it fits
	return r
}

func (g *gradient) changed(b *books, node int) {
	n := &b.nodes[node]
	sorted := slices.Clone(n.gpus)
	slices.Sort(sorted)
	key := binary.AppendVarint([]byte(n.model+"\x00"), n.cpu)
	for _, idle := range sorted {
		key = binary.AppendVarint(key, int64(idle))
	}
	s := g.states[string(key)]
	if s == nil {
		s = &state{slices.Repeat([]int8{-1}, len(g.kinds)+1)}
		g.states[string(key)] = s
	}
	g.of[node] = s
}

func (g *gradient) node(b *books, pod *Pod, fitting []int) int {
	kind := g.kinds[requestOf(pod)]
	best, most := -1, int8(-1)
	for _, i := range fitting {
		s := g.of[i].scores
		if s[kind] < 0 {
			score, _ := g.score(&b.nodes[i], pod)
			s[kind] = int8(score)
		}
		if s[kind] > most {
			best, most = i, s[kind]
		}
	}
	return best
}

func (g *gradient) gpu(n *idleNode, pod *Pod) int {
	_, gpu := g.score(n, pod)
	return gpu
}

// score returns the score of a node on which a pod fits, and for a pod that asks for one GPU, which one.
func (g *gradient) score(n *idleNode, pod *Pod) (score, gpu int) {
	if pod.GPUs != 1 {
		g.after = append(g.after[:0], n.gpus...)
		if pod.GPUs > 0 {
			for _, i := range tightest(n.gpus, pod) {
				g.after[i] -= pod.Milli
			}
		}
		return g.drop(n, pod), -1
	}
	score, gpu = -1, -1
	for i, idle := range n.gpus {
		if idle < pod.Milli || slices.Contains(n.gpus[:i], idle) {
			continue // the first of equal ones
		}
		g.after = append(g.after[:0], n.gpus...)
		g.after[i] -= pod.Milli
		if s := g.drop(n, pod); s > score {
			score, gpu = s, i
		}
	}
	return score, gpu
}

// drop scores by how much less of a node is in pieces once its GPUs are as in g.after.
func (g *gradient) drop(n *idleNode, pod *Pod) int {
	less := n.unusable - n.measure.Unusable(n.cpu-pod.CPU, g.after)
	return sigmoid(float64(less) / float64(g.weight) / fgd.Whole)
}
