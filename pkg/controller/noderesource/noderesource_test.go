// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package noderesource

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
)

const gi = 1 << 30

func gpu(uuid, parent, total, reserved string) berthv1alpha1.GPUDevice {
	return berthv1alpha1.GPUDevice{UUID: uuid, Parent: parent, Health: berthv1alpha1.DeviceUnhealthy, Memory: berthv1alpha1.GPUMemory{
		Total: resource.MustParse(total), Reserved: resource.MustParse(reserved),
	}}
}

// pod asks for so many Gi by the resource, and has so many booked on a GPU.
func pod(asks int64, uuid string, booked int64) *corev1.Pod {
	p := &corev1.Pod{}
	p.Spec.Resources = &corev1.ResourceRequirements{Requests: corev1.ResourceList{berthv1alpha1.ResourceGPUMemory: *resource.NewQuantity(asks*gi, resource.BinarySI)}}
	p.Annotations = map[string]string{berthv1alpha1.AnnotationAllocation: fmt.Sprintf(`{"version":1,"devices":[{"uuid":%q,"memory":"%d"}]}`, uuid, booked*gi)}
	return p
}

func TestAdvertised(t *testing.T) {
	two := []berthv1alpha1.GPUDevice{gpu("a", "", "80Gi", "1Gi"), gpu("b", "", "40Gi", "0")}
	ended := pod(500, "gone", 500)
	ended.Status.Phase = corev1.PodSucceeded
	unreadable := pod(10, "gone", 10)
	unreadable.Annotations[berthv1alpha1.AnnotationAllocation] = "{"
	tests := []struct {
		name    string
		devices []berthv1alpha1.GPUDevice
		pods    []*corev1.Pod
		want    int64 // Gi
	}{
		{"no GPU", nil, nil, 0},
		{"GPUs count without what is reserved and the headroom of 2Gi, though they are unhealthy", two, nil, 80 - 1 - 2 + 40 - 2},
		{"a GPU that has less than the headroom counts as nothing", []berthv1alpha1.GPUDevice{gpu("a", "", "1Gi", "0")}, nil, 0},
		{"what pods have booked on GPUs that are there is in them", two, []*corev1.Pod{pod(30, "a", 30)}, 115},
		{"what a pod has booked on a GPU that is gone", two, []*corev1.Pod{pod(30, "gone", 32)}, 115 + 32},
		{"never less than pods ask for", two[1:], []*corev1.Pod{pod(30, "b", 30), pod(31, "b", 30)}, 61},
		{"also where an allocation cannot be read", nil, []*corev1.Pod{unreadable}, 10},
		{"a pod that has ended asks for nothing", two, []*corev1.Pod{ended}, 115},
		{"the instances of a GPU count in its place", []berthv1alpha1.GPUDevice{gpu("a", "", "80Gi", "0"), gpu("i1", "a", "20Gi", "0"), gpu("i2", "a", "20Gi", "0")}, nil, 36},
	}
	for _, tt := range tests {
		if got := Advertised(tt.devices, alloc.MiB(2048), tt.pods); got != tt.want*gi {
			t.Errorf("%s: %d Gi, want %d", tt.name, got/gi, tt.want)
		}
	}
	lie := []berthv1alpha1.GPUDevice{gpu("a", "", "8Ei", "0"), gpu("b", "", "8Ei", "0")}
	if got := Advertised(lie, alloc.Bytes{}, nil); got <= 0 {
		t.Errorf("a report that lies makes it %d", got)
	}
}

func TestStep(t *testing.T) {
	now := time.Unix(100000, 0)
	tests := []struct {
		name      string
		has, want int64
		since     time.Duration // ago; negative = it should not have been less before
		write     int64
		due       bool
		in        time.Duration
	}{
		{"GPUs are seen first", -1, 80, -1, 80, true, 0},
		{"a kubelet set it to nothing", 0, 80, -1, 80, true, 0},
		{"there are more", 80, 160, -1, 160, true, 0},
		{"there are more than while there were less", 80, 160, time.Minute, 160, true, 0},
		{"it is as it should be", 80, 80, -1, 80, false, 0},
		{"it is again as it should be", 80, 80, time.Minute, 80, false, 0},
		{"no GPU was ever seen", -1, 0, -1, -1, false, 0},
		{"there are less", 160, 80, -1, 160, false, LowerAfter},
		{"there are less for a minute", 160, 80, time.Minute, 160, false, LowerAfter - time.Minute},
		{"there are less for good", 160, 80, LowerAfter, 80, true, 0},
		{"there are none for good", 160, 0, LowerAfter, -1, true, 0},
	}
	for _, tt := range tests {
		since := time.Time{}
		if tt.since >= 0 {
			since = now.Add(-tt.since)
		}
		write, due, at := Step(tt.has, tt.want, since, now)
		in := time.Duration(0)
		if !at.IsZero() {
			in = at.Sub(now)
		}
		if write != tt.write || due != tt.due || in != tt.in {
			t.Errorf("%s: %d, %v, in %s; want %d, %v, in %s", tt.name, write, due, in, tt.write, tt.due, tt.in)
		}
	}
}

// TestTrimPod: kubelets count the largest init container, or all others and the sidecars together.
func TestTrimPod(t *testing.T) {
	asks := func(q string) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Requests: corev1.ResourceList{berthv1alpha1.ResourceGPUMemory: resource.MustParse(q)}}
	}
	p := &corev1.Pod{}
	p.Spec.Containers = []corev1.Container{{Resources: asks("3Gi")}, {}}
	p.Spec.InitContainers = []corev1.Container{{Resources: asks("4Gi"), RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways)}, {Resources: asks("1Gi")}}
	trimmed := &corev1.Pod{}
	if TrimPod(trimmed, p); Asked(trimmed) != 7*gi {
		t.Errorf("it asks for %d bytes", Asked(trimmed))
	}
	plain := &corev1.Pod{}
	if TrimPod(plain, &corev1.Pod{}); plain.Spec.Resources != nil || Asked(plain) != 0 {
		t.Error("something is kept of a pod that does not ask")
	}
}

func TestTrimNode(t *testing.T) {
	node := &corev1.Node{}
	node.Name, node.Labels = "n", map[string]string{"a": "b"}
	node.Status.Capacity = corev1.ResourceList{"cpu": resource.MustParse("1")}
	if trimmed := TrimNode(node); Of(trimmed) != -1 || trimmed.Labels != nil || len(trimmed.Status.Capacity) > 0 {
		t.Errorf("of a node that does not list it is kept %+v", trimmed)
	}
	node.Status.Capacity[berthv1alpha1.ResourceGPUMemory] = resource.MustParse("4Gi")
	if got := Of(TrimNode(node)); got != 0 {
		t.Errorf("a node where nothing can be allocated yet has %d", got)
	}
	node.Status.Allocatable = node.Status.Capacity.DeepCopy()
	if got := Of(TrimNode(node)); got != 4*gi {
		t.Errorf("it has %d", got)
	}
}
