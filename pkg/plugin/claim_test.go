// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// twoFullNodes has nodes a and b with a GPU of 80Gi each, and a pod of 70Gi and low priority on each of them.
func twoFullNodes(t *testing.T) *fixture {
	f := newFixture(t)
	for _, n := range []string{"a", "b"} {
		f.node(bt.MakeNode(n), bt.MakeGPUNode(n).GPU("GPU-"+n, "80Gi").Process(types.UID("on-"+n), "70Gi"))
		f.resident("on-"+n, n, nil, "GPU-"+n+"=70Gi")
	}
	return f
}

// changeNode replaces a node in the snapshot and in the informer.
func (f *fixture) changeNode(name string, change func(*corev1.Node)) {
	f.t.Helper()
	for i, n := range f.nodes {
		if n.Name == name {
			n = n.DeepCopy()
			change(n)
			f.nodes[i] = n
			if err := f.pl.handle.SharedInformerFactory().Core().V1().Nodes().Informer().GetIndexer().Update(n); err != nil {
				f.t.Fatal(err)
			}
		}
	}
	f.snapshot()
}

// removeNode takes a node from the snapshot and from the informer.
func (f *fixture) removeNode(name string) {
	f.t.Helper()
	i := slices.IndexFunc(f.nodes, func(n *corev1.Node) bool { return n.Name == name })
	if err := f.pl.handle.SharedInformerFactory().Core().V1().Nodes().Informer().GetIndexer().Delete(f.nodes[i]); err != nil {
		f.t.Fatal(err)
	}
	f.nodes = slices.Delete(f.nodes, i, i+1)
	f.pods = slices.DeleteFunc(f.pods, func(p *corev1.Pod) bool { return p.Spec.NodeName == name }) // of the snapshot
	f.snapshot()
}

// terminatingUntil tells that a pod began to terminate, and when its grace period is over.
func (f *fixture) terminatingUntil(name string, at time.Time) {
	f.t.Helper()
	for i, p := range f.pods {
		if p.Name == name {
			b := &bt.Pod{Pod: *p.DeepCopy()}
			f.pods[i] = b.Terminating(at).Obj()
			f.known(f.pods[i])
			f.pl.feed.PodSeen(f.pods[i])
		}
	}
	f.snapshot()
}

// wantPostFilter runs a cycle that finds no place, and checks where the pod is nominated to and who is evicted.
func (f *fixture) wantPostFilter(what string, pod *corev1.Pod, wantNode string, want ...string) *fwk.Status {
	f.t.Helper()
	node, status := f.postFilter(pod)
	if got := f.api.takeDeleted(); node != wantNode || !slices.Equal(got, want) {
		f.t.Fatalf("%s: nominated to %q and evicts %v (%v), want %q and %v", what, node, got, status, wantNode, want)
	}
	return status
}

// TestClaimFollowsTheCluster: whatever makes a claim impossible while its victim terminates, the pod goes another way in
// its next cycle, and is told the true reason.
func TestClaimFollowsTheCluster(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*fixture)
		why    string
	}{
		{"the node is cordoned", func(f *fixture) {
			f.changeNode("a", func(n *corev1.Node) { n.Spec.Unschedulable = true })
		}, "unschedulable"},
		{"the node gets a taint", func(f *fixture) {
			f.changeNode("a", func(n *corev1.Node) {
				n.Spec.Taints = []corev1.Taint{{Key: "maintenance", Effect: corev1.TaintEffectNoSchedule}}
			})
		}, "taint"},
		{"a pod of another scheduler takes the CPU", func(f *fixture) {
			f.running(withCPU(bt.MakePod("other").Scheduler("default-scheduler").Node("a"), 60)) // of 64
		}, "Insufficient cpu"},
		{"a pod takes the port", func(f *fixture) {
			p := bt.MakePod("other").Scheduler("default-scheduler").Node("a")
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: 8000, Protocol: corev1.ProtocolTCP}}
			f.running(p)
		}, "free ports"},
		{"the node is left to the device plugin", func(f *fixture) {
			f.changeNode("a", func(n *corev1.Node) { n.Status.Allocatable["nvidia.com/gpu"] = resource.MustParse("1") })
		}, "advertised nvidia.com/gpu"},
		{"its GPUs are smaller than before", func(f *fixture) {
			f.pl.feed.ReportSeen(bt.MakeGPUNode("a").ResourceVersion("2").GPU("GPU-a", "40Gi").Obj(), true)
		}, "could ever hold"},
		{"its GPU is cordoned", func(f *fixture) {
			f.changeNode("a", func(n *corev1.Node) { n.Annotations = map[string]string{berthv1alpha1.AnnotationCordonedGPUs: "GPU-a"} })
		}, string(gpustate.ReasonCordonedDevices)},
		{"the node is gone", func(f *fixture) { f.removeNode("a") }, "the node is gone"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := twoFullNodes(t)
			p := withCPU(bt.MakePod("preemptor").Memory("60Gi").Priority(100), 20)
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: 8000, Protocol: corev1.ProtocolTCP}}
			pod := p.Obj()
			f.wantPostFilter("at first", pod, "a", "on-a")
			f.terminatingUntil("on-a", epoch.Add(10*time.Minute))
			f.wantPostFilter("while nothing changes", pod, "a")
			tc.change(f)
			f.wantPostFilter("afterwards", pod, "b", "on-b")
			f.wantEvent("GPUMemoryClaimDropped", tc.why)
		})
	}
}

