// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

var (
	resolutions = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "berth_controller_model_resolutions_total",
		Help: "Times that a model was looked up, by the reason that its profile got.",
	}, []string{"reason"})
	resolutionSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "berth_controller_model_resolution_duration_seconds",
		Help:    "How long looking up a model took, retries within one attempt included.",
		Buckets: []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180},
	})
	peaksFolded = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "berth_controller_observed_peaks_total",
		Help: "Times that a measured peak was written to a profile.",
	})
	podDeviations = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "berth_controller_pod_deviations_total",
		Help: "Pods that were found to deviate from their allocation on a device, or to lack their GPUs, by the reason of the Event.",
	}, []string{"reason"})
)

// registerMetrics adds the metrics to those that the manager serves.
func registerMetrics() error {
	for _, c := range []prometheus.Collector{resolutions, resolutionSeconds, peaksFolded, podDeviations, estimateRatio} {
		if err := registerCollector(c); err != nil {
			return err
		}
	}
	return nil
}

func registerCollector(c prometheus.Collector) error {
	err := metrics.Registry.Register(c)
	if again := (prometheus.AlreadyRegisteredError{}); errors.As(err, &again) {
		return nil
	}
	return err
}

func observeResolution(err error, took time.Duration) {
	reason := berthv1alpha1.ProfileResolved
	if err != nil {
		r, _, _ := failure(err)
		reason = string(r)
	}
	resolutions.WithLabelValues(reason).Inc()
	resolutionSeconds.Observe(took.Seconds())
}
