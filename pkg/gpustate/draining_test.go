// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
)

// TestMemoryOfAGonePod: a booking of 30Gi stays charged after its pod is gone, until the driver says that the memory
// is back, or it can never have been taken.
func TestMemoryOfAGonePod(t *testing.T) {
	empty := func() *bt.GPUNode { return bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi") }
	bound := func() *bt.Pod {
		return bt.MakePod("a").Memory("30Gi").Bound(testNode, epoch, "GPU-0=30Gi")
	}
	// The pod is seen bound at second 0 and gone at second 10.
	type step struct {
		at     time.Duration
		report *bt.GPUNode // applied at that moment, if any
		free   uint64
	}
	const s = time.Second
	for _, tc := range []struct {
		name string
		// startedAt is when its container starts; negative = never.
		startedAt time.Duration
		measured  string // by the report of second 9, if not empty
		steps     []step
	}{
		{
			name: "never started: back at once", startedAt: -1,
			steps: []step{{at: 10 * s, free: 80}},
		},
		{
			name: "never seen to start, but measured: until a report lacks it", startedAt: -1, measured: "20Gi",
			steps: []step{{at: 10 * s, free: 50}, {at: 60 * s, free: 50}, {at: 61 * s, report: empty(), free: 80}},
		},
		{
			name: "running and measured: until a report lacks it, whatever time it takes", startedAt: s, measured: "20Gi",
			steps: []step{
				{at: 10 * s, free: 50}, {at: 40 * s, report: empty().Process("a", "20Gi"), free: 50},
				{at: 70 * s, report: empty().Process("a", "1Gi"), free: 50}, {at: 71 * s, report: empty(), free: 80},
			},
		},
		{
			name: "measured at more than booked", startedAt: s, measured: "50Gi",
			steps: []step{{at: 10 * s, free: 30}, {at: 11 * s, report: empty().Process("a", "40Gi"), free: 40}, {at: 12 * s, report: empty(), free: 80}},
		},
		{
			name: "running for long and never measured: it takes none", startedAt: s,
			steps: []step{{at: 10 * s, free: 80}},
		},
		{
			name: "started just now, not measured yet: a report a moment later may be from before", startedAt: 9 * s,
			steps: []step{
				{at: 10 * s, free: 50}, {at: 10*s + s/2, report: empty(), free: 50}, {at: 11 * s, report: empty(), free: 80},
			},
		},
		{
			name: "started just now, measured only after it was gone", startedAt: 9 * s,
			steps: []step{
				{at: 10 * s, free: 50}, {at: 10*s + s/2, report: empty().Process("a", "5Gi"), free: 50},
				{at: 20 * s, free: 50}, {at: 21 * s, report: empty(), free: 80},
			},
		},
		{
			name: "started just now, and no report comes: five seconds", startedAt: 9 * s,
			steps: []step{{at: 10 * s, free: 50}, {at: 14 * s, free: 50}, {at: 15 * s, free: 80}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			until := func(d time.Duration) {
				if rest := epoch.Add(d).Sub(f.clock.Now()); rest > 0 {
					f.clock.Step(rest)
				}
			}
			f.report(empty())
			f.PodSeen(bound().Obj())
			last := bound()
			if tc.startedAt >= 0 {
				until(tc.startedAt)
				last = bound().Started(f.clock.Now())
				f.PodSeen(last.Obj())
			}
			until(9 * s)
			if tc.measured != "" {
				f.report(empty().Process("a", tc.measured))
			} else {
				f.report(empty())
			}
			f.wantFree("while it is there", f.view(Query{}, last.Obj()), map[string]uint64{"": 50, "20Gi": 50, "50Gi": 30}[tc.measured])
			until(10 * s)
			f.changed = 0
			f.PodGone(last.Obj())
			if f.changed != 1 {
				t.Errorf("the deletion was told %d times", f.changed)
			}
			for _, step := range tc.steps {
				until(step.at)
				if step.report != nil {
					f.report(step.report)
				}
				f.wantFree(step.at.String(), f.view(Query{}), step.free)
				f.wantFree(step.at.String()+", once all is back", f.view(Query{Drained: true}), 80)
				again := f.SettleNode(testNode)
				if e := f.Ledger.Get("a"); e == nil && step.free != 80 || e != nil && step.free == 80 {
					t.Errorf("at %s the ledger has %+v with %d GiB free", step.at, e, step.free)
				}
				if !again.IsZero() && !again.After(f.clock.Now()) {
					t.Errorf("at %s: to look again at %s, which is past", step.at, again)
				}
			}
			f.PodGone(last.Obj())
			f.PodSeen(last.Obj()) // a late event that was never to come: it books again, and a deletion frees it again
			f.PodGone(last.Obj())
			f.report(empty())
			until(time.Hour)
			f.SettleNode(testNode)
			f.wantFree("long after", f.view(Query{}), 80)
		})
	}
}

// TestOlderSnapshotOfAGonePod: a cycle's snapshot is from before the process was measured; the ledger knows better.
func TestOlderSnapshotOfAGonePod(t *testing.T) {
	f := newFixture(t)
	f.report(bt.MakeGPUNodeOf(testNode, 1, "80Gi"))
	pod := podA().Obj()
	f.PodSeen(pod)
	pinned := f.Viewer()
	f.clock.Step(10 * time.Second)
	f.report(bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi").Process("a", "20Gi"))
	f.PodGone(pod)
	v := pinned.View(f.node, nil, &Query{})
	f.wantFree("by the older snapshot", v, 50)
}

func TestEndedPodLeavesLikeADeletedOne(t *testing.T) {
	for _, phase := range []corev1.PodPhase{corev1.PodSucceeded, corev1.PodFailed} {
		f := newFixture(t)
		f.report(bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi").Process("a", "20Gi"))
		f.PodSeen(podA().Obj())
		f.clock.Step(10 * time.Second)
		f.PodSeen(podA().Phase(phase).Obj())
		f.wantState(podA().Obj(), Draining)
		f.clock.Step(time.Second)
		f.report(bt.MakeGPUNodeOf(testNode, 1, "80Gi"))
		f.wantFree(string(phase), f.view(Query{}), 80)
		f.PodSeen(podA().Phase(phase).Obj())
		f.wantFree(string(phase)+", once more", f.view(Query{}), 80)
	}
}

// TestGoneReportSettles: the report is gone with its node, so there is nothing to wait for.
func TestGoneReportSettles(t *testing.T) {
	f := newFixture(t)
	f.report(bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi").Process("a", "20Gi"))
	f.PodSeen(podA().Obj())
	f.PodGone(podA().Obj())
	f.wantState(podA().Obj(), Draining)
	f.ReportGone(testNode)
	if e := f.Ledger.Get(types.UID("a")); e != nil {
		t.Errorf("still booked on a node without a report: %+v", e)
	}
}

// TestWhatMayBeFreeWhenAPodStarts: the memory of pods that go is still charged, but an engine that takes a fraction of what
// is free when it starts may well find it free.
func TestWhatMayBeFreeWhenAPodStarts(t *testing.T) {
	f := newFixture(t)
	stays := bt.MakePod("stays").Memory("30Gi").Bound(testNode, epoch, "GPU-0=30Gi").Obj()
	goes := bt.MakePod("goes").Memory("10Gi").Bound(testNode, epoch, "GPU-0=10Gi").Obj()
	f.PodSeen(stays)
	f.PodSeen(goes)
	f.report(bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi").Process("stays", "20Gi").Process("goes", "10Gi").Process("", "5Gi"))
	unused := func() alloc.Bytes { return f.view(Query{}, stays, goes).Devices[0].Unused }
	if got := unused(); got != alloc.GiB(80-20-10-5) {
		t.Errorf("%s may be free, want 45Gi: what is measured is held", got)
	}
	goes = goes.DeepCopy()
	goes.DeletionTimestamp = &metav1.Time{Time: epoch}
	f.PodSeen(goes)
	if got := unused(); got != alloc.GiB(80-20-5) {
		t.Errorf("%s may be free, want 55Gi: one of the pods goes", got)
	}
}
