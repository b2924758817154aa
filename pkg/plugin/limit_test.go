// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// limited makes the pod refer to a memory limit, as admission does.
func limited(pod *corev1.Pod) *corev1.Pod {
	pod.Spec.Containers[0].Env = append(pod.Spec.Containers[0].Env, corev1.EnvVar{
		Name:      berthv1alpha1.EnvGPUMemoryLimit,
		ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: berthv1alpha1.GPUMemoryLimitFieldPath}},
	})
	return pod
}

// limits says what becomes of memory limits with the runtime handler added last.
func limits(g *bt.GPUNode, state berthv1alpha1.MemoryLimitState, message string) *bt.GPUNode {
	r := g.Status.HandOff.Runtimes
	r[len(r)-1].MemoryLimits = &berthv1alpha1.MemoryLimits{State: state, Message: message}
	return g
}

func withSharing(n *corev1.Node, status corev1.ConditionStatus) *corev1.Node {
	n = n.DeepCopy()
	n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: berthv1alpha1.ConditionGPUFractioning, Status: status})
	return n
}

// TestBindingsCarryTheLimit: what is booked is what those are told who enforce it, in the one write that binds the pod; or the
// pod is not placed there, and Filter says so.
func TestBindingsCarryTheLimit(t *testing.T) {
	gpus := func() *bt.GPUNode { return bt.MakeGPUNodeOf("node", 2, "80Gi").Runtime("", cdi) }
	ask := func() *corev1.Pod { return bt.MakePod("a").Memory("60Gi").GPUCount("2").Obj() }
	const visible = "runtime.nvidia.com/gpu=GPU-0,runtime.nvidia.com/gpu=GPU-1"
	shares := map[string]string{
		"nvidia.com/container.server.gpus.devices":       visible,
		"nvidia.com/container.server.gpu-memory.request": "30720Mi",
		"nvidia.com/container.server.gpu-memory.limit":   "30720Mi",
	}
	for _, tc := range []struct {
		name     string
		argument berthv1alpha1.Enforcement
		pod      *corev1.Pod
		node     *corev1.Node
		report   *bt.GPUNode
		want     map[string]string // annotations of limits
		reason   alloc.Reason
	}{
		{"off, as ever", "", ask(), withSharing(bt.MakeNode("node"), corev1.ConditionTrue), limits(gpus(), "Enforced", ""), map[string]string{}, ""},
		{"the toolkit", byToolkit, limited(ask()), nil, limits(gpus(), "Enforced", ""), map[string]string{"berth.dev/gpu-memory-limit": "30720"}, ""},
		{"the toolkit, older", byToolkit, limited(ask()), nil, limits(gpus(), "Ignored", ""), map[string]string{}, ""},
		{"the toolkit, and an older driver", byToolkit, limited(ask()), nil, limits(gpus(), "Fails", ""), nil, gpustate.ReasonLimitsFail},
		{"the toolkit, and an agent that cannot see it", byToolkit, limited(ask()), nil, gpus(), nil, gpustate.ReasonLimitsUnknown},
		{"the toolkit, and a pod made before", byToolkit, ask(), nil, limits(gpus(), "Enforced", ""), nil, gpustate.ReasonNoLimitReference},
		{"GPU sharing", bySharing, ask(), withSharing(bt.MakeNode("node"), corev1.ConditionTrue), gpus(), shares, ""},
		{"GPU sharing, elsewhere", bySharing, ask(), nil, gpus(), map[string]string{}, ""},
		{"GPU sharing that is down", bySharing, ask(), withSharing(bt.MakeNode("node"), corev1.ConditionFalse), gpus(), nil, gpustate.ReasonGPUSharingNotReady},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			f.pl.requests.Enforcement = tc.argument
			if tc.node == nil {
				tc.node = bt.MakeNode("node")
			}
			f.node(tc.node, tc.report)
			f.api.add(tc.pod)
			if tc.reason != "" {
				wantStatus(t, "Filter", f.pl.Filter(f.ctx, f.begin(tc.pod), tc.pod, f.nodeInfo("node")), unresolvable, tc.reason)
				wantStatus(t, "Reserve", f.pl.Reserve(f.ctx, f.begin(tc.pod), tc.pod, "node"), fwk.Unschedulable, tc.reason)
				f.wantState("afterwards", tc.pod, 0)
				return
			}
			wantStatus(t, "Filter", f.pl.Filter(f.ctx, f.begin(tc.pod), tc.pod, f.nodeInfo("node")), fwk.Success, "")
			wantStatus(t, "Bind", f.pl.Bind(f.ctx, f.reserve(tc.pod, "node"), tc.pod, "node"), fwk.Success, "")
			got := map[string]string{}
			for key, value := range f.api.bindings[0].Annotations {
				if key == berthv1alpha1.AnnotationGPUMemoryLimit || strings.HasPrefix(key, "nvidia.com/") {
					got[key] = value
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("the Binding (-want +got):\n%s", diff)
			}
			if got := f.api.bindings[0].Annotations[berthv1alpha1.AnnotationVisibleDevices]; got != visible {
				t.Errorf("the Binding names the GPUs %q, want %q", got, visible)
			}
		})
	}
}

