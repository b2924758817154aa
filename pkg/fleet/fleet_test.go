// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	testclock "k8s.io/utils/clock/testing"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/fleet"
	"github.com/berth-dev/berth/pkg/gpustate"
)

var epoch = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

const (
	h100 = "NVIDIA H100 80GB HBM3"
	gib  = float64(1 << 30)
)

// world is a cluster whose tracker is told what happens. There is no headroom, so that figures are round.
type world struct {
	t       *testing.T
	clock   *testclock.FakeClock
	tracker *gpustate.Tracker
	cluster fleet.Cluster
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, clock: testclock.NewFakeClock(epoch)}
	w.tracker = gpustate.NewTracker(alloc.Bytes{}, gpustate.Policy{StaleAfter: time.Minute, LoadTimeout: time.Hour}, w.clock)
	w.cluster.MemoryReturnTimeout = 2 * time.Minute
	return w
}

// node adds a node with its report, which may be none.
func (w *world) node(name string, report *bt.GPUNode) *corev1.Node {
	node := bt.MakeNode(name)
	w.cluster.Nodes = append(w.cluster.Nodes, node)
	if report != nil {
		w.tracker.ReportSeen(report.Obj(), true)
	}
	return node
}

func (w *world) pods(pods ...*bt.Pod) {
	for _, p := range pods {
		w.cluster.Pods = append(w.cluster.Pods, p.Obj())
		w.tracker.PodSeen(p.Obj())
	}
}

// gone takes a pod away.
func (w *world) gone(name string) {
	kept := w.cluster.Pods[:0]
	for _, p := range w.cluster.Pods {
		if p.Name == name {
			w.tracker.PodGone(p)
		} else {
			kept = append(kept, p)
		}
	}
	w.cluster.Pods = kept
}

func (w *world) measure() *fleet.Numbers {
	w.cluster.Viewer = w.tracker.Viewer()
	n := fleet.Measure(&w.cluster)
	w.cluster.Orphans = n.Orphans
	return n
}

// figures are the amounts of a model in GiB, those that are zero left out, and its devices by state.
type figures map[string]float64

func figuresOf(a *fleet.Amounts) figures {
	f := figures{}
	if a == nil {
		return f
	}
	for name, b := range map[string]alloc.Bytes{
		"total": a.Total, "capacity": a.Capacity, "booked": a.Booked, "measured": a.Measured, "foreign": a.Foreign, "held": a.Held,
		"returning": a.Returning, "overdue": a.Overdue, "overused": a.Overused, "free": a.Free, "largest": a.LargestFree, "blocked": a.Blocked,
	} {
		if !b.IsZero() {
			f[name] = float64(b.Uint64()) / gib
		}
	}
	if a.Fragmented != 0 {
		f["fragmented"] = a.Fragmented / gib
	}
	for state, n := range a.Devices {
		if n != 0 {
			f[fleet.State(state).String()] = float64(n)
		}
	}
	return f
}

