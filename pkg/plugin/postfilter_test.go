// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/cycle"
)

// cycleState runs PreFilter of all plugins.
func (f *fixture) cycleState(pod *corev1.Pod) fwk.CycleState {
	f.t.Helper()
	state := framework.NewCycleState()
	if _, status, _ := f.framework.RunPreFilterPlugins(f.ctx, state, pod); !status.IsSuccess() {
		f.t.Fatalf("PreFilter of %s: %v", pod.Name, status)
	}
	return state
}

// postFilter runs a cycle of a pod that Filter rejected on every node, and returns the node that it is nominated to.
func (f *fixture) postFilter(pod *corev1.Pod) (node string, status *fwk.Status) {
	f.t.Helper()
	f.known(pod)
	result, status := f.pl.PostFilter(f.ctx, f.cycleState(pod), pod, refusedByBerth())
	f.eventually("the executor is done", func() bool { return !f.pl.evictor.IsRunning(pod) })
	if result != nil && result.NominatingInfo != nil {
		node = result.NominatedNodeName
	}
	return node, status
}

// refusedByBerth is the answer of filters of which Berth, the last, refuses every node.
func refusedByBerth() fwk.NodeToStatusReader {
	return framework.NewNodeToStatus(nil, fwk.NewStatus(fwk.Unschedulable).WithPlugin(Name))
}

// resident is a pod of low priority that runs on a node and is measured there.
func (f *fixture) resident(name, node string, edit func(*bt.Pod), shares ...string) {
	p := bt.MakePod(name).Memory("1Gi").Bound(node, epoch, shares...).Started(epoch).Ready(epoch)
	if edit != nil {
		edit(p)
	}
	f.running(p)
}

// withCPU makes a pod ask for cores.
func withCPU(p *bt.Pod, cores int) *bt.Pod {
	p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: *resource.NewQuantity(int64(cores), resource.DecimalSI)}
	return p
}

// crowded makes a cluster in which little fits, by a seed: pods on one GPU and on several, of two priorities, some with
// much CPU.
func crowded(t testing.TB, seed uint64, nodes int) *fixture {
	f := newFixture(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	for n := range nodes {
		name := fmt.Sprintf("node-%03d", n)
		const gpus = 4
		f.node(bt.MakeNode(name), bt.MakeGPUsOf(name, gpus, "80Gi"))
		free := [gpus]int{80, 80, 80, 80}
		cpu := 64
		for i := 0; i < 40; i++ {
			share := []int{10, 19, 25, 39, 70}[rng.IntN(5)]
			first, count := rng.IntN(gpus), 1
			if rng.IntN(4) == 0 {
				count = 2
			}
			var shares []string
			for d := range count {
				if at := (first + d) % gpus; free[at] >= share {
					shares = append(shares, fmt.Sprintf("%s=%dGi", bt.GPUOf(name, at), share))
				}
			}
			cores := []int{1, 1, 1, 15}[rng.IntN(4)]
			if len(shares) < count || cores > cpu {
				continue
			}
			for d := range count {
				free[(first+d)%gpus] -= share
			}
			cpu -= cores
			priority := int32(rng.IntN(2))
			f.resident(fmt.Sprintf("%s-p%02d", name, i), name, func(p *bt.Pod) { withCPU(p.Priority(priority), cores) }, shares...)
		}
	}
	return f
}

// TestSearchSkipsNoCheaperNode compares the search, which runs the filters on few nodes, with one that runs them on
// all, for pods that lack GPU memory and CPU.
func TestSearchSkipsNoCheaperNode(t *testing.T) {
	found := 0
	for seed := range uint64(40) {
		f := crowded(t, seed, 6)
		for _, request := range [][2]string{{"60Gi", "1"}, {"120Gi", "1,2"}, {"60Gi", "1,2,4"}, {"280Gi", "4"}} {
			pod := withCPU(bt.MakePod("preemptor").Memory(request[0]).GPUCount(request[1]).Priority(100), 20).Obj()
			f.known(pod)
			state := f.cycleState(pod)
			names := func(all bool) (node string, victims []string, cost string) {
				s, err := f.pl.evictor.NewSearch(cycle.Of(state), state, pod, epoch)
				if err != nil {
					t.Fatal(err)
				}
				p := s.Run(f.ctx, f.nodeInfos(), all)
				if p == nil {
					return "", nil, ""
				}
				for _, v := range p.Pods() {
					victims = append(victims, v.Name)
				}
				return p.Name(), victims, p.Cost.String()
			}
			node, victims, cost := names(false)
			wantNode, wantVictims, wantCost := names(true)
			if node != wantNode || cost != wantCost || !slices.Equal(victims, wantVictims) {
				t.Errorf("seed %d, %v: evicts %v from %s (%s), want %v from %s (%s)", seed, request, victims, node, cost, wantVictims, wantNode, wantCost)
			}
			if node != "" {
				found++
			}
		}
	}
	if found < 40 {
		t.Errorf("only %d searches found anything", found)
	}
}

// TestEvictionsForOtherResourcesCount: a node with one small victim for its GPU is not the cheapest if several more
// have to go for their CPU.
func TestEvictionsForOtherResourcesCount(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("cheap-gpu"), bt.MakeGPUNodeOf("cheap-gpu", 1, "80Gi"))
	f.resident("small", "cheap-gpu", nil, bt.GPU(0)+"=30Gi")
	for i := range 3 {
		f.running(withCPU(bt.MakePod(fmt.Sprintf("cpu-%d", i)).Node("cheap-gpu"), 20)) // of 64
	}
	f.node(bt.MakeNode("free-cpu"), bt.MakeGPUsOf("free-cpu", 1, "80Gi"))
	f.resident("big", "free-cpu", nil, bt.GPUOf("free-cpu", 0)+"=70Gi")
	pod := withCPU(bt.MakePod("preemptor").Memory("60Gi").Priority(100), 50).Obj()
	node, status := f.postFilter(pod)
	if got := f.api.takeDeleted(); node != "free-cpu" || !slices.Equal(got, []string{"big"}) {
		t.Errorf("evicts %v on %q (%v), want big on free-cpu", got, node, status)
	}
}

