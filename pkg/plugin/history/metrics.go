// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package history

import (
	"sync"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

// counts are the metrics. No label grows with pods: reasons are constants, and names of the scheduler's plugins.
type counts struct {
	decisions    *metrics.CounterVec
	wakeUps      *metrics.Counter
	placements   *metrics.CounterVec
	bindFailures *metrics.CounterVec
	evictions    *metrics.CounterVec
	waited       *metrics.HistogramVec
}

const subsystem = "berth_scheduler"

var register = sync.OnceValue(func() *counts {
	counter := func(name, help string, labels ...string) *metrics.CounterVec {
		return metrics.NewCounterVec(&metrics.CounterOpts{
			Subsystem: subsystem, Name: name, StabilityLevel: metrics.ALPHA, Help: help,
		}, labels)
	}
	c := &counts{
		decisions: counter("decisions_total", "Decisions about pods that ask for GPU memory: booked, waiting, evicting, refused; a refused one "+
			"with the main reason. A pod that goes on waiting for its place is not counted again.", "decision", "reason"),
		wakeUps: metrics.NewCounter(&metrics.CounterOpts{
			Subsystem: subsystem, Name: "wakeups_total", StabilityLevel: metrics.ALPHA,
			Help: "Pods that were put back into the scheduling queue because something changed that could help them.",
		}),
		placements: counter("placements_total", "Pods that were bound to GPUs, by what they had to wait for: room, wait, eviction, unknown.", "after"),
		bindFailures: counter("bind_failures_total",
			"Bindings that failed after the memory had been booked, by reason: not-sent, refused, unknown.", "reason"),
		evictions: counter("evictions_total", "Pods that were evicted, by reason.", "reason"),
		waited: metrics.NewHistogramVec(&metrics.HistogramOpts{
			Subsystem: subsystem, Name: "creation_to_bind_duration_seconds", StabilityLevel: metrics.ALPHA,
			Help: "Time from the creation of a pod to its bind to GPUs, by size class: the least of 16Gi, 40Gi, 80Gi and 320Gi " +
				"that holds its memory on all GPUs together, else more.",
			Buckets: metrics.ExponentialBuckets(0.1, 2.5, 14), // to 4 hours
		}, []string{"size"}),
	}
	legacyregistry.MustRegister(c.decisions, c.wakeUps, c.placements, c.bindFailures, c.evictions, c.waited)
	return c
})
