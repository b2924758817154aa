// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler"
	"k8s.io/kubernetes/pkg/scheduler/framework"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// advertising makes a node list the resource.
func advertising(node *corev1.Node, capacity, allocatable string) *corev1.Node {
	node.Status.Capacity[berthv1alpha1.ResourceGPUMemory] = resource.MustParse(capacity)
	node.Status.Allocatable[berthv1alpha1.ResourceGPUMemory] = resource.MustParse(allocatable)
	return node
}

// asking is a pod that asks for memory by annotation and resource.
func asking(name, memory string) *bt.Pod {
	return bt.MakePod(name).Memory(memory).Limit(berthv1alpha1.ResourceGPUMemory, memory)
}

// TestKubeletsSum: where a node lists the resource, its kubelet counts all pods there, and refuses one that is too much; the
// scheduler and the kubelet's own code say the same.
func TestKubeletsSum(t *testing.T) {
	other := func(p *bt.Pod) *bt.Pod {
		p.Spec.SchedulerName = corev1.DefaultSchedulerName
		return p
	}
	tests := []struct {
		name string
		node *corev1.Node
		pods []*bt.Pod
		pod  *bt.Pod
		code fwk.Code
	}{
		{"enough is left", advertising(bt.MakeNode("n"), "100Gi", "100Gi"), []*bt.Pod{asking("a", "60Gi").Bound("n", epoch, "GPU-0=60Gi")}, asking("p", "40Gi"), fwk.Success},
		{"a byte too much", advertising(bt.MakeNode("n"), "100Gi", "100Gi"), []*bt.Pod{asking("a", "60Gi").Bound("n", epoch, "GPU-0=60Gi")}, asking("p", "42949672961"), fwk.Unschedulable},
		{"a pod that is not Berth's counts", advertising(bt.MakeNode("n"), "100Gi", "100Gi"), []*bt.Pod{other(bt.MakePod("a").Limit(berthv1alpha1.ResourceGPUMemory, "60Gi").Node("n"))}, asking("p", "50Gi"), fwk.Unschedulable},
		{"a pod that terminates counts", advertising(bt.MakeNode("n"), "100Gi", "100Gi"), []*bt.Pod{asking("a", "60Gi").Bound("n", epoch, "GPU-0=60Gi").Terminating(epoch)}, asking("p", "50Gi"), fwk.Unschedulable},
		{"a pod that asks by the annotation alone does not count", advertising(bt.MakeNode("n"), "100Gi", "100Gi"), []*bt.Pod{bt.MakePod("a").Memory("60Gi").Bound("n", epoch, "GPU-0=60Gi")}, asking("p", "50Gi"), fwk.Success},
		{"nothing left after the kubelet starts anew", advertising(bt.MakeNode("n"), "80Gi", "160Gi"), []*bt.Pod{asking("a", "60Gi").Bound("n", epoch, "GPU-0=60Gi")}, asking("p", "50Gi"), fwk.Unschedulable},
		{"a kubelet set it to nothing", advertising(bt.MakeNode("n"), "0", "0"), nil, asking("p", "50Gi"), fwk.UnschedulableAndUnresolvable},
		{"a node that does not list it", bt.MakeNode("n"), []*bt.Pod{asking("a", "60Gi").Bound("n", epoch, "GPU-0=60Gi")}, asking("p", "50Gi"), fwk.Success},
		{"a pod that does not ask by it", advertising(bt.MakeNode("n"), "0", "0"), nil, bt.MakePod("p").Memory("50Gi"), fwk.Success},
	}
	for _, tt := range tests {
		f := newFixture(t)
		f.node(tt.node, bt.MakeGPUNodeOf("n", 2, "80Gi"))
		f.running(tt.pods...)
		pod := tt.pod.Obj()
		reason := gpustate.ReasonResourceSum
		if tt.code == fwk.Success {
			reason = ""
		}
		wantStatus(t, tt.name, f.pl.Filter(f.ctx, f.begin(pod), pod, f.nodeInfo("n")), tt.code, reason)
		if taken := kubeletTakes(tt.node, f.pods, pod); taken != (tt.code == fwk.Success) {
			t.Errorf("%s: a kubelet takes it: %v", tt.name, taken)
		}
	}
}

