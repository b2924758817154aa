// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/test/e2e/kindgpu"
)

// testEachToolkit: the first worker has the container toolkit as its packages are configured for CDI, the second as the
// GPU operator does by default, where a bare UUID is not known. The agents find it out, and the booked GPU arrives on both.
func testEachToolkit(t *testing.T, c *cluster) {
	cdi, uuid := berthv1alpha1.DeviceFormCDI, berthv1alpha1.DeviceFormUUID
	accepts := [][]berthv1alpha1.DeviceForm{{cdi, uuid}, {cdi}}
	for i, w := range c.workers {
		c.waitNode(t, w, "the agent of "+w.name+" finds out how GPUs are named", func(gn *berthv1alpha1.GPUNode) (bool, string) {
			if gn.Status.HandOff == nil {
				return false, "nothing is reported"
			}
			return slices.ContainsFunc(gn.Status.HandOff.Runtimes, func(r berthv1alpha1.RuntimeHandOff) bool {
				return r.Handler == "nvidia" && slices.Equal(r.Accepts, accepts[i])
			}), fmt.Sprintf("it reports %+v, want %v for nvidia", gn.Status.HandOff.Runtimes, accepts[i])
		})
		wantDevice(t, w, c.run(t, newPod("on-"+w.name, "10Gi", on(w.name))))
	}
	// A reference by hand to the bare UUIDs works where they are known.
	byHand := newPod("by-hand", "10Gi", on(c.workers[0].name), func(p *corev1.Pod) {
		p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: berthv1alpha1.EnvVisibleDevices, ValueFrom: &corev1.EnvVarSource{
			FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations['" + berthv1alpha1.AnnotationGPUUUIDs + "']"}}}}
	})
	wantDevice(t, c.workers[0], c.run(t, byHand))
}

// wantDevice checks that a pod's container has the device file of the GPU that it booked on a worker, and no other.
func wantDevice(t *testing.T, w *worker, pod *corev1.Pod) {
	t.Helper()
	devices := allocationOf(t, pod).Devices
	if pod.Spec.NodeName != w.name || len(devices) != 1 {
		t.Fatalf("pod %s is on %s with %v", pod.Name, pod.Spec.NodeName, devices)
	}
	want := []string{kindgpu.Device(w.index(t, devices[0].UUID))}
	if diff := cmp.Diff(want, see(t, pod.Name, "server").devices); diff != "" {
		t.Errorf("device files of pod %s on %s (-want +got):\n%s", pod.Name, w.name, diff)
	}
}
