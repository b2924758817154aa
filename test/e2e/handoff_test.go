// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/test/e2e/kindgpu"
)

// testPartlyUsedGPU: 30 of 79 GiB of one GPU are held by a process of no pod, so that this GPU is the tightest place
// for a pod of 40 GiB.
func testPartlyUsedGPU(t *testing.T, c *cluster) {
	const gpu = 2
	w := c.workers[1]
	w.load(gpu, 1, 30, 0)
	w.write(t)
	c.waitUsed(t, w, gpu, 30)
	pod := c.run(t, newPod("partly", "40Gi"))
	uuid := w.state.GPUs[gpu].UUID
	want := []alloc.DeviceShare{{UUID: uuid, Memory: alloc.GiB(40)}}
	if got := allocationOf(t, pod).Devices; !slices.Equal(got, want) || pod.Spec.NodeName != w.name {
		t.Errorf("%v are booked on %s, want %v on %s", got, pod.Spec.NodeName, want, w.name)
	}
	s := see(t, pod.Name, "server")
	if diff := cmp.Diff([]string{kindgpu.Device(gpu)}, s.devices); diff != "" {
		t.Errorf("device files (-want +got):\n%s", diff)
	}
	checkTold(t, pod, s.env["NVIDIA_VISIBLE_DEVICES"], uuid)
	for name, want := range map[string]string{
		"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "BERTH_TENSOR_PARALLEL_SIZE": "1",
	} {
		if s.env[name] != want {
			t.Errorf("%s is %q, want %q", name, s.env[name], want)
		}
	}
	if pod.Spec.RuntimeClassName == nil || *pod.Spec.RuntimeClassName != "nvidia" {
		t.Errorf("the RuntimeClass is %v", pod.Spec.RuntimeClassName)
	}

	// One that asks for nothing sees nothing, whatever its image may want.
	plain := c.run(t, newPod("plain", "", func(p *corev1.Pod) { p.Spec.RuntimeClassName = pod.Spec.RuntimeClassName }))
	if s := see(t, plain.Name, "server"); len(s.devices) > 0 || s.env["NVIDIA_VISIBLE_DEVICES"] != "void" {
		t.Errorf("a pod that asks for nothing sees %v, NVIDIA_VISIBLE_DEVICES is %q", s.devices, s.env["NVIDIA_VISIBLE_DEVICES"])
	}
}

// checkTold checks that the container runtime was told the GPUs, in whichever form the node takes, and that the variable
// says so; or "void", which NVIDIA's CDI specifications set in the container.
func checkTold(t *testing.T, pod *corev1.Pod, variable string, uuids ...string) {
	t.Helper()
	told := pod.Annotations[berthv1alpha1.AnnotationVisibleDevices]
	if got := strings.ReplaceAll(told, berthv1alpha1.CDIKindRuntime+"=", ""); got != strings.Join(uuids, ",") {
		t.Errorf("the runtime is told %q, want %v", told, uuids)
	}
	if variable != told && variable != berthv1alpha1.VisibleDevicesVoid {
		t.Errorf("NVIDIA_VISIBLE_DEVICES is %q, want %q", variable, told)
	}
}

// testTwoGPUs: 100 GiB need two GPUs.
func testTwoGPUs(t *testing.T, c *cluster) {
	pod := c.run(t, newPod("engine", "100Gi",
		annotated(berthv1alpha1.AnnotationRuntime, "vllm"),
		annotated(berthv1alpha1.AnnotationContainer, "server"),
		arguments("--model=some/model", "--tensor-parallel-size=$(BERTH_TENSOR_PARALLEL_SIZE)",
			"--gpu-memory-utilization=$(BERTH_GPU_MEMORY_UTILIZATION)"),
		func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "sidecar", Image: image, Command: serve})
			p.Spec.InitContainers = []corev1.Container{{
				Name: "download", Image: image,
				// It fails if it sees a GPU.
				Command: []string{"sh", "-c", "! ls /dev/nvidia[0-9]* && test \"$NVIDIA_VISIBLE_DEVICES\" = void"},
			}}
		}))
	w := c.worker(t, pod.Spec.NodeName)
	allocation := allocationOf(t, pod)
	var uuids, files []string
	for _, share := range allocation.Devices {
		uuids = append(uuids, share.UUID)
		files = append(files, kindgpu.Device(w.index(t, share.UUID)))
	}
	if len(uuids) != 2 {
		t.Fatalf("devices %v, want two", uuids)
	}
	s := see(t, pod.Name, "server")
	if diff := cmp.Diff(files, s.devices); diff != "" {
		t.Errorf("device files (-want +got):\n%s", diff)
	}
	checkTold(t, pod, s.env["NVIDIA_VISIBLE_DEVICES"], uuids...)
	ratio := pod.Annotations[berthv1alpha1.AnnotationGPUMemoryUtilization]
	if ratio == "" {
		t.Error("the engine is told no fraction")
	}
	want := []string{"--model=some/model", "--tensor-parallel-size=2", "--gpu-memory-utilization=" + ratio}
	if diff := cmp.Diff(want, s.arguments); diff != "" {
		t.Errorf("arguments (-want +got):\n%s", diff)
	}
	if s := see(t, pod.Name, "sidecar"); len(s.devices) > 0 || s.env["NVIDIA_VISIBLE_DEVICES"] != "void" {
		t.Errorf("the sidecar sees %v, NVIDIA_VISIBLE_DEVICES is %q", s.devices, s.env["NVIDIA_VISIBLE_DEVICES"])
	}

	// Nor does a container for debugging, which is added to the running pod.
	kubectl(t, "-n", namespace, "debug", pod.Name, "--image="+image, "--container=debugger", "--profile=general", "--", "sleep", "60")
	c.waitPod(t, pod, "is being debugged", func(p *corev1.Pod) bool {
		return len(p.Status.EphemeralContainerStatuses) == 1 && p.Status.EphemeralContainerStatuses[0].State.Running != nil
	})
	if s := see(t, pod.Name, "debugger"); len(s.devices) > 0 || s.env["NVIDIA_VISIBLE_DEVICES"] != "void" {
		t.Errorf("the debugger sees %v, NVIDIA_VISIBLE_DEVICES is %q", s.devices, s.env["NVIDIA_VISIBLE_DEVICES"])
	}
}
