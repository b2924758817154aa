// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"

	bt "github.com/berth-dev/berth/internal/testing"
)

// place gives a pod its cycle as the framework does (schedulePod), and books it. It says where, and whether the node is from the
// ranking of the cycle before.
func (f *fixture) place(pod *corev1.Pod, cycle int64, batching bool) (node string, hinted bool) {
	f.t.Helper()
	f.known(pod)
	state := newState()
	if _, status, _ := f.framework.RunPreFilterPlugins(f.ctx, state, pod); !status.IsSuccess() {
		f.t.Fatalf("PreFilter: %v", status)
	}
	signature, hint := f.framework.SignPod(f.ctx, pod), ""
	if batching {
		hint = f.framework.GetNodeHint(f.ctx, pod, signature, state, cycle)
	}
	if hint != "" && f.framework.RunFilterPlugins(f.ctx, state, pod, f.nodeInfo(hint)).IsSuccess() {
		f.framework.StoreScheduleResults(f.ctx, signature, hint, hint, nil, cycle)
		f.book(state, pod, hint)
		return hint, true
	}
	var feasible []fwk.NodeInfo
	for _, ni := range f.nodeInfos() {
		if f.framework.RunFilterPlugins(f.ctx, state, pod, ni).IsSuccess() {
			feasible = append(feasible, ni)
		}
	}
	if len(feasible) < 2 {
		f.t.Fatalf("%s: %d nodes", pod.Name, len(feasible))
	}
	if status := f.framework.RunPreScorePlugins(f.ctx, state, pod, feasible); !status.IsSuccess() {
		f.t.Fatal(status)
	}
	scores, status := f.framework.RunScorePlugins(f.ctx, state, pod, feasible)
	if !status.IsSuccess() {
		f.t.Fatal(status)
	}
	sorted := framework.NewSortedScoredNodes(scores)
	node = sorted.Pop().Name
	f.framework.StoreScheduleResults(f.ctx, signature, hint, node, sorted, cycle)
	f.book(state, pod, node)
	return node, false
}

func (f *fixture) book(state fwk.CycleState, pod *corev1.Pod, node string) {
	f.t.Helper()
	if status := f.pl.Reserve(f.ctx, state, pod, node); !status.IsSuccess() {
		f.t.Fatalf("Reserve: %v", status)
	}
	bound := pod.DeepCopy()
	bound.Spec.NodeName = node
	f.pods = append(f.pods, bound)
	f.snapshot()
}

// TestBatchingPlacesAsWithout: where the framework takes the next node of an older ranking, it is the one that a new ranking would
// have first, though other pods arrive meanwhile.
func TestBatchingPlacesAsWithout(t *testing.T) {
	run := func(batching bool) (placements []string, hints int) {
		f := packing(t)
		for i := range 12 {
			name := fmt.Sprintf("n%02d", i)
			f.node(host(bt.MakeNode(name), fmt.Sprint(8+i%5*6), "64Gi"), bt.MakeGPUsOf(name, 2, "80Gi"))
			used := fmt.Sprintf("%dGi", 10+7*i%50)
			f.running(asks(bt.MakePod("x"+name).Memory(used), "1", "1Gi").Bound(name, epoch, bt.GPUOf(name, 0)+"="+used).Ready(epoch))
		}
		cycle := int64(0)
		for _, of := range []struct {
			kind         string
			count        int
			gib, arrives string
			cpu          string
		}{
			{"large", 6, "60Gi", "20Gi", "2"}, // each fills a GPU
			{"small", 8, "10Gi", "70Gi", "1"}, // several go to one node
			{"medium", 5, "25Gi", "35Gi", "1"},
		} {
			for i := range of.count {
				cycle++
				pod := asks(bt.MakePod(fmt.Sprint(of.kind, i)).Memory(of.gib), of.cpu, "1Gi").Obj()
				node, hinted := f.place(pod, cycle, batching)
				if hinted {
					hints++
				}
				placements = append(placements, pod.Name+" "+node)
				for j := range 5 {
					f.pl.feed.PodSeen(asks(bt.MakePod(fmt.Sprint("waiting-", cycle, "-", j)).Memory(of.arrives), "4", "1Gi").Obj())
				}
			}
		}
		return placements, hints
	}
	want, none := run(false)
	got, hints := run(true)
	if none != 0 || hints < 8 {
		t.Errorf("%d nodes are from older rankings, without batching %d", hints, none)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-without batching +with it):\n%s", diff)
	}
}
