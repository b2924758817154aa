// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/plugin/parked"
)

// waitingFixture has a node with two GPUs, a pod of 70Gi on each, and a pod that waits for 60Gi.
func waitingFixture(t *testing.T) *fixture {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), held("70Gi", "70Gi"))
	f.running(holder("x", "GPU-0"), holder("y", "GPU-1"))
	f.park(bt.MakePod("waiting").Memory("60Gi").Obj())
	return f
}

func held(x, y string) *bt.GPUNode {
	g := bt.MakeGPUNode("node").GPU("GPU-0", "80Gi")
	if x != "" {
		g.Process("x", x)
	}
	if g.GPU("GPU-1", "80Gi"); y != "" {
		g.Process("y", y)
	}
	return g
}

func holder(name, gpu string) *bt.Pod {
	return bt.MakePod(name).Memory("70Gi").Bound("node", epoch, gpu+"=70Gi").Started(epoch).Ready(epoch)
}

// TestWaitingPodsAreRetriedByWhatHelps, and by nothing else: a cluster of thousands of agents reports all the time.
func TestWaitingPodsAreRetriedByWhatHelps(t *testing.T) {
	for _, tc := range []struct {
		name   string
		do     func(*fixture)
		wanted bool
	}{
		{"a report without a change", func(f *fixture) { f.pl.feed.ReportSeen(held("70Gi", "70Gi").Obj(), true) }, false},
		{"a pod uses less than it booked", func(f *fixture) { f.pl.feed.ReportSeen(held("10Gi", "70Gi").Obj(), true) }, false},
		{"a report of another node that has no room", func(f *fixture) {
			f.node(bt.MakeNode("other"), bt.MakeGPUNode("other").GPU("GPU-9", "80Gi").Process("", "50Gi"))
			f.queue.take()
			f.pl.feed.ReportSeen(bt.MakeGPUNode("other").GPU("GPU-9", "80Gi").Process("", "40Gi").Obj(), true)
		}, false},
		{"a new node whose GPUs are too small for it", func(f *fixture) { f.node(bt.MakeNode("other"), bt.MakeGPUsOf("other", 8, "40Gi")) }, false},
		{"a new node whose GPUs are large enough, though held by a foreign process", func(f *fixture) {
			f.node(bt.MakeNode("other"), bt.MakeGPUNode("other").GPU("GPU-9", "80Gi").Process("", "50Gi"))
		}, false},
		{"a new node whose GPUs are large enough once a dead process has drained: it may wait there", func(f *fixture) {
			f.node(bt.MakeNode("other"), bt.MakeGPUNode("other").GPU("GPU-9", "80Gi").Process("gone", "50Gi"))
		}, true},
		{"a new node whose GPUs are large enough, though held by a pod of lower priority: it may evict there", func(f *fixture) {
			f.pl.feed.PodSeen(bt.MakePod("low").Memory("50Gi").Priority(-1).Bound("other", epoch, "GPU-9=50Gi").Started(epoch).Ready(epoch).Obj())
			f.node(bt.MakeNode("other"), bt.MakeGPUNode("other").GPU("GPU-9", "80Gi").Process("low", "50Gi"))
		}, true},
		{"a GPU becomes unhealthy", func(f *fixture) { f.pl.feed.ReportSeen(held("70Gi", "70Gi").Unhealthy().Obj(), true) }, false},
		{"a pod is deleted, and its processes are still there", func(f *fixture) { f.pl.feed.PodGone(holder("x", "GPU-0").Obj()) }, false},
		{"a pod is deleted, and then its processes are gone", func(f *fixture) {
			f.pl.feed.PodGone(holder("x", "GPU-0").Obj())
			f.clock.Step(time.Second)
			f.pl.feed.ReportSeen(held("", "70Gi").Obj(), true)
		}, true},
		{"a pod without a booking is deleted", func(f *fixture) { f.pl.feed.PodGone(bt.MakePod("plain").Node("node").Obj()) }, false},
		{"another pod is bound", func(f *fixture) {
			f.pl.feed.PodSeen(bt.MakePod("z").Memory("1Gi").Bound("node", epoch, "GPU-0=1Gi").Obj())
		}, false},
		{"another pod gives its place back", func(f *fixture) {
			f.node(bt.MakeNode("other"), bt.MakeGPUsOf("other", 1, "80Gi"))
			other := bt.MakePod("z").Memory("60Gi").Obj()
			state := f.reserve(other, "other")
			f.queue.take()
			f.pl.Unreserve(f.ctx, state, other, "other")
		}, true},
		{"the waiting pod itself is bound", func(f *fixture) {
			f.pl.feed.PodSeen(bt.MakePod("waiting").Memory("60Gi").Bound("other", epoch, "GPU-9=60Gi").Obj())
			f.pl.feed.PodGone(holder("x", "GPU-0").Obj())
			f.clock.Step(time.Second)
			f.pl.feed.ReportSeen(held("", "70Gi").Obj(), true)
		}, false},
		{"the waiting pod itself is deleted", func(f *fixture) {
			f.pl.feed.PodGone(bt.MakePod("waiting").Memory("60Gi").Obj())
			f.pl.feed.PodGone(holder("x", "GPU-0").Obj())
			f.clock.Step(time.Second)
			f.pl.feed.ReportSeen(held("", "70Gi").Obj(), true)
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := waitingFixture(t)
			tc.do(f)
			var want []string
			if tc.wanted {
				want = []string{"waiting"}
			}
			f.wantActivated("afterwards", want...)
		})
	}
}

