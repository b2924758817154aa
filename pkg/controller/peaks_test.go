// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/estimator"
)

var testTime = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

const gib = 1 << 30

func TestFold(t *testing.T) {
	llama := estimator.Settings{Runtime: estimator.RuntimeLlamaCpp, ContextLength: 8192}
	ollama := estimator.Settings{Runtime: estimator.RuntimeOllama}
	m := func(s estimator.Settings, isNew bool, devices ...int64) *measurement {
		return &measurement{settings: s, isNew: isNew, devices: devices, booked: make([]int64, len(devices))}
	}
	booked := func(x *measurement, booked ...int64) *measurement { x.booked = booked; return x }
	counted := func(x *measurement, since time.Time) *measurement { x.countedAfter = since; return x }
	for _, tc := range []struct {
		name         string
		measurements []*measurement
		want         []string // of each peak: runtime, devices, samples, excess
		wantChanged  bool     // by the last measurement
	}{
		{"a first measurement is taken down, largest device first",
			[]*measurement{m(llama, true, 8*gib, 10*gib)}, []string{"llama.cpp [10Gi 8Gi] 1 0"}, true},
		{"a peak stays when the pod holds less",
			[]*measurement{m(llama, true, 10*gib), m(llama, false, 5*gib)}, []string{"llama.cpp [10Gi] 1 0"}, false},
		{"a peak rises device by device, whichever physical device that is",
			[]*measurement{m(llama, true, 10*gib, 8*gib), m(llama, false, 9*gib, 9*gib)}, []string{"llama.cpp [10Gi 9Gi] 1 0"}, true},
		{"a rise below the quantum is not worth a write",
			[]*measurement{m(llama, true, 10*gib), m(llama, false, 10*gib+1<<20)}, []string{"llama.cpp [10Gi] 1 0"}, false},
		{"another pod is another sample",
			[]*measurement{m(llama, true, 10*gib), m(llama, true, 9*gib)}, []string{"llama.cpp [10Gi] 2 0"}, true},
		{"a pod that an earlier controller counted is not counted again",
			[]*measurement{m(llama, true, 10*gib), counted(m(llama, true, 10*gib), testTime.Add(-time.Hour))}, []string{"llama.cpp [10Gi] 1 0"}, false},
		{"a pod that became Ready after the last write was not counted",
			[]*measurement{m(llama, true, 10*gib), counted(m(llama, true, 10*gib), testTime.Add(time.Hour))}, []string{"llama.cpp [10Gi] 2 0"}, true},
		{"settings are kept apart, latest first",
			[]*measurement{m(llama, true, 10*gib), m(ollama, true, 9*gib)}, []string{"ollama [9Gi] 1 0", "llama.cpp [10Gi] 1 0"}, true},
		{"GPU counts are kept apart",
			[]*measurement{m(llama, true, 10*gib), m(llama, true, 6*gib, 5*gib)}, []string{"llama.cpp [6Gi 5Gi] 1 0", "llama.cpp [10Gi] 1 0"}, true},
		{"what is beyond the booking of the same device is the excess",
			[]*measurement{booked(m(llama, true, 8*gib, 10*gib), 6*gib, 10*gib)}, []string{"llama.cpp [10Gi 8Gi] 1 2Gi"}, true},
		{"less than the booking is no excess",
			[]*measurement{booked(m(llama, true, 8*gib), 10*gib)}, []string{"llama.cpp [8Gi] 1 0"}, true},
		{"a booking that is not known says nothing",
			[]*measurement{booked(m(llama, true, 8*gib), 0)}, []string{"llama.cpp [8Gi] 1 0"}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var s berthv1alpha1.ModelProfileStatus
			var changed bool
			for _, m := range tc.measurements {
				changed = fold(&s, m, testTime)
			}
			if changed != tc.wantChanged {
				t.Errorf("changed = %v, want %v", changed, tc.wantChanged)
			}
			if diff := cmp.Diff(tc.want, summary(&s)); diff != "" {
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
		out = append(out, fmt.Sprintf("%s %v %d %s", p.Settings.Runtime, devices, p.Samples, p.Excess.String()))
	}
	return out
}

func TestPeaksDoNotGrowWithoutBound(t *testing.T) {
	var s berthv1alpha1.ModelProfileStatus
	for i := range 100 {
		fold(&s, &measurement{settings: estimator.Settings{ContextLength: int64(i)}, devices: []int64{gib}, booked: []int64{0}, isNew: true}, testTime)
	}
	if got := len(s.ObservedPeaks); got != maxPeaks || s.ObservedPeaks[0].Settings.ContextLength != 99 {
		t.Errorf("%d peaks, the first of context %d; want %d, the first of 99", got, s.ObservedPeaks[0].Settings.ContextLength, maxPeaks)
	}
}

func TestFoldDoesNotChangeWhatItWasGiven(t *testing.T) {
	// The status is compared with what it was to see whether a write is due.
	var s berthv1alpha1.ModelProfileStatus
	fold(&s, &measurement{devices: []int64{gib}, booked: []int64{0}, isNew: true}, testTime)
	before := s.DeepCopy()
	shallow := s
	fold(&s, &measurement{devices: []int64{5 * gib}, booked: []int64{gib}, isNew: true}, testTime)
	if diff := cmp.Diff(summary(before), summary(&shallow)); diff != "" {
		t.Errorf("the old peaks changed (-before +after):\n%s", diff)
	}
}