// TestAnEmptyLimitIsGivenToNobody: a pod that was made with the variable is placed nowhere once nobody writes its value: the
// toolkit would not start its container.
func TestAnEmptyLimitIsGivenToNobody(t *testing.T) {
	for _, argument := range []berthv1alpha1.Enforcement{"", berthv1alpha1.EnforcementNone, bySharing} {
		f := newFixture(t)
		f.pl.requests.Enforcement = argument
		f.node(bt.MakeNode("node"), limits(bt.MakeGPUNodeOf("node", 1, "80Gi").Runtime("", cdi), "Enforced", ""))
		pod := limited(bt.MakePod("a").Memory("30Gi").Obj())
		f.known(pod)
		wantStatus(t, "with "+string(argument), second(f.pl.PreFilter(f.ctx, newState(), pod, f.nodeInfos())), unresolvable, gpustate.ReasonLimitNotGiven)
	}
}

const (
	byToolkit = berthv1alpha1.EnforcementToolkit
	bySharing = berthv1alpha1.EnforcementGPUSharing
)

// TestPodsThatALimitKeptAwayAreRetried when the node can enforce it, and are told why it cannot.
func TestPodsThatALimitKeptAwayAreRetried(t *testing.T) {
	t.Run("the driver is newer", func(t *testing.T) {
		f := newFixture(t)
		f.pl.requests.Enforcement = byToolkit
		gpus := func() *bt.GPUNode { return bt.MakeGPUNodeOf("node", 1, "80Gi").Runtime("", cdi) }
		f.node(bt.MakeNode("node"), limits(gpus(), "Fails", "it has the driver enforce it, but the driver cannot"))
		pod := limited(bt.MakePod("a").Memory("30Gi").Obj())
		f.known(pod)
		state, statuses := f.cycleState(pod), framework.NewDefaultNodeToStatus()
		statuses.Set("node", f.pl.Filter(f.ctx, state, pod, f.nodeInfo("node")))
		if _, status := f.pl.PostFilter(f.ctx, state, pod, statuses); !strings.Contains(status.Message(), "on node node: it has the driver enforce it, but the driver cannot") {
			t.Errorf("the pod is told %q", status.Message())
		}
		f.park(pod)
		f.queue.take()
		f.pl.feed.ReportSeen(limits(gpus(), "Fails", "looked again").Obj(), true)
		f.wantActivated("another note")
		f.pl.feed.ReportSeen(limits(gpus(), "Enforced", "").Obj(), true)
		f.wantActivated("it can", "a")
	})
	t.Run("GPU sharing is ready", func(t *testing.T) {
		f := newFixture(t)
		f.pl.requests.Enforcement = bySharing
		before := withSharing(bt.MakeNode("node"), corev1.ConditionUnknown)
		f.node(before, bt.MakeGPUNodeOf("node", 1, "80Gi"))
		f.park(bt.MakePod("a").Memory("30Gi").Obj())
		f.pl.wake.NodeSeen(before, before)
		f.wantActivated("the same condition")
		after := withSharing(bt.MakeNode("node"), corev1.ConditionTrue)
		if err := f.pl.handle.SharedInformerFactory().Core().V1().Nodes().Informer().GetIndexer().Update(after); err != nil {
			t.Fatal(err)
		}
		f.pl.wake.NodeSeen(before, after)
		f.wantActivated("it is ready", "a")
	})
}

// TestPodsShareARankingOfNodesOnlyWithTheirLikes: a pod with a limit and one without see nodes differently.
func TestPodsShareARankingOfNodesOnlyWithTheirLikes(t *testing.T) {
	f := newFixture(t)
	f.pl.requests.Enforcement = byToolkit
	sign := func(pod *corev1.Pod) any {
		fragments, status := f.pl.SignPod(f.ctx, pod)
		if !status.IsSuccess() || len(fragments) != 1 {
			t.Fatalf("%v, %v", fragments, status)
		}
		return fragments[0].Value
	}
	if cmp.Equal(sign(bt.MakePod("a").Memory("30Gi").Obj()), sign(limited(bt.MakePod("b").Memory("30Gi").Obj()))) {
		t.Error("they have one signature")
	}
}
