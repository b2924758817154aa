// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/reference"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/plugin/preempt"
)

// ownedBy gives a pod a controller of a kind.
func ownedBy(p *bt.Pod, kind string) *bt.Pod {
	controls := true
	p.OwnerReferences = []metav1.OwnerReference{{Kind: kind, Name: "owner", UID: "owner", Controller: &controls}}
	return p
}

// TestWhoMayBeAVictim of a pod of higher priority, on a node with one GPU, and when.
func TestWhoMayBeAVictim(t *testing.T) {
	resident := func() *bt.Pod {
		return bt.MakePod("resident").Memory("1Gi").Bound("node", epoch, "GPU-0=70Gi").Started(epoch)
	}
	foreign := func() *bt.Pod {
		return bt.MakePod("resident").Scheduler("default-scheduler").Node("node").Started(epoch).Ready(epoch)
	}
	for _, tc := range []struct {
		name   string
		victim *bt.Pod
		args   func(*preempt.Rules)
		after  time.Duration
		want   bool
	}{
		{name: "a pod of this scheduler", victim: resident().Ready(epoch), want: true},
		{name: "a pod of another scheduler", victim: foreign(), want: false},
		{name: "one that says that it may be", victim: foreign().Annotation("evictable", "true"), want: true},
		{name: "one that says that it may not be", victim: foreign().Annotation("evictable", "false"), want: false},
		{name: "the admin says that all may be", victim: foreign(), args: func(a *preempt.Rules) { a.EvictOtherSchedulers = true }, want: true},
		{name: "Ready, within its min-runtime", victim: resident().Annotation("min-runtime", "5m").Ready(epoch), after: 4 * time.Minute, want: false},
		{name: "Ready, after its min-runtime", victim: resident().Annotation("min-runtime", "5m").Ready(epoch), after: 5 * time.Minute, want: true},
		{name: "never Ready, within its time to load and min-runtime", victim: resident().Annotation("min-runtime", "5m"), after: 19 * time.Minute, want: false},
		{name: "never Ready, after that", victim: resident().Annotation("min-runtime", "5m"), after: 20 * time.Minute, want: true},
		{name: "900 restarts in 30 days, with a min-runtime of a second", victim: resident().Annotation("min-runtime", "1s").Restarted(epoch.Add(30*24*time.Hour), 900), after: 30*24*time.Hour + time.Minute, want: true},
		{name: "a min-runtime above the admin's cap", victim: resident().Annotation("min-runtime", "24h").Ready(epoch), after: time.Hour, want: true},
		{name: "a pod that loads", victim: resident(), after: time.Minute, want: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			f.pl.tracker.Policy.StaleAfter = 0
			if tc.args != nil {
				tc.args(&f.pl.evictor.Rules)
			}
			f.node(bt.MakeNode("node"), bt.MakeGPUNode("node").GPU("GPU-0", "80Gi").Process("resident", "70Gi"))
			f.running(tc.victim)
			f.clock.Step(tc.after)
			pod := bt.MakePod("preemptor").Memory("60Gi").Priority(100).Obj()
			if tc.want {
				f.wantPostFilter("it may be", pod, "node", "resident")
			} else {
				f.wantPostFilter("it may not be", pod, "")
			}
		})
	}
}