// TestClaimIsKeptWhileTheAgentIsSilent: nobody else is evicted for the same need, until the time is over.
func TestClaimIsKeptWhileTheAgentIsSilent(t *testing.T) {
	f := newFixture(t)
	for _, n := range []string{"n1", "n2"} {
		f.node(bt.MakeNode(n), bt.MakeGPUNode(n).GPU("GPU-"+n, "80Gi").Process(types.UID("on-"+n), "70Gi"))
		f.resident("on-"+n, n, nil, "GPU-"+n+"=70Gi")
	}
	pod := bt.MakePod("preemptor").Memory("60Gi").Priority(100).Obj()
	node, _ := f.postFilter(pod)
	if got := f.api.takeDeleted(); node != "n1" || !slices.Equal(got, []string{"on-n1"}) {
		t.Fatalf("evicts %v on %q, want on-n1", got, node)
	}
	f.gone("on-n1")
	f.clock.Step(f.pl.args.StaleAfter.Duration + time.Second)
	f.pl.feed.ReportSeen(bt.MakeGPUNode("n2").ResourceVersion("2").GPU("GPU-n2", "80Gi").Process("on-n2", "70Gi").Obj(), true)
	if node, status := f.postFilter(pod); node != "n1" || status.Code() != fwk.Unschedulable {
		t.Errorf("while the agent is silent: nominated to %q, %v", node, status)
	}
	if got := f.api.takeDeleted(); len(got) > 0 {
		t.Fatalf("%v evicted for the same need", got)
	}
	f.clock.Step(f.pl.args.MemoryReturnTimeout.Duration)
	f.pl.feed.ReportSeen(bt.MakeGPUNode("n2").ResourceVersion("3").GPU("GPU-n2", "80Gi").Process("on-n2", "70Gi").Obj(), true)
	node, _ = f.postFilter(pod)
	if got := f.api.takeDeleted(); node != "n2" || !slices.Equal(got, []string{"on-n2"}) {
		t.Errorf("when the time is over: evicts %v on %q, want on-n2", got, node)
	}
	f.wantEvent("GPUMemoryNotReturned", "agent")
}

