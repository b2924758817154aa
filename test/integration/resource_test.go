// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/test/integration/harness"
)

// unreferenced is a pod as a user writes it.
func unreferenced(name string, edit func(*bt.Pod)) *corev1.Pod {
	pod := bt.MakePod(name).NoReference()
	edit(pod)
	return pod.Obj()
}

// TestGPUMemoryAsAResource follows docs/quota.md on a lab, then docs/autoscaling.md; and what the node advertises is written
// again when somebody else wrote over it.
func TestGPUMemoryAsAResource(t *testing.T) {
	quota := openPage(t, "quota.md")
	lab := harness.Start(t, quota.labArgs(t)...)
	quota.follow(t, lab)
	openPage(t, "autoscaling.md").follow(t, lab)
	c := &checked{T: t, lab: lab}
	c.viewer = c.viewerOf()
	c.wantWell()

	node := &corev1.Node{}
	if err := lab.Client.Get(t.Context(), client.ObjectKey{Name: "gpu-0"}, node); err != nil {
		t.Fatal(err)
	}
	want := node.Status.Capacity[berthv1alpha1.ResourceGPUMemory]
	zero := []byte(`{"status":{"capacity":{"berth.dev/gpu-memory":"0"},"allocatable":{"berth.dev/gpu-memory":"0"}}}`)
	if err := lab.Client.Status().Patch(t.Context(), node, client.RawPatch(types.MergePatchType, zero)); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the node advertises the memory of its GPUs again", func(ctx context.Context) (bool, string) {
		if err := lab.Client.Get(ctx, client.ObjectKey{Name: "gpu-0"}, node); err != nil {
			return false, err.Error()
		}
		c, a := node.Status.Capacity[berthv1alpha1.ResourceGPUMemory], node.Status.Allocatable[berthv1alpha1.ResourceGPUMemory]
		return c.Equal(want) && a.Equal(want), fmt.Sprintf("capacity %s, allocatable %s, want %s", &c, &a, &want)
	})
}

// TestResourceAloneIsARequest on a lab as it is by default: no node advertises it, and the pod is placed all the same.
func TestResourceAloneIsARequest(t *testing.T) {
	lab := harness.Start(t, "--bare", "--no-controller")
	lab.AddNode(t, bt.MakeNode("n"), bt.MakeGPUNodeOf("n", 2, "80Gi").Obj())
	pod := harness.Create(t, lab, unreferenced("p", func(p *bt.Pod) { p.Limit(berthv1alpha1.ResourceGPUMemory, "60Gi").Annotation("gpu-count", "2") }))
	_, allocation := lab.WaitBound(t, pod)
	if allocation == nil || len(allocation.Devices) != 2 || allocation.Devices[0].Memory.Uint64() != 30<<30 {
		t.Errorf("allocation %+v", allocation)
	}
	node := &corev1.Node{}
	if err := lab.Client.Get(t.Context(), client.ObjectKey{Name: "n"}, node); err != nil {
		t.Fatal(err)
	}
	if q, listed := node.Status.Capacity[berthv1alpha1.ResourceGPUMemory]; listed {
		t.Errorf("the node lists %s", &q)
	}
}
