// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

func TestReserveBooksTheTightestGPU(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 3, "80Gi"))
	f.running(
		bt.MakePod("x").Memory("20Gi").Bound("node", epoch, "GPU-0=20Gi").Started(epoch).Ready(epoch),
		bt.MakePod("y").Memory("45Gi").Bound("node", epoch, "GPU-1=45Gi").Started(epoch).Ready(epoch),
	)
	pod := bt.MakePod("a").Memory("30Gi").Obj()
	f.reserve(pod, "node")
	f.wantFree("reserved", "node", 60, 5, 80)
	f.wantState("reserved", pod, gpustate.Assumed)
}

// TestReserveAndUnreserveAreIdempotent: pod groups reserve tentatively, and revert.
func TestReserveAndUnreserveAreIdempotent(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 2, "80Gi"))
	pod := bt.MakePod("a").Memory("30Gi").Obj()
	state := f.begin(pod)
	f.pl.Unreserve(f.ctx, state, pod, "node")
	f.wantFree("unreserved without a reservation", "node", 80, 80)
	for i := range 2 {
		for range 2 {
			wantStatus(t, "Reserve", f.pl.Reserve(f.ctx, state, pod, "node"), fwk.Success, "")
			f.wantFree(fmt.Sprint("reserved, round ", i), "node", 50, 80)
		}
		for range 2 {
			f.pl.Unreserve(f.ctx, state, pod, "node")
			f.wantFree(fmt.Sprint("unreserved, round ", i), "node", 80, 80)
			f.wantState("unreserved", pod, 0)
		}
	}
}

func TestReservePlansAnew(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 1, "80Gi"))
	first, second := bt.MakePod("a").Memory("60Gi").Obj(), bt.MakePod("b").Memory("60Gi").Obj()
	state := f.begin(second)
	wantStatus(t, "Filter", f.pl.Filter(f.ctx, state, second, f.nodeInfo("node")), fwk.Success, "")
	f.reserve(first, "node") // between Filter and Reserve, as a nominated pod's or a pod group's
	wantStatus(t, "Reserve", f.pl.Reserve(f.ctx, state, second, "node"), fwk.Unschedulable, gpustate.ReasonInsufficientMemory)
	f.wantState("refused", second, 0)
	f.wantFree("one is booked", "node", 20)
}

func TestReserveOnANodeThatIsGone(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 1, "80Gi"))
	pod := bt.MakePod("a").Memory("60Gi").Obj()
	wantStatus(t, "Reserve", f.pl.Reserve(f.ctx, f.begin(pod), pod, "gone"), fwk.Error, "")
}

// TestSixteenPodsAtOnce: no GPU is given away twice though no binding has been echoed yet.
func TestSixteenPodsAtOnce(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 8, "80Gi"))
	for i := range 16 {
		f.reserve(bt.MakePod(fmt.Sprintf("p%d", i)).Memory("39Gi").Obj(), "node")
	}
	f.wantFree("after sixteen", "node", 2, 2, 2, 2, 2, 2, 2, 2)
	pod := bt.MakePod("one-more").Memory("39Gi").Obj()
	wantStatus(t, "the seventeenth", f.pl.Filter(f.ctx, f.begin(pod), pod, f.nodeInfo("node")), fwk.Unschedulable, gpustate.ReasonInsufficientMemory)
}