func (w *world) want(what string, got *fleet.Amounts, want figures) {
	w.t.Helper()
	if diff := cmp.Diff(want, figuresOf(got), cmpopts.EquateApprox(1e-9, 0)); diff != "" {
		w.t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestAmounts(t *testing.T) {
	bound := func(name string, memory string) *bt.Pod {
		return bt.MakePod(name).Memory(memory).Bound("n", epoch, "GPU-0="+memory).Started(epoch).Ready(epoch)
	}
	tests := []struct {
		name  string
		setUp func(*world)
		want  figures
	}{
		{
			name:  "an empty node",
			setUp: func(w *world) { w.node("n", bt.MakeGPUNodeOf("n", 2, "80Gi")) },
			want:  figures{"total": 160, "capacity": 160, "free": 160, "largest": 80, "available": 2},
		},
		{
			name: "what the driver reserves cannot be booked",
			setUp: func(w *world) {
				w.node("n", bt.MakeGPUNode("n").GPU("GPU-0", "80Gi").Reserved("1Gi"))
			},
			want: figures{"total": 80, "capacity": 79, "free": 79, "largest": 79, "available": 1},
		},
		{
			name: "a pod that holds less than it booked; what is free is too small for another like it",
			setUp: func(w *world) {
				w.node("n", bt.MakeGPUNode("n").GPU("GPU-0", "80Gi").Process("a", "40Gi"))
				w.pods(bound("a", "50Gi"))
			},
			want: figures{"total": 80, "capacity": 80, "booked": 50, "measured": 40, "free": 30, "largest": 30, "fragmented": 30, "available": 1},
		},
		{
			name: "a pod that holds more than it booked",
			setUp: func(w *world) {
				w.node("n", bt.MakeGPUNode("n").GPU("GPU-0", "80Gi").Process("a", "40Gi"))
				w.pods(bound("a", "30Gi"))
			},
			want: figures{"total": 80, "capacity": 80, "booked": 30, "measured": 40, "overused": 10, "free": 40, "largest": 40, "available": 1},
		},
		{
			name: "a little more than booked is no overuse",
			setUp: func(w *world) {
				w.node("n", bt.MakeGPUNode("n").GPU("GPU-0", "80Gi").Process("a", "30976Mi")) // 30.25 GiB
				w.pods(bound("a", "30Gi"))
			},
			want: figures{"total": 80, "capacity": 80, "booked": 30, "measured": 30.25, "free": 49.75, "largest": 49.75, "available": 1},
		},
		{
			name: "processes of no pod, and those of a pod that books nothing",
			setUp: func(w *world) {
				w.node("n", bt.MakeGPUNode("n").GPU("GPU-0", "80Gi").Process("", "5Gi").Process("other", "10Gi"))
				w.pods(bt.MakePod("other").Scheduler("default-scheduler").Node("n"))
			},
			want: figures{"total": 80, "capacity": 80, "measured": 15, "foreign": 5, "free": 65, "largest": 65, "available": 1},
		},
		{
			name: "a promise that is not bound yet counts as booked",
			setUp: func(w *world) {
				w.node("n", bt.MakeGPUNode("n").GPU("GPU-0", "80Gi"))
				a := &gpustate.Allocation{Devices: []alloc.DeviceShare{{UUID: "GPU-0", Memory: alloc.GiB(20)}}}
				if err := w.tracker.Ledger.Assume(bt.MakePod("a").Memory("20Gi").Obj(), "n", a); err != nil {
					w.t.Fatal(err)
				}
			},
			want: figures{"total": 80, "capacity": 80, "booked": 20, "free": 60, "largest": 60, "available": 1},
		},
		{
			name: "what a waiting pod claims is held, and not free; what it holds later is free until then",
			setUp: func(w *world) {
				w.node("n", bt.MakeGPUNode("n").GPU("GPU-0", "80Gi"))
				for name, from := range map[string]time.Time{"now": {}, "later": epoch.Add(time.Hour)} {
					share := []alloc.DeviceShare{{UUID: "GPU-0", Memory: alloc.GiB(25)}}
					claim := gpustate.Claim{HoldsFrom: from, Deadline: epoch.Add(2 * time.Hour)}
					if _, err := w.tracker.Ledger.Claim(bt.MakePod(name).Memory("25Gi").Priority(-5).Obj(), "n", share, claim); err != nil {
						w.t.Fatal(err)
					}
				}
			},
			want: figures{"total": 80, "capacity": 80, "held": 25, "free": 55, "largest": 55, "available": 1},
		},
		{
			name: "an unhealthy GPU has nothing free, and is not capacity that is lost to sight",
			setUp: func(w *world) {
				w.node("n", bt.MakeGPUNodeOf("n", 2, "80Gi").Unhealthy())
			},
			want: figures{"total": 160, "capacity": 160, "free": 80, "largest": 80, "blocked": 80, "available": 1, "unhealthy": 1},
		},
		{
			name: "a GPU that is held whole, and one on a node whose device plugin may give it away",
			setUp: func(w *world) {
				w.node("n", bt.MakeGPUNodeOf("n", 2, "80Gi").AssignedTo("pod"))
				bt.AdvertiseGPUs(w.cluster.Nodes[0], 2)
			},
			want: figures{"total": 160, "capacity": 160, "blocked": 160, "assigned": 1, "not-ours": 1},
		},
		{
			name: "a cordoned node",
			setUp: func(w *world) {
				w.node("n", bt.MakeGPUNodeOf("n", 1, "80Gi")).Spec.Unschedulable = true
			},
			want: figures{"total": 80, "capacity": 80, "blocked": 80, "cordoned": 1},
		},
		{
			name: "one GPU of a node is cordoned",
			setUp: func(w *world) {
				w.node("n", bt.MakeGPUNodeOf("n", 2, "80Gi")).Annotations = map[string]string{berthv1alpha1.AnnotationCordonedGPUs: "GPU-1"}
			},
			want: figures{"total": 160, "capacity": 160, "free": 80, "largest": 80, "blocked": 80, "available": 1, "cordoned": 1},
		},
		{
			name: "a node that waits for a driver upgrade has no agent, which is as it should be",
			setUp: func(w *world) {
				w.node("n", bt.MakeGPUNodeOf("n", 1, "80Gi")).Labels[berthv1alpha1.LabelDriverUpgradeState] = "pod-restart-required"
				w.clock.Step(time.Hour)
			},
			want: figures{"total": 80, "capacity": 80, "blocked": 80, "driver-upgrade": 1},
		},
		{
			name: "of a node whose agent is silent nothing is known, not even that a GPU is unhealthy",
			setUp: func(w *world) {
				w.node("n", bt.MakeGPUNodeOf("n", 2, "80Gi").Unhealthy())
				w.clock.Step(61 * time.Second)
			},
			want: figures{"total": 160, "capacity": 160, "blocked": 160, "stale": 2},
		},
		{
			name: "a GPU that two nodes report",
			setUp: func(w *world) {
				w.node("n", bt.MakeGPUNodeOf("n", 1, "80Gi"))
				w.node("m", bt.MakeGPUNodeOf("m", 1, "80Gi"))
			},
			want: figures{"total": 160, "capacity": 160, "blocked": 160, "contested": 2},
		},
		{
			name: "a pod whose allocation cannot be read",
			setUp: func(w *world) {
				w.node("n", bt.MakeGPUNodeOf("n", 1, "80Gi"))
				w.pods(bt.MakePod("a").Memory("1Gi").Node("n").Allocation("nonsense"))
			},
			want: figures{"total": 80, "capacity": 80, "blocked": 80, "unknown-allocation": 1},
		},
		{
			name:  "a node without a report has no GPUs",
			setUp: func(w *world) { w.node("n", nil) },
			want:  figures{},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tt.setUp(w)
			n := w.measure()
			w.want("amounts", n.Models[h100], tt.want)
			if n.PerNode != nil {
				t.Error("numbers of nodes that nobody asked for")
			}
		})
	}
}

// TestInstancesCountInPlaceOfTheirGPU: else its memory would count twice.
func TestInstancesCountInPlaceOfTheirGPU(t *testing.T) {
	w := newWorld(t)
	w.node("n", bt.MakeGPUNodeOf("n", 1, "80Gi").Instance("MIG-1", "GPU-0", "40Gi").Process("a", "10Gi").Instance("MIG-2", "GPU-0", "40Gi"))
	w.pods(bt.MakePod("a").Memory("20Gi").Bound("n", epoch, "MIG-1=20Gi").Started(epoch))
	n := w.measure()
	w.want("the GPU", n.Models[h100], figures{"cut": 1})
	w.want("its instances", n.Models[h100+" MIG 3g.40gb"],
		figures{"total": 80, "capacity": 80, "booked": 20, "measured": 10, "free": 60, "largest": 40, "available": 2})
}

// TestMemoryOfPodsThatAreGone is told apart from what is nobody's, by a scheduler that saw the pod leave and by one that was
// started later, and is overdue after memoryReturnTimeout.
func TestMemoryOfPodsThatAreGone(t *testing.T) {
	for name, sawIt := range map[string]bool{"seen to leave": true, "gone before": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			report := bt.MakeGPUNode("n").GPU("GPU-0", "80Gi").Process("a", "30Gi").Process("", "1Gi")
			w.node("n", report)
			if sawIt {
				w.pods(bt.MakePod("a").Memory("30Gi").Bound("n", epoch, "GPU-0=30Gi").Started(epoch).Ready(epoch))
				w.gone("a")
			}
			held := figures{"total": 80, "capacity": 80, "measured": 31, "foreign": 1, "returning": 30, "free": 49, "largest": 49, "available": 1}
			w.want("at first", w.measure().Models[h100], held)
			w.clock.Step(2 * time.Minute)
			w.tracker.ReportSeen(report.Obj(), true)
			w.want("in time", w.measure().Models[h100], held)
			w.clock.Step(time.Second)
			held["overdue"] = 30
			w.want("too late", w.measure().Models[h100], held)
			w.tracker.ReportSeen(bt.MakeGPUNode("n").GPU("GPU-0", "80Gi").Process("", "1Gi").Obj(), true)
			n := w.measure()
			w.want("when it is back", n.Models[h100],
				figures{"total": 80, "capacity": 80, "measured": 1, "foreign": 1, "free": 79, "largest": 79, "available": 1})
			if len(n.Orphans) > 0 {
				t.Errorf("%v is remembered for ever", n.Orphans)
			}
		})
	}
}

