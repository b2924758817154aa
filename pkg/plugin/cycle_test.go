// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/cycle"
	"github.com/berth-dev/berth/pkg/plugin/requests"
)

const (
	unresolvable = fwk.UnschedulableAndUnresolvable
	custom       = berthv1alpha1.RuntimeCustom
	vllm         = berthv1alpha1.RuntimeVLLM
)

// readyProfile is a profile of a small dense model.
func readyProfile(source string) *berthv1alpha1.ModelProfile {
	p := &berthv1alpha1.ModelProfile{
		ObjectMeta: metav1.ObjectMeta{Name: berthv1alpha1.ModelProfileName(source), ResourceVersion: "2"},
		Spec:       berthv1alpha1.ModelProfileSpec{Source: source},
	}
	p.Status.Conditions = []metav1.Condition{{Type: berthv1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: "Resolved"}}
	p.Status.Model = &estimator.Model{}
	return p
}

func TestPreEnqueueGatesUnknownModels(t *testing.T) {
	const source = "ollama://llama3.1:8b"
	f := newFixture(t)
	f.pl.requests.Profiles = requests.Profiles{Store: cache.NewStore(cache.MetaNamespaceKeyFunc)}
	pod := bt.MakePod("a").Model(source).Runtime(berthv1alpha1.RuntimeOllama).Obj()
	f.known(pod)

	wantStatus(t, "no profile", f.pl.PreEnqueue(f.ctx, pod), unresolvable, gpustate.ReasonModelUnknown)
	notReady := readyProfile(source)
	notReady.Status.Conditions[0].Status, notReady.ResourceVersion = metav1.ConditionFalse, "1"
	_ = f.pl.requests.Profiles.Store.Add(notReady)
	f.pl.wake.ProfileSeen(notReady)
	f.wantActivated("a profile that is not ready")
	wantStatus(t, "a profile that is not ready", f.pl.PreEnqueue(f.ctx, pod), unresolvable, gpustate.ReasonModelUnknown)
	wantStatus(t, "PreFilter, if it came that far", second(f.pl.PreFilter(f.ctx, newState(), pod, nil)), unresolvable, gpustate.ReasonModelUnknown)

	ready := readyProfile(source)
	_ = f.pl.requests.Profiles.Store.Update(ready)
	f.pl.wake.ProfileSeen(readyProfile("ollama://another"))
	f.wantActivated("another model's profile")
	f.pl.wake.ProfileSeen(ready)
	f.wantActivated("its profile is ready", "a")
	if status := f.pl.PreEnqueue(f.ctx, pod); !status.IsSuccess() {
		t.Errorf("with a profile that is ready: %v", status)
	}
	f.pl.feed.PodGone(pod)
	f.pl.wake.ProfileSeen(ready)
	f.wantActivated("after the pod is gone")
}

// TestTakenProfileNameIsNotTheModels is attack 10: the profile of another model has the name of this one's.
func TestTakenProfileNameIsNotTheModels(t *testing.T) {
	const source = "ollama://llama3.1:8b"
	f := newFixture(t)
	f.pl.requests.Profiles = requests.Profiles{Store: cache.NewStore(cache.MetaNamespaceKeyFunc)}
	pod := bt.MakePod("a").Model(source).Runtime(berthv1alpha1.RuntimeOllama).Obj()
	f.known(pod)
	names := berthv1alpha1.ModelProfileNames(source)
	forged := readyProfile("ollama://other")
	forged.Name = names[0]
	_ = f.pl.requests.Profiles.Store.Add(forged)
	wantStatus(t, "another model's profile", f.pl.PreEnqueue(f.ctx, pod), unresolvable, gpustate.ReasonModelUnknown)
	own := readyProfile(source)
	own.Name = names[1]
	_ = f.pl.requests.Profiles.Store.Add(own)
	f.pl.wake.ProfileSeen(own)
	f.wantActivated("its profile under the second name is ready", "a")
	if status := f.pl.PreEnqueue(f.ctx, pod); !status.IsSuccess() {
		t.Errorf("with a profile under the second name: %v", status)
	}
}