// TestPodsThatWaitAreWokenByTheirNode: what may make a claim impossible wakes its pod at once.
func TestPodsThatWaitAreWokenByTheirNode(t *testing.T) {
	events := func(f *fixture) map[string]fwk.QueueingHintFn {
		out := map[string]fwk.QueueingHintFn{}
		registered, err := f.pl.EventsToRegister(f.ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range registered {
			for name, action := range map[string]fwk.ActionType{"added": fwk.Add, "deleted": fwk.Delete, "tainted": fwk.UpdateNodeTaint} {
				if e.Event.ActionType&action != 0 {
					out[string(e.Event.Resource)+" "+name] = e.QueueingHintFn
				}
			}
		}
		return out
	}
	for _, tc := range []struct {
		name          string
		event         string
		before, after any
		want          bool
	}{
		{"its node gets a taint", "Node tainted", bt.MakeNode("a"), bt.MakeNode("a"), true},
		{"another node gets one", "Node tainted", bt.MakeNode("b"), bt.MakeNode("b"), false},
		{"its node is deleted", "Node deleted", bt.MakeNode("a"), nil, true},
		{"another node is deleted", "Node deleted", bt.MakeNode("b"), nil, false},
		{"a pod of another scheduler comes to its node", "AssignedPod added", nil, bt.MakePod("x").Scheduler("y").Node("a").Obj(), true},
		{"a pod of higher priority comes to its node", "AssignedPod added", nil, bt.MakePod("x").Priority(200).Node("a").Obj(), true},
		{"a pod of this scheduler comes to its node, which knew of the claim", "AssignedPod added", nil, bt.MakePod("x").Node("a").Obj(), false},
		{"a pod comes to another node", "AssignedPod added", nil, bt.MakePod("x").Scheduler("y").Node("b").Obj(), false},
		{"its victim is gone", "AssignedPod deleted", bt.MakePod("on-a").Node("a").Obj(), nil, true},
		{"another pod of its node is gone", "AssignedPod deleted", bt.MakePod("x").Node("a").Obj(), nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := twoFullNodes(t)
			pod := bt.MakePod("preemptor").Memory("60Gi").Priority(100).Obj()
			f.wantPostFilter("at first", pod, "a", "on-a")
			f.queue.take()
			hint, err := events(f)[tc.event](klog.FromContext(f.ctx), pod, tc.before, tc.after)
			if err != nil || (hint == fwk.Queue) != tc.want {
				t.Errorf("hint %v, %v, want to be queued: %v", hint, err, tc.want)
			}
			if tc.want {
				f.eventually("the activation, which skips backoff", func() bool { return slices.Equal(f.queue.take(), []string{"preemptor"}) })
			}
		})
	}
	t.Run("a neighbour that it needs is gone from another node of the zone", func(t *testing.T) {
		f := twoFullNodes(t)
		pod := bt.MakePod("preemptor").Memory("60Gi").Priority(100).Obj()
		pod.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
				TopologyKey: corev1.LabelTopologyZone, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "cache"}},
			}},
		}}
		f.wantPostFilter("at first", pod, "a", "on-a")
		f.queue.take()
		gone := func(app string) {
			other := bt.MakePod("other").Node("c").Obj()
			other.Labels = map[string]string{"app": app}
			f.pl.wake.Needs.PodChanged(other, nil)
			f.clock.Step(time.Second)
		}
		gone("else")
		f.wantActivated("a stranger is gone")
		gone("cache")
		f.eventually("the activation", func() bool { return slices.Equal(f.queue.take(), []string{"preemptor"}) })
		f.pl.follow.Drop(pod)
		f.queue.take()
		f.clock.Step(time.Minute)
		gone("cache")
		f.wantActivated("it does not wait there any more")
	})
	t.Run("its node is cordoned, of which the framework tells nobody", func(t *testing.T) {
		f := twoFullNodes(t)
		f.wantPostFilter("at first", bt.MakePod("preemptor").Memory("60Gi").Priority(100).Obj(), "a", "on-a")
		f.queue.take()
		cordoned := bt.MakeNode("a")
		cordoned.Spec.Unschedulable = true
		f.pl.wake.NodeSeen(bt.MakeNode("a"), bt.MakeNode("a"))
		f.pl.wake.NodeSeen(cordoned, cordoned)
		f.pl.wake.NodeSeen(cordoned, bt.MakeNode("a"))
		f.clock.Step(time.Second)
		f.wantActivated("nothing like that")
		f.pl.wake.NodeSeen(bt.MakeNode("a"), cordoned)
		f.clock.Step(time.Second)
		f.eventually("the activation", func() bool { return slices.Equal(f.queue.take(), []string{"preemptor"}) })
	})
	t.Run("its nomination is taken", func(t *testing.T) {
		f := twoFullNodes(t)
		pod := bt.MakePod("preemptor").Memory("60Gi").Priority(100).Obj()
		f.wantPostFilter("at first", pod, "a", "on-a")
		nominated := pod.DeepCopy()
		nominated.Status.NominatedNodeName = "a"
		f.pl.follow.NominationSeen(pod, nominated)
		f.wantActivated("its own nomination is seen")
		f.pl.follow.NominationSeen(nominated, pod)
		f.wantActivated("it is gone again", "preemptor")
	})
}

