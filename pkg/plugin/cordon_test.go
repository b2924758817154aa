// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/faults"
)

func cordoned(node, gpus string) *corev1.Node {
	n := bt.MakeNode(node)
	n.Annotations = map[string]string{berthv1alpha1.AnnotationCordonedGPUs: gpus}
	return n
}

func TestACordonedGPUIsNotGivenAway(t *testing.T) {
	f := newFixture(t)
	f.node(cordoned("a", "GPU-1"), bt.MakeGPUNode("a").GPU("GPU-0", "40Gi").GPU("GPU-1", "80Gi"))
	small, large := bt.MakePod("small").Memory("30Gi").Obj(), bt.MakePod("large").Memory("60Gi").Priority(1000).Obj()
	f.running(bt.MakePod("there").Memory("70Gi").Bound("a", epoch, "GPU-1=70Gi"))
	f.reserve(small, "a")
	if e := f.pl.tracker.Ledger.Get(small.UID); e == nil || e.Allocation.Devices[0].UUID != "GPU-0" {
		t.Errorf("booked %+v", e)
	}
	// Nor is anybody evicted from it.
	f.known(large)
	wantStatus(t, "for what only it could hold", f.pl.Filter(f.ctx, f.begin(large), large, f.nodeInfo("a")), unresolvable, gpustate.ReasonCordonedDevices)
}

// TestPodsThatACordonKeptAwayAreRetried when it ends; other annotations help nobody.
func TestPodsThatACordonKeptAwayAreRetried(t *testing.T) {
	f := newFixture(t)
	f.node(cordoned("a", "GPU-0"), bt.MakeGPUNodeOf("a", 1, "80Gi"))
	pod := bt.MakePod("p").Memory("30Gi").Obj()
	f.park(pod)
	f.queue.take()
	f.pl.wake.Later = func(run func()) { run() }
	other := cordoned("a", "GPU-0")
	other.Annotations["example.test/heartbeat"] = "1"
	for _, change := range []struct {
		what  string
		after *corev1.Node
		want  fwk.QueueingHint
		woken []string
	}{
		{"another annotation", other, fwk.QueueSkip, nil},
		{"no cordon", bt.MakeNode("a"), fwk.Queue, []string{"p"}},
	} {
		before := f.nodes[0]
		f.changeNode("a", func(n *corev1.Node) { *n = *change.after })
		events, err := f.pl.EventsToRegister(f.ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if e.Event.Resource == fwk.Node && e.Event.ActionType&fwk.UpdateNodeAnnotation != 0 {
				if got, err := e.QueueingHintFn(klog.FromContext(f.ctx), pod, before, change.after); got != change.want || err != nil {
					t.Errorf("%s: %v, %v, want %v", change.what, got, err, change.want)
				}
			}
		}
		f.wantActivated(change.what, change.woken...)
	}
}

func TestThePodOfACordonedGPUIsTold(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("a"), bt.MakeGPUNodeOf("a", 2, "80Gi"))
	f.pl.feed.PodSeen(bt.MakePod("p").Memory("30Gi").Bound("a", epoch, "GPU-1=30Gi").Obj())
	f.pl.feed.PodSeen(bt.MakePod("q").Memory("30Gi").Bound("a", epoch, "GPU-0=30Gi").Obj())
	before, after := f.nodes[0], cordoned("a", "GPU-1,GPU-of-yore")
	f.changeNode("a", func(n *corev1.Node) { *n = *after })
	f.pl.faults.NodeSeen(before, after)
	f.clock.Step(faults.LostAfter + time.Millisecond)
	f.eventually("the owner is told", func() bool { return len(f.api.notes()) == 1 })
	if got := f.api.notes()[0]; !strings.HasPrefix(got, "p GPUCordoned: GPU 1 (GPU-1) of node a, which the pod was given, is cordoned. ") {
		t.Errorf("told %q", got)
	}
	f.eventually("the node is told", func() bool {
		return slices.ContainsFunc(f.told("CordonedGPUUnknown"), func(note string) bool { return strings.Contains(note, "does not report: GPU-of-yore.") })
	})
}

func TestThePodOfAGPUThatFailsIsTold(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("a"), bt.MakeGPUNodeOf("a", 2, "80Gi"))
	f.pl.feed.PodSeen(bt.MakePod("p").Memory("30Gi").Bound("a", epoch, "GPU-1=30Gi").Obj())
	report := func(reason string) {
		g := bt.MakeGPUNodeOf("a", 2, "80Gi").Obj()
		g.Status.Devices[1].Health, g.Status.Devices[1].Reason = berthv1alpha1.DeviceUnhealthy, reason
		f.pl.feed.ReportSeen(g, true)
		f.clock.Step(faults.LostAfter + time.Millisecond)
	}
	report("DriverUnavailable") // while the driver is replaced
	report("MIGModePending")
	if f.pl.world.Timers.Has("devices/a") || len(f.api.notes()) > 0 {
		t.Fatalf("told of no fault: %q", f.api.notes())
	}
	report("Xid79")
	f.eventually("the owner is told", func() bool { return len(f.api.notes()) == 1 })
	if got := f.api.notes()[0]; !strings.HasPrefix(got, "p GPUUnhealthy: GPU 1 (GPU-1) of node a, which the pod was given, is unhealthy: Xid79. ") {
		t.Errorf("told %q", got)
	}
}
