// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package words

import (
	"fmt"
	"strings"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// Decision tells the pod's owner what was chosen and what else would have been possible.
func Decision(r *gpustate.Request, options []alloc.Allocation, n *alloc.Node) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Booked %s", describe(&options[0], n))
	if all := r.On(n).Options(); len(all) > 1 {
		fmt.Fprintf(&b, "; of %d options", len(all))
		for i := range all {
			o := &all[i]
			fits := "does not fit"
			if i == options[0].Option {
				fits = "chosen"
			} else {
				for j := range options {
					if options[j].Option == i {
						fits = "fits too"
					}
				}
			}
			fmt.Fprintf(&b, "%s %s of %s: %s", separator(i), Plural(len(o.Shares), "GPU"), o.Shares[0], fits)
		}
	}
	return b.String()
}

func separator(i int) string {
	if i == 0 {
		return ":"
	}
	return ","
}

// describe names the devices of an allocation as people know them: "30Gi on GPU 3 (GPU-1f…)".
func describe(a *alloc.Allocation, n *alloc.Node) string {
	parts := make([]string, len(a.Devices))
	for i, share := range a.Devices {
		index := -1
		for j := range n.Devices {
			if n.Devices[j].UUID == share.UUID {
				index = n.Devices[j].Index
			}
		}
		parts[i] = fmt.Sprintf("%s on GPU %d (%s)", share.Memory, index, share.UUID)
	}
	return strings.Join(parts, ", ") + " of node " + n.Name
}

// Plural returns a number of something.
func Plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
