// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	berthtesting "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/manifests"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/lab/gpusim"
	"github.com/berth-dev/berth/test/integration/harness"
)

// TestOperations does what docs/operations.md says, on nodes with agents. The labels are those that the GPU operator
// sets, in its order.
func TestOperations(t *testing.T) {
	lab := harness.Start(t, "--nodes", "2", "--gpus", "2", "--no-controller", "--no-scheduler")
	runScheduler(t, lab, newAPIProxy(t, lab, forwardAll), "{evictForDriverUpgrades: true}")
	o := &operator{t: t, lab: lab}

	t.Run("a driver upgrade: pods are evicted within their budget, and come back with the new driver", o.upgrade)
	t.Run("the agent is away while the driver is", o.agentLeaves)
	t.Run("a reboot: pods wait for the driver, and start as soon as it is loaded", o.reboot)
}

// TestOperationsWithoutEvictions: the argument is off unless an admin sets it.
func TestOperationsWithoutEvictions(t *testing.T) {
	lab := harness.Start(t, "--nodes", "2", "--gpus", "1", "--no-controller")
	o := &operator{t: t, lab: lab}
	pod, _ := lab.WaitBound(t, harness.Create(t, lab, berthtesting.MakePod("server").Memory("30Gi").Obj()))
	o.state(pod.Spec.NodeName, "wait-for-jobs-required")
	// That the scheduler saw the label shows on a pod that it does not place there.
	late := harness.Create(t, lab, onNode(berthtesting.MakePod("late").Memory("1Gi"), pod.Spec.NodeName))
	o.waitReason(late, gpustate.ReasonDriverUpgrade)
	if now := lab.Pod(t, pod); now.DeletionTimestamp != nil {
		t.Error("the pod was evicted")
	}
	lab.Delete(t, pod, 0) // as the admin, or the end of a job, would
	o.state(pod.Spec.NodeName, "upgrade-done")
	lab.WaitBound(t, late)
}

// operator does what the GPU operator and an admin do to nodes.
type operator struct {
	t   *testing.T
	lab *harness.Lab
}

// state sets the label of a node; empty takes it away.
func (o *operator) state(node, state string) {
	o.t.Helper()
	value := fmt.Sprintf("%q", state)
	if state == "" {
		value = "null"
	}
	o.patch(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}},
		fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, berthv1alpha1.LabelDriverUpgradeState, value))
}

func (o *operator) cordon(node string, cordoned bool) {
	o.t.Helper()
	o.patch(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}, fmt.Sprintf(`{"spec":{"unschedulable":%t}}`, cordoned))
}

func (o *operator) patch(object client.Object, patch string) {
	o.t.Helper()
	if err := o.lab.Client.Patch(o.t.Context(), object, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		o.t.Fatal(err)
	}
}

// waitsFor are the pods that keep the operator in wait-for-jobs-required, by the selector that the page names.
func (o *operator) waitsFor(ctx context.Context, node string) (running []string, err error) {
	list, err := o.lab.Clientset.CoreV1().Pods("").List(ctx, metav1.ListOptions{
		LabelSelector: "berth.dev/allocated=true", FieldSelector: "spec.nodeName=" + node,
	})
	if err != nil {
		return nil, err
	}
	for i := range list.Items {
		if p := &list.Items[i]; p.Status.Phase == corev1.PodRunning || p.Status.Phase == corev1.PodPending {
			running = append(running, p.Name)
		}
	}
	return running, nil
}

// waitReason waits until the scheduler says that a reason keeps a pod from being placed.
func (o *operator) waitReason(pod *corev1.Pod, reason alloc.Reason) {
	o.t.Helper()
	harness.Eventually(o.t, fmt.Sprintf("pod %s waits because %q", pod.Name, reason), func(ctx context.Context) (bool, string) {
		now := &corev1.Pod{}
		if err := o.lab.Client.Get(ctx, client.ObjectKeyFromObject(pod), now); err != nil {
			return false, err.Error()
		}
		var said []string
		for _, c := range now.Status.Conditions {
			said = append(said, c.Message)
		}
		return strings.Contains(strings.Join(said, "\n"), string(reason)), fmt.Sprint(said)
	})
}

func (o *operator) upgrade(t *testing.T) {
	lab := o.lab
	one := int32(1)
	template := berthtesting.MakePod("server").Memory("60Gi").Obj()
	template.Labels = map[string]string{"app": "server"}
	template.Spec.TerminationGracePeriodSeconds = new(int64)
	deployment := harness.Create(t, lab, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: template.Namespace, Name: "server"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: template.Labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: template.Labels, Annotations: template.Annotations}, Spec: template.Spec,
			},
		},
	})
	minAvailable := intstr.FromInt32(1)
	budget := harness.Create(t, lab, &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: template.Namespace, Name: "server"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &minAvailable, Selector: deployment.Spec.Selector},
	})
	first := lab.WaitReady(t, o.served(t, ""))
	node := first.Spec.NodeName
	plain := harness.Create(t, lab, onNode(berthtesting.MakePod("plain").NoReference(), node))
	lab.WaitReady(t, plain)

	o.cordon(node, true)
	o.state(node, "wait-for-jobs-required")
	waitEvent(t, lab, first, "HoldsUpDriverUpgrade", "disruption budget")
	if running, err := o.waitsFor(t.Context(), node); err != nil || len(running) != 1 {
		t.Fatalf("the operator waits for %v, %v", running, err)
	}
	lab.Delete(t, budget, -1)
	waitEvent(t, lab, first, "EvictedForDriverUpgrade", node)
	harness.Eventually(t, "the operator waits for nobody", func(ctx context.Context) (bool, string) {
		running, err := o.waitsFor(ctx, node)
		return err == nil && len(running) == 0, fmt.Sprint(running, err)
	})
	second := lab.WaitReady(t, o.served(t, node))
	if second.Spec.NodeName == node {
		t.Error("the replacement is on the same node")
	}
	if now := lab.Pod(t, plain); now.DeletionTimestamp != nil {
		t.Error("a pod without GPUs was evicted")
	}

	o.state(node, "pod-restart-required")
	o.cordon(node, false) // by somebody who does not know
	late := harness.Create(t, lab, onNode(berthtesting.MakePod("late").Memory("1Gi"), node))
	o.waitReason(late, gpustate.ReasonDriverUpgrade)
	o.state(node, "upgrade-done")
	lab.WaitBound(t, late)
	for _, object := range []client.Object{deployment, late, plain} {
		lab.Delete(t, object, 0)
	}
}

