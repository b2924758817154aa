// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	bt "github.com/berth-dev/berth/internal/testing"
)

// TestWarmNodesRankHigher by the strategy Fragmentation: before those that are as good, and half of the way to the best.
func TestWarmNodesRankHigher(t *testing.T) {
	f := packing(t)
	for i := range 6 {
		name := fmt.Sprintf("n%d", i)
		f.node(host(bt.MakeNode(name), "16", "64Gi"), bt.MakeGPUsOf(name, 1, "80Gi"))
	}
	pod := func(name, memory string) *bt.Pod { return asks(loading(name, memory), "1", "1Gi") }
	for i := range 40 {
		f.pl.feed.PodSeen(asks(bt.MakePod(fmt.Sprint("waiting-", i)).Memory("40Gi"), "1", "1Gi").Obj())
	}
	// 30 GiB of no use on n5, where the pod costs nothing; elsewhere it takes 10 GiB of what would be of use.
	f.running(asks(bt.MakePod("x").Memory("50Gi"), "1", "1Gi").Bound("n5", epoch, bt.GPUOf("n5", 0)+"=50Gi").Ready(epoch))
	f.running(asks(bt.MakePod("y").Memory("40Gi"), "1", "1Gi").Bound("n4", epoch, bt.GPUOf("n4", 0)+"=40Gi").Ready(epoch))
	check := func(what string, want map[string]int64) {
		t.Helper()
		if diff := cmp.Diff(want, f.ranked(pod("q", "10Gi").Obj())); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	check("before", map[string]int64{"n5": 100, "n0": 99, "n1": 98, "n2": 97, "n3": 96, "n4": 95})
	f.ran(pod("p", "10Gi"), "n2", 0)
	check("one of four that are as good", map[string]int64{"n5": 100, "n2": 99, "n0": 98, "n1": 97, "n3": 96, "n4": 95})
	f.ran(pod("r", "10Gi"), "n4", 0)
	// In places from 0: n4 goes from 5 half of the way to 0, which is behind n1, and n2 from 1, where the first as good as it is.
	check("the worst one too", map[string]int64{"n5": 100, "n2": 99, "n0": 98, "n1": 97, "n4": 96, "n3": 95})
	f.wantBooked("it", pod("q", "10Gi"), "n4", "its model ran on this GPU until 0s ago, its files may be cached", 0)
}

// TestWarmPodsAreSignedWithWhatTheyLoad: pods that share a ranking see the same places warm. Where nothing is warm, they share
// rankings with all that ask for the same.
func TestWarmPodsAreSignedWithWhatTheyLoad(t *testing.T) {
	f := twins(t)
	chat := func(model string) *bt.Pod { return replica("q", "chat", "30Gi", "").Model(model) }
	plain := f.signature(bt.MakePod("r").Memory("30Gi"))
	if f.signature(chat(warmModel)) != plain {
		t.Error("a model that is warm nowhere is signed")
	}
	f.ran(loading("p", "30Gi"), "b", 1)
	seen := map[string]string{plain: "nothing"}
	for name, pod := range map[string]*bt.Pod{
		"the model": chat(warmModel), "of another workload": replica("q", "batch", "30Gi", "").Model(warmModel), "of none": loading("q", "30Gi"),
	} {
		got := f.signature(pod)
		if other, ok := seen[got]; ok {
			t.Errorf("%s has the signature of %s: %s", name, other, got)
		}
		seen[got] = name
	}
	if f.signature(chat("hf://org/other")) != plain {
		t.Error("another model is signed")
	}
}

// TestBatchingPlacesWarmPodsAsWithout: replicas of workloads with two models, on nodes of which some are warm. Scores differ enough
// for no tie, or are ranks.
func TestBatchingPlacesWarmPodsAsWithout(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(testing.TB) *fixture
		// used is of a node, and warm are those on which the models ran, the second model on the last of them.
		used func(node int) string
		warm [3]string
		// want is where pods are placed that would be elsewhere if nothing were warm.
		want []string
	}{
		{"each node takes one pod", func(t testing.TB) *fixture { return newFixture(t) }, func(i int) string {
			return []string{"54Gi", "54579Mi", "52Gi", "50688Mi", "46Gi", "40Gi", "31Gi"}[i]
		}, [3]string{"n4", "n5", "n6"}, []string{"chat0 n4", "chat2 n5", "other3 n6"}},
		{"nodes take several, and are ranked", packing, func(int) string { return "10Gi" }, [3]string{"n2", "n3", "n6"}, []string{"chat0 n2", "other3 n6"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			run := func(batching bool) (placements []string, hints int) {
				f := tc.make(t)
				for i := range 7 {
					name := fmt.Sprintf("n%d", i)
					f.node(bt.MakeNode(name), bt.MakeGPUsOf(name, 1, "80Gi"))
					f.running(bt.MakePod("x"+name).Memory(tc.used(i)).Bound(name, epoch, bt.GPUOf(name, 0)+"="+tc.used(i)).Ready(epoch))
				}
				f.ran(loading("before-1", "25Gi"), tc.warm[0], 0)
				f.ran(loading("before-2", "25Gi"), tc.warm[1], 0)
				f.ran(loading("before-3", "25Gi").Model("hf://org/other"), tc.warm[2], 0)
				for i, of := range []struct{ workload, model string }{
					{"chat", warmModel}, {"chat", warmModel}, {"chat", warmModel}, {"other", "hf://org/other"}, {"other", "hf://org/other"}, {"other", "hf://org/other"},
				} {
					pod := replica(fmt.Sprint(of.workload, i), of.workload, "25Gi", "").Model(of.model).Obj()
					node, hinted := f.place(pod, int64(i+1), batching)
					if hinted {
						hints++
					}
					placements = append(placements, pod.Name+" "+node)
				}
				return placements, hints
			}
			want, none := run(false)
			got, hints := run(true)
			if none != 0 || hints < 3 {
				t.Errorf("%d nodes are from older rankings, without batching %d", hints, none)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-without batching +with it):\n%s", diff)
			}
			for _, w := range tc.want {
				if !slices.Contains(want, w) {
					t.Errorf("%q is not among %q", w, want)
				}
			}
			t.Log(want)
		})
	}
}
