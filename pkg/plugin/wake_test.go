// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/parked"
	"github.com/berth-dev/berth/pkg/plugin/requests"
	"github.com/berth-dev/berth/pkg/plugin/wake"
)

// fail runs a cycle of a pod that is refused everywhere: by Berth, but on some nodes by another plugin before.
func (f *fixture) fail(pod *corev1.Pod, byOthers ...string) {
	f.t.Helper()
	f.known(pod)
	m := framework.NewNodeToStatus(map[string]*fwk.Status{}, fwk.NewStatus(fwk.Unschedulable).WithPlugin(Name))
	for _, node := range byOthers {
		m.Set(node, fwk.NewStatus(fwk.UnschedulableAndUnresolvable).WithPlugin("NodeAffinity"))
	}
	f.pl.PostFilter(f.ctx, f.cycleState(pod), pod, m)
}

// fullNode adds a node with one GPU, on which somebody holds 70Gi who cannot be evicted.
func (f *fixture) fullNode(name string) {
	f.t.Helper()
	f.node(bt.MakeNode(name), bt.MakeGPUNode(name).GPU(bt.GPUOf(name, 0), "80Gi").Process("", "70Gi"))
}

// freed reports that the GPU of a node is free.
func (f *fixture) freed(name, version string) {
	f.t.Helper()
	f.pl.feed.ReportSeen(bt.MakeGPUsOf(name, 1, "80Gi").ResourceVersion(version).Obj(), true)
}

// afterPodDeleted asks whether a pod is to be queued when another is gone.
func (f *fixture) afterPodDeleted(pod, gone *corev1.Pod) (fwk.QueueingHint, error) {
	f.t.Helper()
	events, err := f.pl.EventsToRegister(f.ctx)
	if err != nil || events[0].Event != (fwk.ClusterEvent{Resource: fwk.AssignedPod, ActionType: fwk.Delete}) {
		f.t.Fatal(events, err)
	}
	return events[0].QueueingHintFn(klog.FromContext(f.ctx), pod, gone, nil)
}

// TestRoomWhereOthersRefuse wakes nobody: a pod that is pinned to a full node is not tried for each report of the others.
func TestRoomWhereOthersRefuse(t *testing.T) {
	f := newFixture(t)
	f.fullNode("pinned")
	for i := range 4 {
		f.fullNode(fmt.Sprintf("other-%d", i))
	}
	pod := bt.MakePod("pod").Memory("60Gi").Obj()
	f.fail(pod, "other-0", "other-1", "other-2", "other-3")
	f.queue.take()
	for i := range 80 {
		f.freed(fmt.Sprintf("other-%d", i%4), fmt.Sprint(i+2))
	}
	f.wantActivated("328 reports of others woke it 321 times before")
	f.node(bt.MakeNode("new"), bt.MakeGPUsOf("new", 1, "80Gi"))
	f.wantActivated("a node that it has not been refused on", "pod")
	f.freed("pinned", "2")
	f.wantActivated("room on its own node", "pod")
}

