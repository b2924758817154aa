// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package evict

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/berth-dev/berth/pkg/alloc"
)

// Victim is a pod that may be evicted to make room.
type Victim struct {
	// Name identifies the pod; names decide between victims that are alike in all else.
	Name string
	// Priority is the pod's; a plan is as bad as its most important victim.
	Priority int32
	// Idle says that nobody is served by the pod: it offered itself and has been measured idle long enough, or it has not
	// loaded yet. All others are active.
	Idle bool
	// Pinned says that no other node can take its replacement, such as a DaemonSet's.
	Pinned bool
	// LastActive is when it was last seen computing, on any clock that is the same for all victims; smaller is longer ago.
	LastActive int64
	// Reload is what must be read again when the pod comes back.
	Reload alloc.Bytes
	// Budgets are the disruption budgets that its eviction counts against, as indexes.
	Budgets []int
	// Frees is what its eviction gives back, per device.
	Frees []Charge
}

// Charge is an amount of memory on one device.
type Charge struct {
	// Device is an index into Node.Devices.
	Device int
	Memory alloc.Bytes
}

// Cost is what an eviction costs. Costs are compared field by field, in this order: see Compare.
type Cost struct {
	// Violations is the sum over disruption budgets of the victims beyond what the budget still allows.
	Violations int
	// Priority is that of the most important victim; math.MinInt32 without victims.
	Priority int32
	// Active is the number of victims that are not idle, and Pinned of those that can go nowhere else.
	Active, Pinned int
	// Victims is the number of victims.
	Victims int
	// Reload is what must be read again when they come back.
	Reload alloc.Bytes
	// LastActive is that of the most recently used victim; math.MinInt64 without victims.
	LastActive int64
}

// alone is what it costs to evict this victim and no other, apart from violations.
func (v *Victim) alone() Cost {
	return Cost{
		Priority: v.Priority, Active: fromBool(!v.Idle), Pinned: fromBool(v.Pinned), Victims: 1,
		Reload: v.Reload, LastActive: v.LastActive,
	}
}

// disruption is what the evictions take away, in units of one active pod: nothing of a pod that serves nobody, and once
// more of one where no other node can take its replacement.
func (c *Cost) disruption() int { return c.Active + c.Pinned }

// Compare is the order of what evictions cost, which docs/preemption.md tells users. It returns -1, 0 or 1 as c is
// cheaper than, as dear as or dearer than o: fewer violations of disruption budgets, then a lower priority of the most
// important victim, less disruption (active victims, and those that can go nowhere else), fewer victims, fewer bytes to
// read again, and the most recently used victim unused for longer. Find decides what is equal in all this by the
// victims' names, and a caller that compares nodes by theirs. A price is the part of it that adds up.
func (c Cost) Compare(o Cost) int {
	x, y := c.order(), o.order()
	return x.compare(&y)
}

// order is a cost as numbers, what matters most first.
type order [6]int64

// order is the one place that says what matters more than what.
func (c *Cost) order() order {
	return order{
		int64(c.Violations), int64(c.Priority), int64(c.disruption()), int64(c.Victims), c.Reload.Int64(), c.LastActive,
	}
}

func (x *order) compare(y *order) int {
	for i := range x {
		if x[i] != y[i] {
			return cmp.Compare(x[i], y[i])
		}
	}
	return 0
}

// atMost says whether x is no dearer than y in any respect.
func (x *order) atMost(y *order) bool {
	for i := range x {
		if x[i] > y[i] {
			return false
		}
	}
	return true
}

// String explains the cost, most important first: "2 victims (1 active), priority at most 100, 12Gi to reload".
func (c Cost) String() string {
	if c.Victims == 0 {
		return "no victims"
	}
	var b strings.Builder
	if c.Violations > 0 {
		fmt.Fprintf(&b, "%d beyond disruption budgets, ", c.Violations)
	}
	plural := "s"
	if c.Victims == 1 {
		plural = ""
	}
	pinned := ""
	if c.Pinned > 0 {
		pinned = fmt.Sprintf(", %d of a DaemonSet", c.Pinned)
	}
	fmt.Fprintf(&b, "%d victim%s (%d active%s), priority at most %d, %v to reload", c.Victims, plural, c.Active, pinned,
		c.Priority, c.Reload)
	return b.String()
}

// CostOf returns what it costs to evict the chosen victims (indexes into victims), whatever for. budgets is as in
// Find. A set never costs less than a part of it.
func CostOf(victims []Victim, chosen []int, budgets []int) Cost {
	c := Cost{Priority: math.MinInt32, LastActive: math.MinInt64, Victims: len(chosen)}
	counts := make([]int, len(budgets))
	for _, i := range chosen {
		v := &victims[i]
		c.Priority = max(c.Priority, v.Priority)
		c.LastActive = max(c.LastActive, v.LastActive)
		c.Reload = c.Reload.Plus(v.Reload)
		if !v.Idle {
			c.Active++
		}
		c.Pinned += fromBool(v.Pinned)
		for j, b := range v.Budgets {
			if b < 0 || b >= len(budgets) || slices.Contains(v.Budgets[:j], b) {
				continue
			}
			if counts[b]++; counts[b] > max(budgets[b], 0) {
				c.Violations++
			}
		}
	}
	return c
}

// Plan is a set of victims and what is booked once they are gone.
type Plan struct {
	// Victims are indexes into the victims given, the most important first, then by name. It may be empty: then
	// the request fits already.
	Victims []int
	// Allocation is the best one once the victims' memory is back.
	Allocation alloc.Allocation
	Cost       Cost
	// Exact is false if the search ended early, so that there may be a cheaper plan of the same class: see Find.
	Exact bool
}
