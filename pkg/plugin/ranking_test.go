// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	fwk "k8s.io/kube-scheduler/framework"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/mix"
)

// packing returns a plugin whose strategy is Fragmentation.
func packing(t testing.TB) *fixture {
	f := newFixture(t)
	f.pl.args.Strategy = alloc.Fragmentation
	f.pl.mix = mix.NewBook(f.pl.world, f.pl.requests)
	f.pl.feed.Mix = f.pl.mix
	return f
}

// host has a node offer CPU, and memory of its own.
func host(node *corev1.Node, cpu, memory string) *corev1.Node {
	node.Status.Allocatable[corev1.ResourceCPU] = resource.MustParse(cpu)
	node.Status.Allocatable[corev1.ResourceMemory] = resource.MustParse(memory)
	return node
}

// asks has a pod ask for CPU, and memory of the host.
func asks(p *bt.Pod, cpu, memory string) *bt.Pod {
	p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
	}
	return p
}

// ranked returns the final scores of nodes for a pod, by name; nil if Berth does not score them.
func (f *fixture) ranked(pod *corev1.Pod) map[string]int64 {
	f.t.Helper()
	f.known(pod)
	state := newState()
	if _, status := f.pl.PreFilter(f.ctx, state, pod, f.nodeInfos()); !status.IsSuccess() && !status.IsSkip() {
		f.t.Fatalf("PreFilter: %v", status)
	}
	if f.pl.PreScore(f.ctx, state, pod, f.nodeInfos()).IsSkip() {
		return nil
	}
	var scores fwk.NodeScoreList
	for _, ni := range f.nodeInfos() {
		score, status := f.pl.Score(f.ctx, state, pod, ni)
		if again, _ := f.pl.Score(f.ctx, state, pod, ni); !status.IsSuccess() || again != score {
			f.t.Errorf("%s: score %d, then %d, %v", ni.Node().Name, score, again, status)
		}
		scores = append(scores, fwk.NodeScore{Name: ni.Node().Name, Score: score})
	}
	if status := f.pl.ScoreExtensions().NormalizeScore(f.ctx, state, pod, scores); !status.IsSuccess() {
		f.t.Fatal(status)
	}
	ranks := map[string]int64{}
	for _, s := range scores {
		ranks[s.Name] = s.Score
	}
	return ranks
}

