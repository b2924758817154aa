// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/estimator"
)

var testTime = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

const gib = 1 << 30

var (
	llama  = estimator.Settings{Runtime: estimator.RuntimeLlamaCpp, ContextLength: 8192}
	ollama = estimator.Settings{Runtime: estimator.RuntimeOllama}
)

// of is what the nth pod of a namespace that the apiserver made was measured to hold, with nothing known of its booking.
func of(namespace string, nth int, s estimator.Settings, devices ...int64) *measurement {
	return &measurement{
		namespace: namespace, pod: types.UID(fmt.Sprintf("%s-%d", namespace, nth)), settings: s,
		created: metav1.NewTime(testTime.Add(time.Duration(nth) * time.Second)),
		devices: devices, booked: make([]int64, len(devices)),
	}
}

func TestFold(t *testing.T) {
	m := func(nth int, s estimator.Settings, devices ...int64) *measurement {
		return of("ns", nth, s, devices...)
	}
	booked := func(x *measurement, booked ...int64) *measurement { x.booked = booked; return x }
	var falling []*measurement
	for nth, held := range []int64{76, 5, 6, 5, 4, 5} {
		falling = append(falling, m(nth, llama, held*gib))
	}
	for _, tc := range []struct {
		name         string
		measurements []*measurement
		want         []string // of each peak: namespace, runtime, devices, samples, excess
		wantChanged  bool     // by the last measurement
	}{
		{"a first measurement is taken down, largest device first",
			[]*measurement{m(1, llama, 8*gib, 10*gib)}, []string{"ns llama.cpp [10Gi 8Gi] 1 0"}, true},
		{"a peak stays when the pod holds less",
			[]*measurement{m(1, llama, 10*gib), m(1, llama, 5*gib)}, []string{"ns llama.cpp [10Gi] 1 0"}, false},
		{"a peak rises device by device, whichever physical device that is",
			[]*measurement{m(1, llama, 10*gib, 8*gib), m(1, llama, 9*gib, 9*gib)}, []string{"ns llama.cpp [10Gi 9Gi] 1 0"}, true},
		{"a rise below the quantum is not worth a write",
			[]*measurement{m(1, llama, 10*gib), m(1, llama, 10*gib+1<<20)}, []string{"ns llama.cpp [10Gi] 1 0"}, false},
		{"another pod is another run, and the highest of them counts",
			[]*measurement{m(1, llama, 10*gib), m(2, llama, 9*gib)}, []string{"ns llama.cpp [10Gi] 2 0"}, true},
		{"a peak falls when five newer runs show less", falling, []string{"ns llama.cpp [6Gi] 6 0"}, true},
		{"and not before", falling[:5], []string{"ns llama.cpp [76Gi] 5 0"}, true},
		{"a pod that five newer ones were made after does not come back",
			append(slices.Clone(falling), m(0, llama, 77*gib)), []string{"ns llama.cpp [6Gi] 6 0"}, false},
		{"pods that were measured late are ordered by when they were made",
			[]*measurement{m(9, llama, gib), m(8, llama, gib), m(7, llama, gib), m(6, llama, gib), m(5, llama, gib), m(1, llama, 9*gib), m(10, llama, 2*gib)},
			[]string{"ns llama.cpp [2Gi] 6 0"}, true},
		{"settings are kept apart, latest first",
			[]*measurement{m(1, llama, 10*gib), m(2, ollama, 9*gib)}, []string{"ns ollama [9Gi] 1 0", "ns llama.cpp [10Gi] 1 0"}, true},
		{"GPU counts are kept apart",
			[]*measurement{m(1, llama, 10*gib), m(2, llama, 6*gib, 5*gib)}, []string{"ns llama.cpp [6Gi 5Gi] 1 0", "ns llama.cpp [10Gi] 1 0"}, true},
		{"namespaces are kept apart",
			[]*measurement{of("team", 1, llama, 10*gib), of("mallory", 2, llama, 76*gib)},
			[]string{"mallory llama.cpp [76Gi] 1 0", "team llama.cpp [10Gi] 1 0"}, true},
		{"what is beyond the booking of the same device is the excess",
			[]*measurement{booked(m(1, llama, 8*gib, 10*gib), 6*gib, 10*gib)}, []string{"ns llama.cpp [10Gi 8Gi] 1 2Gi"}, true},
		{"less than the booking is no excess",
			[]*measurement{booked(m(1, llama, 8*gib), 10*gib)}, []string{"ns llama.cpp [8Gi] 1 0"}, true},
		{"a booking that is not known says nothing",
			[]*measurement{booked(m(1, llama, 8*gib), 0)}, []string{"ns llama.cpp [8Gi] 1 0"}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var p berthv1alpha1.ModelProfile
			var changed bool
			for _, m := range tc.measurements {
				changed = fold(&p, m, testTime)
			}
			if changed != tc.wantChanged {
				t.Errorf("changed = %v, want %v", changed, tc.wantChanged)
			}
			if diff := cmp.Diff(tc.want, summary(&p.Status)); diff != "" {
				t.Errorf("peaks (-want +got):\n%s", diff)
			}
		})
	}
}

