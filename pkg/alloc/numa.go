// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc

// spansNUMA says whether the usable devices are on more than one NUMA node. If that of any device is not known, no
// device is preferred for its own.
func (f *finder) spansNUMA() bool {
	several := false
	for _, i := range f.order[:f.usable] {
		numa := f.node.Devices[i].NUMA
		if numa == 0 {
			return false
		}
		several = several || numa != f.node.Devices[f.order[0]].NUMA
	}
	return several
}

// split says whether the set is on more than one NUMA node.
func (f *finder) split(set uint64) bool {
	var numa int
	for i := range f.node.Devices {
		if set>>i&1 == 0 {
			continue
		}
		if n := f.node.Devices[i].NUMA; numa == 0 {
			numa = n
		} else if n != numa {
			return true
		}
	}
	return false
}

// onOneNUMA returns the best set of the group by the documented order, given the best of all that ignores NUMA nodes:
// where that one is split, a set of one NUMA node that is as light (in steps of 64 MiB) and as well linked wins.
func (f *finder) onOneNUMA(o *Option, g group, best choice) choice {
	if !f.numa || len(o.Shares) < 2 || !f.split(best.set) {
		return best
	}
	best.split = true
	steps := best.weight >> weightStep
	var tried uint64 // devices whose NUMA node was tried
	for i := range f.node.Devices {
		if tried>>i&1 == 1 {
			continue
		}
		g.numa = f.node.Devices[i].NUMA
		for j := range f.node.Devices {
			if f.node.Devices[j].NUMA == g.numa {
				tried |= 1 << j
			}
		}
		c, ok := f.lightest(o, g)
		if !ok || c.weight>>weightStep > steps {
			continue
		}
		if c = f.withLinks(o, g, c); c.better(&best) {
			best = c
		}
	}
	return best
}