// TestWaitingHasAPrice: a pod waits before it evicts somebody elsewhere only as long as waitBeforeEviction.
func TestWaitingHasAPrice(t *testing.T) {
	leaving := func(grace time.Duration) *fixture {
		f := twoFullNodes(t)
		f.terminatingUntil("on-a", epoch.Add(grace))
		return f
	}
	preemptor := func() *corev1.Pod { return bt.MakePod("preemptor").Memory("60Gi").Priority(100).Obj() }
	t.Run("the memory comes soon", func(t *testing.T) {
		f, pod := leaving(20*time.Second), preemptor()
		f.wantPostFilter("at first", pod, "a")
		f.wantEvent("WaitingForGPUMemory", "pod default/on-a is still terminating and holds 70Gi on GPU 0 (GPU-a)")
		f.clock.Step(29 * time.Second)
		f.wantPostFilter("within waitBeforeEviction", pod, "a")
		f.clock.Step(2 * time.Second)
		f.eventually("the pod is retried when that is over", func() bool { return slices.Equal(f.queue.take(), []string{"preemptor"}) })
		f.wantPostFilter("when it is over", pod, "b", "on-b")
	})
	t.Run("the memory comes in an hour", func(t *testing.T) {
		f := leaving(time.Hour)
		f.wantPostFilter("at first", preemptor(), "b", "on-b")
	})
	t.Run("the memory comes in an hour, and beside it is a smaller pod: its eviction would not be enough", func(t *testing.T) {
		f := newFixture(t)
		f.node(bt.MakeNode("a"), bt.MakeGPUNodeOf("a", 1, "80Gi"))
		f.node(bt.MakeNode("b"), bt.MakeGPUsOf("b", 1, "80Gi"))
		f.resident("leaving", "a", nil, "GPU-0=50Gi")
		f.resident("beside", "a", nil, "GPU-0=20Gi")
		f.resident("large", "b", func(p *bt.Pod) { p.Priority(10) }, "GPU-b-0=70Gi")
		f.terminatingUntil("leaving", epoch.Add(time.Hour))
		f.wantPostFilter("at first", preemptor(), "b", "large")
	})
	t.Run("a dead process drains", func(t *testing.T) {
		f := twoFullNodes(t)
		f.gone("on-a")
		f.wantPostFilter("at first", preemptor(), "a")
		f.wantEvent("WaitingForGPUMemory", "processes of the gone pod default/on-a still hold 70Gi")
	})
	t.Run("nobody may be evicted", func(t *testing.T) {
		f, pod := leaving(time.Hour), bt.MakePod("waiting").Memory("60Gi").Obj()
		f.wantPostFilter("at first", pod, "a")
		f.clock.Step(50 * time.Second)
		f.report("a", "2")
		f.report("b", "2")
		f.wantPostFilter("as long as nobody may be", pod, "a")
	})
}

