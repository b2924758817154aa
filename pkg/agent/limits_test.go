// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// TestMemoryLimitsNeedDriverAndNode: what the toolkit would have the driver do is worth what driver and node can do.
func TestMemoryLimitsNeedDriverAndNode(t *testing.T) {
	of := func(state berthv1alpha1.MemoryLimitState, message string) *berthv1alpha1.MemoryLimits {
		return &berthv1alpha1.MemoryLimits{State: state, Message: message}
	}
	for _, tc := range []struct {
		name   string
		files  *berthv1alpha1.MemoryLimits
		driver bool
		node   string
		want   *berthv1alpha1.MemoryLimits
	}{
		{"driver and node can", of("Enforced", "it does"), true, "", of("Enforced", "it does")},
		{"the driver cannot", of("Enforced", "it does"), false, "", of("Fails", "it does, but "+noDriverLimits)},
		{"the node cannot", of("Enforced", "it does"), true, NoUnifiedCgroups, of("Fails", "it does, but "+NoUnifiedCgroups)},
		{"neither can", of("Enforced", "it does"), false, NoUnifiedCgroups, of("Fails", "it does, but "+NoUnifiedCgroups)},
		{"the toolkit does not ask them", of("Ignored", "older"), false, "", of("Ignored", "older")},
		{"nothing is known of the toolkit", nil, false, "", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := &Agent{opts: Options{LimitsFail: tc.node}, runtimes: []berthv1alpha1.RuntimeHandOff{{Handler: "nvidia", MemoryLimits: tc.files}}}
			before := *a.runtimes[0].DeepCopy()
			got := a.handOff(&Reading{LimitsMemory: tc.driver}).Runtimes[0].MemoryLimits
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			// The next reading may be of another driver.
			if diff := cmp.Diff(before, a.runtimes[0]); diff != "" {
				t.Errorf("what the files say has changed (-want +got):\n%s", diff)
			}
		})
	}
}
