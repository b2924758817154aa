// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/cli/gpumap"
	"github.com/berth-dev/berth/pkg/gpustate"
)

var headroom = resource.MustParse("256Mi")

// toured is the cluster after a tour in which every pod has GPUs of its own.
func toured(t *testing.T) *gpumap.Objects {
	t.Helper()
	gn := berthv1alpha1.GPUNode{}
	gn.Name = "node"
	o := &gpumap.Objects{}
	for i := range tour {
		for j := range tour[i].workloads {
			w := &tour[i].workloads[j]
			deployment, err := w.deployment(tour[i].load)
			if err != nil {
				t.Fatal(err)
			}
			for replica := range w.replicas {
				pod := corev1.Pod{ObjectMeta: deployment.Spec.Template.ObjectMeta, Spec: deployment.Spec.Template.Spec}
				pod = *pod.DeepCopy()
				pod.Namespace, pod.Name = deployment.Namespace, fmt.Sprintf("%s-%d", w.name, replica)
				pod.UID = types.UID(pod.Name)
				pod.Spec.Containers[0].Env = append(pod.Spec.Containers[0].Env, corev1.EnvVar{
					Name: berthv1alpha1.EnvVisibleDevices, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{
						FieldPath: berthv1alpha1.VisibleDevicesFieldPath,
					}},
				})
				if w.gpus == 0 {
					pod.Status.Conditions = []corev1.PodCondition{{
						Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/1 nodes are available: 1 " + string(w.reason) + ".",
					}}
				} else {
					place(t, &pod, w, &gn)
				}
				o.Pods = append(o.Pods, pod)
			}
		}
	}
	o.GPUNodes = []berthv1alpha1.GPUNode{gn}
	return o
}

// place gives a pod new GPUs on a node.
func place(t *testing.T, pod *corev1.Pod, w *workload, gn *berthv1alpha1.GPUNode) {
	t.Helper()
	request, err := berthv1alpha1.ParsePodRequest(pod)
	if err != nil {
		t.Fatal(err)
	}
	total, ok := request.TotalMemory[w.gpus]
	if !ok {
		total = request.TotalMemory[0]
	}
	a := &gpustate.Allocation{Runtime: request.Runtime, TensorParallelSize: 1}
	if request.Runtime == berthv1alpha1.RuntimeVLLM {
		a.TensorParallelSize = w.gpus
	}
	for range w.gpus {
		uuid := fmt.Sprintf("GPU-%d", len(gn.Status.Devices))
		gn.Status.Devices = append(gn.Status.Devices, berthv1alpha1.GPUDevice{
			UUID: uuid, Health: berthv1alpha1.DeviceHealthy, Memory: berthv1alpha1.GPUMemory{Total: resource.MustParse("80Gi")},
		})
		a.Devices = append(a.Devices, alloc.DeviceShare{UUID: uuid, Memory: alloc.BytesOfInt64(total).DividedUp(uint64(w.gpus))})
	}
	pod.Spec.NodeName = gn.Name
	setAllocation(t, pod, a)
}

func setAllocation(t *testing.T, pod *corev1.Pod, a *gpustate.Allocation) {
	t.Helper()
	text, err := gpustate.EncodeAllocation(a)
	if err != nil {
		t.Fatal(err)
	}
	pod.Annotations[berthv1alpha1.AnnotationAllocation] = text
	pod.Annotations[berthv1alpha1.AnnotationGPUUUIDs] = a.UUIDs()
	pod.Annotations[berthv1alpha1.AnnotationVisibleDevices] = "runtime.nvidia.com/gpu=" + strings.ReplaceAll(a.UUIDs(), ",", ",runtime.nvidia.com/gpu=")
}

