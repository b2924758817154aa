// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/estimator"
)

const (
	// peakQuantum is how much a peak must rise to be written: agents report in steps of this size.
	peakQuantum = 64 << 20
	// maxRuns is how many pods a peak is the highest of. An older one that held more is forgotten.
	maxRuns = 5
	// maxPeaks keeps a profile small, and maxPeaksOfNamespace one namespace from filling it. Settings that were not seen
	// for longest give way.
	maxPeaks            = 64
	maxPeaksOfNamespace = 8
)

// measurement is what one pod that runs a model was measured to hold, in bytes.
type measurement struct {
	namespace string
	pod       types.UID
	// created is when the apiserver made the pod.
	created  metav1.Time
	settings estimator.Settings
	// devices is what each GPU of the pod's allocation holds of it; booked, of the same order, what the estimate alone
	// booked there, zero where that is not known.
	devices, booked []int64
}

// fold takes a measurement down in the peaks of a profile: the largest of each GPU over the latest runs, GPUs compared
// largest with largest, because which physical device holds which part of a model is chance. Which runs are the latest
// is decided by when the apiserver made their pods, so it does not matter when, and how often, each is measured. It says
// whether anything changed that is worth a write.
func fold(p *berthv1alpha1.ModelProfile, m *measurement, now time.Time) bool {
	s := &p.Status
	i := slices.IndexFunc(s.ObservedPeaks, func(p berthv1alpha1.ObservedPeak) bool {
		return p.Namespace == m.namespace && p.Settings == m.settings && int(p.GPUCount) == len(m.devices)
	})
	peak := berthv1alpha1.ObservedPeak{Namespace: m.namespace, Settings: m.settings, GPUCount: int32(len(m.devices))}
	if i >= 0 {
		peak = *s.ObservedPeaks[i].DeepCopy()
		peak.Runs = slices.DeleteFunc(peak.Runs, func(r berthv1alpha1.MeasuredRun) bool { return len(r.Devices) != len(m.devices) })
	}
	if !takeRun(&peak, m) {
		return false
	}
	peak.Devices, peak.Excess = highest(peak.Runs)
	peak.LastTime = metav1.NewTime(now)

	peaks := slices.Clone(s.ObservedPeaks)
	if i >= 0 {
		peaks = slices.Delete(peaks, i, i+1)
	}
	s.ObservedPeaks = limit(slices.Insert(peaks, 0, peak), p.Spec.PeaksFrom)
	return true
}

// takeRun takes a measurement down in the runs of a peak, and says whether that changed anything worth a write.
func takeRun(peak *berthv1alpha1.ObservedPeak, m *measurement) bool {
	excess := int64(0)
	for i, held := range m.devices {
		if m.booked[i] > 0 {
			excess = max(excess, held-m.booked[i])
		}
	}
	held := slices.SortedFunc(slices.Values(m.devices), func(a, b int64) int { return cmp.Compare(b, a) })

	i := slices.IndexFunc(peak.Runs, func(r berthv1alpha1.MeasuredRun) bool { return r.PodUID == m.pod })
	isNew := i < 0
	if isNew {
		peak.Runs = append(peak.Runs, berthv1alpha1.MeasuredRun{PodUID: m.pod, Created: m.created, Devices: make([]resource.Quantity, len(held))})
		i = len(peak.Runs) - 1
	}
	run := &peak.Runs[i]
	changed := isNew
	for d := range run.Devices {
		changed = raise(&run.Devices[d], held[d]) || changed
	}
	changed = raise(&run.Excess, excess) || changed

	slices.SortFunc(peak.Runs, func(a, b berthv1alpha1.MeasuredRun) int {
		return cmp.Or(b.Created.Compare(a.Created.Time), strings.Compare(string(a.PodUID), string(b.PodUID)))
	})
	if len(peak.Runs) > maxRuns {
		if oldest := peak.Runs[maxRuns]; oldest.PodUID == m.pod {
			return false // there are so many newer ones
		}
		peak.Runs = peak.Runs[:maxRuns]
	}
	if isNew {
		peak.Samples++
	}
	return changed
}

// highest returns the most that any of the runs held on each GPU, and beyond what the estimate booked.
func highest(runs []berthv1alpha1.MeasuredRun) (devices []resource.Quantity, excess resource.Quantity) {
	devices = slices.Clone(runs[0].Devices)
	for i := range runs {
		for d := range devices {
			if q := &runs[i].Devices[d]; q.Cmp(devices[d]) > 0 {
				devices[d] = *q
			}
		}
		if q := &runs[i].Excess; q.Cmp(excess) > 0 {
			excess = *q
		}
	}
	return devices, excess
}

// limit drops entries until there are few enough: of a namespace that has too many the one that changed longest ago, and
// of too many namespaces that of the one with the most entries. So nobody pushes others out who has less than they do.
// What older controllers wrote goes first, and what counts for all namespaces (shared) never for others' sake.
func limit(peaks []berthv1alpha1.ObservedPeak, shared []string) []berthv1alpha1.ObservedPeak {
	count := map[string]int{}
	peaks = slices.DeleteFunc(peaks, func(p berthv1alpha1.ObservedPeak) bool {
		count[p.Namespace]++
		return count[p.Namespace] > maxPeaksOfNamespace
	})
	for len(peaks) > maxPeaks {
		clear(count)
		drop := -1
		for i := range peaks {
			count[peaks[i].Namespace]++
		}
		weight := func(i int) int {
			switch namespace := peaks[i].Namespace; {
			case namespace == "":
				return maxPeaksOfNamespace + 1
			case slices.Contains(shared, namespace):
				return 0
			default:
				return count[namespace]
			}
		}
		for i := range peaks {
			if drop < 0 || weight(i) >= weight(drop) {
				drop = i
			}
		}
		peaks = slices.Delete(peaks, drop, drop+1)
	}
	return peaks
}

// raise makes q at least bytes, and says whether that was a step worth writing.
func raise(q *resource.Quantity, bytes int64) bool {
	if bytes < q.Value()+peakQuantum && (bytes <= 0 || q.Value() > 0) {
		return false
	}
	*q = *resource.NewQuantity(bytes, resource.BinarySI)
	return true
}