// TestTheEventOnAVictimRefersToThePodItWentFor: a recorder leaves out what it cannot refer to, without a word.
func TestTheEventOnAVictimRefersToThePodItWentFor(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), bt.MakeGPUNode("node").GPU("GPU-0", "80Gi").Process("resident", "70Gi"))
	f.running(bt.MakePod("resident").Memory("1Gi").Bound("node", epoch, "GPU-0=70Gi").Started(epoch).Ready(epoch))
	told := make(chan runtime.Object, 1)
	f.pl.evictor.Tell = func(_ *corev1.Pod, preemptor runtime.Object, _ string) { told <- preemptor }
	preemptor := bt.MakePod("preemptor").Memory("60Gi").Priority(100).Obj()
	preemptor.TypeMeta = metav1.TypeMeta{} // as informers leave it
	f.wantPostFilter("it is evicted", preemptor, "node", "resident")
	got, err := reference.GetReference(scheme.Scheme, <-told)
	if err != nil || got.Kind != "Pod" || got.Name != "preemptor" || got.UID != "preemptor" {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestWhichVictimIsCheaper of two, each on a node of its own; the other one's name comes first.
func TestWhichVictimIsCheaper(t *testing.T) {
	on := func(name, node string) *bt.Pod {
		return bt.MakePod(name).Memory("1Gi").Bound(node, epoch, bt.GPUOf(node, 0)+"=70Gi").Started(epoch)
	}
	for _, tc := range []struct {
		name            string
		dearer, cheaper *bt.Pod
	}{
		{"one that can go elsewhere, than a DaemonSet's", ownedBy(on("dearer", "a").Ready(epoch), "DaemonSet"), ownedBy(on("cheaper", "b").Ready(epoch), "ReplicaSet")},
		{"one that loads, than one that is Ready", on("dearer", "a").Ready(epoch), on("cheaper", "b")},
		{"one of lower priority, than one that loads", on("dearer", "a").Priority(10), on("cheaper", "b").Ready(epoch)},
		{"a DaemonSet's of lower priority, than another", on("dearer", "a").Priority(10).Ready(epoch), ownedBy(on("cheaper", "b").Ready(epoch), "DaemonSet")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			for _, n := range []string{"a", "b"} {
				f.node(bt.MakeNode(n), bt.MakeGPUsOf(n, 1, "80Gi"))
			}
			f.running(tc.dearer, tc.cheaper)
			f.clock.Step(time.Second)
			f.wantPostFilter(tc.name, bt.MakePod("preemptor").Memory("60Gi").Priority(100).Obj(), "b", "cheaper")
		})
	}
}

// TestLoadersThatCloseGPUs: four small pods that never load keep everyone off four GPUs. A pod of higher priority waits
// for them as long as for anything else, and then evicts one.
func TestLoadersThatCloseGPUs(t *testing.T) {
	setUp := func(t *testing.T, priority int32) *fixture {
		f := newFixture(t)
		f.pl.tracker.Policy.StaleAfter = 0
		f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 4, "80Gi"))
		for i := range 4 {
			name := "loader-" + string(rune('a'+i))
			f.running(bt.MakePod(name).Memory("2Gi").Runtime(vllm).Priority(priority).Bound("node", epoch, bt.GPU(i)+"=2Gi").Started(epoch))
		}
		return f
	}
	pod := func() *corev1.Pod { return bt.MakePod("preemptor").Memory("60Gi").Priority(100).Obj() }
	t.Run("of lower priority", func(t *testing.T) {
		f := setUp(t, 0)
		f.wantPostFilter("at first", pod(), "node")
		f.clock.Step(31 * time.Second)
		f.wantPostFilter("after waitBeforeEviction", pod(), "node", "loader-a")
		f.terminating("loader-a")
		f.wantPostFilter("while it goes", pod(), "node")
	})
	t.Run("of higher priority", func(t *testing.T) {
		f := setUp(t, 200)
		f.wantPostFilter("at first", pod(), "node")
		f.clock.Step(31 * time.Second)
		f.wantPostFilter("after waitBeforeEviction", pod(), "node")
	})
	t.Run("two on one GPU: both go, or a single one elsewhere", func(t *testing.T) {
		f := setUp(t, 0)
		f.running(bt.MakePod("second").Memory("2Gi").Runtime(vllm).Bound("node", epoch, bt.GPU(0)+"=2Gi").Started(epoch))
		f.wantPostFilter("at first", pod(), "node")
		f.clock.Step(31 * time.Second)
		f.wantPostFilter("after waitBeforeEviction", pod(), "node", "loader-b")
	})
}

// TestDeferredResizes are the framework's business: a bound pod goes through a cycle, and must not evict for the memory
// that it holds itself.
func TestDeferredResizes(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), bt.MakeGPUNode("node").GPU("GPU-0", "80Gi").Process("resizes", "60Gi").Process("serves", "15Gi"))
	resizes := bt.MakePod("resizes").Memory("60Gi").Priority(100).Bound("node", epoch, "GPU-0=60Gi").Started(epoch).Ready(epoch)
	f.running(resizes)
	f.resident("serves", "node", nil, "GPU-0=15Gi")
	pod, state := resizes.Obj(), newState()
	wantStatus(t, "PreFilter", second(f.pl.PreFilter(f.ctx, state, pod, f.nodeInfos())), fwk.Skip, "")
	wantStatus(t, "Filter", f.pl.Filter(f.ctx, state, pod, f.nodeInfo("node")), fwk.Success, "")
	f.pl.PostFilter(f.ctx, state, pod, framework.NewNodeToStatus(nil, fwk.NewStatus(fwk.UnschedulableAndUnresolvable)))
	if got := f.api.takeDeleted(); len(got) > 0 {
		t.Errorf("evicts %v", got)
	}
}
