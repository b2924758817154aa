// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	testclock "k8s.io/utils/clock/testing"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
)

var (
	// epoch is where fake clocks start; the API's timestamps are in whole seconds.
	epoch      = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	bytesEqual = cmp.Comparer(func(a, b alloc.Bytes) bool { return a == b })
)

const testNode = "node"

// fixture is one node's tracker under a fake clock, with no headroom, so that figures in tests are round.
type fixture struct {
	t     *testing.T
	clock *testclock.FakeClock
	*Tracker
	node *corev1.Node
	// changed and reshaped count the calls of the tracker's callbacks.
	changed, reshaped int
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, clock: testclock.NewFakeClock(epoch), node: bt.MakeNode(testNode)}
	f.Tracker = NewTracker(alloc.Bytes{}, Policy{StaleAfter: time.Minute, LoadTimeout: 15 * time.Minute}, f.clock)
	f.Changed = func(string) { f.changed++ }
	f.Reshaped = func(string) { f.reshaped++ }
	return f
}

// report applies a live report.
func (f *fixture) report(g *bt.GPUNode) { f.ReportSeen(g.Obj(), true) }

// assume books an allocation as Reserve does, shares as in bt.Pod.Bound.
func (f *fixture) assume(p *bt.Pod, shares ...string) *corev1.Pod {
	f.t.Helper()
	pod := p.Obj()
	a, err := DecodeAllocation(bt.AllocationJSON(berthv1alpha1.Runtime(pod.Annotations[berthv1alpha1.AnnotationRuntime]), shares...))
	if err != nil {
		f.t.Fatal(err)
	}
	if err := f.Ledger.Assume(pod, testNode, a); err != nil {
		f.t.Fatal(err)
	}
	return pod
}

// view is what the node looks like to a query with those pods on it.
func (f *fixture) view(q Query, pods ...*corev1.Pod) View {
	return f.Viewer().View(f.node, pods, &q)
}

// wantFree checks the free memory of the devices in the order of their UUIDs, as quantities in GiB.
func (f *fixture) wantFree(what string, v View, want ...uint64) {
	f.t.Helper()
	got := make([]uint64, len(v.Devices))
	for i := range v.Devices {
		got[i] = v.Devices[i].Free().Uint64() >> 30
	}
	if diff := cmp.Diff(want, got); diff != "" {
		f.t.Errorf("%s: free GiB per device (-want +got):\n%s", what, diff)
	}
}

func (f *fixture) wantState(pod *corev1.Pod, want State) {
	f.t.Helper()
	var got State
	if e := f.Ledger.Get(pod.UID); e != nil {
		got = e.State
	}
	if got != want {
		f.t.Errorf("pod %s is in state %d, want %d", pod.Name, got, want)
	}
}
