// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"slices"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// NoUnifiedCgroups is what is in the way of memory limits on nodes whose cgroups are of version 1 (Options.LimitsFail).
const NoUnifiedCgroups = "the node's cgroups are not of version 2 only, which the hook that tells the driver asks for"

// noDriverLimits is what is in the way of them where the driver has no function for it.
const noDriverLimits = "the driver cannot limit memory (nvmlDeviceSetMemoryLimits, of the branch r615 and later)"

// limited returns runtimes with what stands in the way of memory limits that their toolkit would have the driver enforce.
func limited(runtimes []berthv1alpha1.RuntimeHandOff, obstacle string) []berthv1alpha1.RuntimeHandOff {
	if obstacle == "" {
		return runtimes
	}
	out := slices.Clone(runtimes)
	for i := range out {
		if l := out[i].MemoryLimits; l != nil && l.State == berthv1alpha1.MemoryLimitEnforced {
			out[i].MemoryLimits = &berthv1alpha1.MemoryLimits{State: berthv1alpha1.MemoryLimitFails, Message: l.Message + ", but " + obstacle}
		}
	}
	return out
}

// limitsFail says what stands in the way of memory limits, by a reading; empty if nothing does.
func (a *Agent) limitsFail(r *Reading) string {
	switch {
	case a.opts.LimitsFail != "":
		return a.opts.LimitsFail
	case !r.LimitsMemory:
		return noDriverLimits
	}
	return ""
}
