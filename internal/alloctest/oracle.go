// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloctest

import (
	"math/bits"

	"github.com/berth-dev/berth/pkg/alloc"
)

// Holds says whether the set of devices (bit i: Node.Devices[i]) holds the option, in the dullest way: it tries every way
// to match shares to devices. It shares no code with the planner.
func Holds(n *alloc.Node, o *alloc.Option, mixed bool, set uint64) bool {
	if bits.OnesCount64(set) != len(o.Shares) || !matches(n, o, 0, set) {
		return false
	}
	models, instances := map[string]bool{}, 0
	for i := range n.Devices {
		if set>>i&1 == 1 {
			models[n.Devices[i].Model] = true
			if n.Devices[i].Parent != "" {
				instances++
			}
		}
	}
	return (mixed || len(models) == 1) && (instances == 0 || len(o.Shares) == 1)
}

// Fits says whether any set of devices holds any option of the request.
func Fits(n *alloc.Node, r *alloc.Request) bool {
	for i := range r.Options() {
		for set := uint64(1); set < 1<<len(n.Devices); set++ {
			if Holds(n, &r.Options()[i], r.MixedModels(), set) {
				return true
			}
		}
	}
	return false
}

// matches says whether the shares from i on can be matched to the devices of the set.
func matches(n *alloc.Node, o *alloc.Option, i int, set uint64) bool {
	if i == len(o.Shares) {
		return true
	}
	for d := range n.Devices {
		if set>>d&1 == 1 && !n.Devices[d].Free().Less(o.On(i, &n.Devices[d])) && matches(n, o, i+1, set&^(1<<d)) {
			return true
		}
	}
	return false
}
