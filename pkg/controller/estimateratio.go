// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/controller/podcheck"
)

var estimateRatio = prometheus.NewHistogramVec(prometheus.HistogramOpts{
	Name: "berth_controller_estimate_to_peak_ratio",
	Help: "Memory that was estimated for a pod over its measured peak, on all its GPUs together, once for each pod ten minutes " +
		"after it was first measured; below 1, the estimate was too small.",
	// Fine around 1, where it decides between a waste and an out-of-memory error.
	Buckets: []float64{0.5, 0.7, 0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.2, 1.35, 1.5, 2, 3, 5},
}, []string{"runtime"})

// settledAfter is how long after a pod was first measured its peak is compared with the estimate: engines serve before
// they hold all they will (Ollama loads a model with the first request).
const settledAfter = 10 * time.Minute

// ratios are the pods whose peak is still to be compared with their estimate, by node, and when. Those of a process that ends
// meanwhile are not compared: they would be twice otherwise. One worker uses it.
type ratios map[string]map[types.UID]time.Time

// begin notes a pod that is measured for the first time.
func (r ratios) begin(node string, pod types.UID, now time.Time) {
	if r[node] == nil {
		r[node] = map[types.UID]time.Time{}
	}
	r[node][pod] = now.Add(settledAfter)
}

// observe compares a pod's peak with its estimate if that is due.
func (r ratios) observe(node string, pod *corev1.Pod, m *measurement, peak *berthv1alpha1.MeasuredRun, now time.Time) {
	due, waits := r[node][pod.UID]
	if !waits || now.Before(due) {
		return
	}
	delete(r[node], pod.UID)
	if parsed, err := berthv1alpha1.ParsePodRequest(pod); err != nil || parsed == nil || parsed.TotalMemory != nil {
		return // it was not estimated
	}
	var estimated, held int64
	for i := range m.booked {
		estimated += m.booked[i]
		held += peak.Devices[i].Value()
	}
	if estimated > 0 && held > 0 {
		estimateRatio.WithLabelValues(string(m.settings.Runtime)).Observe(float64(estimated) / float64(held))
	}
}

// next forgets the pods of a node that are not measured any more, or were not Ready when they were due, and returns when the
// next one is due; the zero time for never.
func (r ratios) next(node string, measured map[types.UID]map[string]int64, now time.Time) (next time.Time) {
	for pod, due := range r[node] {
		if _, ok := measured[pod]; !ok || !now.Before(due) {
			delete(r[node], pod)
			continue
		}
		next = podcheck.Earliest(next, due)
	}
	if len(r[node]) == 0 {
		delete(r, node)
	}
	return next
}

// runOf returns what was measured of a pod; nil if nothing was.
func runOf(s *berthv1alpha1.ModelProfileStatus, m *measurement) *berthv1alpha1.MeasuredRun {
	for i := range s.ObservedPeaks {
		runs := s.ObservedPeaks[i].Runs
		j := slices.IndexFunc(runs, func(r berthv1alpha1.MeasuredRun) bool { return r.PodUID == m.pod })
		if j >= 0 && len(runs[j].Devices) == len(m.devices) {
			return &runs[j]
		}
	}
	return nil
}