// TestOneRoomWakesOnePod of many equal ones, and the next one only if that does not take it.
func TestOneRoomWakesOnePod(t *testing.T) {
	setUp := func(t *testing.T) *fixture {
		f := newFixture(t)
		f.fullNode("node")
		f.fullNode("other")
		for i := range 200 {
			f.fail(bt.MakePod(fmt.Sprintf("pod-%03d", i)).Memory("60Gi").Obj())
		}
		f.fail(bt.MakePod("urgent").Memory("79Gi").Priority(10).Obj())
		f.queue.take()
		return f
	}
	pod := func(name string) *corev1.Pod { return bt.MakePod(name).Memory("60Gi").Obj() }
	t.Run("it takes the room", func(t *testing.T) {
		f := setUp(t)
		f.freed("node", "2")
		f.wantActivated("the most important first", "urgent")
		f.reserve(bt.MakePod("urgent").Memory("79Gi").Priority(10).Obj(), "node")
		f.wantActivated("nobody else")
	})
	t.Run("others refuse it by now", func(t *testing.T) {
		f := setUp(t)
		f.freed("node", "2")
		f.queue.take()
		f.fail(bt.MakePod("urgent").Memory("79Gi").Priority(10).Obj(), "node")
		f.wantActivated("the next, by the time of its last try", "pod-000")
		f.fail(pod("pod-000"), "node")
		f.wantActivated("and the next", "pod-001")
		f.reserve(pod("pod-001"), "node")
		f.wantActivated("it is taken")
	})
	t.Run("it finds another place", func(t *testing.T) {
		f := setUp(t)
		f.freed("node", "2")
		f.queue.take()
		f.freed("other", "2")
		f.wantActivated("the other room is offered to it too, as nobody knows which it takes", "urgent")
		f.reserve(bt.MakePod("urgent").Memory("79Gi").Priority(10).Obj(), "other")
		f.wantActivated("the room that it left", "pod-000")
	})
	t.Run("it is deleted", func(t *testing.T) {
		f := setUp(t)
		f.freed("node", "2")
		f.queue.take()
		urgent := bt.MakePod("urgent").Memory("79Gi").Priority(10).Obj()
		f.forget(urgent)
		f.pl.feed.PodGone(urgent)
		f.wantActivated("the room that it left", "pod-000")
	})
	t.Run("nobody takes it: each is tried once", func(t *testing.T) {
		f := setUp(t)
		f.freed("node", "2")
		tried := map[string]int{}
		for next := f.queue.take(); len(next) > 0; next = f.queue.take() {
			for _, name := range next {
				tried[name]++
				p := pod(name)
				if name == "urgent" {
					p = bt.MakePod("urgent").Memory("79Gi").Priority(10).Obj()
				}
				f.pl.PreFilter(f.ctx, framework.NewCycleState(), p, f.nodeInfos())
				f.pl.wake.PassOn(f.pl.parked.TakeWoken(p.UID), "")
			}
			if len(tried) > 201 {
				break
			}
		}
		if len(tried) != 201 || tried["pod-007"] != 1 {
			t.Errorf("%d pods were tried, pod-007 %d times", len(tried), tried["pod-007"])
		}
	})
}

// TestFailedReservationsKeepTheirBackoff: a cycle that failed after Filter found out nothing of the other nodes, so no change
// wakes the pod past its backoff. The framework's events do, with it; and if none comes, the end of the longest backoff.
func TestFailedReservationsKeepTheirBackoff(t *testing.T) {
	for _, tc := range []struct {
		name string
		fail func(f *fixture, pod *corev1.Pod)
		own  bool
	}{
		{"Berth refuses: its place was booked meanwhile", func(f *fixture, pod *corev1.Pod) {
			state := f.begin(pod)
			f.reserve(bt.MakePod("quicker").Memory("70Gi").Obj(), "node")
			wantStatus(f.t, "Reserve", f.pl.Reserve(f.ctx, state, pod, "node"), fwk.Unschedulable, gpustate.ReasonInsufficientMemory)
			f.pl.Unreserve(f.ctx, state, pod, "node")
		}, true},
		{"another plugin refuses before Berth's turn", func(f *fixture, pod *corev1.Pod) {
			f.pl.Unreserve(f.ctx, f.begin(pod), pod, "node")
		}, false},
		{"Permit or Bind fails", func(f *fixture, pod *corev1.Pod) {
			f.pl.Unreserve(f.ctx, f.reserve(pod, "node"), pod, "node")
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			f.pl.tracker.Policy.StaleAfter = 0
			f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 1, "80Gi"))
			f.node(bt.MakeNode("other"), bt.MakeGPUNode("other").GPU("GPU-1", "80Gi").Process("", "70Gi"))
			pod := bt.MakePod("pod").Memory("60Gi").Obj()
			tc.fail(f, pod)
			f.queue.take()
			f.pl.feed.ReportSeen(bt.MakeGPUNode("other").GPU("GPU-1", "80Gi").ResourceVersion("2").Obj(), true)
			f.wantActivated("room comes up elsewhere")
			if hint, err := f.afterPodDeleted(pod, bt.MakePod("x").Node("other").Obj()); hint != fwk.Queue || err != nil {
				t.Errorf("a pod is deleted: %v, %v, want to be queued behind its backoff", hint, err)
			}
			f.clock.Step(wake.LongestBackoff - time.Second)
			f.wantActivated("before the longest backoff is over")
			f.clock.Step(2 * time.Second)
			if tc.own {
				f.eventually("the pod is tried", func() bool { return slices.Equal(f.queue.take(), []string{"pod"}) })
			}
		})
	}
}

