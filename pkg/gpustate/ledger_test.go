// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
)

// TestLedgerTransitions: in every state, every event leads where the drawing of State says, and once more changes
// nothing.
func TestLedgerTransitions(t *testing.T) {
	const none State = 0
	pod := bt.MakePod("a").Memory("30Gi").Bound(testNode, epoch, "GPU-0=30Gi").Started(epoch).Obj()
	booking, err := BookingOf(pod)
	if err != nil {
		t.Fatal(err)
	}
	held := bt.MakeGPUNodeOf(testNode, 1, "80Gi").Process("a", "20Gi").Obj()
	report := newReport(held, alloc.Bytes{}, nil, epoch)

	states := map[State]func(*Ledger){
		none:      func(*Ledger) {},
		Assumed:   func(l *Ledger) { _ = l.Assume(pod, testNode, booking) },
		Unknown:   func(l *Ledger) { _ = l.Assume(pod, testNode, booking); l.MarkUnknown(pod.UID) },
		Confirmed: func(l *Ledger) { l.Confirm(pod, booking) },
		Draining:  func(l *Ledger) { l.Confirm(pod, booking); l.Leave(pod.UID, report) },
	}
	for _, tc := range []struct {
		event string
		do    func(*Ledger)
		want  map[State]State
	}{
		{"Assume", func(l *Ledger) { _ = l.Assume(pod, testNode, booking) }, map[State]State{
			none: Assumed, Assumed: Assumed, Unknown: Unknown, Confirmed: Confirmed, Draining: Draining}},
		{"Confirm", func(l *Ledger) { l.Confirm(pod, booking) }, map[State]State{
			none: Confirmed, Assumed: Confirmed, Unknown: Confirmed, Confirmed: Confirmed, Draining: Draining}},
		{"BoundWithout", func(l *Ledger) { l.BoundWithout(pod.UID) }, map[State]State{
			none: none, Assumed: none, Unknown: none, Confirmed: none, Draining: Draining}},
		{"MarkUnknown", func(l *Ledger) { l.MarkUnknown(pod.UID) }, map[State]State{
			none: none, Assumed: Unknown, Unknown: Unknown, Confirmed: Confirmed, Draining: Draining}},
		{"Forget", func(l *Ledger) { l.Forget(pod.UID) }, map[State]State{
			none: none, Assumed: none, Unknown: Unknown, Confirmed: Confirmed, Draining: Draining}},
		{"Refute", func(l *Ledger) { l.Refute(pod.UID) }, map[State]State{
			none: none, Assumed: Assumed, Unknown: none, Confirmed: Confirmed, Draining: Draining}},
		{"Leave, its processes still measured", func(l *Ledger) { l.Leave(pod.UID, report) }, map[State]State{
			none: none, Assumed: Draining, Unknown: Draining, Confirmed: Draining, Draining: Draining}},
		{"Leave, the node without a report", func(l *Ledger) { l.Leave(pod.UID, nil) }, map[State]State{
			none: none, Assumed: none, Unknown: none, Confirmed: none, Draining: Draining}},
		{"Settle", func(l *Ledger) { l.Settle(pod.UID) }, map[State]State{
			none: none, Assumed: Assumed, Unknown: Unknown, Confirmed: Confirmed, Draining: none}},
	} {
		for from, arrange := range states {
			f := newFixture(t)
			l := f.Ledger
			arrange(l)
			f.wantState(pod, from)
			tc.do(l)
			if got := stateOf(l, pod); got != tc.want[from] {
				t.Errorf("%s in state %d led to %d, want %d", tc.event, from, got, tc.want[from])
			}
			before := l.OnNode(testNode)
			f.clock.Step(time.Second)
			tc.do(l)
			if got := stateOf(l, pod); got != tc.want[from] {
				t.Errorf("%s in state %d, again, led to %d, want %d", tc.event, from, got, tc.want[from])
			}
			if len(l.OnNode(testNode)) != len(before) || len(before) != min(1, int(tc.want[from])) {
				t.Errorf("%s in state %d: %d entries on the node, then %d, for state %d", tc.event, from, len(before), len(l.OnNode(testNode)), tc.want[from])
			}
		}
	}
}

