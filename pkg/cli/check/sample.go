// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package check

import "github.com/berth-dev/berth/pkg/alloc"

// alwaysLookedAt is how many fitting nodes kube-scheduler looks for at least, whatever its percentage (minFeasibleNodesToFind in
// pkg/scheduler/schedule_one.go of Kubernetes 1.37).
const alwaysLookedAt = 100

// sampled says whether a strategy that ranks all nodes is shown a part of them.
func (c *judge) sampled() []Result {
	if c.Args == nil || c.Args.Strategy != alloc.Fragmentation || c.unread(Nodes) != "" || len(c.Nodes) <= alwaysLookedAt || c.NodesToScore >= 100 {
		return nil
	}
	percentage := "which leaves it to the number of nodes"
	if c.NodesToScore > 0 {
		percentage = "which is too little"
	}
	return []Result{warning(idSampled, "the strategy %s chooses between all nodes, and of %d the scheduler stops looking once some fit: percentageOfNodesToScore is %d, %s. Set it to 100",
		c.Args.Strategy, len(c.Nodes), c.NodesToScore, percentage).run(c.editConfig()...).see(pageFragmentation)}
}
