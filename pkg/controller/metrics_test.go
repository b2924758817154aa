// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"path/filepath"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/berth-dev/berth/internal/metricsdoc"
)

// TestMetricsAreDocumented: each has a row, and each row is of a metric.
func TestMetricsAreDocumented(t *testing.T) {
	if err := registerMetrics(); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, bookedPod("a", "n1"), held(t, "n1", nil, nil))
	works := make(chan struct{})
	close(works)
	booked := &bookedCollector{cache: decoding{w.client}, pods: true, elected: works}
	if err := registerCollector(booked); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { metrics.Registry.Unregister(booked) })
	metricsdoc.Check(t, filepath.Join("..", "..", "docs", "metrics.md"), "controller", metrics.Registry)
}
