// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	berthtesting "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/test/integration/harness"
)

// TestPodsOfFaultyGPUsAreEvicted is what docs/gpu-repairs.md says of onDeviceLost and onOveruse.
func TestPodsOfFaultyGPUsAreEvicted(t *testing.T) {
	lab := harness.Start(t, "--bare", "--no-controller", "--no-scheduler")
	runScheduler(t, lab, newAPIProxy(t, lab, forwardAll), "{staleAfter: 0s, onDeviceLost: Evict, deviceLostGrace: 1s, onOveruse: Evict}")
	o := &operator{t: t, lab: lab}

	t.Run("a GPU that fails: its pod moves to another, within its budget", func(t *testing.T) {
		s := newSite(t, lab, "fails", 2, "80Gi")
		first, gpu := o.serve(t, s)
		minAvailable := intstr.FromInt32(1)
		budget := harness.Create(t, lab, &policyv1.PodDisruptionBudget{
			ObjectMeta: metav1.ObjectMeta{Namespace: first.Namespace, Name: s.node.Name},
			Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &minAvailable, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": s.node.Name}}},
		})
		spared := lab.WaitReady(t, harness.Create(t, lab, s.pod("spared", "1Gi", grace(0), func(p *corev1.Pod) {
			p.Annotations[berthv1alpha1.AnnotationOnDeviceLost] = "Ignore"
		})))
		s.edit = func(g *berthtesting.GPUNode) {
			for i := range g.Status.Devices {
				if d := &g.Status.Devices[i]; d.UUID == gpu {
					d.Health, d.Reason = berthv1alpha1.DeviceUnhealthy, "Xid79"
				}
			}
		}
		s.Report(t, s.report())
		waitEvent(t, lab, first, "GPUUnhealthy", "is evicted if that lasts 1s")
		waitEvent(t, lab, first, "FaultEvictionRefused", "disruption budget")
		lab.Delete(t, budget, -1)
		waitEvent(t, lab, first, "EvictedForLostGPU", "Xid79")
		second := lab.WaitReady(t, o.replacement(t, map[string]string{"app": s.node.Name}, first))
		if _, a := lab.WaitBound(t, second); a.Devices[0].UUID == gpu {
			t.Error("the replacement is on the GPU that failed")
		}
		if now := lab.Pod(t, spared); now.DeletionTimestamp != nil {
			t.Error("a pod was evicted that said no")
		}
	})

	t.Run("a pod that holds more than it booked is evicted", func(t *testing.T) {
		s := newSite(t, lab, "greedy", 1, "80Gi")
		first, _ := o.serve(t, s)
		s.held[0] = map[types.UID]string{first.UID: "70Gi"}
		s.Report(t, s.report())
		waitEvent(t, lab, first, "EvictedForOveruse", "holds 70Gi on GPU 0")
		s.hold(0, first.UID, "")
		lab.WaitReady(t, o.replacement(t, map[string]string{"app": s.node.Name}, first))
	})
}

// serve runs one pod of a Deployment on a site, and returns it and its GPU.
func (o *operator) serve(t *testing.T, s *site) (*corev1.Pod, string) {
	t.Helper()
	template := s.pod("served", "60Gi", grace(0))
	template.Labels = map[string]string{"app": s.node.Name}
	one := int32(1)
	deployment := harness.Create(t, o.lab, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: template.Namespace, Name: s.node.Name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: template.Labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: template.Labels, Annotations: template.Annotations}, Spec: template.Spec},
		},
	})
	t.Cleanup(func() { _ = o.lab.Client.Delete(context.WithoutCancel(t.Context()), deployment) })
	pod := o.lab.WaitReady(t, o.replacement(t, template.Labels, &corev1.Pod{}))
	_, a := o.lab.WaitBound(t, pod)
	return pod, a.Devices[0].UUID
}
