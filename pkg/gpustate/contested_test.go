// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
)

// reports applies a report of a node with GPUs of 80Gi.
func reports(node string, uuids ...string) func(*fixture) {
	return func(f *fixture) {
		g := bt.MakeGPUNode(node)
		for _, uuid := range uuids {
			g.GPU(uuid, "80Gi")
		}
		f.report(g)
	}
}

// usable are the devices of each node with a report that can be booked, by UUID.
func (f *fixture) usable() map[string]string {
	out := map[string]string{}
	v := f.Viewer()
	for node := range v.Snapshot.position {
		view := v.View(bt.MakeNode(node), nil, &Query{})
		if view.Reason != "" {
			out[node] = string(view.Reason)
			continue
		}
		var uuids []string
		for i := range view.Devices {
			if !view.Devices[i].Free().IsZero() {
				uuids = append(uuids, view.Devices[i].UUID)
			}
		}
		out[node] = fmt.Sprint(uuids)
	}
	return out
}

func TestAGPUThatSeveralNodesReportCountsOnNone(t *testing.T) {
	silent := func(node string) func(*fixture) {
		return func(f *fixture) {
			for range 2 {
				f.clock.Step(40 * time.Second)
				for other := range f.usable() {
					if other != node {
						f.LeaseSeen(other, f.clock.Now(), true)
					}
				}
			}
		}
	}
	type steps = []func(*fixture)
	for name, tc := range map[string]struct {
		do   steps
		want map[string]string
	}{
		"nodes with GPUs of their own": {
			steps{reports("a", "GPU-1", "GPU-2"), reports("b", "GPU-3")}, map[string]string{"a": "[GPU-1 GPU-2]", "b": "[GPU-3]"},
		},
		"a node copies a UUID of another → that GPU gets no pods on either, all others do": {
			steps{reports("victim", "GPU-1", "GPU-2"), reports("hostile", "GPU-2", "GPU-3")}, map[string]string{"victim": "[GPU-1]", "hostile": "[GPU-3]"},
		},
		"a node copies a UUID and was there first → the same": {
			steps{reports("hostile", "GPU-2", "GPU-3"), reports("victim", "GPU-1", "GPU-2")}, map[string]string{"victim": "[GPU-1]", "hostile": "[GPU-3]"},
		},
		"its report lacks the UUID again → the GPU counts": {
			steps{reports("victim", "GPU-1"), reports("hostile", "GPU-1", "GPU-2"), reports("hostile", "GPU-2")}, map[string]string{"victim": "[GPU-1]", "hostile": "[GPU-2]"},
		},
		"its report is deleted → the GPU counts": {
			steps{reports("victim", "GPU-1"), reports("hostile", "GPU-1"), func(f *fixture) { f.ReportGone("hostile") }}, map[string]string{"victim": "[GPU-1]"},
		},
		"its report cannot be read any more → the GPU counts": {
			steps{reports("victim", "GPU-1"), reports("hostile", "GPU-1"), func(f *fixture) { f.ReportUnreadable("hostile") }}, map[string]string{"victim": "[GPU-1]"},
		},
		"its token is taken away, and it falls silent → the GPU counts": {
			steps{reports("victim", "GPU-1"), reports("hostile", "GPU-1"), silent("hostile")},
			map[string]string{"victim": "[GPU-1]", "hostile": string(ReasonStaleReport)},
		},
		"a GPU is moved, and its new node reports it before the old one does not → it counts in the new node": {
			steps{reports("old", "GPU-1", "GPU-2"), reports("new", "GPU-2"), reports("old", "GPU-1")}, map[string]string{"old": "[GPU-1]", "new": "[GPU-2]"},
		},
		"a GPU is moved out of a node that was switched off → it counts in the new node": {
			steps{reports("old", "GPU-1"), silent("old"), reports("new", "GPU-1")}, map[string]string{"old": string(ReasonStaleReport), "new": "[GPU-1]"},
		},
		"the old node comes back and says that it has the GPU → it counts in neither": {
			steps{reports("old", "GPU-1"), reports("new", "GPU-1"), silent("old"), func(f *fixture) { f.LeaseSeen("old", f.clock.Now(), true) }},
			map[string]string{"old": "[]", "new": "[]"},
		},
		"of three nodes one lacks the GPU again → the others are at odds still": {
			steps{reports("a", "GPU-1"), reports("b", "GPU-1"), reports("c", "GPU-1"), reports("b")}, map[string]string{"a": "[]", "b": "[]", "c": "[]"},
		},
		"nobody is ever silent enough where reports never are stale": {
			steps{func(f *fixture) { f.Policy.StaleAfter = 0 }, reports("a", "GPU-1"), reports("b", "GPU-1"), silent("b")}, map[string]string{"a": "[]", "b": "[]"},
		},
		"a node copies a MIG instance → that instance gets no pods, those beside it do": {
			steps{
				func(f *fixture) {
					f.report(bt.MakeGPUNodeOf("victim", 1, "80Gi").Instance("MIG-1", "GPU-0", "40Gi").Instance("MIG-2", "GPU-0", "40Gi"))
				},
				func(f *fixture) {
					f.report(bt.MakeGPUNodeOf("hostile", 0, "").GPU("GPU-9", "80Gi").Instance("MIG-1", "GPU-9", "40Gi"))
				},
			}, map[string]string{"victim": "[MIG-2]", "hostile": "[]"},
		},
		"a node says that it has an instance of another node's GPU → neither the GPU nor its instances get pods": {
			steps{
				func(f *fixture) {
					f.report(bt.MakeGPUNodeOf("victim", 2, "80Gi").Instance("MIG-1", "GPU-0", "40Gi"))
				},
				func(f *fixture) {
					g := bt.MakeGPUNode("hostile").GPU("MIG-9", "40Gi")
					g.Status.Devices[0].Parent = "GPU-0"
					f.report(g)
				},
			}, map[string]string{"victim": "[GPU-1]", "hostile": "[]"},
		},
		"no UUID is nobody's": {
			steps{reports("a", "", "GPU-1"), reports("b", "", "GPU-2")}, map[string]string{"a": "[ GPU-1]", "b": "[ GPU-2]"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			for _, do := range tc.do {
				do(f)
			}
			if diff := cmp.Diff(tc.want, f.usable()); diff != "" {
				t.Errorf("usable devices (-want +got):\n%s", diff)
			}
		})
	}
}

