// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"sync"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"

	"github.com/berth-dev/berth/pkg/fleet/export"
)

// pluginMetrics are the plugin's own metrics; they appear beside the scheduler's on its /metrics. What the framework
// measures already (attempts, extension points, pending pods) is not measured again.
type pluginMetrics struct {
	victims        *metrics.Counter
	freedBytes     *metrics.Counter
	evictionToBind *metrics.Histogram
	claimsDropped  *metrics.CounterVec
	cutShort       *metrics.Counter
	// driverUpgradeEvictions are by outcome.
	driverUpgradeEvictions *metrics.CounterVec
	// policyInForce is by policy.
	policyInForce *metrics.GaugeVec
	// fleet are those of the fleet, which the leader tells.
	fleet *export.Collector
}

const metricsSubsystem = "berth_scheduler"

var registerMetrics = sync.OnceValue(func() *pluginMetrics {
	m := &pluginMetrics{
		victims: metrics.NewCounter(&metrics.CounterOpts{
			Subsystem: metricsSubsystem, Name: "victims_total", StabilityLevel: metrics.ALPHA,
			Help: "Pods evicted to make room for GPU memory.",
		}),
		freedBytes: metrics.NewCounter(&metrics.CounterOpts{
			Subsystem: metricsSubsystem, Name: "evicted_gpu_memory_bytes_total", StabilityLevel: metrics.ALPHA,
			Help: "GPU memory of evicted pods, as charged when they were chosen.",
		}),
		evictionToBind: metrics.NewHistogram(&metrics.HistogramOpts{
			Subsystem: metricsSubsystem, Name: "eviction_to_bind_duration_seconds", StabilityLevel: metrics.ALPHA,
			Help:    "Time from the eviction of a pod's victims to its bind.",
			Buckets: metrics.ExponentialBuckets(0.1, 2, 14),
		}),
		claimsDropped: metrics.NewCounterVec(&metrics.CounterOpts{
			Subsystem: metricsSubsystem, Name: "plans_rejected_total", StabilityLevel: metrics.ALPHA,
			Help: "Claims of waiting pods that were given up, by reason.",
		}, []string{"reason"}),
		cutShort: metrics.NewCounter(&metrics.CounterOpts{
			Subsystem: metricsSubsystem, Name: "searches_cut_short_total", StabilityLevel: metrics.ALPHA,
			Help: "Evictions that may not be the cheapest, because the search ended at its bound.",
		}),
		driverUpgradeEvictions: metrics.NewCounterVec(&metrics.CounterOpts{
			Subsystem: metricsSubsystem, Name: "driver_upgrade_evictions_total", StabilityLevel: metrics.ALPHA,
			Help: "Tries to evict pods from nodes whose driver is to be replaced, by outcome: evicted, refused, failed.",
		}, []string{"outcome"}),
		policyInForce: metrics.NewGaugeVec(&metrics.GaugeOpts{
			Subsystem: metricsSubsystem, Name: "policy_in_force", StabilityLevel: metrics.ALPHA,
			Help: "1 for an admission policy that refused what it must at the last check, 0 for one that did not, or could not be tried.",
		}, []string{"policy"}),
		fleet: &export.Collector{},
	}
	legacyregistry.MustRegister(m.victims, m.freedBytes, m.evictionToBind, m.claimsDropped, m.cutShort, m.driverUpgradeEvictions,
		m.policyInForce)
	legacyregistry.CustomMustRegister(m.fleet)
	return m
})