func second[T any](_ T, status *fwk.Status) *fwk.Status { return status }

func TestPreEnqueuePasses(t *testing.T) {
	f := newFixture(t)
	for name, pod := range map[string]*bt.Pod{
		"a plain pod":                    bt.MakePod("a"),
		"memory that was measured":       bt.MakePod("a").Memory("30Gi"),
		"memory beside a model":          bt.MakePod("a").Memory("30Gi").Model("ollama://x"),
		"what PreFilter will refuse":     bt.MakePod("a").Memory("nonsense"),
		"a pod without annotations":      {},
		"annotations of somebody else's": {Pod: corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"example.test/x": "y"}}}},
	} {
		if status := f.pl.PreEnqueue(f.ctx, pod.Obj()); !status.IsSuccess() {
			t.Errorf("%s: %v", name, status)
		}
	}
}

func TestPreFilter(t *testing.T) {
	for _, tc := range []struct {
		name string
		pod  *bt.Pod
		// nodes besides one with two GPUs of 80Gi; a nil report is a node without one.
		nodes  map[string]*bt.GPUNode
		silent time.Duration
		code   fwk.Code
		says   string
	}{
		{name: "a plain pod is skipped", pod: bt.MakePod("a"), code: fwk.Skip},
		{name: "a request that fits", pod: bt.MakePod("a").Memory("30Gi"), code: fwk.Success},
		{name: "an invalid request", pod: bt.MakePod("a").Memory("30"), code: unresolvable, says: "did you mean 30Gi"},
		{name: "a misspelt key", pod: bt.MakePod("a").Annotation("gpu-memroy", "30Gi"), code: unresolvable, says: "did you mean berth.dev/gpu-memory"},
		{name: "no reference to the GPUs", pod: bt.MakePod("a").Memory("30Gi").NoReference(), code: unresolvable, says: "NVIDIA_VISIBLE_DEVICES"},
		{
			name: "larger than any GPU", pod: bt.MakePod("a").Memory("100Gi"), code: unresolvable,
			says: "no node has GPUs that could ever hold the requested memory: 1 GPU: needs 100Gi on one, the largest that could fit is 80Gi",
		},
		{
			name: "more GPUs than any node has", pod: bt.MakePod("a").Memory("100Gi").GPUCount("4"), code: unresolvable,
			says: "4 GPUs of one node: no node has as many",
		},
		{
			name: "instances that would hold it together", pod: bt.MakePod("a").Memory("300Gi").GPUCount("3"),
			nodes: map[string]*bt.GPUNode{"other": bt.MakeGPUsOf("other", 1, "300Gi").Instance("MIG-1", "GPU-other-0", "150Gi").Instance("MIG-2", "GPU-other-0", "150Gi")},
			code:  fwk.UnschedulableAndUnresolvable, says: "3 GPUs of one node: no node has as many (MIG instances cannot be used together)",
		},
		{name: "larger than any GPU, one node without a report", pod: bt.MakePod("a").Memory("100Gi"), nodes: map[string]*bt.GPUNode{"other": nil}, code: fwk.Success},
		{name: "larger than any GPU, the report stale", pod: bt.MakePod("a").Memory("100Gi"), silent: time.Hour, code: fwk.Success},
		{name: "a larger GPU on another node", pod: bt.MakePod("a").Memory("100Gi"), nodes: map[string]*bt.GPUNode{"other": bt.MakeGPUsOf("other", 1, "141Gi")}, code: fwk.Success},
		{name: "a larger GPU that is unhealthy may come back", pod: bt.MakePod("a").Memory("100Gi"), nodes: map[string]*bt.GPUNode{"other": bt.MakeGPUsOf("other", 1, "141Gi").Unhealthy()}, code: fwk.Success},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 2, "80Gi"))
			for name, report := range tc.nodes {
				f.node(bt.MakeNode(name), report)
			}
			f.clock.Step(tc.silent)
			state := newState()
			_, status := f.pl.PreFilter(f.ctx, state, tc.pod.Obj(), f.nodeInfos())
			if status.Code() != tc.code || !strings.Contains(status.Message(), tc.says) {
				t.Errorf("got %v %q, want %v %q", status.Code(), status.Message(), tc.code, tc.says)
			}
			if has := cycle.Of(state) != nil; has != (tc.code == fwk.Success) {
				t.Errorf("a state was written: %v", has)
			}
		})
	}
}