func summary(s *berthv1alpha1.ModelProfileStatus) []string {
	var out []string
	for _, p := range s.ObservedPeaks {
		var devices []string
		for i := range p.Devices {
			devices = append(devices, p.Devices[i].String())
		}
		out = append(out, fmt.Sprintf("%s %s %v %d %s", p.Namespace, p.Settings.Runtime, devices, p.Samples, p.Excess.String()))
	}
	return out
}

// TestMoreReplicasThanRunsAreKept: all of them report all the time, and it settles.
func TestMoreReplicasThanRunsAreKept(t *testing.T) {
	var p berthv1alpha1.ModelProfile
	writes := 0
	for round := range 10 {
		for nth := range 50 {
			if fold(&p, of("ns", nth, llama, gib), testTime) {
				if writes++; round > 0 {
					t.Fatalf("pod %d is written again in round %d", nth, round)
				}
			}
		}
	}
	if runs := p.Status.ObservedPeaks[0].Runs; len(runs) != maxRuns || runs[0].PodUID != "ns-49" || runs[maxRuns-1].PodUID != "ns-45" {
		t.Errorf("after %d writes the runs are %v, want those of the %d newest pods", writes, runs, maxRuns)
	}
}

// TestPeaksDoNotGrowWithoutBound: what one namespace makes up pushes out what is its own, and many namespaces together
// those of whom there are most entries.
func TestPeaksDoNotGrowWithoutBound(t *testing.T) {
	var p berthv1alpha1.ModelProfile
	p.Spec.PeaksFrom = []string{"shared"}
	count := func() map[string]int {
		out := map[string]int{}
		for _, peak := range p.Status.ObservedPeaks {
			out[peak.Namespace]++
		}
		return out
	}
	flood := func(namespace string, n int) {
		for i := range n {
			fold(&p, of(namespace, i, estimator.Settings{ContextLength: int64(i + 1)}, gib), testTime)
		}
	}
	for i := range 3 {
		p.Status.ObservedPeaks = append(p.Status.ObservedPeaks, berthv1alpha1.ObservedPeak{
			Settings: estimator.Settings{ContextLength: int64(i)}, GPUCount: 1, Devices: []resource.Quantity{resource.MustParse("9000Gi")},
		})
	}
	flood("shared", maxPeaksOfNamespace)
	flood("small", 2)
	flood("mallory", 100)
	if diff := cmp.Diff(map[string]int{"": 3, "shared": maxPeaksOfNamespace, "small": 2, "mallory": maxPeaksOfNamespace}, count()); diff != "" {
		t.Errorf("one namespace makes up settings: entries (-want +got):\n%s", diff)
	}
	if p.Status.ObservedPeaks[0].Settings.ContextLength != 100 {
		t.Error("the latest settings of the namespace are not kept")
	}
	for i := range 20 {
		flood(fmt.Sprintf("mallory-%d", i), 100)
	}
	got := count()
	if len(p.Status.ObservedPeaks) != maxPeaks || got["shared"] != maxPeaksOfNamespace || got["small"] != 2 || got[""] != 0 {
		t.Errorf("many namespaces make up settings: entries %v, want %d with all of shared and small, and none without a namespace", got, maxPeaks)
	}
}

func TestFoldDoesNotChangeWhatItWasGiven(t *testing.T) {
	// The status is compared with what it was to see whether a write is due.
	var p berthv1alpha1.ModelProfile
	fold(&p, of("ns", 1, llama, gib), testTime)
	before, shallow := p.DeepCopy(), p
	fold(&p, of("ns", 1, llama, 5*gib), testTime)
	fold(&p, of("ns", 2, llama, 6*gib), testTime)
	if diff := cmp.Diff(before.Status, shallow.Status); diff != "" {
		t.Errorf("the old peaks changed (-before +after):\n%s", diff)
	}
}