// TestVictimThatRefusesToDie: the Event names it, another way is taken, and it is not evicted again.
func TestVictimThatRefusesToDie(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), bt.MakeGPUNode("node").GPU("GPU-0", "80Gi").Process("a", "70Gi").GPU("GPU-1", "80Gi").Process("b", "70Gi"))
	f.resident("a", "node", nil, "GPU-0=70Gi")
	f.resident("b", "node", nil, "GPU-1=70Gi")
	pod := bt.MakePod("preemptor").Memory("60Gi").Priority(100).Obj()
	f.postFilter(pod)
	if got := f.api.takeDeleted(); !slices.Equal(got, []string{"a"}) {
		t.Fatalf("evicts %v, want a", got)
	}
	f.terminating("a")
	f.clock.Step(f.pl.args.MemoryReturnTimeout.Duration - 2*time.Second)
	f.report("node", "2")
	if f.postFilter(pod); len(f.api.takeDeleted()) > 0 {
		t.Error("evicts again before the time is over")
	}
	f.clock.Step(time.Hour)
	f.report("node", "3")
	if f.postFilter(pod); !slices.Equal(f.api.takeDeleted(), []string{"b"}) {
		t.Error("does not evict b when the time is over")
	}
	f.wantEvent("GPUMemoryNotReturned", "pod default/a is still terminating and holds 70Gi on GPU 0 (GPU-0)")
}

// TestEvictionIsKnownBeforeItIsSeen: the informer has not told yet that a victim terminates. It is not evicted again,
// and nobody in its place.
func TestEvictionIsKnownBeforeItIsSeen(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), bt.MakeGPUNode("node").GPU("GPU-0", "80Gi").Process("a", "70Gi").GPU("GPU-1", "80Gi").Process("b", "70Gi"))
	f.resident("a", "node", nil, "GPU-0=70Gi")
	f.resident("b", "node", nil, "GPU-1=70Gi")
	pod := bt.MakePod("preemptor").Memory("60Gi").Priority(100).Obj()
	for _, want := range [][]string{{"a"}, nil, nil} {
		f.postFilter(pod)
		if diff := cmp.Diff(want, f.api.takeDeleted()); diff != "" {
			t.Errorf("evicted (-want +got):\n%s", diff)
		}
	}
	// Another pod knows it too, and waits for what is left, once the first has gone elsewhere.
	f.forget(pod)
	f.pl.feed.PodGone(pod)
	if node, _ := f.postFilter(bt.MakePod("other").Memory("60Gi").Priority(100).Obj()); node != "node" || len(f.api.takeDeleted()) > 0 {
		t.Errorf("the next pod is nominated to %q, and evicts", node)
	}
}

// TestFailedEvictionIsTriedAgain: of two victims, one could not be evicted; it is evicted by the next cycle.
func TestFailedEvictionIsTriedAgain(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 3, "80Gi"))
	for i, name := range []string{"a", "b", "c"} {
		f.resident(name, "node", nil, bt.GPU(i)+"=70Gi")
	}
	fails := true
	f.api.onDelete = func(name string) error {
		if name == "b" && fails {
			fails = false
			return apierrors.NewInternalError(errors.New("no leader"))
		}
		return nil
	}
	pod := bt.MakePod("preemptor").Memory("120Gi").GPUCount("2").Priority(100).Obj()
	for _, want := range [][]string{{"a"}, {"b"}, nil} {
		f.postFilter(pod)
		if diff := cmp.Diff(want, f.api.takeDeleted()); diff != "" {
			t.Errorf("evicted (-want +got):\n%s", diff)
		}
	}
}

