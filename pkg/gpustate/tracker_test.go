// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	testclock "k8s.io/utils/clock/testing"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
)

// TestWhoIsTold: waiting pods are woken by what may have made room, and by nothing else that a pod does.
func TestWhoIsTold(t *testing.T) {
	bound := func() *bt.Pod { return bt.MakePod("a").Memory("30Gi").Bound(testNode, epoch, "GPU-0=30Gi") }
	running := func() *bt.Pod { return bound().Started(epoch) }
	report := func() *bt.GPUNode { return bt.MakeGPUNodeOf(testNode, 1, "80Gi") }
	seen := func(p *bt.Pod) func(*fixture) { return func(f *fixture) { f.PodSeen(p.Obj()) } }
	gone := func(p *bt.Pod) func(*fixture) { return func(f *fixture) { f.PodGone(p.Obj()) } }
	reported := func(g *bt.GPUNode, live bool) func(*fixture) {
		return func(f *fixture) { f.ReportSeen(g.Obj(), live) }
	}
	lease := func(live bool) func(*fixture) {
		return func(f *fixture) { f.LeaseSeen(testNode, f.clock.Now(), live) }
	}
	nothing := func(*fixture) {}
	for _, tc := range []struct {
		name              string
		before            []func(*fixture)
		do                func(*fixture)
		changed, reshaped bool
	}{
		{name: "a pod is bound", before: nil, do: seen(bound())},
		{name: "a pod starts", before: []func(*fixture){seen(bound())}, do: seen(running())},
		{name: "a pod becomes Ready: its GPUs may be loaded on", before: []func(*fixture){seen(running())}, do: seen(running().Ready(epoch)), changed: true},
		{name: "a pod is Ready still", before: []func(*fixture){seen(running().Ready(epoch))}, do: seen(running().Ready(epoch))},
		{name: "a pod begins to terminate: it can be waited for", before: []func(*fixture){seen(running())}, do: seen(running().Terminating(epoch)), changed: true},
		{name: "a pod terminates still", before: []func(*fixture){seen(running().Terminating(epoch))}, do: seen(running().Terminating(epoch).Annotation("x", "y"))},
		{name: "a pod is gone", before: []func(*fixture){seen(running())}, do: gone(running()), changed: true},
		{name: "a pod has ended", before: []func(*fixture){seen(running())}, do: seen(running().Phase(corev1.PodSucceeded)), changed: true},
		{name: "an ended pod is deleted", before: []func(*fixture){seen(running()), seen(running().Phase(corev1.PodSucceeded))}, do: gone(running())},
		{name: "an unbound pod is seen", do: seen(bt.MakePod("a").Memory("30Gi"))},
		{name: "an unbound pod is gone", do: gone(bt.MakePod("a").Memory("30Gi"))},
		{name: "a promised pod is deleted before it was bound", before: []func(*fixture){func(f *fixture) { f.assume(bt.MakePod("a").Memory("30Gi"), "GPU-0=30Gi") }}, do: gone(bt.MakePod("a").Memory("30Gi")), changed: true},
		{name: "a plain pod is bound and gone", do: func(f *fixture) { seen(bt.MakePod("p").Node(testNode))(f); gone(bt.MakePod("p").Node(testNode))(f) }},
		{name: "a promised pod is bound by somebody else, without an allocation", before: []func(*fixture){func(f *fixture) { f.assume(bt.MakePod("a").Memory("30Gi"), "GPU-0=30Gi") }}, do: seen(bt.MakePod("a").Memory("30Gi").Node(testNode)), changed: true},
		{name: "the allocation becomes readable", before: []func(*fixture){seen(running().Allocation("{"))}, do: seen(running()), changed: true},

		{name: "the first report", do: reported(report(), true), reshaped: true},
		{name: "another report", before: []func(*fixture){reported(report(), true)}, do: reported(report().Process("", "1Gi"), true), changed: true},
		{name: "a device more", before: []func(*fixture){reported(report(), true)}, do: reported(bt.MakeGPUNodeOf(testNode, 2, "80Gi"), true), reshaped: true},
		{name: "a device is unhealthy", before: []func(*fixture){reported(report(), true)}, do: reported(report().Unhealthy(), true), changed: true},
		{name: "a device is healthy again", before: []func(*fixture){reported(report().Unhealthy(), true)}, do: reported(report(), true), reshaped: true},
		{name: "a device is gone", before: []func(*fixture){reported(bt.MakeGPUNodeOf(testNode, 2, "80Gi"), true)}, do: reported(report(), true), changed: true},
		{name: "a device is larger (ECC off)", before: []func(*fixture){reported(bt.MakeGPUNodeOf(testNode, 1, "75Gi"), true)}, do: reported(report(), true), reshaped: true},
		{name: "the runtime takes GPUs", before: []func(*fixture){reported(report().Runtime("nvidia"), true)}, do: reported(report().Runtime("nvidia", cdi), true), reshaped: true},
		{name: "a report after a silence", before: []func(*fixture){reported(report(), true), func(f *fixture) { f.clock.Step(time.Hour) }}, do: reported(report(), true), reshaped: true},
		{name: "a report is gone", before: []func(*fixture){reported(report(), true)}, do: func(f *fixture) { f.ReportGone(testNode) }},
		{name: "a renewal", before: []func(*fixture){reported(report(), true)}, do: lease(true)},
		{name: "a renewal after a silence", before: []func(*fixture){reported(report(), true), func(f *fixture) { f.clock.Step(time.Hour) }}, do: lease(true), reshaped: true},
		{name: "a Lease that was found", before: []func(*fixture){reported(report(), false)}, do: lease(false)},
		{name: "nothing", do: nothing},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			for _, do := range tc.before {
				do(f)
			}
			f.changed, f.reshaped = 0, 0
			tc.do(f)
			if (f.changed > 0) != tc.changed || (f.reshaped > 0) != tc.reshaped {
				t.Errorf("changed told %d times, want %v; reshaped %d times, want %v", f.changed, tc.changed, f.reshaped, tc.reshaped)
			}
		})
	}
}