func TestByNodeAndByNamespace(t *testing.T) {
	w := newWorld(t)
	w.cluster.PerNode = true
	w.node("m", bt.MakeGPUsOf("m", 1, "80Gi").Process("a", "5Gi"))
	w.node("n", bt.MakeGPUsOf("n", 1, "80Gi"))
	a := bt.MakePod("a").Memory("20Gi").Bound("m", epoch, "GPU-m-0=20Gi").Started(epoch)
	b := bt.MakePod("b").Memory("30Gi").Bound("n", epoch, "GPU-n-0=30Gi").Started(epoch)
	b.Namespace = "team-b"
	w.pods(a, b)
	n := w.measure()
	w.want("both", n.Models[h100], figures{
		"total": 160, "capacity": 160, "booked": 50, "measured": 5, "free": 110, "largest": 60, "available": 2,
	})
	w.want("node m", n.PerNode[fleet.NodeModel{Node: "m", Model: h100}], figures{
		"total": 80, "capacity": 80, "booked": 20, "measured": 5, "free": 60, "largest": 60, "available": 1,
	})
	want := map[fleet.NamespaceModel]fleet.Used{
		{Namespace: "default", Model: h100}: {Booked: alloc.GiB(20), Measured: alloc.GiB(5)},
		{Namespace: "team-b", Model: h100}:  {Booked: alloc.GiB(30)},
	}
	if diff := cmp.Diff(want, n.Namespaces, cmp.AllowUnexported(alloc.Bytes{})); diff != "" {
		t.Errorf("namespaces (-want +got):\n%s", diff)
	}
}

