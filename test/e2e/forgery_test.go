// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// testForgery: not even the cluster's admin can write an allocation by mistake, and an agent, by the token that the
// kubelet gave it, speaks for its own node only.
func testForgery(t *testing.T, c *cluster) {
	running := c.run(t, newPod("running", "10Gi"))
	waiting := newPod("waiting", "10Gi", on("no-such-node"))
	c.create(t, waiting)
	forged := annotated(berthv1alpha1.AnnotationGPUUUIDs, c.workers[0].state.GPUs[3].UUID)
	gn := &berthv1alpha1.GPUNode{ObjectMeta: metav1.ObjectMeta{Name: c.workers[1].name}}
	patch := func(key, value string) client.Patch {
		return client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"`+key+`":"`+value+`"}}}`))
	}
	agent := c.agentOf(t, c.workers[0])
	for _, tc := range []struct {
		name string
		do   func(context.Context) error
		want string
	}{
		{"a new pod with an allocation", func(ctx context.Context) error {
			return c.client.Create(ctx, newPod("forged", "10Gi", forged))
		}, "only the scheduler's account"},
		{"a new pod of the default scheduler with an allocation", func(ctx context.Context) error {
			return c.client.Create(ctx, newPod("forged", "", forged, func(p *corev1.Pod) { p.Spec.SchedulerName = "" }))
		}, "only the scheduler's account"},
		{"other GPUs for a running pod", func(ctx context.Context) error {
			return c.client.Patch(ctx, running.DeepCopy(), patch(berthv1alpha1.AnnotationGPUUUIDs, "GPU-other"))
		}, "only the scheduler's account"},
		{"other GPUs for a running pod, by its status", func(ctx context.Context) error {
			return c.client.Status().Patch(ctx, running.DeepCopy(), patch(berthv1alpha1.AnnotationVisibleDevices, "GPU-other"))
		}, "only the scheduler's account"},
		{"another request for a running pod", func(ctx context.Context) error {
			return c.client.Patch(ctx, running.DeepCopy(), patch(berthv1alpha1.AnnotationGPUMemory, "1Gi"))
		}, "does not change after it was created"},
		{"a binding of a pod that asks for memory", func(ctx context.Context) error {
			return c.client.SubResource("binding").Create(ctx, waiting, &corev1.Binding{
				Target: corev1.ObjectReference{Kind: "Node", Name: c.workers[0].name},
			})
		}, "only the scheduler berth can bind it"},
		{"a node of the pod's own choice", func(ctx context.Context) error {
			return c.client.Create(ctx, newPod("forged", "10Gi", func(p *corev1.Pod) { p.Spec.NodeName = c.workers[0].name }))
		}, "gets its node from the scheduler"},
		{"an agent that reports of another node", func(ctx context.Context) error {
			return agent.Status().Patch(ctx, gn, client.RawPatch(types.MergePatchType, []byte(`{"status":{"devices":[]}}`)))
		}, "writes the objects of its own node only"},
	} {
		if err := tc.do(t.Context()); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one that says %q", tc.name, err, tc.want)
		}
	}
	own := &berthv1alpha1.GPUNode{ObjectMeta: metav1.ObjectMeta{Name: c.workers[0].name}}
	if err := agent.Patch(t.Context(), own, patch("example.test/own", "yes")); err != nil {
		t.Errorf("the agent cannot write what is its own: %v", err)
	}
	if err := agent.Delete(t.Context(), running); !apierrors.IsForbidden(err) {
		t.Errorf("the agent deletes a pod: error %v", err)
	}
	checkTold(t, running, see(t, running.Name, "server").env["NVIDIA_VISIBLE_DEVICES"], allocationOf(t, running).UUIDs())
}

// agentOf returns a client that is who the agent of a node is: it has the token from the agent's container.
func (c *cluster) agentOf(t *testing.T, w *worker) client.Client {
	t.Helper()
	config := rest.AnonymousClientConfig(c.config)
	config.BearerToken = kubectl(t, "-n", systemNamespace, "exec", c.agentPod(t, w).Name, "--",
		"cat", "/var/run/secrets/kubernetes.io/serviceaccount/token")
	agent, err := client.New(config, client.Options{Scheme: c.client.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	return agent
}