// TestDistantMemoryIsNotHeld: a pod that waits an hour keeps nobody from what is free until then.
func TestDistantMemoryIsNotHeld(t *testing.T) {
	f := newFixture(t)
	f.pl.tracker.Policy.StaleAfter = 0
	f.node(bt.MakeNode("a"), bt.MakeGPUNode("a").GPU("GPU-0", "80Gi").Process("on-a", "51Gi"))
	f.resident("on-a", "a", nil, "GPU-0=51Gi")
	f.terminatingUntil("on-a", epoch.Add(time.Hour))
	waiting := bt.MakePod("waiting").Memory("70Gi").Obj()
	f.wantPostFilter("the waiting pod", waiting, "a")
	small := bt.MakePod("small").Memory("20Gi").Obj()
	wantStatus(t, "29Gi are free for an hour", f.pl.Filter(f.ctx, f.begin(small), small, f.nodeInfo("a")), fwk.Success, "")
	f.clock.Step(time.Hour - 30*time.Second)
	wantStatus(t, "its memory is expected soon", f.pl.Filter(f.ctx, f.begin(small), small, f.nodeInfo("a")), fwk.Unschedulable, gpustate.ReasonInsufficientMemory)
}

// TestRoomThatComesDuringTheCycle is taken, and nobody is evicted.
func TestRoomThatComesDuringTheCycle(t *testing.T) {
	for _, tc := range []struct {
		name string
		on   func(f *fixture) // who is on node b
		ends func(f *fixture)
	}{
		{"a process ends", func(f *fixture) {
			f.pl.feed.ReportSeen(bt.MakeGPUNode("b").GPU("GPU-1", "80Gi").ResourceVersion("1").Process("", "70Gi").Obj(), true)
		}, func(f *fixture) {
			f.pl.feed.ReportSeen(bt.MakeGPUNode("b").GPU("GPU-1", "80Gi").ResourceVersion("2").Obj(), true)
		}},
		{"a pod that nobody may evict is gone, and its memory is back", func(f *fixture) {
			f.pl.feed.ReportSeen(bt.MakeGPUNode("b").GPU("GPU-1", "80Gi").ResourceVersion("1").Process("batch", "70Gi").Obj(), true)
			f.resident("batch", "b", func(p *bt.Pod) { p.Priority(1000) }, "GPU-1=70Gi")
		}, func(f *fixture) {
			batch := f.pods[len(f.pods)-1] // the cycle's list goes on having it
			f.forget(batch)
			f.pl.feed.PodGone(batch)
			f.clock.Step(2 * time.Second)
			f.pl.feed.ReportSeen(bt.MakeGPUNode("b").GPU("GPU-1", "80Gi").ResourceVersion("2").Obj(), true)
		}},
		{"a pod is gone that asked for the resource which its node lists", func(f *fixture) {
			f.pl.feed.ReportSeen(bt.MakeGPUNode("b").GPU("GPU-1", "80Gi").ResourceVersion("1").Process("batch", "70Gi").Obj(), true)
			f.resident("batch", "b", func(p *bt.Pod) { p.Priority(1000).Limit("berth.dev/gpu-memory", "70Gi") }, "GPU-1=70Gi")
			advertising(f.nodes[1], "80Gi", "80Gi")
			f.snapshot()
		}, func(f *fixture) {
			batch := f.pods[len(f.pods)-1]
			f.forget(batch)
			f.pl.feed.PodGone(batch)
			f.clock.Step(2 * time.Second)
			f.pl.feed.ReportSeen(bt.MakeGPUNode("b").GPU("GPU-1", "80Gi").ResourceVersion("2").Obj(), true)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			f.node(bt.MakeNode("a"), bt.MakeGPUNode("a").GPU("GPU-0", "80Gi").Process("on-a", "70Gi"))
			f.resident("on-a", "a", nil, "GPU-0=70Gi")
			f.node(bt.MakeNode("b"), bt.MakeGPUNode("b").GPU("GPU-1", "80Gi"))
			tc.on(f)
			pod := asking("preemptor", "60Gi").Priority(100).Obj()
			f.known(pod)
			state := f.cycleState(pod)
			for _, node := range []string{"a", "b"} {
				wantStatus(t, "Filter of "+node, f.pl.Filter(f.ctx, state, pod, f.nodeInfo(node)), fwk.Unschedulable, gpustate.ReasonInsufficientMemory)
			}
			tc.ends(f)
			f.queue.take()
			_, status := f.pl.PostFilter(f.ctx, state, pod, refusedByBerth())
			if got := f.api.takeDeleted(); len(got) > 0 || !strings.Contains(status.Message(), "room came up on node b") {
				t.Errorf("evicts %v: %v", got, status)
			}
			if got := slices.Compact(f.queue.take()); !slices.Equal(got, []string{"preemptor"}) {
				t.Errorf("activated to take it: %v", got)
			}
		})
	}
}