// TestScoreRange: whatever the node and the strategy, 0 to 100, or the framework fails the cycle.
func TestScoreRange(t *testing.T) {
	for _, strategy := range []alloc.Strategy{alloc.MostAllocated, alloc.LeastAllocated, alloc.Fragmentation} {
		f := newFixture(t)
		f.pl.args.Strategy = strategy
		for n := 1; n <= 8; n++ {
			name := fmt.Sprintf("node-%d", n)
			f.node(bt.MakeNode(name), bt.MakeGPUsOf(name, n, fmt.Sprintf("%dGi", 20*n)))
		}
		f.node(bt.MakeNode("full"), bt.MakeGPUNode("full").GPU("GPU-0", "200Gi").Process("", "190Gi"))
		f.node(bt.MakeNode("unreported"), nil)
		for _, pod := range []*bt.Pod{
			bt.MakePod("a").Memory("64Mi"), bt.MakePod("a").Memory("20Gi"), bt.MakePod("a").Memory("160Gi").GPUCount("1-8"), bt.MakePod("a").Memory("300Gi").GPUCount("2,4"),
		} {
			state := f.begin(pod.Obj())
			wantStatus(t, "PreScore", f.pl.PreScore(f.ctx, state, pod.Obj(), f.nodeInfos()), fwk.Success, "")
			distinct := map[int64]bool{}
			for _, ni := range f.nodeInfos() {
				score, status := f.pl.Score(f.ctx, state, pod.Obj(), ni)
				if !status.IsSuccess() || score < fwk.MinScore || score > fwk.MaxScore {
					t.Errorf("%s, %s: score %d, %v", strategy, ni.Node().Name, score, status)
				}
				fits := f.pl.Filter(f.ctx, state, pod.Obj(), ni).IsSuccess()
				if !fits && score != fwk.MinScore {
					t.Errorf("%s, %s: score %d of a node where it does not fit", strategy, ni.Node().Name, score)
				}
				if fits {
					distinct[score] = true
				}
			}
			if len(distinct) < 2 {
				t.Errorf("%s: unlike nodes all score %v", strategy, distinct)
			}
		}
		if f.pl.ScoreExtensions() != nil {
			t.Error("scores are normalised")
		}
	}
}

// TestDecisionIsTold: the Event says what was chosen, and what else would have been possible.
func TestDecisionIsTold(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 4, "30Gi"))
	f.api.add(bt.MakePod("a").Memory("50Gi").GPUCount("1,2,4").Obj())
	pod := f.api.pod("a")
	wantStatus(t, "Bind", f.pl.Bind(f.ctx, f.reserve(pod, "node"), pod, "node"), fwk.Success, "")
	event := <-f.events.Events
	for _, part := range []string{
		"GPUMemoryAllocated", "Booked 25Gi on GPU 0 (GPU-0), 25Gi on GPU 1 (GPU-1) of node node",
		"of 3 options: 1 GPU of 50Gi: does not fit, 2 GPUs of 25Gi: chosen, 4 GPUs of 12.5Gi: fits too",
	} {
		if !strings.Contains(event, part) {
			t.Errorf("event %q does not say %q", event, part)
		}
	}
}

// BenchmarkFilter is what Filter costs for one node of 8 GPUs and 16 pods.
func BenchmarkFilter(b *testing.B) {
	f := newFixture(b)
	f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 8, "80Gi"))
	for i := range 16 {
		f.running(bt.MakePod(fmt.Sprintf("01234567-89ab-cdef-0123-4567%08x", i)).Memory("30Gi").Bound("node", epoch, bt.GPU(i/2)+"=30Gi").Started(epoch).Ready(epoch))
	}
	pod := bt.MakePod("a").Memory("15Gi").GPUCount("1,2,4").Obj()
	state := newState()
	if _, status := f.pl.PreFilter(f.ctx, state, pod, f.nodeInfos()); !status.IsSuccess() {
		b.Fatal(status)
	}
	ni := f.nodeInfo("node")
	filter := func(what string, do func(*corev1.Pod) bool) {
		b.Run(what, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !do(pod) {
					b.Fatal("it does not fit")
				}
			}
		})
	}
	filter("Filter", func(p *corev1.Pod) bool { return f.pl.Filter(f.ctx, state, p, ni).IsSuccess() })
	filter("Score", func(p *corev1.Pod) bool { _, status := f.pl.Score(f.ctx, state, p, ni); return status.IsSuccess() })
}