// TestEligibilityIsNotReusedForOthers: what one search found out of a node's pods holds for the next only if that is for a
// pod of the same priority, and nobody was promised or changed meanwhile.
func TestEligibilityIsNotReusedForOthers(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 1, "80Gi"))
	f.resident("a", "node", func(p *bt.Pod) { p.Priority(10) }, "GPU-0=39Gi")
	f.resident("b", "node", func(p *bt.Pod) { p.Priority(20) }, "GPU-0=39Gi")
	victims := func(priority int32) []string {
		pod := bt.MakePod(fmt.Sprintf("preemptor-%d", priority)).Memory("40Gi").Priority(priority).Obj()
		f.known(pod)
		state := f.cycleState(pod)
		s, err := f.pl.evictor.NewSearch(cycle.Of(state), state, pod, epoch)
		if err != nil {
			t.Fatal(err)
		}
		p := s.Run(f.ctx, f.nodeInfos(), false)
		if p == nil {
			return nil
		}
		var names []string
		for _, v := range p.Pods() {
			names = append(names, v.Name)
		}
		return names
	}
	check := func(what string, priority int32, want ...string) {
		t.Helper()
		for range 2 {
			if diff := cmp.Diff(want, victims(priority)); diff != "" {
				t.Errorf("%s: victims (-want +got):\n%s", what, diff)
			}
		}
	}
	check("of a priority above all", 100, "a")
	check("of that of the lesser pod", 10)
	check("in between", 15, "a")
	f.pods[0].Annotations["berth.dev/min-runtime"] = "1h"
	f.snapshot()
	f.pl.feed.PodSeen(f.pods[0].DeepCopy())
	check("the first may not be evicted yet", 100, "b")
	delete(f.pods[0].Annotations, "berth.dev/min-runtime")
	f.snapshot()
	f.pl.feed.PodSeen(f.pods[0].DeepCopy())
	f.pl.claims.Evicted(f.pods[0])
	check("the first goes anyway: its room is enough", 100)
}

// TestRetriedWhenAVictimBecomesEligible: no event tells that min-runtime is over.
func TestRetriedWhenAVictimBecomesEligible(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 1, "80Gi"))
	f.resident("young", "node", func(p *bt.Pod) { p.Annotation("min-runtime", "5m") }, "GPU-0=70Gi")
	f.clock.Step(time.Minute)
	f.report("node", "2")
	pod := bt.MakePod("preemptor").Memory("60Gi").Priority(100).Obj()
	if node, _ := f.postFilter(pod); node != "" || len(f.api.takeDeleted()) > 0 {
		t.Fatalf("nominated to %q, or evicted somebody, before min-runtime was over", node)
	}
	f.queue.take()
	f.clock.Step(4*time.Minute - time.Second)
	f.pl.tracker.LeaseSeen("node", f.clock.Now(), true)
	f.wantActivated("its agent is back", "preemptor")
	f.clock.Step(time.Second + time.Millisecond)
	f.eventually("the pod is retried", func() bool { return slices.Equal(f.queue.take(), []string{"preemptor"}) })
	f.report("node", "3")
	if node, _ := f.postFilter(pod); node != "node" || !slices.Equal(f.api.takeDeleted(), []string{"young"}) {
		t.Errorf("nominated to %q once min-runtime is over", node)
	}
}

// TestLostPlace: a preemptor whose place goes to one of higher priority does not evict again before its victim is gone.
func TestLostPlace(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), bt.MakeGPUNode("node").GPU("GPU-0", "80Gi").Process("a", "70Gi").GPU("GPU-1", "80Gi").Process("b", "70Gi"))
	f.resident("a", "node", nil, "GPU-0=70Gi")
	f.resident("b", "node", nil, "GPU-1=70Gi")
	low := bt.MakePod("low").Memory("60Gi").Priority(100).Obj()
	high := bt.MakePod("high").Memory("60Gi").Priority(200).Obj()
	step := func(what string, pod *corev1.Pod, wantNode string, want ...string) {
		t.Helper()
		node, status := f.postFilter(pod)
		if got := f.api.takeDeleted(); node != wantNode || !slices.Equal(got, want) {
			t.Errorf("%s: nominated to %q and evicts %v (%v), want %q and %v", what, node, got, status, wantNode, want)
		}
	}
	step("the first", low, "node", "a")
	f.queue.nominate(t, low, "node")
	f.terminating("a")
	step("the second, which takes its place", high, "node")
	f.queue.nominate(t, high, "node")
	step("the first, its victim still there", low, "")
	f.gone("a")
	f.report("node", "2")
	step("the first, its victim gone", low, "node", "b")
}

