// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"sync/atomic"
)

// counters are what an agent counts over its life. One process may run many agents, so they are not global.
type counters struct {
	reads            atomic.Int64
	readErrors       atomic.Int64
	readNanos        atomic.Int64
	writes           atomic.Int64
	writeErrors      atomic.Int64
	leaseErrors      atomic.Int64
	assignmentErrors atomic.Int64
	mismatches       atomic.Int64
	overuses         atomic.Int64
}

// deviation counts a pod that started to deviate from its allocation.
func (c *counters) deviation(reason string) {
	switch reason {
	case EventHandOffMismatch:
		c.mismatches.Add(1)
	case EventMemoryOveruse:
		c.overuses.Add(1)
	}
}
