// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// TestGPUMemoryAsAResource follows the resource on a lab that was switched to it by the scheduler's argument: nodes advertise
// it, pods get it, what is written over is written again, and where there is enough in sum only a pod waits and is told so.
func TestGPUMemoryAsAResource(t *testing.T) {
	lab := harness.Start(t, "--nodes", "1", "--gpus", "2", "--gpu-model", "H100-80", "--gpu-memory-resource")
	ctx := t.Context()
	gn := &berthv1alpha1.GPUNode{}
	if err := lab.Client.Get(ctx, client.ObjectKey{Name: "gpu-0"}, gn); err != nil {
		t.Fatal(err)
	}
	var want int64
	for _, d := range gn.Status.Devices {
		want += d.Memory.Total.Value() - d.Memory.Reserved.Value() - 256<<20
	}
	advertises := func(what string) {
		t.Helper()
		harness.Eventually(t, what, func(ctx context.Context) (bool, string) {
			node := &corev1.Node{}
			if err := lab.Client.Get(ctx, client.ObjectKey{Name: "gpu-0"}, node); err != nil {
				return false, err.Error()
			}
			c, a := node.Status.Capacity[berthv1alpha1.ResourceGPUMemory], node.Status.Allocatable[berthv1alpha1.ResourceGPUMemory]
			return c.Value() == want && a.Value() == want, fmt.Sprintf("capacity %s, allocatable %s, want %d bytes", &c, &a, want)
		})
	}
	advertises("the node advertises the memory of its GPUs")

	for _, pod := range []*corev1.Pod{
		unreferenced("by-annotation", func(p *bt.Pod) { p.Memory("50Gi") }),
		unreferenced("by-resource", func(p *bt.Pod) { p.Limit(berthv1alpha1.ResourceGPUMemory, "50Gi").Annotations = nil }),
	} {
		harness.Create(t, lab, pod)
		bound, allocation := lab.WaitBound(t, pod)
		asked := bound.Spec.Containers[0].Resources.Requests[berthv1alpha1.ResourceGPUMemory]
		if allocation == nil || asked.Value() != 50<<30 || bound.Annotations[berthv1alpha1.AnnotationGPUMemory] != "50Gi" {
			t.Errorf("%s: allocation %v, asks for %s, annotation %q", pod.Name, allocation, &asked, bound.Annotations[berthv1alpha1.AnnotationGPUMemory])
		}
		lab.WaitReady(t, pod)
	}
	c := &checked{T: t, lab: lab}
	c.viewer = c.viewerOf()
	c.wantWell()

	bin := harness.Build(t, "k8s.io/kubernetes/cmd/kubectl")
	shown, err := exec.CommandContext(ctx, filepath.Join(bin, "kubectl"), "--kubeconfig", lab.Kubeconfig, "describe", "node", "gpu-0").CombinedOutput()
	if err != nil || !strings.Contains(strings.Join(strings.Fields(string(shown)), " "), "berth.dev/gpu-memory 100Gi 100Gi") {
		t.Errorf("kubectl describe node shows (%v):\n%s", err, shown)
	}

	waits := harness.Create(t, lab, unreferenced("waits", func(p *bt.Pod) { p.Memory("40Gi") }))
	harness.Eventually(t, "a pod for which there is enough in sum is told so", func(ctx context.Context) (bool, string) {
		pod := lab.Pod(t, waits)
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodScheduled && strings.Contains(c.Message, "of the resource berth.dev/gpu-memory left in sum, and not on the GPUs as they are asked for") {
				return true, ""
			}
		}
		return false, fmt.Sprint(pod.Status.Conditions)
	})

	zero := []byte(`{"status":{"capacity":{"berth.dev/gpu-memory":"0"},"allocatable":{"berth.dev/gpu-memory":"0"}}}`)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "gpu-0"}}
	if err := lab.Client.Status().Patch(ctx, node, client.RawPatch(types.MergePatchType, zero)); err != nil {
		t.Fatal(err)
	}
	advertises("what somebody else set to nothing is written again")
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
