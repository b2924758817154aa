// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package parked

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// park lists a pod as PreFilter does. Pods of one memory are of one shape.
func park(t *testing.T, l *List, p *bt.Pod) *Pod {
	t.Helper()
	pod := p.Obj()
	parsed, err := berthv1alpha1.ParsePodRequest(pod)
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := gpustate.NewRequest(pod, parsed, nil, gpustate.Sizing{})
	if err != nil {
		t.Fatal(err)
	}
	l.Add(Pod{Pod: pod, Request: r, Shape: r.Options()[0].Shares[0].Uint64() >> 20})
	return l.Get(pod.UID)
}

// rooms is a node with free memory on some GPUs, in GiB, for pods of any kind.
func rooms(free ...uint64) Room {
	n := &alloc.Node{Name: "node"}
	for i, f := range free {
		total := alloc.GiB(80)
		n.Devices = append(n.Devices, alloc.Device{UUID: bt.GPU(i), Total: total, Capacity: total, Used: total.Minus(alloc.GiB(f))})
	}
	return func(berthv1alpha1.Runtime, int32) *alloc.Node { return n }
}

func anyPod(*Pod) bool { return true }

// TestWhomRoomHelps: in the order of the queue, each taking its share, until nothing more fits.
func TestWhomRoomHelps(t *testing.T) {
	pod := func(name, memory string) *bt.Pod { return bt.MakePod(name).Memory(memory) }
	for _, tc := range []struct {
		name string
		pods []*bt.Pod
		room Room
		want []string
	}{
		{"one of three equal pods", []*bt.Pod{pod("a", "60Gi"), pod("b", "60Gi"), pod("c", "60Gi")}, rooms(80), []string{"a"}},
		{"two, on two GPUs", []*bt.Pod{pod("a", "60Gi"), pod("b", "60Gi"), pod("c", "60Gi")}, rooms(80, 60), []string{"a", "b"}},
		{"the more important first", []*bt.Pod{pod("a", "60Gi"), pod("b", "60Gi").Priority(1)}, rooms(80), []string{"b"}},
		{"a smaller one beside it", []*bt.Pod{pod("a", "60Gi"), pod("b", "30Gi"), pod("c", "20Gi")}, rooms(80), []string{"a", "c"}},
		{"nobody, if none fits", []*bt.Pod{pod("a", "60Gi"), pod("b", "79Gi")}, rooms(50, 50), nil},
		{"on several GPUs at once", []*bt.Pod{pod("a", "100Gi").GPUCount("2"), pod("b", "40Gi")}, rooms(60, 50), []string{"a"}},
		{"one vLLM at a time: they cannot load next to each other", []*bt.Pod{pod("a", "10Gi").Runtime("vllm"), pod("b", "10Gi").Runtime("vllm"), pod("c", "10Gi")}, rooms(80), []string{"a"}},
		{"no room for anybody", []*bt.Pod{pod("a", "1Gi")}, func(berthv1alpha1.Runtime, int32) *alloc.Node { return nil }, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := NewList()
			for _, p := range tc.pods {
				park(t, l, p)
			}
			var got []string
			for _, p := range l.Helped(l.Now("node", MemoryFreed), anyPod, tc.room) {
				got = append(got, p.Name)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("helped (-want +got):\n%s", diff)
			}
		})
	}
}

// TestWhereOthersRefuse is about the nodes on which a pod is not woken, until its next cycle begins.
func TestWhereOthersRefuse(t *testing.T) {
	l := NewList()
	park(t, l, bt.MakePod("a").Memory("60Gi"))
	helped := func(node string) bool { return len(l.Helped(l.Now(node, MemoryFreed), anyPod, rooms(80))) == 1 }
	var refused []string
	for i := range 1000 {
		refused = append(refused, fmt.Sprintf("node-%d", i))
	}
	l.Refused("a", refused)
	l.Refused("unknown", refused)
	for _, node := range []string{"node-0", "node-7", "node-8", "node-999"} {
		if helped(node) {
			t.Errorf("helped by room on %s, where others refuse it", node)
		}
	}
	if !helped("new") {
		t.Error("not helped by room on a node that it was never refused on")
	}
	park(t, l, bt.MakePod("a").Memory("60Gi"))
	if !helped("node-7") {
		t.Error("not helped during its next cycle, in which others may not refuse it")
	}
	l.Refused("a", []string{"node-7"})
	if helped("node-7") || !helped("node-8") {
		t.Error("refused by more or by less than in its last cycle")
	}
}

// TestSetsOfReplicasAreOne: thousands of pods that are refused by the same nodes share one set.
func TestSetsOfReplicasAreOne(t *testing.T) {
	l := NewList()
	nodes := []string{"x", "y", "z"}
	if a, b := l.setOf(nodes), l.setOf([]string{"z", "y", "x"}); a != b {
		t.Error("equal sets are two")
	}
	if l.setOf(nodes) == l.setOf(nodes[:2]) || l.setOf(nil) != (nodeSet{}) {
		t.Error("unequal sets are one")
	}
}

// TestSince names those that were listed after a change, be they more than are remembered one by one.
func TestSince(t *testing.T) {
	for _, more := range []int{0, 1, 63, 64, 65, 200} {
		l := NewList()
		park(t, l, bt.MakePod("before").Memory("1Gi"))
		c := l.Now("node", MemoryFreed)
		want := sets.New[types.UID]()
		for i := range more {
			p := park(t, l, bt.MakePod(fmt.Sprintf("after-%d", i)).Memory("1Gi"))
			want.Insert(p.UID)
			if c.Concerns(p) {
				t.Errorf("%s was listed later", p.Name)
			}
		}
		if got := l.Since(c); !got.Equal(want) {
			t.Errorf("%d listed later: got %d", more, len(got))
		}
		if !c.Concerns(l.Get("before")) {
			t.Error("who was listed before is not concerned")
		}
	}
}

// TestWakesAreRememberedUntilTheCycleEnds: one for each kind of change of a node, the newest.
func TestWakesAreRememberedUntilTheCycleEnds(t *testing.T) {
	l := NewList()
	p := park(t, l, bt.MakePod("a").Memory("1Gi"))
	first, second, devices := l.Now("x", MemoryFreed), l.Now("x", MemoryFreed), l.Now("x", Reshaped)
	for _, c := range []Change{first, second, devices} {
		l.Woken(c, []*Pod{p})
	}
	park(t, l, bt.MakePod("a").Memory("1Gi")) // its cycle begins
	if got := l.TakeWoken("a"); !slices.Equal(got, []Change{second, devices}) {
		t.Errorf("woken by %v", got)
	}
	if got := l.TakeWoken("a"); got != nil {
		t.Errorf("woken again by %v", got)
	}
	l.Woken(first, []*Pod{p})
	if got := l.Remove("a"); len(got) != 1 {
		t.Errorf("gone, and was woken by %v", got)
	}
	if len(l.pods)+len(l.groups)+len(l.numbers) != 0 {
		t.Error("something of it is left")
	}
}