// TestRanksByTheMix: nodes of 80 GiB and 16 cores, on which pods of 40 GiB and 4 cores are asked for.
func TestRanksByTheMix(t *testing.T) {
	f := packing(t)
	for _, name := range []string{"empty-1", "empty-2", "half", "piece", "busy"} {
		f.node(host(bt.MakeNode(name), "16", "64Gi"), bt.MakeGPUsOf(name, 1, "80Gi"))
	}
	f.node(host(bt.MakeNode("cpu-1"), "16", "64Gi"), nil)
	f.node(host(bt.MakeNode("cpu-2"), "16", "64Gi"), nil)
	typical := func(name string) *bt.Pod { return asks(bt.MakePod(name).Memory("40Gi"), "4", "1Gi") }
	for i := range 40 {
		f.pl.feed.PodSeen(typical(fmt.Sprint("waiting-", i)).Obj())
	}
	f.running(
		typical("a").Bound("half", epoch, bt.GPUOf("half", 0)+"=40Gi").Ready(epoch),
		asks(bt.MakePod("b").Memory("50Gi"), "1", "1Gi").Bound("piece", epoch, bt.GPUOf("piece", 0)+"=50Gi").Ready(epoch),
		asks(bt.MakePod("c").Node("busy"), "13", "1Gi"),
	)
	for _, tc := range []struct {
		name string
		pod  *bt.Pod
		want map[string]int64
	}{
		{
			// 30 GiB are of no use on piece, and 80 where 3 cores are left. 70 are of use still, but 30 of half would not be.
			// Of equal nodes the first is better. It does not fit where there are no GPUs.
			"a small pod takes what nobody can use", asks(bt.MakePod("small").Memory("10Gi"), "1", "1Gi"),
			map[string]int64{"busy": 100, "piece": 99, "empty-1": 98, "empty-2": 97, "half": 96, "cpu-1": 95, "cpu-2": 94},
		},
		{
			"a pod without GPU memory takes CPU where there are no GPUs, of those whichever others like best; then where none is short",
			asks(bt.MakePod("plain"), "2", "1Gi"),
			map[string]int64{"cpu-1": 100, "cpu-2": 100, "busy": 99, "empty-1": 98, "empty-2": 97, "half": 96, "piece": 95},
		},
		{
			"a large one takes it where nothing can be used any more anyway, or the least",
			asks(bt.MakePod("plain-large"), "13", "1Gi"),
			map[string]int64{"cpu-1": 100, "cpu-2": 100, "busy": 99, "piece": 98, "half": 97, "empty-1": 96, "empty-2": 95},
		},
		{"one that asks for nothing takes nothing from anybody", bt.MakePod("nothing"), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, f.ranked(tc.pod.Obj())); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestAnEmptyMixRanksNothing: pods without GPU memory are left to others' scores until anybody asks for GPU memory.
func TestAnEmptyMixRanksNothing(t *testing.T) {
	f := packing(t)
	f.node(bt.MakeNode("a"), bt.MakeGPUsOf("a", 1, "80Gi"))
	if got := f.ranked(asks(bt.MakePod("plain"), "1", "1Gi").Obj()); got != nil {
		t.Errorf("ranked %v", got)
	}
	// A pod that asks for it is in the mix itself.
	if got := f.ranked(bt.MakePod("b").Memory("10Gi").Obj()); got["a"] != 100 {
		t.Errorf("ranked %v", got)
	}
}

// TestAPodThatIsGoneIsNotCounted, though it has a cycle after the plugin was told.
func TestAPodThatIsGoneIsNotCounted(t *testing.T) {
	f := packing(t)
	f.node(bt.MakeNode("a"), bt.MakeGPUsOf("a", 1, "80Gi"))
	if _, status := f.pl.PreFilter(f.ctx, newState(), bt.MakePod("gone").Memory("10Gi").Obj(), f.nodeInfos()); !status.IsSuccess() {
		t.Fatal(status)
	}
	if m := f.pl.mix.For(gpustate.Ranked{}); m != nil {
		t.Error("it is in the mix")
	}
}

// TestTheGPUThatCostsLeastIsReserved: Reserve books what Score went by.
func TestTheGPUThatCostsLeastIsReserved(t *testing.T) {
	f := packing(t)
	f.node(bt.MakeNode("a"), bt.MakeGPUsOf("a", 2, "80Gi"))
	for i := range 20 {
		f.pl.feed.PodSeen(bt.MakePod(fmt.Sprint("waiting-", i)).Memory("45Gi").Obj())
	}
	f.running(bt.MakePod("x").Memory("20Gi").Bound("a", epoch, bt.GPUOf("a", 0)+"=20Gi").Ready(epoch))
	// 60 and 80 GiB are free. The tightest GPU would have 40 left, which nobody asks for; the other one 60.
	pod := bt.MakePod("p").Memory("20Gi").Obj()
	f.reserve(pod, "a")
	f.wantFree("after", "a", 60, 60)
}

// TestRanksOfManyNodes: from the hundred-and-first on they are alike, and the order of the list is of no matter.
func TestRanksOfManyNodes(t *testing.T) {
	f := packing(t)
	f.node(bt.MakeNode("a"), bt.MakeGPUsOf("a", 1, "80Gi"))
	state := f.begin(bt.MakePod("p").Memory("10Gi").Obj())
	scores := fwk.NodeScoreList{{Name: "none", Score: math.MinInt64}}
	for i := range 300 {
		scores = append(scores, fwk.NodeScore{Name: fmt.Sprintf("n%03d", i*7%300), Score: int64(-(i * 7 % 300 / 2))}) // two of each
	}
	if status := f.pl.ScoreExtensions().NormalizeScore(f.ctx, state, nil, scores); !status.IsSuccess() {
		t.Fatal(status)
	}
	for _, s := range scores {
		var n int64 = 1000
		_, _ = fmt.Sscanf(s.Name, "n%d", &n)
		if want := max(100-n, 0); s.Score != want {
			t.Errorf("%s: %d, want %d", s.Name, s.Score, want)
		}
	}
}

// TestOtherStrategiesAreAbsolute: their scores are not made ranks of, and nobody counts for them.
func TestOtherStrategiesAreAbsolute(t *testing.T) {
	f := newFixture(t)
	if f.pl.ScoreExtensions() != nil || f.pl.mix != nil {
		t.Error("MostAllocated has ranks, or a mix")
	}
	f.node(host(bt.MakeNode("a"), "16", "64Gi"), bt.MakeGPUsOf("a", 1, "80Gi"))
	if got := f.ranked(asks(bt.MakePod("plain"), "1", "1Gi").Obj()); got != nil {
		t.Errorf("ranked %v", got)
	}
}

// TestRankedPodsAreSignedWithWhatTheyTakeOfTheHost: pods of one signature share a ranking.
func TestRankedPodsAreSignedWithWhatTheyTakeOfTheHost(t *testing.T) {
	f := packing(t)
	seen := map[string]string{}
	for name, pod := range map[string]*bt.Pod{
		"plain": asks(bt.MakePod("a"), "1", "1Gi"), "plain, more CPU": asks(bt.MakePod("b"), "2", "1Gi"), "plain, more memory": asks(bt.MakePod("c"), "1", "2Gi"),
		"GPU": asks(bt.MakePod("d").Memory("10Gi"), "1", "1Gi"), "GPU, more CPU": asks(bt.MakePod("e").Memory("10Gi"), "2", "1Gi"),
	} {
		got := f.signature(pod)
		if other, ok := seen[got]; ok {
			t.Errorf("%s has the signature of %s: %s", name, other, got)
		}
		seen[got] = name
	}
	if a, b := f.signature(asks(bt.MakePod("x"), "1", "1Gi")), f.signature(asks(bt.MakePod("y"), "1000m", "1024Mi")); a != b {
		t.Errorf("%s and %s ask for the same", a, b)
	}
}

// TestKindsCountWhereTheyMayBe: what pods for other nodes could use is of no use here.
func TestKindsCountWhereTheyMayBe(t *testing.T) {
	f := packing(t)
	theirs := bt.MakeNode("a")
	theirs.Labels["model"] = "A"
	f.node(theirs, bt.MakeGPUsOf("a", 1, "80Gi"))
	f.node(bt.MakeNode("b"), bt.MakeGPUsOf("b", 1, "80Gi"))
	for i := range 40 {
		pod := bt.MakePod(fmt.Sprint("waiting-", i)).Memory("40Gi")
		pod.Spec.NodeSelector = map[string]string{"model": "A"}
		f.pl.feed.PodSeen(pod.Obj())
	}
	if diff := cmp.Diff(map[string]int64{"b": 100, "a": 99}, f.ranked(bt.MakePod("p").Memory("30Gi").Obj())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestMixChangesRanks: what was found out by one mix is not said by another.
func TestMixChangesRanks(t *testing.T) {
	f := packing(t)
	f.node(bt.MakeNode("half"), bt.MakeGPUsOf("half", 1, "80Gi"))
	f.node(bt.MakeNode("empty"), bt.MakeGPUsOf("empty", 1, "80Gi"))
	f.running(bt.MakePod("x").Memory("40Gi").Bound("half", epoch, bt.GPUOf("half", 0)+"=40Gi").Ready(epoch))
	waiting := func(n int, gib string) {
		for i := range n {
			f.pl.feed.PodSeen(bt.MakePod(fmt.Sprint(gib, i)).Memory(gib).Obj())
		}
	}
	pod := bt.MakePod("p").Memory("10Gi").Obj()
	waiting(100, "40Gi") // to them, what would be left of the half is of no use
	if diff := cmp.Diff(map[string]int64{"empty": 100, "half": 99}, f.ranked(pod)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	waiting(2000, "70Gi") // to them, the half is of no use anyway
	if diff := cmp.Diff(map[string]int64{"empty": 100, "half": 99}, f.ranked(pod)); diff != "" {
		t.Errorf("amid pods that ask for the same (-want +got):\n%s", diff)
	}
	f.clock.Step(2 * time.Second)
	if diff := cmp.Diff(map[string]int64{"half": 100, "empty": 99}, f.ranked(pod)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
