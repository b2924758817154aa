// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
)

// TestViewsAreRecalled until any of their inputs is another.
func TestViewsAreRecalled(t *testing.T) {
	loading := bt.MakePod("l").Memory("10Gi").Runtime(vllm).Bound(testNode, epoch, "GPU-1=10Gi").Started(epoch)
	for _, tc := range []struct {
		name string
		// before the view is made, and between that and when it is asked for again
		before, change func(*fixture)
		query          func(*Query)
		want           bool
	}{
		{name: "nothing changed", want: true},
		{name: "for another pod that is alike", query: func(q *Query) { q.Pod = "other" }, want: true},
		{name: "a second later", change: func(f *fixture) { f.clock.Step(time.Second) }, want: true},
		{name: "another list of pods", query: func(q *Query) { q.Generation = 8 }},
		{name: "a list without a name", query: func(q *Query) { q.Generation = 0 }},
		{name: "for an engine that minds loaders", query: func(q *Query) { q.Runtime = vllm }},
		{name: "with loaders left out", query: func(q *Query) { q.Loaded = true }},
		{name: "with victims", query: func(q *Query) { q.Gone = sets.New[types.UID]("a") }},
		{name: "once all is back", query: func(q *Query) { q.Drained = true }},
		{name: "a report, be it the same", change: func(f *fixture) { f.report(bt.MakeGPUNodeOf(testNode, 2, "80Gi")) }},
		{name: "a booking", change: func(f *fixture) { f.assume(bt.MakePod("b").Memory("1Gi"), "GPU-1=1Gi") }},
		{name: "a booking that is taken back", change: func(f *fixture) {
			f.assume(bt.MakePod("b").Memory("1Gi"), "GPU-1=1Gi")
			f.Ledger.Forget("b")
		}},
		{name: "news of a booked pod", change: func(f *fixture) { f.PodSeen(podA().Terminating(epoch).Obj()) }},
		{name: "the node is another object", change: func(f *fixture) { f.node = bt.MakeNode(testNode) }},
		{name: "the agent fell silent", change: func(f *fixture) { f.clock.Step(2 * time.Minute) }},
		{name: "the node's report is gone", change: func(f *fixture) { f.ReportGone(testNode) }},
		{name: "for a pod that is booked there itself", query: func(q *Query) { q.Pod = "a" }},
		{
			name: "a pod is loading: that ends by time", before: func(f *fixture) { f.PodSeen(loading.Obj()) },
			query: func(q *Query) { q.Runtime = vllm },
		},
		{
			name: "a pod drains: that ends by time", before: func(f *fixture) {
				f.report(bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi").Process("g", "1Gi"))
				gone := bt.MakePod("g").Memory("1Gi").Bound(testNode, epoch, "GPU-0=1Gi").Started(epoch)
				f.PodSeen(gone.Obj())
				f.PodGone(gone.Obj())
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			f.report(bt.MakeGPUNodeOf(testNode, 2, "80Gi"))
			f.PodSeen(podA().Obj())
			if tc.before != nil {
				tc.before(f)
			}
			q := Query{Pod: "new", Runtime: custom, Generation: 7}
			if tc.before != nil && tc.query != nil {
				tc.query(&q)
			}
			made := f.view(q, podA().Obj())
			if tc.change != nil {
				tc.change(f)
			}
			if tc.query != nil {
				tc.query(&q)
			}
			got, ok := f.Viewer().Recall(f.node, &q)
			if ok != tc.want {
				t.Fatalf("recalled: %v, want %v", ok, tc.want)
			}
			if ok && &got.Devices[0] != &made.Devices[0] {
				t.Error("another view was recalled")
			}
		})
	}
}

// TestReturnedViewsAreRecalledWithCharges, which preemption looks at on every node.
func TestReturnedViewsAreRecalledWithCharges(t *testing.T) {
	f := newFixture(t)
	f.report(bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi").Process("gone", "30Gi").Process("a", "10Gi"))
	f.PodSeen(podA().Obj())
	q := Query{Pod: "new", Runtime: custom, Generation: 7, Drained: true, Loaded: true}
	made := f.Viewer().Explain(f.node, []*corev1.Pod{podA().Obj()}, &q)
	got, ok := f.Viewer().Recall(f.node, &q)
	if !ok || len(got.Charges) != 1 || got.Charges[0].UID != "a" || &got.Devices[0] != &made.Devices[0] {
		t.Errorf("recalled %v: charges %+v", ok, got.Charges)
	}
	f.report(bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi").Process("", "30Gi").Process("a", "10Gi"))
	if _, ok := f.Viewer().Recall(f.node, &q); ok {
		t.Error("recalled after another report")
	}
}

// claim books 60Gi of the first device for a nominated pod.
func (f *fixture) claim(name string, priority int32, c Claim) *corev1.Pod {
	f.t.Helper()
	pod := bt.MakePod(name).Memory("60Gi").Priority(priority).Obj()
	if _, err := f.Ledger.Claim(pod, testNode, []alloc.DeviceShare{{UUID: "GPU-0", Memory: alloc.GiB(60)}}, c); err != nil {
		f.t.Fatal(err)
	}
	return pod
}

// TestClaimsAreNotRemembered: what nominated pods claim counts by priority, so it is no property of the node.
func TestClaimsAreNotRemembered(t *testing.T) {
	f := newFixture(t)
	f.report(bt.MakeGPUNodeOf(testNode, 1, "80Gi"))
	f.claim("n", 10, Claim{})
	q := Query{Pod: "new", Runtime: custom, Generation: 7, Priority: 10}
	f.wantFree("with a claim", f.view(q), 20)
	held, _ := f.Viewer().Recall(f.node, &q)
	f.wantFree("with a claim, recalled", held, 20)
	q.Priority = 11
	free, ok := f.Viewer().Recall(f.node, &q)
	f.wantFree("without", free, 80)
	if !ok {
		t.Error("not recalled")
	}
}

// TestOlderSnapshotDoesNotRecallNewer: a cycle sees what it pinned.
func TestOlderSnapshotDoesNotRecallNewer(t *testing.T) {
	f := newFixture(t)
	f.report(bt.MakeGPUNodeOf(testNode, 1, "80Gi"))
	pinned := f.Viewer()
	q := Query{Pod: "new", Runtime: custom, Generation: 7}
	f.report(bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi").Process("", "30Gi"))
	f.wantFree("now", f.view(q), 50)
	if _, ok := pinned.Recall(f.node, &q); ok {
		t.Error("the older snapshot recalls the newer view")
	}
	f.wantFree("then", pinned.View(f.node, []*corev1.Pod{}, &q), 80)
}

// TestFitsAreRememberedWithTheView and for its requests alone.
func TestFitsAreRememberedWithTheView(t *testing.T) {
	f := newFixture(t)
	f.report(bt.MakeGPUNodeOf(testNode, 1, "80Gi"))
	q := Query{Pod: "new", Runtime: custom, Generation: 7}
	made := f.view(q)
	made.RememberFit(5, Fit{Fits: true, Score: 100})
	made.RememberFit(6, Fit{})
	recalled, _ := f.Viewer().Recall(f.node, &q)
	for _, v := range []View{made, recalled} {
		if got, ok := v.Fit(5); !ok || got != (Fit{Fits: true, Score: 100}) {
			t.Errorf("request 5: %+v, remembered: %v", got, ok)
		}
		if got, ok := v.Fit(6); !ok || got != (Fit{}) {
			t.Errorf("request 6: %+v, remembered: %v", got, ok)
		}
		for _, other := range []uint64{0, 1, 9, 5 << 8} {
			if got, ok := v.Fit(other); ok {
				t.Errorf("request %d: %+v, though nothing was found out", other, got)
			}
		}
	}
	n := f.claim("n", 10, Claim{})
	if v, _ := f.Viewer().Recall(f.node, &q); hasFit(&v, 5) {
		t.Error("what a nominated pod claims does not count")
	}
	f.Ledger.Unclaim(n.UID)
	f.report(bt.MakeGPUNodeOf(testNode, 1, "40Gi"))
	if v := f.view(q); hasFit(&v, 5) {
		t.Error("another view has it as well")
	}
}

func hasFit(v *View, number uint64) bool {
	_, ok := v.Fit(number)
	return ok
}