func TestOnlyThePodsThatAreHelpedAreRetried(t *testing.T) {
	f := waitingFixture(t)
	f.park(bt.MakePod("larger").Memory("75Gi").Obj())
	f.park(bt.MakePod("smaller").Memory("20Gi").Obj())
	f.pl.feed.PodGone(holder("x", "GPU-0").Obj())
	f.clock.Step(time.Second)
	f.pl.feed.ReportSeen(bt.MakeGPUNode("node").GPU("GPU-0", "80Gi").Process("", "15Gi").GPU("GPU-1", "80Gi").Process("y", "70Gi").Obj(), true)
	f.wantActivated("65Gi are free: the first in the queue takes them", "waiting")
}

// TestRetriedForAChangeDuringItsCycle: a pod counts as waiting from the start of its cycle.
func TestRetriedForAChangeDuringItsCycle(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), bt.MakeGPUNode("node").GPU("GPU-0", "80Gi").Process("", "70Gi"))
	pod := bt.MakePod("a").Memory("60Gi").Obj()
	f.begin(pod)
	f.pl.feed.ReportSeen(bt.MakeGPUNodeOf("node", 1, "80Gi").Obj(), true)
	f.wantActivated("while it is in flight", "a")
}

func TestRetriedWhenAnAgentIsBack(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 1, "80Gi"))
	f.clock.Step(time.Hour)
	f.park(bt.MakePod("a").Memory("60Gi").Obj())
	f.pl.tracker.LeaseSeen("node", f.clock.Now(), true)
	f.wantActivated("the Lease is renewed", "a")
}

// TestTimers: what no API event tells.
func TestTimers(t *testing.T) {
	t.Run("a pod has loaded for too long", func(t *testing.T) {
		f := newFixture(t)
		f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 1, "80Gi"))
		f.pl.tracker.Policy.StaleAfter = 0
		for i, name := range []string{"first", "second"} {
			started := epoch.Add(time.Duration(i) * 5 * time.Minute)
			f.running(bt.MakePod(name).Memory("10Gi").Runtime(vllm).Bound("node", started, "GPU-0=10Gi").Started(started))
		}
		f.park(bt.MakePod("a").Memory("60Gi").Obj())
		f.clock.Step(14 * time.Minute)
		f.wantActivated("within the time of both")
		f.clock.Step(2 * time.Minute)
		f.wantActivated("within the time of the second")
		f.clock.Step(5 * time.Minute)
		f.eventually("the retry", func() bool { return len(f.queue.take()) == 1 })
	})
	t.Run("a pod that had just started is gone, and nobody reports", func(t *testing.T) {
		f := newFixture(t)
		f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 1, "80Gi"))
		f.clock.Step(10 * time.Second)
		gone := bt.MakePod("x").Memory("70Gi").Bound("node", epoch, "GPU-0=70Gi")
		f.pl.feed.PodSeen(gone.Obj())
		f.pl.feed.PodSeen(gone.Started(f.clock.Now()).Obj())
		f.park(bt.MakePod("a").Memory("60Gi").Obj())
		f.pl.feed.PodGone(gone.Obj())
		f.wantActivated("its memory may be held")
		f.clock.Step(6 * time.Second)
		f.eventually("the retry", func() bool { return len(f.queue.take()) > 0 })
		f.wantFree("settled", "node", 80)
	})
	t.Run("one for each key, the earliest", func(t *testing.T) {
		f := newFixture(t)
		fired := make(chan string, 4)
		at := func(d time.Duration, what string) {
			f.pl.world.Timers.At("key", epoch.Add(d), func() { fired <- what })
		}
		at(2*time.Second, "second")
		at(3*time.Second, "later: dropped")
		at(time.Second, "first")
		f.clock.Step(5 * time.Second)
		if got := <-fired; got != "first" {
			t.Errorf("fired: %s", got)
		}
		at(-time.Hour, "past")
		f.clock.Step(time.Second)
		if got := <-fired; got != "past" {
			t.Errorf("fired: %s", got)
		}
		if len(fired) != 0 {
			t.Errorf("fired too: %s", <-fired)
		}
	})
}

