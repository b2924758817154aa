// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	berthtesting "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/lab/kwok"
	"github.com/berth-dev/berth/test/integration/harness"
)

// TestPlacement is about where pods go on a real control plane, driven through the API alone.
func TestPlacement(t *testing.T) {
	lab := harness.Start(t, "--bare", "--no-controller")

	t.Run("memory is checked per GPU and not in total", func(t *testing.T) {
		// 4 × 30Gi are 120Gi, but 100Gi over two GPUs are 50Gi on each.
		s := newSite(t, lab, "per-gpu", 4, "30Gi")
		two := harness.Create(t, lab, s.pod("two", "100Gi", counts("1,2")))
		if msg := lab.WaitUnschedulable(t, two); !strings.Contains(msg, "2 GPUs: needs 50Gi on one") {
			t.Errorf("message %q does not say what lacks on a GPU", msg)
		}
		four, a := s.place(s.pod("four", "100Gi", counts("1,2,4")))
		if len(a.Devices) != 4 || four.Annotations[berthv1alpha1.AnnotationTensorParallelSize] != "4" {
			t.Errorf("allocation %v, want four devices", a)
		}
	})

	t.Run("sixteen 39Gi pods at once land two on each of eight GPUs", func(t *testing.T) {
		s := newSite(t, lab, "sixteen", 8, "80Gi")
		var wg sync.WaitGroup
		pods := make([]*corev1.Pod, 16)
		for i := range pods {
			pods[i] = s.pod("p"+string(rune('a'+i)), "39Gi")
			wg.Go(func() { harness.Create(t, lab, pods[i]) })
		}
		wg.Wait()
		for _, p := range pods {
			lab.WaitBound(t, p)
		}
		for device, n := range checkBooks(t, lab) {
			if n != 2 {
				t.Errorf("%s has %d pods, want 2", device, n)
			}
		}
	})

	t.Run("foreign memory is never given away, and a waiting pod is bound when it is freed", func(t *testing.T) {
		s := newSite(t, lab, "foreign", 1, "80Gi")
		s.hold(0, "", "60Gi")
		pod := harness.Create(t, lab, s.pod("waits", "30Gi"))
		if msg := lab.WaitUnschedulable(t, pod); !strings.Contains(msg, "19.8Gi free") || !strings.Contains(msg, s.gpu(0)) {
			t.Errorf("message %q does not say what is free on which GPU", msg)
		}
		s.hold(0, "", "50Gi") // 29.75Gi free: cannot help
		s.remainsPending(pod, time.Second)
		if n := len(s.events(pod, "FailedScheduling")); n != 1 {
			t.Errorf("%d attempts failed, want 1: a report that cannot help must not cause another", n)
		}
		s.hold(0, "", "40Gi")
		lab.WaitBound(t, pod)
	})

	t.Run("measured memory beyond the booking counts", func(t *testing.T) {
		s := newSite(t, lab, "measured", 1, "80Gi")
		small, _ := s.place(s.pod("small", "10Gi"))
		s.hold(0, small.UID, "50Gi")
		lab.WaitUnschedulable(t, harness.Create(t, lab, s.pod("big", "40Gi")))
		s.place(s.pod("fits", "25Gi"))
	})

	t.Run("an unhealthy GPU gets nothing", func(t *testing.T) {
		s := newSite(t, lab, "unhealthy", 2, "80Gi")
		s.edit = func(g *berthtesting.GPUNode) { g.At(s.gpu(0)).Unhealthy() }
		s.Report(t, s.report())
		for _, name := range []string{"a", "b"} {
			if _, a := s.place(s.pod(name, "30Gi")); a.Devices[0].UUID != s.gpu(1) {
				t.Errorf("pod %s is on %s", name, a.Devices[0].UUID)
			}
		}
		lab.WaitUnschedulable(t, harness.Create(t, lab, s.pod("c", "30Gi")))
	})

	t.Run("the tightest GPU that fits is taken", func(t *testing.T) {
		s := newSite(t, lab, "tight", 3, "80Gi")
		s.hold(0, "", "10Gi")
		s.hold(1, "", "45Gi")
		s.hold(2, "", "60Gi")
		if _, a := s.place(s.pod("p", "30Gi")); a.Devices[0].UUID != s.gpu(1) {
			t.Errorf("took %s, want %s, which has 34.75Gi free", a.Devices[0].UUID, s.gpu(1))
		}
	})

	t.Run("free GPUs do not help on a node whose CPU is full", func(t *testing.T) {
		s := newSite(t, lab, "cpu", 1, "80Gi")
		pod := harness.Create(t, lab, s.pod("p", "10Gi", func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4000")}
		}))
		if msg := lab.WaitUnschedulable(t, pod); !strings.Contains(msg, "Insufficient cpu") {
			t.Errorf("message %q", msg)
		}
	})

	t.Run("a model of unknown size stays gated", func(t *testing.T) {
		s := newSite(t, lab, "gated", 1, "80Gi")
		pod := s.pod("p", "1Gi", annotated(berthv1alpha1.AnnotationModel, "hf://org/unknown"))
		delete(pod.Annotations, berthv1alpha1.AnnotationGPUMemory)
		harness.Create(t, lab, pod)
		s.remainsPending(pod, 2*time.Second)
	})

	t.Run("a node that advertises nvidia.com/gpu gets nothing unless labelled", func(t *testing.T) {
		s := newSite(t, lab, "plugin", 1, "80Gi")
		s.setAllocatable("nvidia.com/gpu", "1")
		pod := harness.Create(t, lab, s.pod("p", "10Gi"))
		if msg := lab.WaitUnschedulable(t, pod); !strings.Contains(msg, string(gpustate.ReasonDevicePlugin)) {
			t.Errorf("message %q", msg)
		}
		patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"berth.dev/device-plugin":"shared"}}}`))
		if err := lab.Client.Patch(t.Context(), s.node, patch); err != nil {
			t.Fatal(err)
		}
		lab.WaitBound(t, pod)
	})

	t.Run("a node without a report says so", func(t *testing.T) {
		s := newSite(t, lab, "unreported", 1, "80Gi")
		if err := lab.Client.Delete(t.Context(), s.report()); err != nil {
			t.Fatal(err)
		}
		pod := harness.Create(t, lab, s.pod("p", "10Gi"))
		if msg := lab.WaitUnschedulable(t, pod); !strings.Contains(msg, string(gpustate.ReasonNoReport)) {
			t.Errorf("message %q", msg)
		}
		s.Report(t, s.report())
		lab.WaitBound(t, pod)
	})

	t.Run("a pod without Berth annotations is scheduled as by kube-scheduler", func(t *testing.T) {
		s := newSite(t, lab, "plain", 1, "80Gi")
		pod := s.pod("p", "1Gi")
		pod.Annotations = nil
		if bound, a := s.place(pod); a != nil || bound.Spec.NodeName != s.node.Name {
			t.Errorf("bound to %s with allocation %v", bound.Spec.NodeName, a)
		}
	})

	t.Run("two vllm pods on one GPU load one after the other, two custom pods do not wait", func(t *testing.T) {
		s := newSite(t, lab, "loading", 2, "80Gi")
		// The second site's GPU takes the custom pods: the first is filled so that they cannot share it.
		utilization := func(p *corev1.Pod) {
			p.Spec.Containers[0].Args = []string{"--gpu-memory-utilization=$(BERTH_GPU_MEMORY_UTILIZATION)"}
		}
		s.hold(1, "", "70Gi")
		slow := annotated(kwok.AnnotationReadyAfter, "3s")
		first, _ := s.place(s.pod("first", "30Gi", engine("vllm"), utilization, slow))
		second := harness.Create(t, lab, s.pod("second", "30Gi", engine("vllm"), utilization))
		lab.WaitUnschedulable(t, second)
		bound, _ := lab.WaitBound(t, second)
		ready := readyTime(t, lab.Pod(t, first))
		if bound.Status.StartTime != nil && bound.Status.StartTime.Time.Before(ready) {
			t.Errorf("the second started at %s, before the first was ready at %s", bound.Status.StartTime, ready)
		}
		s.hold(1, "", "")
		for _, name := range []string{"c1", "c2"} {
			pod, a := s.place(s.pod(name, "35Gi", slow))
			if a.Devices[0].UUID != s.gpu(1) {
				t.Errorf("%s is on %s", name, a.Devices[0].UUID)
			}
			if name == "c2" && !readyTime(t, lab.Pod(t, pod)).IsZero() {
				t.Error("the second custom pod was placed after it was ready")
			}
		}
	})
}

// readyTime returns when a pod became Ready; the zero time if it is not.
func readyTime(t *testing.T, pod *corev1.Pod) time.Time {
	t.Helper()
	i := slices.IndexFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
	if i < 0 {
		return time.Time{}
	}
	return pod.Status.Conditions[i].LastTransitionTime.Time
}

// setAllocatable gives the site's node a resource.
func (s *site) setAllocatable(name corev1.ResourceName, quantity string) {
	s.t.Helper()
	node := &corev1.Node{}
	if err := s.Client.Get(s.t.Context(), client.ObjectKeyFromObject(s.node), node); err != nil {
		s.t.Fatal(err)
	}
	node.Status.Allocatable[name] = resource.MustParse(quantity)
	node.Status.Capacity[name] = resource.MustParse(quantity)
	if err := s.Client.Status().Update(s.t.Context(), node); err != nil {
		s.t.Fatal(err)
	}
}