func TestVerify(t *testing.T) {
	pod := func(o *gpumap.Objects, name string) *corev1.Pod {
		i := slices.IndexFunc(o.Pods, func(p corev1.Pod) bool { return p.Name == name })
		return &o.Pods[i]
	}
	// change applies f to the allocation of a pod.
	change := func(f func(*gpustate.Allocation)) func(*testing.T, *gpumap.Objects) {
		return func(t *testing.T, o *gpumap.Objects) {
			p := pod(o, "llama-70b-0")
			a, err := gpustate.DecodeAllocation(p.Annotations[berthv1alpha1.AnnotationAllocation])
			if err != nil {
				t.Fatal(err)
			}
			f(a)
			setAllocation(t, p, a)
		}
	}
	tests := map[string]struct {
		change func(*testing.T, *gpumap.Objects)
		want   string // empty for no error
	}{
		"all is right": {change: func(*testing.T, *gpumap.Objects) {}},
		"two pods on one GPU that holds only one": {
			change: func(_ *testing.T, o *gpumap.Objects) {
				one := pod(o, "qwen-32b-1")
				for key, value := range pod(o, "qwen-32b-0").Annotations {
					one.Annotations[key] = value
				}
			},
			want: "pod qwen-32b-1: is placed wrong",
		},
		"foreign memory was given away": {
			change: func(_ *testing.T, o *gpumap.Objects) {
				o.GPUNodes[0].Status.Devices[0].Processes = []berthv1alpha1.GPUProcess{{Memory: resource.MustParse("60Gi")}}
			},
			want: "pod llama-70b-0: is placed wrong",
		},
		"an unhealthy GPU was given away": {
			change: func(_ *testing.T, o *gpumap.Objects) {
				o.GPUNodes[0].Status.Devices[0].Health = berthv1alpha1.DeviceUnhealthy
			},
			want: string(alloc.ReasonUnhealthy),
		},
		"a GPU that the node does not have": {
			change: change(func(a *gpustate.Allocation) { a.Devices[0].UUID = "GPU-other" }),
			want:   alloc.ErrUnknownDevice.Error(),
		},
		"less was booked than asked for": {
			change: change(func(a *gpustate.Allocation) { a.Devices[0].Memory = alloc.GiB(60) }),
			want:   "are booked, want 150Gi",
		},
		"fewer GPUs than it takes": {
			change: change(func(a *gpustate.Allocation) { a.Devices = a.Devices[:1] }),
			want:   "has 1 GPUs, want 2",
		},
		"a tensor-parallel size that is not the number of GPUs": {
			change: change(func(a *gpustate.Allocation) { a.TensorParallelSize = 4 }),
			want:   "tensor-parallel size 4 on 2 GPUs",
		},
		"the container is told other GPUs": {
			change: func(_ *testing.T, o *gpumap.Objects) {
				pod(o, "llama-70b-0").Annotations[berthv1alpha1.AnnotationGPUUUIDs] = "GPU-7"
			},
			want: `is told the GPUs "GPU-7"`,
		},
		"the container's runtime is told other GPUs": {
			change: func(_ *testing.T, o *gpumap.Objects) {
				pod(o, "llama-70b-0").Annotations[berthv1alpha1.AnnotationVisibleDevices] = "runtime.nvidia.com/gpu=GPU-7"
			},
			want: `has its runtime told the GPUs "runtime.nvidia.com/gpu=GPU-7"`,
		},
		"the container takes its GPUs from elsewhere": {
			change: func(_ *testing.T, o *gpumap.Objects) {
				pod(o, "llama-70b-0").Spec.Containers[0].Env = nil
			},
			want: "does not take its GPUs from the allocation",
		},
		"a pod that fits is pending": {
			change: func(_ *testing.T, o *gpumap.Objects) {
				pod(o, "whisper-0").Spec.NodeName = ""
			},
			want: "pod whisper-0: is on no node",
		},
		"a pod without an allocation": {
			change: func(_ *testing.T, o *gpumap.Objects) {
				delete(pod(o, "whisper-0").Annotations, berthv1alpha1.AnnotationAllocation)
			},
			want: "pod whisper-0: allocation",
		},
		"a pod for which there is no room was placed": {
			change: func(_ *testing.T, o *gpumap.Objects) {
				pod(o, "llama-405b-0").Spec.NodeName = "node"
			},
			want: "where there is no room for it",
		},
		"a pod waits for another reason": {
			change: func(_ *testing.T, o *gpumap.Objects) {
				pod(o, "llama-405b-0").Status.Conditions[0].Message = string(gpustate.ReasonNoReport)
			},
			want: "pod llama-405b-0: waits because",
		},
		"a pod is missing": {
			change: func(_ *testing.T, o *gpumap.Objects) { o.Pods = o.Pods[1:] },
			want:   "deployment llama-70b has 0 pods, want 1",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			o := toured(t)
			tt.change(t, o)
			err := verify(o, headroom)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("got error %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
		})
	}
}
