// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
)

const (
	custom   = berthv1alpha1.RuntimeCustom
	vllm     = berthv1alpha1.RuntimeVLLM
	ollama   = berthv1alpha1.RuntimeOllama
	llamaCpp = berthv1alpha1.RuntimeLlamaCpp
)

// TestOneLoaderAtATime: while a pod is bound but not Ready, no other is placed on its GPUs if either is a vLLM.
func TestOneLoaderAtATime(t *testing.T) {
	all := []berthv1alpha1.Runtime{custom, vllm, ollama, llamaCpp}
	for _, loader := range all {
		for _, newcomer := range all {
			f := newFixture(t)
			f.report(bt.MakeGPUNodeOf(testNode, 2, "80Gi"))
			pod := bt.MakePod("loader").Memory("10Gi").Runtime(loader).Bound(testNode, epoch, "GPU-0=10Gi").Obj()
			f.PodSeen(pod)
			want := []uint64{70, 80}
			if loader == vllm || newcomer == vllm {
				want[0] = 0
			}
			v := f.view(Query{Pod: "new", Runtime: newcomer}, pod)
			f.wantFree(string(newcomer)+" beside a loading "+string(loader), v, want...)
			if want[0] == 0 && v.Devices[0].Blocked != alloc.ReasonLoading {
				t.Errorf("%s beside a loading %s: blocked because %q", newcomer, loader, v.Devices[0].Blocked)
			}
			f.wantFree("once all have loaded", f.view(Query{Pod: "new", Runtime: newcomer, Loaded: true}, pod), 70, 80)
			f.wantFree("for nobody", f.view(Query{}, pod), 70, 80)
			f.wantFree("for the loader itself", f.view(Query{Pod: "loader", Runtime: loader}, pod), 80, 80)
		}
	}
}

// TestHowLongAPodLoads: from the bind until Ready, at most 15 minutes from its first start.
func TestHowLongAPodLoads(t *testing.T) {
	const m = time.Minute
	at := func(d time.Duration) time.Time { return epoch.Add(d) }
	bound := func() *bt.Pod {
		return bt.MakePod("loader").Memory("10Gi").Runtime(vllm).Bound(testNode, epoch, "GPU-0=10Gi")
	}
	for _, tc := range []struct {
		name string
		pod  *bt.Pod
		now  time.Duration
		want bool
	}{
		{"just bound", bound(), 0, true},
		{"pulling its image for a while", bound(), 14 * m, true},
		{"never started", bound(), 15 * m, false},
		{"started", bound().Started(at(10 * m)), 11 * m, true},
		{"started late: the time counts from the start", bound().Started(at(10 * m)), 20 * m, true},
		{"started, and never Ready", bound().Started(at(10 * m)), 25 * m, false},
		{"Ready", bound().Started(at(0)).Ready(at(m)), 2 * m, false},
		{"not Ready by its own probe", bound().Started(at(0)).NotReady(at(0)), 2 * m, true},
		{"in a crash loop: the newest start does not begin the time anew", bound().Started(at(0)).Restarted(at(14*m), 3), 16 * m, false},
		{"in a crash loop, within the time of its first start", bound().Started(at(0)).Restarted(at(2*m), 1), 10 * m, true},
		{"ended", bound().Started(at(0)).Phase(corev1.PodFailed), m, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			f.report(bt.MakeGPUNodeOf(testNode, 1, "80Gi"))
			pod := tc.pod.Obj()
			if !HasEnded(pod) {
				f.PodSeen(pod)
			}
			f.clock.SetTime(at(tc.now))
			f.report(bt.MakeGPUNodeOf(testNode, 1, "80Gi"))
			v := f.view(Query{Pod: "new", Runtime: vllm}, pod)
			if got := v.Devices[0].Blocked == alloc.ReasonLoading; got != tc.want {
				t.Errorf("loading: %v, want %v", got, tc.want)
			}
		})
	}
}

// TestPromisedPodIsALoader: the binding is under way, or in doubt; nobody knows when it starts.
func TestPromisedPodIsALoader(t *testing.T) {
	f := newFixture(t)
	f.report(bt.MakeGPUNodeOf(testNode, 1, "80Gi"))
	pod := f.assume(bt.MakePod("loader").Memory("10Gi").Runtime(vllm), "GPU-0=10Gi")
	for range 2 {
		f.clock.Step(time.Hour)
		f.report(bt.MakeGPUNodeOf(testNode, 1, "80Gi"))
		if v := f.view(Query{Pod: "new", Runtime: vllm}); v.Devices[0].Blocked != alloc.ReasonLoading {
			t.Error("not taken for a loader")
		}
		f.Ledger.MarkUnknown(pod.UID)
	}
}