func TestPlainPodsPassThrough(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), nil)
	pod, state := bt.MakePod("plain").Obj(), newState()
	ni := f.nodeInfo("node")
	wantStatus(t, "PreFilter", second(f.pl.PreFilter(f.ctx, state, pod, f.nodeInfos())), fwk.Skip, "")
	wantStatus(t, "Filter", f.pl.Filter(f.ctx, state, pod, ni), fwk.Success, "")
	wantStatus(t, "PreScore", f.pl.PreScore(f.ctx, state, pod, f.nodeInfos()), fwk.Skip, "")
	if score, status := f.pl.Score(f.ctx, state, pod, ni); score != 0 || !status.IsSuccess() {
		t.Errorf("Score: %d, %v", score, status)
	}
	wantStatus(t, "Reserve", f.pl.Reserve(f.ctx, state, pod, "node"), fwk.Success, "")
	f.pl.Unreserve(f.ctx, state, pod, "node")
	wantStatus(t, "Bind", f.pl.Bind(f.ctx, state, pod, "node"), fwk.Skip, "")
	if status := f.pl.AddPod(f.ctx, state, pod, nil, ni); !status.IsSuccess() {
		t.Errorf("AddPod: %v", status)
	}
	if f.pl.parked.Get(pod.UID) != nil {
		t.Error("something of it is remembered")
	}
}

