// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
)

// podA is bound to 30Gi of GPU-0, and runs.
func podA() *bt.Pod {
	return bt.MakePod("a").Memory("30Gi").Bound(testNode, epoch, "GPU-0=30Gi").Started(epoch).Ready(epoch)
}

// TestWhatIsFree: free = total − reserved − headroom − Σ max(booked, measured) − foreign.
func TestWhatIsFree(t *testing.T) {
	for _, tc := range []struct {
		name   string
		report *bt.GPUNode
		pods   []*bt.Pod
		query  Query
		want   []uint64
	}{
		{name: "an empty node", report: bt.MakeGPUNodeOf(testNode, 2, "80Gi"), want: []uint64{80, 80}},
		{name: "what the driver reserves", report: bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi").Reserved("2Gi"), want: []uint64{78}},
		{name: "booked, not loaded yet", report: bt.MakeGPUNodeOf(testNode, 2, "80Gi"), pods: []*bt.Pod{podA()}, want: []uint64{50, 80}},
		{
			name:   "booked and measured at less: the booking counts",
			report: bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi").Process("a", "10Gi"), pods: []*bt.Pod{podA()}, want: []uint64{50},
		},
		{
			name:   "booked 30Gi, measured 50Gi: 50Gi count",
			report: bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi").Process("a", "50Gi"), pods: []*bt.Pod{podA()}, want: []uint64{30},
		},
		{
			name:   "measured where nothing is booked",
			report: bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi").GPU("GPU-1", "80Gi").Process("a", "5Gi"), pods: []*bt.Pod{podA()}, want: []uint64{50, 75},
		},
		{name: "a foreign process of 60Gi", report: bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi").Process("", "60Gi"), want: []uint64{20}},
		{name: "in use by no process that anyone lists", report: bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi").Used("60Gi"), want: []uint64{20}},
		{
			name:   "the driver says less than its processes hold together",
			report: bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi").Process("", "40Gi").Process("", "20Gi").Used("10Gi"), want: []uint64{20},
		},
		{
			name:   "more in use than the pod and the foreign process explain",
			report: bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi").Process("a", "20Gi").Process("", "5Gi").Used("27Gi"),
			pods:   []*bt.Pod{podA()}, want: []uint64{43}, // 80 − 30 booked − 7 foreign
		},
		{
			name:   "a pod without a booking is charged what it is measured at",
			report: bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi").Process("plain", "10Gi"),
			pods:   []*bt.Pod{bt.MakePod("plain").Scheduler("default-scheduler").Node(testNode)}, want: []uint64{70},
		},
		{name: "a process of a pod that nobody knows", report: bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi").Process("gone", "10Gi"), want: []uint64{70}},
		{name: "more booked than there is", report: bt.MakeGPUNodeOf(testNode, 1, "20Gi"), pods: []*bt.Pod{podA()}, want: []uint64{0}},
		{name: "an unhealthy GPU", report: bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi").Unhealthy().GPU("GPU-1", "80Gi"), want: []uint64{0, 80}},
		{name: "a GPU held whole by a pod", report: bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi").AssignedTo("x").GPU("GPU-1", "80Gi"), want: []uint64{0, 80}},
		{
			name:   "an allocation of a version that nobody knows charges its devices whole",
			report: bt.MakeGPUNodeOf(testNode, 2, "80Gi"),
			pods:   []*bt.Pod{podA().Allocation(`{"version":9,"devices":[{"uuid":"GPU-1"}]}`)}, want: []uint64{80, 0},
		},
		{name: "a booking on a device that is gone", report: bt.MakeGPUNode(testNode).GPU("GPU-1", "80Gi"), pods: []*bt.Pod{podA()}, want: []uint64{80}},
		{
			name: "the pod being scheduled is not counted", report: bt.MakeGPUNodeOf(testNode, 1, "80Gi"), pods: []*bt.Pod{podA()},
			query: Query{Pod: "a"}, want: []uint64{80},
		},
		{
			name:   "a pod that is assumed to be gone gives back its booking, and what it is measured at",
			report: bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi").Process("a", "50Gi").Process("", "1Gi"), pods: []*bt.Pod{podA()},
			query: Query{Gone: sets.New[types.UID]("a")}, want: []uint64{79},
		},
		{
			name:   "orphaned processes count as drained, foreign ones do not",
			report: bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi").Process("gone", "10Gi").Process("", "20Gi"),
			query:  Query{Drained: true}, want: []uint64{60},
		},
		{
			name:   "a terminating pod counts as returned",
			report: bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi").Process("a", "50Gi"), pods: []*bt.Pod{podA().Terminating(epoch)},
			query: Query{Drained: true}, want: []uint64{80},
		},
		{
			name:   "so does one without a booking",
			report: bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi").Process("plain", "50Gi"),
			pods:   []*bt.Pod{bt.MakePod("plain").Node(testNode).Terminating(epoch)},
			query:  Query{Drained: true}, want: []uint64{80},
		},
		{
			name: "a terminating pod counts otherwise", report: bt.MakeGPUNodeOf(testNode, 1, "80Gi"), pods: []*bt.Pod{podA().Terminating(epoch)},
			want: []uint64{50},
		},
		{
			name:   "a living pod does not count as returned",
			report: bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi").Process("a", "50Gi"), pods: []*bt.Pod{podA()},
			query: Query{Drained: true}, want: []uint64{30},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			// Once with the pods in the ledger, as after their events; once with the ledger behind the list; and once
			// with the list behind the ledger.
			for _, known := range []string{"to both", "to the list only", "to the ledger only"} {
				f := newFixture(t)
				f.report(tc.report)
				var listed []*corev1.Pod
				berth := true
				for _, p := range tc.pods {
					pod := p.Obj()
					berth = berth && pod.Annotations[berthv1alpha1.AnnotationAllocation] != ""
					if known != "to the list only" {
						f.PodSeen(pod)
					}
					if known != "to the ledger only" {
						listed = append(listed, pod)
					}
				}
				if known == "to the ledger only" && !berth {
					continue // a pod without a booking is known from lists only
				}
				v := f.view(tc.query, listed...)
				f.wantFree("pods known "+known, v, tc.want...)
				if v.Reason != "" {
					t.Errorf("pods known %s: the node is unusable: %s", known, v.Reason)
				}
			}
		})
	}
}

func TestHeadroomIsKeptFree(t *testing.T) {
	f := newFixture(t)
	f.Tracker = NewTracker(alloc.GiB(1), f.Policy, f.clock)
	f.report(bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi").Reserved("1Gi"))
	f.wantFree("with headroom", f.view(Query{}), 78)
}

func TestWhyANodeCannotBeUsed(t *testing.T) {
	report := func() *bt.GPUNode { return bt.MakeGPUNodeOf(testNode, 1, "80Gi") }
	plugin := func() *corev1.Node { return bt.AdvertiseGPUs(bt.MakeNode(testNode), 1) }
	shared := func() *corev1.Node {
		n := plugin()
		n.Labels[berthv1alpha1.LabelDevicePlugin] = berthv1alpha1.DevicePluginShared
		return n
	}
	upgrading := func() *corev1.Node {
		n := bt.MakeNode(testNode)
		n.Labels[berthv1alpha1.LabelDriverUpgradeState] = "pod-restart-required"
		return n
	}
	whole := func() *bt.Pod { return bt.MakePod("w").Scheduler("default-scheduler").WholeGPUs(1).Node(testNode) }
	for _, tc := range []struct {
		name   string
		node   *corev1.Node
		report *bt.GPUNode
		silent time.Duration
		pods   []*bt.Pod
		want   alloc.Reason
	}{
		{name: "nothing is wrong", report: report()},
		{name: "no report", want: ReasonNoReport},
		{name: "a stale report", report: report(), silent: time.Hour, want: ReasonStaleReport},
		{name: "the device plugin's GPUs", node: plugin(), report: report(), want: ReasonDevicePlugin},
		{name: "a driver that is to be replaced", node: upgrading(), report: report(), want: ReasonDriverUpgrade},
		{name: "a driver that is to be replaced, the agent gone", node: upgrading(), report: report(), silent: time.Hour, want: ReasonDriverUpgrade},
		{name: "advertised, and none of them", node: bt.AdvertiseGPUs(bt.MakeNode(testNode), 0), report: report()},
		{name: "the device plugin's GPUs, shared by the admin", node: shared(), report: report()},
		{name: "a pod with whole GPUs that are not reported yet", node: shared(), report: report(), pods: []*bt.Pod{whole()}, want: ReasonUnreportedDevicePod},
		{name: "a pod with whole GPUs that are reported", node: shared(), report: report().AssignedTo("w"), pods: []*bt.Pod{whole()}},
		{name: "a pod with whole GPUs that has ended", node: shared(), report: report(), pods: []*bt.Pod{whole().Phase(corev1.PodSucceeded)}},
		{name: "a pod that asked for no GPU, with a limit of zero", node: shared(), report: report(), pods: []*bt.Pod{bt.MakePod("w").WholeGPUs(0).Node(testNode)}},
		{name: "bound without an allocation", report: report(), pods: []*bt.Pod{bt.MakePod("a").Memory("30Gi").Node(testNode)}},
		{name: "an allocation that cannot be read", report: report(), pods: []*bt.Pod{podA().Allocation("{")}, want: ReasonUnknownAllocation},
		{name: "bound without an allocation, of a model", report: report(), pods: []*bt.Pod{bt.MakePod("a").Model("ollama://x").Node(testNode)}},
		{name: "nominated, not bound", report: report(), pods: []*bt.Pod{bt.MakePod("a").Memory("30Gi")}},
		{name: "a plain pod", report: report(), pods: []*bt.Pod{bt.MakePod("plain").Node(testNode)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, seen := range []bool{true, false} {
				f := newFixture(t)
				if tc.node != nil {
					f.node = tc.node
				}
				if tc.report != nil {
					f.report(tc.report)
				}
				f.clock.Step(tc.silent)
				var pods []*corev1.Pod
				for _, p := range tc.pods {
					pods = append(pods, p.Obj())
					if seen {
						f.PodSeen(p.Obj())
					}
				}
				if got := f.view(Query{Pod: "new"}, pods...).Reason; got != tc.want {
					t.Errorf("pods seen %v: got %q, want %q", seen, got, tc.want)
				}
			}
		})
	}
}

// TestBookingsWhoseOutcomeIsOpen: promises count although no list has their pod, and once only if one has.
func TestBookingsWhoseOutcomeIsOpen(t *testing.T) {
	f := newFixture(t)
	f.report(bt.MakeGPUNodeOf(testNode, 1, "80Gi"))
	pod := f.assume(bt.MakePod("a").Memory("30Gi"), "GPU-0=30Gi")
	assumed := bt.MakePod("a").Memory("30Gi").Node(testNode).Obj()
	f.wantFree("assumed, unlisted", f.view(Query{}), 50)
	f.wantFree("assumed, listed", f.view(Query{}, assumed), 50)
	f.Ledger.MarkUnknown(pod.UID)
	f.wantFree("in doubt, unlisted", f.view(Query{}), 50)
	f.wantFree("in doubt, although all that is on its way back is back", f.view(Query{Drained: true}), 50)
	f.wantFree("in doubt, for the pod itself", f.view(Query{Pod: "a"}), 80)
	f.wantFree("in doubt, as a victim", f.view(Query{Gone: sets.New[types.UID]("a")}), 80)
	f.Ledger.Refute(pod.UID)
	f.wantFree("refuted", f.view(Query{}), 80)
}

// TestConfirmedBookingCountsBeforeTheListHasIt: the plugin's handler hears of a binding that was in doubt before the
// scheduler's own cache does, or while a cycle looks at a snapshot from before.
func TestConfirmedBookingCountsBeforeTheListHasIt(t *testing.T) {
	f := newFixture(t)
	f.report(bt.MakeGPUNodeOf(testNode, 1, "80Gi"))
	pod := f.assume(bt.MakePod("a").Memory("30Gi"), "GPU-0=30Gi")
	f.Ledger.MarkUnknown(pod.UID)
	f.PodSeen(podA().Obj())
	f.wantState(pod, Confirmed)
	f.wantFree("confirmed, unlisted", f.view(Query{}), 50)
}

func TestViewOrderDoesNotMatter(t *testing.T) {
	f := newFixture(t)
	f.report(bt.MakeGPUNodeOf(testNode, 1, "80Gi"))
	var pods []*corev1.Pod
	for _, name := range []string{"a", "b", "c", "d"} {
		p := bt.MakePod(name).Memory("10Gi").Bound(testNode, epoch, "GPU-0=10Gi").Obj()
		f.PodSeen(p)
		pods = append(pods, p)
	}
	plain := bt.MakePod("plain").Node(testNode).Obj()
	f.wantFree("in order", f.view(Query{}, pods...), 40)
	f.wantFree("backwards, with a plain pod, one not listed", f.view(Query{}, pods[3], pods[2], plain, pods[0]), 40)
	f.wantFree("one as a victim", f.view(Query{Gone: sets.New[types.UID]("b")}, pods[0], pods[2], pods[3]), 50)
}

func TestExplainSaysWhoIsChargedForWhat(t *testing.T) {
	f := newFixture(t)
	f.report(bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi").Process("a", "50Gi").Process("", "5Gi").GPU("GPU-1", "80Gi").Process("plain", "1Gi"))
	a, plain := podA().Obj(), bt.MakePod("plain").Node(testNode).Obj()
	f.PodSeen(a)
	f.assume(bt.MakePod("b").Memory("20Gi"), "GPU-1=20Gi")
	q := Query{}
	v := f.Viewer().Explain(f.node, []*corev1.Pod{a, plain}, &q)
	gib := func(n ...uint64) (out []alloc.Bytes) {
		for _, n := range n {
			out = append(out, alloc.GiB(n))
		}
		return out
	}
	want := []Charge{
		{UID: "a", Namespace: "default", Name: "a", State: Confirmed, Booked: gib(30, 0), Measured: gib(50, 0), Charged: gib(50, 0)},
		{UID: "plain", Namespace: "default", Name: "plain", Booked: gib(0, 0), Measured: gib(0, 1), Charged: gib(0, 1)},
		{UID: "b", Namespace: "default", Name: "b", State: Assumed, Booked: gib(0, 20), Measured: gib(0, 0), Charged: gib(0, 20)},
	}
	if diff := cmp.Diff(want, v.Charges, bytesEqual); diff != "" {
		t.Errorf("charges (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(gib(5, 0), v.Foreign, bytesEqual); diff != "" {
		t.Errorf("foreign (-want +got):\n%s", diff)
	}
	f.wantFree("the same as View", v, 25, 59)
}