// TestWhatShouldNotBe: counts of what an admin must look at.
func TestWhatShouldNotBe(t *testing.T) {
	w := newWorld(t)
	w.node("fresh", bt.MakeGPUsOf("fresh", 1, "80Gi").Process("a", "41Gi"))
	w.node("silent", nil)
	w.tracker.ReportSeen(bt.MakeGPUsOf("silent", 1, "80Gi").Obj(), false)
	w.node("upgraded", nil).Labels[berthv1alpha1.LabelDriverUpgradeState] = "pod-restart-required"
	w.tracker.ReportSeen(bt.MakeGPUsOf("upgraded", 1, "80Gi").Obj(), false)
	w.node("unreadable", nil)
	w.tracker.ReportUnreadable("unreadable")
	w.node("without GPUs", nil)
	w.node("x", bt.MakeGPUNodeOf("x", 1, "80Gi"))
	w.node("y", bt.MakeGPUNodeOf("y", 1, "80Gi"))
	w.pods(bt.MakePod("a").Memory("40Gi").Bound("fresh", epoch, "GPU-fresh-0=40Gi").Started(epoch),
		bt.MakePod("b").Memory("41Gi").Bound("fresh", epoch, "GPU-fresh-0=41Gi").Started(epoch))
	n := w.measure()
	got := fmt.Sprint(n.Reports[fleet.Fresh], n.Reports[fleet.Silent], n.Reports[fleet.Upgrading], n.Reports[fleet.Unreadable], n.Overbooked, n.Contested, n.Overusing)
	if want := "3 1 1 1 1 2 1"; got != want {
		t.Errorf("fresh, silent, upgrading and unreadable reports, overbooked and contested GPUs, overusing pods: %s, want %s", got, want)
	}
}

// TestModelsAreBounded: a node that reports another model each time must not make metrics grow.
func TestModelsAreBounded(t *testing.T) {
	w := newWorld(t)
	for i := range 70 {
		name := fmt.Sprintf("n%02d", i)
		w.node(name, bt.MakeGPUsOf(name, 1, fmt.Sprintf("%dGi", 100-i)).Model(fmt.Sprintf("model %02d", i)))
	}
	n := w.measure()
	if len(n.Models) != 65 {
		t.Errorf("%d models, want 64 and others", len(n.Models))
	}
	// The six smallest have 31 to 36 GiB.
	w.want("the others", n.Models["other"], figures{
		"total": 201, "capacity": 201, "free": 201, "largest": 36, "available": 6,
	})
}
