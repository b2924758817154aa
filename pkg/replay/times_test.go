// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// timed gives a pod its times.
func timed(p Pod, created, deleted int64) Pod {
	p.Created, p.Deleted = created, deleted
	return p
}

func TestPass(t *testing.T) {
	tests := []struct {
		name string
		pods []Pod
		want Waiting
	}{
		{
			// On one GPU. b waits from 20 on, a goes at 100. c is smaller, comes later, and goes first for it fits at once.
			"one waits, and smaller ones pass it",
			[]Pod{timed(pod("a", 1, 600), 0, 100), timed(pod("b", 1, 600), 20, 300), timed(pod("c", 1, 400), 30, 300)},
			Waiting{Pods: 3, Waited: 1, MeanSeconds: 80. / 3, P50Seconds: 0, P99Seconds: 80, MaxSeconds: 80},
		},
		{
			"the oldest of those that wait is tried first, and who is deleted meanwhile never ran",
			[]Pod{timed(pod("a", 1, 1000), 0, 100), timed(pod("b", 1, 1000), 20, 130), timed(pod("c", 1, 1000), 10, 150), timed(pod("d", 1, 1000), 30, 160)},
			Waiting{Pods: 4, NeverRan: 1, Waited: 2, MeanSeconds: (90. + 120) / 3, P50Seconds: 90, P99Seconds: 120, MaxSeconds: 120},
		},
		{
			"who goes makes room for who comes in the same second",
			[]Pod{timed(pod("b", 1, 1000), 100, 100), timed(pod("a", 1, 1000), 0, 100)},
			Waiting{Pods: 2},
		},
		{
			"one that fits nowhere",
			[]Pod{timed(pod("a", 2, 1000), 0, 100)},
			Waiting{Pods: 1, NeverRan: 1},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			trace := &Trace{Nodes: []Node{node("n", 1)}, Pods: tt.pods, HasTimes: true}
			got, err := Pass(t.Context(), trace, NewTimedReference("FGD", trace.Nodes, trace, 1), nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&tt.want, got, cmpopts.EquateApprox(0, 1e-9)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