// TestActivityWakesNobody: a pod with idle-after that computes now and then is no reason to try others, before it has
// been idle long enough.
func TestActivityWakesNobody(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 1, "80Gi"))
	f.resident("serving", "node", func(p *bt.Pod) { p.Annotation("idle-after", "1h") }, "GPU-0=70Gi")
	for i := range 50 {
		f.fail(bt.MakePod(fmt.Sprintf("pod-%02d", i)).Memory("60Gi").Obj())
	}
	f.queue.take()
	report := func(i int) *bt.GPUNode {
		return bt.MakeGPUNode("node").ResourceVersion(fmt.Sprint(i)).GPU("GPU-0", "80Gi")
	}
	for i := range 60 {
		f.clock.Step(time.Second)
		g := report(2*i).Idle("serving", "70Gi", f.clock.Now())
		if i%2 == 0 {
			g = report(2*i).Process("serving", "70Gi")
		}
		f.pl.feed.ReportSeen(g.Obj(), true)
	}
	f.wantActivated("60 flips woke each of 50 pods 60 times before")
	f.pl.tracker.Policy.StaleAfter = 0
	f.clock.Step(time.Hour - time.Second)
	f.wantActivated("a second before it has been idle for an hour")
	f.clock.Step(time.Second + time.Millisecond)
	f.eventually("the first in the queue may evict it", func() bool { return slices.Equal(f.queue.take(), []string{"pod-00"}) })
}

// TestTimersNeedNoFailedCycle: the timer is set by what the ledger knows, not by a cycle that failed.
func TestTimersNeedNoFailedCycle(t *testing.T) {
	for _, tc := range []struct {
		name string
		pod  func(*bt.Pod)
		at   time.Duration
	}{
		{"min-runtime of a Ready pod", func(p *bt.Pod) { p.Annotation("min-runtime", "5m") }, 5 * time.Minute},
		{"min-runtime of a pod that is never Ready", func(p *bt.Pod) { p.Annotation("min-runtime", "5m").NotReady(epoch) }, 20 * time.Minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			f.pl.tracker.Policy.StaleAfter = 0
			f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 1, "80Gi"))
			f.resident("young", "node", tc.pod, "GPU-0=70Gi")
			pod := bt.MakePod("preemptor").Memory("60Gi").Priority(100).Obj()
			f.known(pod)
			r := f.pl.requests.Of(pod)
			f.pl.wake.Park(parked.Pod{Pod: pod, Request: r.Request, Shape: r.Shape})
			f.clock.Step(tc.at - time.Second)
			f.wantActivated("a second before")
			f.clock.Step(time.Second + time.Millisecond)
			f.eventually("the pod is tried", func() bool { return slices.Equal(f.queue.take(), []string{"preemptor"}) })
		})
	}
}

// TestPodsThatAreGoneAreForgotten: a pod that was deleted between its queue and its cycle leaves nothing behind.
func TestPodsThatAreGoneAreForgotten(t *testing.T) {
	f := newFixture(t)
	f.fullNode("node")
	pod := bt.MakePod("gone").Memory("60Gi").Obj()
	f.pl.feed.PodGone(pod)
	if _, status := f.pl.PreFilter(f.ctx, newState(), pod, f.nodeInfos()); !status.IsSuccess() {
		t.Fatal(status)
	}
	if f.pl.parked.Get(pod.UID) != nil {
		t.Error("something of it is remembered")
	}
}

// TestProfilesWakeParkedPods too, not only those that are gated: their size may be another.
func TestProfilesWakeParkedPods(t *testing.T) {
	const source = "ollama://llama3.1:8b"
	f := newFixture(t)
	f.fullNode("node")
	f.pl.requests.Profiles = requests.Profiles{Store: cache.NewStore(cache.MetaNamespaceKeyFunc)}
	profile := readyProfile(source)
	_ = f.pl.requests.Profiles.Store.Add(profile)
	f.fail(bt.MakePod("pod").Memory("60Gi").Model(source).Runtime("ollama").Obj())
	f.queue.take()
	f.pl.wake.ProfileSeen(readyProfile("ollama://another"))
	f.wantActivated("another model's profile")
	f.pl.wake.ProfileSeen(profile)
	f.wantActivated("its profile changes", "pod")
}