// served returns a pod of the Deployment on another node than one.
func (o *operator) served(t *testing.T, butOn string) *corev1.Pod {
	t.Helper()
	var found *corev1.Pod
	harness.Eventually(t, "a pod of the Deployment is bound", func(ctx context.Context) (bool, string) {
		var pods corev1.PodList
		if err := o.lab.Client.List(ctx, &pods, client.MatchingLabels{"app": "server"}); err != nil {
			return false, err.Error()
		}
		for i := range pods.Items {
			if p := &pods.Items[i]; p.Spec.NodeName != "" && p.Spec.NodeName != butOn && p.DeletionTimestamp == nil {
				found = p
			}
		}
		return found != nil, fmt.Sprintf("%d pods", len(pods.Items))
	})
	return found
}

// agentLeaves runs the shipped DaemonSet, with a container that does nothing. The lab's own agents are no pods.
func (o *operator) agentLeaves(t *testing.T) {
	lab := o.lab
	objects, err := manifests.Objects("agent")
	if err != nil {
		t.Fatal(err)
	}
	agents := &appsv1.DaemonSet{}
	for _, object := range objects {
		if object.GetKind() == "DaemonSet" {
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, agents); err != nil {
				t.Fatal(err)
			}
		}
	}
	spec := &agents.Spec.Template.Spec
	spec.SchedulerName, spec.RuntimeClassName = berthv1alpha1.SchedulerName, nil // there is no other scheduler
	spec.Containers = []corev1.Container{{Name: "agent", Image: "example.test/agent:1"}}
	spec.Volumes, spec.TerminationGracePeriodSeconds = nil, new(int64)
	harness.Create(t, lab, agents)
	nodes := []string{"gpu-0", "gpu-1"}
	for _, node := range nodes {
		o.patch(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}, `{"metadata":{"labels":{"nvidia.com/gpu.present":"true","berth.dev/gpus":"true"}}}`)
	}
	run := func(want map[string]bool) {
		t.Helper()
		harness.Eventually(t, fmt.Sprint("agents run on ", want), func(ctx context.Context) (bool, string) {
			var pods corev1.PodList
			if err := lab.Client.List(ctx, &pods, client.InNamespace(berthv1alpha1.Namespace), client.MatchingLabels(agents.Spec.Selector.MatchLabels)); err != nil {
				return false, err.Error()
			}
			got := map[string]bool{}
			for i := range pods.Items {
				got[pods.Items[i].Spec.NodeName] = true
			}
			return len(got) == len(want) && got[nodes[0]] == want[nodes[0]] && got[nodes[1]] == want[nodes[1]], fmt.Sprint(got)
		})
	}
	both, other := map[string]bool{nodes[0]: true, nodes[1]: true}, map[string]bool{nodes[1]: true}
	run(both)
	for _, state := range []string{"wait-for-jobs-required", "pod-deletion-required", "drain-required", "pod-restart-required"} {
		o.state(nodes[0], state)
		run(other)
	}
	o.state(nodes[0], "validation-required")
	run(both)
	o.state(nodes[0], "")
	lab.Delete(t, agents, -1)
}

// reboot takes the driver away and brings it back.
func (o *operator) reboot(t *testing.T) {
	lab, node := o.lab, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "gpu-0"}}
	o.cordon(node.Name, true)
	lab.Annotate(t, node, gpusim.AnnotationUnhealthy, "0=DriverUnavailable,1=DriverUnavailable")
	harness.Eventually(t, "the GPUs are reported without a driver", func(ctx context.Context) (bool, string) {
		gn := &berthv1alpha1.GPUNode{}
		if err := lab.Client.Get(ctx, client.ObjectKeyFromObject(node), gn); err != nil {
			return false, err.Error()
		}
		return gn.Status.Devices[0].Reason == "DriverUnavailable", gn.Status.Devices[0].Reason
	})
	o.cordon(node.Name, false)
	pod := harness.Create(t, lab, onNode(berthtesting.MakePod("after-reboot").Memory("60Gi"), node.Name))
	o.waitReason(pod, gpustate.ReasonUnhealthyDevices)
	lab.Annotate(t, node, gpusim.AnnotationUnhealthy, "")
	lab.WaitBound(t, pod)
	lab.Delete(t, pod, 0)
}

// onNode makes a pod that fits on one node only.
func onNode(pod *berthtesting.Pod, node string) *corev1.Pod {
	p := pod.Obj()
	p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: node}
	return p
}