// TestLoadersAreWaitedForWithAReason: what is told is who loads, and only if somebody does.
func TestLoadersAreWaitedForWithAReason(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("a"), bt.MakeGPUNodeOf("a", 1, "80Gi"))
	f.running(bt.MakePod("loader").Memory("10Gi").Runtime(vllm).Bound("a", epoch, "GPU-0=10Gi").Started(epoch))
	pod := bt.MakePod("waiting").Memory("60Gi").Obj()
	status := f.wantPostFilter("at first", pod, "a")
	if msg := status.Message(); msg != "waiting on node a: pod default/loader is still loading" {
		t.Errorf("message %q", msg)
	}
	f.running(bt.MakePod("loader").Memory("10Gi").Runtime(vllm).Bound("a", epoch, "GPU-0=10Gi").Started(epoch).Ready(epoch))
	status = f.wantPostFilter("once it has loaded, if the cycle still finds no place", pod, "a")
	if msg := status.Message(); strings.Contains(msg, "load") {
		t.Errorf("nobody loads, and it is told %q", msg)
	}
}

// TestClaimOfABindingInDoubtIsGone: the binding took place, and the informer tells. Whoever waits for what is left is
// woken, and by a later event as well.
func TestClaimOfABindingInDoubtIsGone(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 1, "80Gi"))
	doubt := bt.MakePod("doubt").Memory("60Gi").Obj()
	f.known(doubt)
	f.pl.follow.Claim(doubt, "node", []alloc.DeviceShare{{UUID: "GPU-0", Memory: alloc.GiB(60)}}, gpustate.Claim{Deadline: epoch.Add(time.Hour)})
	f.reserve(doubt, "node")
	f.pl.tracker.Ledger.MarkUnknown(doubt.UID)
	f.pl.feed.PodSeen(bt.MakePod("doubt").Memory("60Gi").Bound("node", epoch, "GPU-0=60Gi").Obj())
	f.pl.feed.ReportSeen(bt.MakeGPUNode("node").ResourceVersion("2").GPU("GPU-0", "80Gi").Process("", "15Gi").Obj(), true)
	f.park(bt.MakePod("waits").Memory("15Gi").Obj())
	f.pl.feed.ReportSeen(bt.MakeGPUNodeOf("node", 1, "80Gi").ResourceVersion("3").Obj(), true)
	f.wantActivated("20Gi are free", "waits")
}

// TestClaimsOfTheSchedulerBefore are made again, the most important pod's first, and only as long as they are nominated.
func TestClaimsOfTheSchedulerBefore(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 2, "80Gi"))
	nominated := func(name string, priority int32) *corev1.Pod {
		return f.nominated(bt.MakePod(name).Memory("70Gi").Priority(priority).Obj(), "node")
	}
	nominated("low", 1)
	middle := nominated("middle", 2)
	nominated("high", 3)
	pod := bt.MakePod("a").Memory("60Gi").Priority(2).Obj()
	wantStatus(t, "Filter", f.pl.Filter(f.ctx, f.begin(pod), pod, f.nodeInfo("node")), fwk.Unschedulable, gpustate.ReasonInsufficientMemory)
	var claims []string
	f.pl.tracker.Ledger.EachClaim(func(e *gpustate.Entry) {
		claims = append(claims, fmt.Sprintf("%s: %s", e.Name, e.Allocation.Devices[0].UUID))
	})
	slices.Sort(claims)
	if diff := cmp.Diff([]string{"high: GPU-0", "middle: GPU-1"}, claims); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
	b := &bt.Pod{Pod: *middle.DeepCopy()}
	f.pl.feed.PodSeen(b.Terminating(epoch).Obj())
	wantStatus(t, "one of them terminates", f.pl.Filter(f.ctx, f.begin(pod), pod, f.nodeInfo("node")), fwk.Success, "")
}