// TestAppliedBeforeTold: a pod that is retried because of a change must find the change applied.
func TestAppliedBeforeTold(t *testing.T) {
	f := newFixture(t)
	f.report(bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi").Process("a", "20Gi"))
	f.PodSeen(podA().Obj())
	var told []uint64
	f.Changed = func(string) { told = append(told, f.view(Query{}).Devices[0].Free().Uint64()>>30) }
	f.clock.Step(time.Second)
	f.PodGone(podA().Obj())
	f.clock.Step(time.Second)
	f.report(bt.MakeGPUNodeOf(testNode, 1, "80Gi"))
	if len(told) != 2 || told[0] != 50 || told[1] != 80 {
		t.Errorf("free when told: %v, want 50 while the memory is held, then 80", told)
	}
}

// TestNodesThatAreGoneAreForgotten: clusters that scale make new names every day.
func TestNodesThatAreGoneAreForgotten(t *testing.T) {
	pod := bt.MakePod("a").Memory("40Gi").Bound("n", epoch, "GPU-0=40Gi").Started(epoch).Obj()
	for _, tc := range []struct {
		name string
		last []func(*Tracker)
	}{
		{"its pods first", []func(*Tracker){
			func(t *Tracker) { t.PodGone(pod) }, func(t *Tracker) { t.ReportGone("n") }, func(t *Tracker) { t.LeaseGone("n") },
		}},
		{"its report first", []func(*Tracker){
			func(t *Tracker) { t.ReportGone("n") }, func(t *Tracker) { t.LeaseGone("n") }, func(t *Tracker) { t.PodGone(pod) },
		}},
		{"its Lease first", []func(*Tracker){
			func(t *Tracker) { t.LeaseGone("n") }, func(t *Tracker) { t.PodGone(pod) }, func(t *Tracker) { t.ReportGone("n") },
		}},
		{"its agent renews the Lease a last time", []func(*Tracker){
			func(t *Tracker) { t.ReportGone("n") }, func(t *Tracker) { t.LeaseSeen("n", epoch, true) },
			func(t *Tracker) { t.LeaseGone("n") }, func(t *Tracker) { t.PodGone(pod) },
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tracker := NewTracker(alloc.Bytes{}, Policy{StaleAfter: time.Minute}, testclock.NewFakePassiveClock(epoch))
			tracker.ReportSeen(bt.MakeGPUNodeOf("n", 1, "80Gi").Obj(), true)
			tracker.LeaseSeen("n", epoch, true)
			tracker.PodSeen(pod)
			tc.last[0](tracker)
			if r, fresh := tracker.Store.Report("n", time.Minute); r != nil && !fresh {
				t.Error("a node that has a report is not fresh any more")
			}
			for _, last := range tc.last[1:] {
				last(tracker)
			}
			if names := tracker.Ledger.Nodes(); len(names) != 0 || len(tracker.Store.states) != 0 || tracker.Ledger.Get(pod.UID) != nil {
				t.Errorf("left behind: lists of %v, %d states", names, len(tracker.Store.states))
			}
		})
	}
}
