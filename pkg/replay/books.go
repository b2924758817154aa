// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"fmt"

	"github.com/berth-dev/berth/pkg/replay/fgd"
)

// Placement is where a pod is: the index of a node, and the indices of its GPUs.
type Placement struct {
	Node int
	GPUs []int
}

// books are what is idle, and how much of it is in pieces. They are kept here for whoever places the pods, and hold them to it:
// nothing is given away twice.
type books struct {
	nodes    []idleNode
	weight   int64 // of the typical pods
	capacity int64
	// idle and unusable are sums over the nodes; unusable is times weight.
	idle, unusable int64
}

// idleNode is what is idle on a node.
type idleNode struct {
	name        string
	model       string
	cpu, memory int64
	pods        int
	// gpus has the idle milli of each GPU.
	gpus     []int
	measure  *fgd.Measure
	unusable int64
}

func newBooks(nodes []Node, typical fgd.Typical) *books {
	b := &books{weight: typical.Weight(), capacity: Capacity(nodes)}
	b.idle = b.capacity
	measures := map[string]*fgd.Measure{}
	for _, n := range nodes {
		if measures[n.Model] == nil {
			measures[n.Model] = typical.For(n.Model)
		}
		i := idleNode{name: n.Name, model: n.Model, cpu: n.CPU, memory: n.Memory, pods: PodsPerNode, gpus: make([]int, n.GPUs), measure: measures[n.Model]}
		for g := range i.gpus {
			i.gpus[g] = fgd.Whole
		}
		i.unusable = i.measure.Unusable(i.cpu, i.gpus)
		b.unusable += i.unusable
		b.nodes = append(b.nodes, i)
	}
	return b
}

// fits says whether a pod fits on a node.
func (n *idleNode) fits(pod *Pod) bool {
	if n.pods == 0 || n.cpu < pod.CPU || n.memory < pod.Memory {
		return false
	}
	if pod.GPUs == 0 {
		return true
	}
	enough := 0
	for _, idle := range n.gpus {
		if idle >= pod.Milli {
			enough++
		}
	}
	return enough >= pod.GPUs && fgd.May(pod.Models, n.model)
}

// fitting returns a node on which a pod fits; nil if there is none.
func (b *books) fitting(pod *Pod) *idleNode {
	for i := range b.nodes {
		if b.nodes[i].fits(pod) {
			return &b.nodes[i]
		}
	}
	return nil
}

// take books a pod.
func (b *books) take(pod *Pod, at Placement) error {
	if at.Node < 0 || at.Node >= len(b.nodes) {
		return fmt.Errorf("pod %s was placed on node %d of %d", pod.Name, at.Node, len(b.nodes))
	}
	n := &b.nodes[at.Node]
	if !n.fits(pod) || len(at.GPUs) != pod.GPUs {
		return fmt.Errorf("pod %s was placed on %d GPUs of node %s, where it does not fit", pod.Name, len(at.GPUs), n.name)
	}
	taken := map[int]bool{}
	for _, g := range at.GPUs {
		if g < 0 || g >= len(n.gpus) || n.gpus[g] < pod.Milli || taken[g] {
			return fmt.Errorf("pod %s was placed on GPU %d of node %s, where it does not fit", pod.Name, g, n.name)
		}
		taken[g] = true
	}
	b.change(pod, at, -1)
	return nil
}

// free takes a pod off again.
func (b *books) free(pod *Pod, at Placement) { b.change(pod, at, 1) }

func (b *books) change(pod *Pod, at Placement, sign int) {
	n := &b.nodes[at.Node]
	n.pods += sign
	n.cpu += int64(sign) * pod.CPU
	n.memory += int64(sign) * pod.Memory
	for _, g := range at.GPUs {
		n.gpus[g] += sign * pod.Milli
	}
	b.idle += int64(sign) * pod.Total()
	before := n.unusable
	n.unusable = n.measure.Unusable(n.cpu, n.gpus)
	b.unusable += n.unusable - before
}

// allocated is which part of the capacity is given away.
func (b *books) allocated() float64 { return float64(b.capacity-b.idle) / float64(b.capacity) }

// fragmentation is which part of what is idle is in pieces that typical pods cannot use; 0 where nothing is idle.
func (b *books) fragmentation() float64 {
	if b.idle == 0 {
		return 0
	}
	return float64(b.unusable) / float64(b.weight) / float64(b.idle)
}