// TestBookingsStayOnAContestedGPU: who runs there runs on, and counts when the GPU does again.
func TestBookingsStayOnAContestedGPU(t *testing.T) {
	f := newFixture(t)
	f.report(bt.MakeGPUNodeOf(testNode, 1, "80Gi"))
	pod := bt.MakePod("p").Memory("30Gi").Bound(testNode, epoch, "GPU-0=30Gi").Obj()
	f.PodSeen(pod)
	reports("hostile", "GPU-0")(f)
	v := f.view(Query{}, pod)
	if v.Devices[0].Blocked != alloc.ReasonContested || v.Devices[0].Used != alloc.GiB(30) {
		t.Errorf("blocked %q, %s used; want %q and 30Gi", v.Devices[0].Blocked, v.Devices[0].Used, alloc.ReasonContested)
	}
	reports("hostile")(f)
	f.wantFree("afterwards", f.view(Query{}, pod), 50)
}

// TestAViewIsNotRememberedPastARival: what was derived before another node reported the GPU, or while it was fresh, is
// not used again.
func TestAViewIsNotRememberedPastARival(t *testing.T) {
	f := newFixture(t)
	f.report(bt.MakeGPUNodeOf(testNode, 1, "80Gi"))
	q := Query{Generation: 1}
	v := f.Viewer()
	v.View(f.node, nil, &q)
	if _, ok := v.Recall(f.node, &q); !ok {
		t.Fatal("nothing is remembered, so nothing is tested")
	}
	reports("hostile", "GPU-0")(f)
	for range 2 {
		v = f.Viewer()
		if _, ok := v.Recall(f.node, &q); ok {
			t.Error("the view is recalled though another node reports the GPU")
		}
		v.View(f.node, nil, &q)
	}
}

// TestRivalsAreKeptAsReportsCome compares what is kept with what all reports together say, over random changes, and
// checks that every node is told of whose rivals another one's report changed.
func TestRivalsAreKeptAsReportsCome(t *testing.T) {
	contestedAtAll := 0
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 0))
		f := newFixture(t)
		f.Policy.StaleAfter = 0
		named := map[string][]string{} // by node
		told := map[string]bool{}
		f.Rivals = func(node string) { told[node] = true }
		want := map[string]string{}
		for step := range 60 {
			node := fmt.Sprintf("n%d", rng.IntN(5))
			if rng.IntN(4) == 0 {
				delete(named, node)
				f.ReportGone(node)
			} else {
				g := bt.MakeGPUNode(node)
				var uuids []string
				for i := range 8 {
					if uuid := fmt.Sprintf("GPU-%d", i); rng.IntN(4) == 0 {
						g.GPU(uuid, "80Gi")
						uuids = append(uuids, uuid)
					}
				}
				named[node] = uuids
				f.report(g)
			}
			before := maps.Clone(want)
			clear(want)
			for n, uuids := range named {
				for _, uuid := range uuids {
					var others []string
					for m := range named {
						if m != n && slices.Contains(named[m], uuid) {
							others = append(others, m)
						}
					}
					if len(others) > 0 {
						slices.Sort(others)
						want[n] += fmt.Sprint(uuid, others)
						contestedAtAll++
					}
				}
			}
			got := map[string]string{}
			for n := range named {
				for _, d := range f.Store.Snapshot().Contested(n, 0) {
					got[n] += fmt.Sprint(d.UUID, d.Nodes)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("seed %d, step %d: contested (-want +got):\n%s", seed, step, diff)
			}
			for n := range named {
				if n != node && before[n] != want[n] && !told[n] {
					t.Fatalf("seed %d, step %d: %s is not told: %q, then %q", seed, step, n, before[n], want[n])
				}
			}
			clear(told)
		}
		for node := range named {
			f.ReportGone(node)
		}
		if len(f.Store.reporters) > 0 {
			t.Fatalf("seed %d: %d UUIDs are remembered that nobody reports", seed, len(f.Store.reporters))
		}
	}
	if contestedAtAll == 0 {
		t.Error("nothing was contested, so nothing was tested")
	}
}