func stateOf(l *Ledger, pod *corev1.Pod) State {
	if e := l.Get(pod.UID); e != nil {
		return e.State
	}
	return 0
}

func TestForgottenPromiseLeavesNoTrace(t *testing.T) {
	f := newFixture(t)
	f.report(bt.MakeGPUNodeOf(testNode, 2, "80Gi"))
	before := f.view(Query{})
	pod := f.assume(bt.MakePod("a").Memory("30Gi"), "GPU-0=30Gi")
	f.wantFree("assumed", f.view(Query{}), 50, 80)
	f.Ledger.Forget(pod.UID)
	if diff := cmp.Diff(before, f.view(Query{}), bytesEqual, cmp.AllowUnexported(Report{}, podUse{}), cmpopts.IgnoreUnexported(View{})); diff != "" {
		t.Errorf("the view after Forget (-before +after):\n%s", diff)
	}
	if e, on := f.Ledger.Get(pod.UID), f.Ledger.OnNode(testNode); e != nil || len(on) > 0 {
		t.Errorf("left in the ledger: %v, %v", e, on)
	}
}

func TestPromiseOfAnotherNodeReplacesTheFirst(t *testing.T) {
	f := newFixture(t)
	f.report(bt.MakeGPUNodeOf(testNode, 1, "80Gi"))
	pod := f.assume(bt.MakePod("a").Memory("30Gi"), "GPU-0=30Gi")
	other := &Allocation{Devices: []alloc.DeviceShare{{UUID: "GPU-9", Memory: alloc.GiB(30)}}}
	if err := f.Ledger.Assume(pod, "other", other); err != nil {
		t.Fatal(err)
	}
	f.wantFree("after the second promise", f.view(Query{}), 80)
	if got := f.Ledger.OnNode("other"); len(got) != 1 || got[0].Node != "other" {
		t.Errorf("on the other node: %v", got)
	}
}

func TestAssumeIsRefusedForWhatMayBeBound(t *testing.T) {
	f := newFixture(t)
	pod := f.assume(bt.MakePod("a").Memory("30Gi"), "GPU-0=30Gi")
	f.Ledger.MarkUnknown(pod.UID)
	if err := f.Ledger.Assume(pod, "other", &Allocation{}); err == nil {
		t.Error("a pod whose binding is in doubt was promised another node")
	}
}

func TestTheAPIOverrulesThePromise(t *testing.T) {
	f := newFixture(t)
	f.report(bt.MakeGPUNodeOf(testNode, 2, "80Gi"))
	f.assume(bt.MakePod("a").Memory("30Gi"), "GPU-0=30Gi")
	bound := bt.MakePod("a").Memory("30Gi").Bound(testNode, epoch, "GPU-1=40Gi").Obj()
	f.PodSeen(bound)
	f.wantFree("confirmed elsewhere", f.view(Query{}, bound), 80, 40)
}

// TestConcurrentTransitions is for the race detector: readers take no lock.
func TestConcurrentTransitions(t *testing.T) {
	f := newFixture(t)
	f.report(bt.MakeGPUNodeOf(testNode, 8, "80Gi"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 200 {
			for _, name := range []string{"a", "b", "c"} {
				pod := bt.MakePod(name).Memory("1Gi").Bound(testNode, epoch, "GPU-0=1Gi").Obj()
				a, _ := BookingOf(pod)
				_ = f.Ledger.Assume(pod, testNode, a)
				f.PodSeen(pod)
				f.PodGone(pod)
			}
		}
	}()
	viewer := f.Viewer()
	for {
		select {
		case <-done:
			f.wantFree("at the end", f.view(Query{}), 80, 80, 80, 80, 80, 80, 80, 80)
			return
		default:
			v := viewer.View(f.node, nil, &Query{})
			if free := v.Devices[0].Free(); free.Less(alloc.GiB(77)) {
				t.Fatalf("free %v in between", free)
			}
		}
	}
}
