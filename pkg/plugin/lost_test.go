// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/plugin/faults"
)

func TestRegressionThePodOfAGPUThatIsGoneIsTold(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("a"), bt.MakeGPUNodeOf("a", 2, "80Gi"))
	pod := func() *bt.Pod { return bt.MakePod("p").Memory("30Gi").Bound("a", epoch, "GPU-1=30Gi") }
	f.pl.feed.PodSeen(pod().Obj())
	f.pl.feed.PodSeen(bt.MakePod("q").Memory("30Gi").Bound("a", epoch, "GPU-0=30Gi").Obj())
	report := func(gpus int) { f.pl.feed.ReportSeen(bt.MakeGPUNodeOf("a", gpus, "80Gi").Obj(), true) }
	report(1)
	f.clock.Step(time.Second)
	report(2) // it was only away for a moment
	f.clock.Step(time.Minute)
	if got := f.api.notes(); len(got) != 0 {
		t.Fatalf("told of a GPU that is there: %q", got)
	}
	report(1)
	f.clock.Step(faults.LostAfter + time.Millisecond)
	f.eventually("the owner is told", func() bool { return len(f.api.notes()) == 1 })
	if got := f.api.notes()[0]; !strings.HasPrefix(got, "p GPULost: GPU GPU-1, which the pod was given, is no longer reported by node a. ") {
		t.Errorf("told %q", got)
	}
	// Nothing more, whatever happens, and whoever leads.
	f.pl.faults.Forget("p")
	f.pl.feed.PodSeen(pod().ResourceVersion("2").Obj())
	f.eventually("it is known that the owner was told", func() bool {
		f.clock.Step(faults.LostAfter + time.Millisecond)
		report(1)
		return !f.pl.world.Timers.Has("devices/a")
	})
	if got := f.api.notes(); len(got) != 1 {
		t.Errorf("told %q", got)
	}
}

// TestANodeThatReportsNoGPULosesNone at once: so it looks while a driver is loaded anew. What lasts is told as it is known.
func TestANodeThatReportsNoGPULosesNone(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("a"), bt.MakeGPUNodeOf("a", 2, "80Gi"))
	f.pl.feed.PodSeen(bt.MakePod("p").Memory("30Gi").Bound("a", epoch, "GPU-1=30Gi").Obj())
	cordons := cordoned("a", "GPU-1")
	before := f.nodes[0]
	f.changeNode("a", func(n *corev1.Node) { n.Annotations = cordons.Annotations })
	f.pl.faults.NodeSeen(before, cordons)
	f.clock.Step(faults.LostAfter + time.Millisecond)
	f.eventually("the owner is told of the cordon", func() bool { return len(f.api.notes()) == 1 })
	waits := func(what string) {
		t.Helper()
		f.eventually("no timer is due", func() bool { return !f.pl.world.Timers.Has("devices/a") })
		f.pl.faults.WatchDevices("a")
		got, unknown := f.api.notes(), f.told("CordonedGPUUnknown")
		if f.pl.world.Timers.Has("devices/a") || len(got) != 1 || len(unknown) > 0 {
			t.Fatalf("%s: told %q and %q, or about to be", what, got, unknown)
		}
	}
	grace := f.pl.args.DeviceLostGrace.Duration
	report := func(gpus int) { f.pl.feed.ReportSeen(bt.MakeGPUNodeOf("a", gpus, "80Gi").Obj(), true) }
	report(1)
	report(0)
	f.clock.Step(grace - time.Second) // the timer of the first of these fires
	waits("a driver that may be loaded anew")
	report(2)
	report(0)
	f.clock.Step(grace - time.Second)
	waits("another time")
	f.changeNode("a", func(n *corev1.Node) {
		n.Labels = map[string]string{berthv1alpha1.LabelDriverUpgradeState: "pod-restart-required"}
	})
	f.clock.Step(grace - time.Second)
	waits("a driver that is replaced")
	f.clock.Step(grace + time.Second)
	f.eventually("it is looked again after that", func() bool { return f.clock.HasWaiters() })
	f.changeNode("a", func(n *corev1.Node) { n.Labels = nil })
	f.eventually("the owner is told", func() bool {
		f.clock.Step(grace)
		return len(f.api.notes()) == 2
	})
	want := "p GPULost: Node a reports no GPU at all, those that the pod was given among them. If that stays so, a container that starts again gets none: delete the pod, "
	if got := f.api.notes()[1]; !strings.HasPrefix(got, want) {
		t.Errorf("told %q", got)
	}
}

func TestALossThatCannotBeToldIsToldLater(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("a"), bt.MakeGPUNodeOf("a", 1, "80Gi"))
	f.api.failEvents(true)
	f.pl.feed.PodSeen(bt.MakePod("p").Memory("30Gi").Bound("a", epoch, "GPU-1=30Gi").Obj())
	f.clock.Step(faults.LostAfter + time.Millisecond)
	f.eventually("it is to be tried again", func() bool { return f.pl.world.Timers.Has("devices/a") })
	f.api.failEvents(false)
	f.clock.Step(faults.LostRetry + time.Millisecond)
	f.eventually("the owner is told", func() bool { return len(f.api.notes()) == 1 })
}