func TestFilterVerdicts(t *testing.T) {
	two := func() *bt.GPUNode { return bt.MakeGPUNodeOf("node", 2, "80Gi") }
	bound := func(name string, shares ...string) *bt.Pod {
		return bt.MakePod(name).Memory("1Gi").Bound("node", epoch, shares...).Started(epoch).Ready(epoch)
	}
	for _, tc := range []struct {
		name   string
		pod    *bt.Pod
		node   *corev1.Node
		report *bt.GPUNode
		silent time.Duration
		others []*bt.Pod
		code   fwk.Code
		reason alloc.Reason
	}{
		{name: "it fits", pod: bt.MakePod("a").Memory("80Gi"), report: two(), code: fwk.Success},
		{name: "no report", pod: bt.MakePod("a").Memory("1Gi"), code: unresolvable, reason: gpustate.ReasonNoReport},
		{name: "a stale report", pod: bt.MakePod("a").Memory("1Gi"), report: two(), silent: 61 * time.Second, code: fwk.Unschedulable, reason: gpustate.ReasonStaleReport},
		{
			name: "the device plugin's node", pod: bt.MakePod("a").Memory("1Gi"), node: bt.AdvertiseGPUs(bt.MakeNode("node"), 2), report: two(),
			code: unresolvable, reason: gpustate.ReasonDevicePlugin,
		},
		{name: "too large for its GPUs", pod: bt.MakePod("a").Memory("100Gi"), report: two(), code: unresolvable, reason: gpustate.ReasonTooSmall},
		{name: "in total it would fit: each GPU counts for itself", pod: bt.MakePod("a").Memory("100Gi"), report: bt.MakeGPUNodeOf("node", 4, "30Gi"), code: unresolvable, reason: gpustate.ReasonTooSmall},
		{name: "with more counts it fits", pod: bt.MakePod("a").Memory("100Gi").GPUCount("1,2,4"), report: bt.MakeGPUNodeOf("node", 4, "30Gi"), code: fwk.Success},
		{
			name: "not free now", pod: bt.MakePod("a").Memory("60Gi"), report: two(), others: []*bt.Pod{bound("b", "GPU-0=30Gi"), bound("c", "GPU-1=30Gi")},
			code: fwk.Unschedulable, reason: gpustate.ReasonInsufficientMemory,
		},
		{
			name: "held by a foreign process", pod: bt.MakePod("a").Memory("30Gi"), report: bt.MakeGPUNode("node").GPU("GPU-0", "80Gi").Process("", "60Gi"),
			code: fwk.Unschedulable, reason: gpustate.ReasonInsufficientMemory,
		},
		{
			name: "only an unhealthy GPU is large enough", pod: bt.MakePod("a").Memory("60Gi"), report: bt.MakeGPUNode("node").GPU("GPU-0", "40Gi").GPU("GPU-1", "80Gi").Unhealthy(),
			code: unresolvable, reason: gpustate.ReasonUnhealthyDevices,
		},
		{
			name: "only a GPU of the device plugin is large enough", pod: bt.MakePod("a").Memory("60Gi"), report: bt.MakeGPUNode("node").GPU("GPU-0", "40Gi").GPU("GPU-1", "80Gi").AssignedTo("x"),
			code: unresolvable, reason: gpustate.ReasonUnhealthyDevices,
		},
		{
			name: "only two MIG instances together would hold it", pod: bt.MakePod("a").Memory("60Gi").GPUCount("2"),
			report: bt.MakeGPUNodeOf("node", 1, "80Gi").Instance("MIG-1", "GPU-0", "40Gi").Instance("MIG-2", "GPU-0", "40Gi"),
			code:   unresolvable, reason: gpustate.ReasonInstances,
		},
		{
			name: "a vLLM is loading on the only free GPU", pod: bt.MakePod("a").Memory("60Gi"), report: two(),
			others: []*bt.Pod{bound("b", "GPU-0=30Gi"), bt.MakePod("c").Memory("10Gi").Runtime(vllm).Bound("node", epoch, "GPU-1=10Gi").Started(epoch)},
			code:   fwk.Unschedulable, reason: gpustate.ReasonLoading,
		},
		{
			name: "a custom pod is loading there: they are not held up", pod: bt.MakePod("a").Memory("60Gi"), report: two(),
			others: []*bt.Pod{bound("b", "GPU-0=30Gi"), bt.MakePod("c").Memory("10Gi").Bound("node", epoch, "GPU-1=10Gi").Started(epoch)},
			code:   fwk.Success,
		},
		{
			name: "a vLLM is loading, but that is not what is in the way", pod: bt.MakePod("a").Memory("75Gi"), report: two(),
			others: []*bt.Pod{bound("b", "GPU-0=30Gi"), bt.MakePod("c").Memory("10Gi").Runtime(vllm).Bound("node", epoch, "GPU-1=10Gi").Started(epoch)},
			code:   fwk.Unschedulable, reason: gpustate.ReasonInsufficientMemory,
		},
		{
			name: "a pod whose allocation cannot be read", pod: bt.MakePod("a").Memory("1Gi"), report: two(), others: []*bt.Pod{bound("b", "GPU-0=1Gi").Allocation("{")},
			code: unresolvable, reason: gpustate.ReasonUnknownAllocation,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			if tc.node == nil {
				tc.node = bt.MakeNode("node")
			}
			f.node(tc.node, tc.report)
			f.node(bt.MakeNode("unreported"), nil) // so that PreFilter does not fail fast
			f.running(tc.others...)
			f.clock.Step(tc.silent)
			pod := tc.pod.Obj()
			wantStatus(t, "Filter", f.pl.Filter(f.ctx, f.begin(pod), pod, f.nodeInfo("node")), tc.code, tc.reason)
		})
	}
}

// TestCycleSeesOneSnapshot: reports that arrive during a cycle are for the next one.
func TestCycleSeesOneSnapshot(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 1, "80Gi"))
	pod := bt.MakePod("a").Memory("60Gi").Obj()
	state := f.begin(pod)
	f.pl.feed.ReportSeen(bt.MakeGPUNode("node").GPU("GPU-0", "80Gi").Process("", "70Gi").Obj(), true)
	wantStatus(t, "the same cycle", f.pl.Filter(f.ctx, state, pod, f.nodeInfo("node")), fwk.Success, "")
	wantStatus(t, "the next cycle", f.pl.Filter(f.ctx, f.begin(pod), pod, f.nodeInfo("node")), fwk.Unschedulable, gpustate.ReasonInsufficientMemory)
}

