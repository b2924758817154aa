// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-base/metrics"

	"github.com/berth-dev/berth/pkg/leader"
	"github.com/berth-dev/berth/pkg/plugin/policies"
	"github.com/berth-dev/berth/pkg/plugin/shared"
	"github.com/berth-dev/berth/pkg/plugin/wake"
)

// Watcher watches and tells. It is safe for concurrent use.
type Watcher struct {
	*shared.World
	Wake *wake.Waker
	// Leader says whether this process may delete pods.
	Leader *leader.Leader
	// Policies says whether the apiserver enforces what Berth relies on.
	Policies *policies.State
	// Recovered says whether the books are right: before, nothing in them is a fault.
	Recovered func() bool
	Metrics

	overbooked  overbooked
	told        toldTroubles
	evictions   faultEvictions
	unreadable  unreadable
	contested   contested
	unallocated unallocated
}

// Metrics count faults.
type Metrics struct {
	// PolicyInForce is by policy, and DriverUpgradeEvictions by outcome.
	PolicyInForce          *metrics.GaugeVec
	DriverUpgradeEvictions *metrics.CounterVec
}

// Forget forgets a pod that is gone.
func (w *Watcher) Forget(uid types.UID) {
	w.told.forget(uid)
	w.unallocated.forget(uid)
	w.overbooked.forget(uid)
}