// TestHints: the framework's own events are a backstop; what cannot help is skipped, what is not understood is not.
func TestHints(t *testing.T) {
	f := waitingFixture(t)
	waiting := bt.MakePod("waiting").Memory("60Gi").Obj()
	unbound := bt.MakePod("unbound").Memory("1Gi").Obj()
	node := bt.MakeNode("node")
	labelled := bt.MakeNode("node")
	labelled.Labels["berth.dev/device-plugin"] = "shared"
	events, err := f.pl.EventsToRegister(f.ctx)
	if err != nil {
		t.Fatal(err)
	}
	hint := func(r fwk.EventResource, action fwk.ActionType, pod *corev1.Pod, before, after any) fwk.QueueingHint {
		t.Helper()
		for _, e := range events {
			if e.Event.Resource == r && e.Event.ActionType&action != 0 {
				got, err := e.QueueingHintFn(klog.FromContext(f.ctx), pod, before, after)
				if err != nil {
					t.Fatal(err)
				}
				return got
			}
		}
		t.Fatalf("no hint for %v %v", r, action)
		return 0
	}
	check := func(what string, got, want fwk.QueueingHint) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	gone := holder("x", "GPU-0").Obj()
	check("a pod is deleted whose processes are still there", hint(fwk.AssignedPod, fwk.Delete, waiting, gone, nil), fwk.QueueSkip)
	f.known(unbound)
	state := f.reserve(unbound, "node")
	f.pl.Unreserve(f.ctx, state, unbound, "node")
	check("a pod is deleted, for one whose binding failed", hint(fwk.AssignedPod, fwk.Delete, unbound, gone, nil), fwk.Queue)
	late := bt.MakePod("late").Memory("60Gi").Obj()
	f.park(late)
	check("the same, for one that was in a cycle before it was listed", hint(fwk.AssignedPod, fwk.Delete, late, gone, nil), fwk.Queue)
	check("something else is deleted", hint(fwk.AssignedPod, fwk.Delete, waiting, "?", nil), fwk.Queue)
	f.pl.feed.PodGone(gone)
	f.clock.Step(time.Second)
	f.pl.feed.ReportSeen(held("", "70Gi").Obj(), true)
	f.queue.take()
	check("a pod is deleted that made room", hint(fwk.AssignedPod, fwk.Delete, waiting, gone.DeepCopy(), nil), fwk.Queue)
	f.eventually("the activation, which the hint alone would not do", func() bool { return len(f.queue.take()) == 1 })
	check("a node changes where there is room", hint(fwk.Node, fwk.UpdateNodeAllocatable, waiting, node, node), fwk.Queue)
	check("a node with room is shared with the device plugin", hint(fwk.Node, fwk.UpdateNodeLabel, waiting, node.DeepCopy(), labelled), fwk.Queue)
	check("a node with room comes", hint(fwk.Node, fwk.Add, waiting, nil, node.DeepCopy()), fwk.Queue)
	f.pl.feed.ReportSeen(held("", "70Gi").At("GPU-0").Process("", "70Gi").Obj(), true)
	upgrading := bt.MakeNode("node")
	upgrading.Labels[berthv1alpha1.LabelDriverUpgradeState] = "drain-required"
	f.pl.feed.ReportSeen(held("", "70Gi").Obj(), true)
	f.queue.take()
	check("a node has its new driver", hint(fwk.Node, fwk.UpdateNodeLabel, waiting, upgrading, node), fwk.Queue)
	f.pl.feed.ReportSeen(held("", "70Gi").At("GPU-0").Process("", "70Gi").Obj(), true)
	check("a node changes where there is none", hint(fwk.Node, fwk.UpdateNodeAllocatable, waiting, node.DeepCopy(), node), fwk.QueueSkip)
}

// BenchmarkReportWhilePodsWait is a report that helps none of a thousand waiting pods.
func BenchmarkReportWhilePodsWait(b *testing.B) {
	f := newFixture(b)
	f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 8, "80Gi"))
	for i := range 1000 {
		pod := bt.MakePod(fmt.Sprintf("p%d", i)).Memory("100Gi").Obj()
		r := f.pl.requests.Of(pod)
		f.pl.parked.Add(parked.Pod{Pod: pod, Request: r.Request, Shape: r.Shape})
	}
	gn := bt.MakeGPUNodeOf("node", 8, "80Gi").Obj()
	b.ReportAllocs()
	for b.Loop() {
		f.pl.feed.ReportSeen(gn, true)
	}
	if got := f.queue.take(); len(got) > 0 {
		b.Fatalf("%d pods activated for nothing", len(got))
	}
}
