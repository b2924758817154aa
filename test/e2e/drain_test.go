// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// testDrain takes a node out of service, as an admin does, and puts it back.
func testDrain(t *testing.T, c *cluster) {
	template := newPod("served", "30Gi")
	labels := map[string]string{"app": "served"}
	replicas := int32(1)
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "served"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: template.Annotations}, Spec: template.Spec,
			},
		},
	}
	c.create(t, deployment)
	first := c.served(t, labels, "")
	drained, other := c.worker(t, first.Spec.NodeName), c.workers[0]
	if drained == other {
		other = c.workers[1]
	}
	t.Cleanup(func() { _, _ = command(context.Background(), "kubectl", "uncordon", drained.name) }) // if the test ends early
	kubectl(t, "drain", drained.name, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=2m")
	second := c.served(t, labels, drained.name)
	if second.Spec.NodeName != other.name {
		t.Errorf("the pod is on %s now, want %s", second.Spec.NodeName, other.name)
	}
	allocationOf(t, second)

	// Its agent still reports, and once the node is back it gets pods again.
	waiting := newPod("returning", "70Gi", on(drained.name))
	c.create(t, waiting)
	c.waitPod(t, waiting, "finds the node cordoned", func(p *corev1.Pod) bool {
		return len(p.Status.Conditions) > 0 && p.Status.Conditions[0].Reason == corev1.PodReasonUnschedulable
	})
	kubectl(t, "uncordon", drained.name)
	if ready := c.waitReady(t, waiting); ready.Spec.NodeName != drained.name {
		t.Errorf("the pod is on %s, want %s", ready.Spec.NodeName, drained.name)
	}
	kubectl(t, "-n", systemNamespace, "rollout", "status", "deployment/berth-scheduler", "--timeout=2m")
	c.checkBooks(t)
}

// served waits until a pod with these labels is Ready on another node than one, and returns it.
func (c *cluster) served(t *testing.T, labels map[string]string, butOn string) *corev1.Pod {
	t.Helper()
	var found *corev1.Pod
	eventually(t, "a pod is served", func(ctx context.Context) (bool, string) {
		var pods corev1.PodList
		if err := c.client.List(ctx, &pods, client.InNamespace(namespace), client.MatchingLabels(labels)); err != nil {
			return false, err.Error()
		}
		for i := range pods.Items {
			p := &pods.Items[i]
			if p.DeletionTimestamp == nil && p.Spec.NodeName != "" && p.Spec.NodeName != butOn {
				found = p
				return true, ""
			}
		}
		return false, fmt.Sprintf("%d pods", len(pods.Items))
	})
	return c.waitReady(t, found)
}