// TestGonePodIsNoLoader: its memory may be held, but it loads nothing any more.
func TestGonePodIsNoLoader(t *testing.T) {
	f := newFixture(t)
	f.report(bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi").Process("loader", "5Gi"))
	pod := bt.MakePod("loader").Memory("10Gi").Runtime(vllm).Bound(testNode, epoch, "GPU-0=10Gi").Started(epoch).Obj()
	f.PodSeen(pod)
	f.PodGone(pod)
	f.wantFree("after it is gone", f.view(Query{Pod: "new", Runtime: vllm}), 70)
}

// TestLoadedByTheLedgerBeforeTheList: who waits is woken when the tracker hears that the pod is Ready; the scheduler's
// own cache may hear it later.
func TestLoadedByTheLedgerBeforeTheList(t *testing.T) {
	f := newFixture(t)
	f.report(bt.MakeGPUNodeOf(testNode, 1, "80Gi"))
	loading := bt.MakePod("loader").Memory("10Gi").Runtime(vllm).Bound(testNode, epoch, "GPU-0=10Gi").Started(epoch)
	f.PodSeen(loading.Obj())
	listed := loading.Obj()
	f.PodSeen(loading.Ready(epoch).Obj())
	f.wantFree("by the older list", f.view(Query{Pod: "new", Runtime: vllm}, listed), 70)
}

// TestPodThatDoesNotGetItsGPUsHoldsUpNobody: its container cannot start, which no time limit has to end; those that wait
// for it are woken.
func TestPodThatDoesNotGetItsGPUsHoldsUpNobody(t *testing.T) {
	f := newFixture(t)
	f.report(bt.MakeGPUNodeOf(testNode, 1, "80Gi"))
	loader := bt.MakePod("loader").Memory("10Gi").Runtime(vllm).Bound(testNode, epoch, "GPU-0=10Gi")
	f.PodSeen(loader.Obj())
	if v := f.view(Query{Pod: "new", Runtime: vllm}); v.Devices[0].Blocked != alloc.ReasonLoading {
		t.Fatal("not taken for a loader while its container is being made")
	}
	changed := 0
	f.Changed = func(string) { changed++ }
	failed := loader.Obj().DeepCopy()
	failed.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{
		Reason: "RunContainerError", Message: "failed to inject CDI devices: unresolvable CDI devices management.nvidia.com/gpu=GPU-0",
	}}}}
	f.PodSeen(failed)
	f.wantFree("beside a pod that cannot start", f.view(Query{Pod: "new", Runtime: vllm}, failed), 70)
	if changed != 1 {
		t.Errorf("those that wait were woken %d times", changed)
	}
	started := loader.Started(epoch).Obj()
	f.PodSeen(started)
	if v := f.view(Query{Pod: "new", Runtime: vllm}, started); v.Devices[0].Blocked != alloc.ReasonLoading || changed != 2 {
		t.Errorf("once it starts all the same: blocked because %q, told %d times", v.Devices[0].Blocked, changed)
	}
}

// TestLoadersOnInstances: an instance has its memory to itself, so who loads there keeps nobody from another one. Who was
// given a GPU that is cut into instances by now may load on any of them.
func TestLoadersOnInstances(t *testing.T) {
	for _, tc := range []struct {
		name string
		on   string
		// Of GPU-0, which is cut and has no room itself, GPU-1, and the two instances.
		want []uint64
	}{
		{"on one of the instances", "MIG-0=10Gi", []uint64{0, 80, 0, 20}},
		{"on the GPU before it was cut", "GPU-0=10Gi", []uint64{0, 80, 0, 0}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			pod := bt.MakePod("loader").Memory("10Gi").Runtime(vllm).Bound(testNode, epoch, tc.on).Obj()
			f.PodSeen(pod)
			f.report(bt.MakeGPUNodeOf(testNode, 2, "80Gi").Instance("MIG-0", "GPU-0", "40Gi").Instance("MIG-1", "GPU-0", "20Gi"))
			f.wantFree("for another", f.view(Query{Pod: "new", Runtime: custom}, pod), tc.want...)
		})
	}
}