// TestALostPlaceIsNotMournedForLong: if the victims take longer to go than waitBeforeEviction, another way is tried before
// they are gone; and if the place is back before that, it is taken.
func TestALostPlaceIsNotMournedForLong(t *testing.T) {
	f := newFixture(t)
	f.pl.tracker.Policy.StaleAfter = 0
	f.node(bt.MakeNode("node"), bt.MakeGPUNode("node").GPU("GPU-0", "80Gi").Process("a", "70Gi").GPU("GPU-1", "80Gi").Process("b", "70Gi"))
	f.resident("a", "node", nil, "GPU-0=70Gi")
	f.resident("b", "node", nil, "GPU-1=70Gi")
	low := bt.MakePod("low").Memory("60Gi").Priority(100).Obj()
	high := bt.MakePod("high").Memory("60Gi").Priority(200).Obj()
	f.wantPostFilter("the first", low, "node", "a")
	f.terminatingUntil("a", epoch.Add(25*time.Second))
	f.wantPostFilter("the second, which takes its place", high, "node")
	f.wantPostFilter("the first, without a place", low, "")
	f.forget(high)
	f.pl.feed.PodGone(high)
	f.wantPostFilter("the second is gone", low, "node")
	f.known(high)
	f.wantPostFilter("the second comes again", high, "node")
	f.wantPostFilter("the first, without a place again", low, "")
	f.terminatingUntil("a", epoch.Add(10*time.Minute))
	f.clock.Step(29 * time.Second)
	f.wantPostFilter("the first, within waitBeforeEviction", low, "")
	f.clock.Step(2 * time.Second)
	f.wantPostFilter("the first, after that", low, "node", "b")
}

// TestEndOfAClaimWakesOthers: what it held is free for those that wait.
func TestEndOfAClaimWakesOthers(t *testing.T) {
	for _, tc := range []struct {
		name string
		end  func(f *fixture, preemptor *corev1.Pod)
		want []string
	}{
		{"the preemptor is deleted", func(f *fixture, p *corev1.Pod) { f.forget(p); f.pl.feed.PodGone(p) }, []string{"waits"}},
		{"the preemptor is bound elsewhere", func(f *fixture, p *corev1.Pod) {
			b := &bt.Pod{Pod: *p.DeepCopy()}
			f.pl.feed.PodSeen(b.Bound("other", epoch, "GPU-9=60Gi").Obj())
		}, []string{"waits"}},
		{"the claim moves to another node", func(f *fixture, p *corev1.Pod) { f.pl.follow.Claim(p, "other", nil, gpustate.Claim{}) }, []string{"waits"}},
		{"the report comes again", func(f *fixture, _ *corev1.Pod) {
			f.pl.feed.ReportSeen(bt.MakeGPUNode("node").GPU("GPU-0", "80Gi").GPU("GPU-1", "80Gi").Process("", "75Gi").Obj(), true)
		}, []string{"preemptor"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			f.node(bt.MakeNode("node"), bt.MakeGPUNode("node").GPU("GPU-0", "80Gi").GPU("GPU-1", "80Gi").Process("", "75Gi"))
			preemptor := bt.MakePod("preemptor").Memory("60Gi").Priority(100).Obj()
			f.known(preemptor)
			f.begin(preemptor)
			f.pl.follow.Claim(preemptor, "node", []alloc.DeviceShare{{UUID: "GPU-0", Memory: alloc.GiB(60)}}, gpustate.Claim{Deadline: epoch.Add(time.Hour)})
			f.queue.nominate(t, preemptor, "node")
			f.park(bt.MakePod("waits").Memory("30Gi").Priority(100).Obj())
			f.park(bt.MakePod("too-large").Memory("120Gi").GPUCount("2").Priority(100).Obj())
			tc.end(f, preemptor)
			f.wantActivated(tc.name, tc.want...)
		})
	}
}

