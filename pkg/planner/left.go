// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package planner

import "github.com/berth-dev/berth/pkg/alloc"

// Left is what is free on the GPUs of a node.
type Left struct {
	Shape int
	// GPUs is what is free on each.
	GPUs []alloc.Bytes
	// CPU, HostMemory and Pods are what is left beside them, where it is limited.
	CPU, HostMemory, Pods int64
}

// Usable returns how much of what is free on a node is on GPUs that one more of these pods could go on, of any class: its
// share fits, enough GPUs of the node have as much, and so has the host.
func (p *Problem) Usable(l *Left) (usable alloc.Bytes) {
	for _, free := range l.GPUs {
		if p.isOfUse(l, free) {
			usable = usable.Plus(free)
		}
	}
	return usable
}

// isOfUse says whether any pod could go on a GPU that has as much free.
func (p *Problem) isOfUse(l *Left, free alloc.Bytes) bool {
	limits := &p.Shapes[l.Shape]
	for i := range p.Classes {
		c := &p.Classes[i]
		if limits.CPU > 0 && c.CPU > l.CPU || limits.HostMemory > 0 && c.HostMemory > l.HostMemory || limits.Pods > 0 && l.Pods < 1 {
			continue
		}
		for _, o := range c.Options[l.Shape] {
			with := 0
			for _, other := range l.GPUs {
				if !other.Less(o.Share) {
					with++
				}
			}
			if o.GPUs > 0 && !free.Less(o.Share) && with >= o.GPUs {
				return true
			}
		}
	}
	return false
}
