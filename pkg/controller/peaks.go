// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/estimator"
)

const (
	// peakQuantum is how much a peak must rise to be written: agents report in steps of this size.
	peakQuantum = 64 << 20
	// maxPeaks keeps a profile small. Settings that were not seen for longest give way.
	maxPeaks = 8
)

// measurement is what one pod that runs a model was measured to hold, in bytes.
type measurement struct {
	settings estimator.Settings
	// devices is what each GPU of the pod's allocation holds of it; booked, of the same order, what was booked there,
	// zero where that is not known.
	devices, booked []int64
	// isNew says that this controller did not count the pod before. When countedAfter is set, an earlier one did if
	// the peak was written after that time, when the pod became Ready.
	isNew        bool
	countedAfter time.Time
}

// fold takes a measurement down in the peaks of a profile: the largest of each GPU over time, GPUs compared largest
// with largest, because which physical device holds which part of a model is chance. It says whether anything
// changed that is worth a write.
func fold(s *berthv1alpha1.ModelProfileStatus, m *measurement, now time.Time) bool {
	excess := int64(0)
	for i, held := range m.devices {
		if m.booked[i] > 0 {
			excess = max(excess, held-m.booked[i])
		}
	}
	held := slices.SortedFunc(slices.Values(m.devices), func(a, b int64) int { return cmp.Compare(b, a) })

	i := slices.IndexFunc(s.ObservedPeaks, func(p berthv1alpha1.ObservedPeak) bool {
		return p.Settings == m.settings && int(p.GPUCount) == len(held)
	})
	peak := berthv1alpha1.ObservedPeak{Settings: m.settings, GPUCount: int32(len(held)), Devices: make([]resource.Quantity, len(held))}
	if i >= 0 {
		peak = *s.ObservedPeaks[i].DeepCopy()
	}
	isNew := m.isNew && (i < 0 || m.countedAfter.IsZero() || peak.LastTime.Time.Before(m.countedAfter))
	changed := i < 0 || isNew
	if len(peak.Devices) != len(held) {
		peak.Devices = make([]resource.Quantity, len(held))
	}
	for d := range held {
		changed = raise(&peak.Devices[d], held[d]) || changed
	}
	changed = raise(&peak.Excess, excess) || changed
	if !changed {
		return false
	}
	if isNew {
		peak.Samples++
	}
	peak.LastTime = metav1.NewTime(now)

	peaks := slices.Clone(s.ObservedPeaks)
	if i >= 0 {
		peaks = slices.Delete(peaks, i, i+1)
	}
	peaks = slices.Insert(peaks, 0, peak)
	s.ObservedPeaks = peaks[:min(len(peaks), maxPeaks)]
	return true
}

// raise makes q at least bytes, and says whether that was a step worth writing.
func raise(q *resource.Quantity, bytes int64) bool {
	if bytes < q.Value()+peakQuantum && (bytes <= 0 || q.Value() > 0) {
		return false
	}
	*q = *resource.NewQuantity(bytes, resource.BinarySI)
	return true
}