// TestClaimIsNominatedAgain after a preemptor of higher priority, or a failed reservation, cleared the nomination.
func TestClaimIsNominatedAgain(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), bt.MakeGPUNode("node").GPU("GPU-0", "80Gi").Process("gone", "70Gi"))
	pod := bt.MakePod("preemptor").Memory("60Gi").Priority(100).Obj()
	for range 2 {
		if node, status := f.postFilter(pod); node != "node" {
			t.Fatalf("nominated to %q, %v", node, status)
		}
	}
}

// TestOtherClaimsVictimsMakeRoomToo: a victim that leaves room is evicted for two pods, and the second evicts nobody, or
// only what is missing, before the first victim even terminates.
func TestOtherClaimsVictimsMakeRoomToo(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 2, "80Gi"))
	f.resident("big", "node", nil, "GPU-0=79Gi")
	f.resident("small", "node", nil, "GPU-1=39Gi")
	f.resident("other", "node", func(p *bt.Pod) { p.Priority(200) }, "GPU-1=39Gi")
	for _, step := range []struct {
		pod  *bt.Pod
		want []string
	}{
		{bt.MakePod("first").Memory("45Gi"), []string{"big"}},
		{bt.MakePod("second").Memory("30Gi"), nil},
		{bt.MakePod("third").Memory("39Gi"), []string{"small"}},
		{bt.MakePod("fourth").Memory("30Gi"), nil},
	} {
		pod := step.pod.Priority(100).Obj()
		if node, _ := f.postFilter(pod); node != "" {
			f.queue.nominate(t, pod, node)
		}
		if diff := cmp.Diff(step.want, f.api.takeDeleted()); diff != "" {
			t.Errorf("for %s: evicted (-want +got):\n%s", pod.Name, diff)
		}
	}
}

// gone tells that a pod is gone from the API; its processes may linger.
func (f *fixture) gone(name string) {
	f.t.Helper()
	i := slices.IndexFunc(f.pods, func(p *corev1.Pod) bool { return p.Name == name })
	pod := f.pods[i]
	f.pods = slices.Delete(f.pods, i, i+1)
	f.forget(pod)
	f.snapshot()
	f.pl.feed.PodGone(pod)
}

// forget takes a pod out of the informer.
func (f *fixture) forget(pod *corev1.Pod) {
	f.t.Helper()
	if err := f.pl.handle.SharedInformerFactory().Core().V1().Pods().Informer().GetIndexer().Delete(pod); err != nil {
		f.t.Fatal(err)
	}
}

// terminating tells that a pod began to terminate, with no grace period.
func (f *fixture) terminating(name string) {
	f.t.Helper()
	for i, p := range f.pods {
		if p.Name == name {
			b := &bt.Pod{Pod: *p.DeepCopy()}
			f.pods[i] = b.Terminating(f.clock.Now()).Obj()
			f.known(f.pods[i])
			f.pl.feed.PodSeen(f.pods[i])
		}
	}
	f.snapshot()
}

// report tells of a node's GPUs again, as they are.
func (f *fixture) report(node, version string) {
	f.t.Helper()
	gn := bt.MakeGPUNode(node).ResourceVersion(version)
	report, _ := f.pl.tracker.Store.Report(node, 0)
	for i := range report.Devices {
		gn.GPU(report.Devices[i].UUID, report.Devices[i].Total.String())
		for _, p := range f.pods {
			if strings.Contains(p.Annotations["berth.dev/allocation"], report.Devices[i].UUID+`"`) {
				gn.Process(p.UID, "70Gi")
			}
		}
	}
	f.pl.feed.ReportSeen(gn.Obj(), true)
}

// wantEvent checks that an Event of a reason was written whose note has a text.
func (f *fixture) wantEvent(reason, text string) {
	f.t.Helper()
	for {
		select {
		case e := <-f.events.Events:
			if strings.Contains(e, reason) && strings.Contains(e, text) {
				return
			}
		default:
			f.t.Errorf("no event %s with %q", reason, text)
			return
		}
	}
}