// TestDryRunOfPreemption: the framework removes and adds pods on clones of the state, in parallel for many nodes.
func TestDryRunOfPreemption(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), bt.MakeGPUNode("node").GPU("GPU-0", "80Gi").Process("victim", "50Gi").Process("other", "20Gi"))
	victim := bt.MakePod("victim").Memory("50Gi").Bound("node", epoch, "GPU-0=50Gi").Started(epoch).Ready(epoch)
	other := bt.MakePod("other").Memory("20Gi").Bound("node", epoch, "GPU-0=20Gi").Started(epoch).Ready(epoch)
	f.running(victim, other)
	pod := bt.MakePod("a").Memory("60Gi").Priority(10).Obj()
	state := f.begin(pod)
	wantStatus(t, "before", f.pl.Filter(f.ctx, state, pod, f.nodeInfo("node")), fwk.Unschedulable, gpustate.ReasonInsufficientMemory)

	info, err := framework.NewPodInfo(victim.Obj())
	if err != nil {
		t.Fatal(err)
	}
	without := f.nodeInfo("node").Snapshot()
	if err := without.RemovePod(klog.FromContext(f.ctx), victim.Obj()); err != nil {
		t.Fatal(err)
	}
	dry := state.Clone()
	wantStatus(t, "RemovePod", f.pl.RemovePod(f.ctx, dry, pod, info, without), fwk.Success, "")
	wantStatus(t, "with the victim removed: its processes, still measured, are in nobody's way", f.pl.Filter(f.ctx, dry, pod, without), fwk.Success, "")
	wantStatus(t, "the state that was cloned knows nothing of it", f.pl.Filter(f.ctx, state, pod, f.nodeInfo("node")), fwk.Unschedulable, gpustate.ReasonInsufficientMemory)
	wantStatus(t, "a real cycle after it is gone: its processes are in the way", f.pl.Filter(f.ctx, state, pod, without), fwk.Unschedulable, gpustate.ReasonInsufficientMemory)

	wantStatus(t, "AddPod", f.pl.AddPod(f.ctx, dry, pod, info, f.nodeInfo("node")), fwk.Success, "")
	wantStatus(t, "reprieved", f.pl.Filter(f.ctx, dry, pod, f.nodeInfo("node")), fwk.Unschedulable, gpustate.ReasonInsufficientMemory)
}

// TestMemoryHeldForNominatedPods: of equal or higher priority, on the devices that they claim. The scheduler before this
// one nominated them.
func TestMemoryHeldForNominatedPods(t *testing.T) {
	for _, tc := range []struct {
		name      string
		nominated *bt.Pod
		want      fwk.Code
	}{
		{"of higher priority", bt.MakePod("n").Memory("70Gi").Priority(10), fwk.Unschedulable},
		{"of equal priority", bt.MakePod("n").Memory("70Gi").Priority(5), fwk.Unschedulable},
		{"of lower priority", bt.MakePod("n").Memory("70Gi").Priority(1), fwk.Success},
		{"that leaves room", bt.MakePod("n").Memory("30Gi").Priority(10), fwk.Success},
		{"that asks for no GPU memory", bt.MakePod("n").Priority(10), fwk.Success},
		{"that can fit nowhere here", bt.MakePod("n").Memory("700Gi").Priority(10), fwk.Success},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 1, "80Gi"))
			f.nominated(tc.nominated.Obj(), "node")
			pod := bt.MakePod("a").Memory("40Gi").Priority(5).Obj()
			state := f.begin(pod)
			wantStatus(t, "Filter", f.pl.Filter(f.ctx, state, pod, f.nodeInfo("node")), tc.want, "")
			wantStatus(t, "Reserve, where the framework adds no nominated pods", f.pl.Reserve(f.ctx, state, pod, "node"), tc.want, "")
		})
	}
}