// kubeletTakes asks the code by which kubelets judge a pod (pkg/kubelet/lifecycle/predicate.go), after it started anew: what
// can be allocated is its node's capacity then. Extended resources that its node does not list it leaves out.
func kubeletTakes(node *corev1.Node, others []*corev1.Pod, pod *corev1.Pod) bool {
	node, pod = node.DeepCopy(), pod.DeepCopy()
	node.Status.Allocatable = node.Status.Capacity
	if _, listed := node.Status.Allocatable[berthv1alpha1.ResourceGPUMemory]; !listed {
		delete(pod.Spec.Containers[0].Resources.Requests, berthv1alpha1.ResourceGPUMemory)
	}
	ni := framework.NewNodeInfo(others...)
	ni.SetNode(node)
	return len(scheduler.AdmissionCheck(pod, ni, true)) == 0
}

// TestKubeletsSumWithoutVictims: what a victim asks for comes back in a dry run.
func TestKubeletsSumWithoutVictims(t *testing.T) {
	f := newFixture(t)
	f.node(advertising(bt.MakeNode("n"), "100Gi", "100Gi"), bt.MakeGPUNodeOf("n", 2, "80Gi"))
	f.running(asking("a", "60Gi").Bound("n", epoch, "GPU-0=60Gi"))
	pod := asking("p", "50Gi").Obj()
	state, ni := f.begin(pod), f.nodeInfo("n").Snapshot()
	victim := ni.GetPods()[0]
	if err := ni.RemovePod(klog.Background(), victim.GetPod()); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, "RemovePod", f.pl.RemovePod(f.ctx, state, pod, victim, ni), fwk.Success, "")
	wantStatus(t, "without the victim", f.pl.Filter(f.ctx, state, pod, ni), fwk.Success, "")
}

// TestNobodyIsRetriedForASumThatIsTooLittle: a GPU would do all along, so that nothing has changed.
func TestNobodyIsRetriedForASumThatIsTooLittle(t *testing.T) {
	f := newFixture(t)
	f.node(advertising(bt.MakeNode("n"), "70Gi", "70Gi"), bt.MakeGPUNodeOf("n", 2, "80Gi"))
	f.running(asking("a", "60Gi").Priority(9).Bound("n", epoch, "GPU-0=60Gi"))
	f.running(bt.MakePod("low").Memory("10Gi").Bound("n", epoch, "GPU-1=10Gi"))
	pod := asking("p", "50Gi").Priority(5).Obj()
	node, status := f.postFilter(pod)
	if node != "" || !strings.Contains(status.Message(), "on node n: it advertises 70Gi of the resource berth.dev/gpu-memory, of which its pods ask for 60Gi; a GPU would do") {
		t.Errorf("nominated to %q: %v", node, status)
	}
	f.wantActivated("after its cycle")
	if deleted := f.api.takeDeleted(); len(deleted) > 0 {
		t.Errorf("evicted: %v", deleted)
	}
}

// TestWhatAnAutoscalerCannotSee is told where nodes advertise their memory, and only there.
func TestWhatAnAutoscalerCannotSee(t *testing.T) {
	const told = "node n has 60Gi of the resource berth.dev/gpu-memory left in sum, and not on the GPUs as they are asked for"
	for _, on := range []bool{true, false} {
		f := newFixture(t)
		f.pl.args.GPUMemoryResource = on
		f.node(advertising(bt.MakeNode("n"), "160Gi", "160Gi"), bt.MakeGPUNodeOf("n", 2, "80Gi"))
		f.running(asking("a", "50Gi").Bound("n", epoch, "GPU-0=50Gi"), asking("b", "50Gi").Bound("n", epoch, "GPU-1=50Gi"))
		_, status := f.postFilter(asking("p", "50Gi").Obj())
		if strings.Contains(status.Message(), told) != on {
			t.Errorf("with gpuMemoryResource %v it is told: %s", on, status.Message())
		}
		_, status = f.postFilter(asking("q", "70Gi").Obj())
		if strings.Contains(status.Message(), "left in sum") {
			t.Errorf("it is told that there is enough in sum where there is not: %s", status.Message())
		}
	}
}

// TestARequestByTheResourceIsRead alone, without any annotation or label of Berth's.
func TestARequestByTheResourceIsRead(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("n"), bt.MakeGPUNodeOf("n", 1, "80Gi"))
	pod := bt.MakePod("p").Limit(berthv1alpha1.ResourceGPUMemory, "50Gi").Obj()
	f.reserve(pod, "n")
	f.wantFree("after it was booked", "n", 30)
	bound := bt.MakePod("q").Limit(berthv1alpha1.ResourceGPUMemory, "50Gi").Obj()
	if bound.Spec.NodeName = "n"; !gpustate.LacksAllocation(bound) {
		t.Error("a pod that was bound without an allocation is not known to lack it")
	}
}
