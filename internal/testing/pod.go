// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package testing

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// Namespace is where built pods are.
const Namespace = "default"

// Pod builds a pod. Its methods change it and return it.
type Pod struct{ corev1.Pod }

// MakePod returns a pod of Berth's scheduler that asks for nothing yet. Its UID is its name, and its only container
// has the reference to the GPUs that the admission policy adds.
func MakePod(name string) *Pod {
	return &Pod{corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: Namespace, Name: name, UID: types.UID(name), ResourceVersion: "1", Annotations: map[string]string{},
		},
		Spec: corev1.PodSpec{
			SchedulerName: berthv1alpha1.SchedulerName,
			Containers: []corev1.Container{{
				Name: "server", Image: "example.test/server:1",
				Env: []corev1.EnvVar{{
					Name: berthv1alpha1.EnvVisibleDevices,
					ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{
						APIVersion: "v1", FieldPath: berthv1alpha1.VisibleDevicesFieldPath,
					}},
				}},
			}},
		},
	}}
}

// Obj returns the pod.
func (p *Pod) Obj() *corev1.Pod { return p.Pod.DeepCopy() }

// Annotation sets an annotation of Berth, by its key without the prefix.
func (p *Pod) Annotation(key, value string) *Pod {
	p.Annotations[berthv1alpha1.GroupName+"/"+key] = value
	return p
}

// Memory asks for a total of GPU memory.
func (p *Pod) Memory(total string) *Pod { return p.Annotation("gpu-memory", total) }

// GPUCount sets the counts of GPUs that are allowed.
func (p *Pod) GPUCount(counts string) *Pod { return p.Annotation("gpu-count", counts) }

// Model asks for a model.
func (p *Pod) Model(uri string) *Pod { return p.Annotation("model", uri) }

// Runtime sets the engine.
func (p *Pod) Runtime(r berthv1alpha1.Runtime) *Pod { return p.Annotation("runtime", string(r)) }

// UID sets the UID.
func (p *Pod) UID(uid types.UID) *Pod {
	p.ObjectMeta.UID = uid
	return p
}

// ResourceVersion sets the version of the object.
func (p *Pod) ResourceVersion(v string) *Pod {
	p.ObjectMeta.ResourceVersion = v
	return p
}

// Scheduler sets the scheduler's name.
func (p *Pod) Scheduler(name string) *Pod {
	p.Spec.SchedulerName = name
	return p
}

// Priority sets the priority.
func (p *Pod) Priority(v int32) *Pod {
	p.Spec.Priority = &v
	return p
}

// Image sets the container's image.
func (p *Pod) Image(image string) *Pod {
	p.Spec.Containers[0].Image = image
	return p
}

// Args sets the arguments of the container.
func (p *Pod) Args(args ...string) *Pod {
	p.Spec.Containers[0].Args = args
	return p
}

// NoReference takes the reference to the GPUs from the container.
func (p *Pod) NoReference() *Pod {
	p.Spec.Containers[0].Env = nil
	return p
}

// WholeGPUs asks the device plugin for GPUs.
func (p *Pod) WholeGPUs(n int64) *Pod {
	return p.Limit(berthv1alpha1.ResourceNVIDIAGPU, strconv.FormatInt(n, 10))
}

// Limit sets a resource limit, and with it the request, of the container.
func (p *Pod) Limit(name corev1.ResourceName, quantity string) *Pod {
	r := &p.Spec.Containers[0].Resources
	if r.Limits == nil {
		r.Limits, r.Requests = corev1.ResourceList{}, corev1.ResourceList{}
	}
	r.Limits[name] = resource.MustParse(quantity)
	r.Requests[name] = resource.MustParse(quantity)
	return p
}

// InitWholeGPUs adds an init container that asks the device plugin for GPUs, and has ended if done is set.
func (p *Pod) InitWholeGPUs(n int64, done bool) *Pod {
	limits := corev1.ResourceList{berthv1alpha1.ResourceNVIDIAGPU: *resource.NewQuantity(n, resource.DecimalSI)}
	p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{
		Name: "init", Image: "example.test/init:1", Resources: corev1.ResourceRequirements{Limits: limits, Requests: limits},
	})
	status := corev1.ContainerStatus{Name: "init"}
	if done {
		status.State.Terminated = &corev1.ContainerStateTerminated{}
	}
	p.Status.InitContainerStatuses = append(p.Status.InitContainerStatuses, status)
	return p
}

// Created says when the pod was made.
func (p *Pod) Created(at time.Time) *Pod {
	p.CreationTimestamp = metav1.NewTime(at)
	return p
}

// Node sets spec.nodeName, as an assumed pod of the scheduler's cache has it.
func (p *Pod) Node(node string) *Pod {
	p.Spec.NodeName = node
	return p
}

// Bound binds the pod at a moment: node, allocation and condition, as the apiserver writes them. shares are pairs of
// a device's UUID and a quantity, as "GPU-0=30Gi".
func (p *Pod) Bound(node string, at time.Time, shares ...string) *Pod {
	p.Node(node).condition(corev1.PodScheduled, corev1.ConditionTrue, at)
	return p.Allocation(AllocationJSON(berthv1alpha1.Runtime(p.Annotations[berthv1alpha1.AnnotationRuntime]), shares...))
}

// Allocation sets the allocation annotation as it is.
func (p *Pod) Allocation(json string) *Pod { return p.Annotation("allocation", json) }

// Started says that the container runs since a moment, for the first time.
func (p *Pod) Started(at time.Time) *Pod { return p.Restarted(at, 0) }

// Restarted says that the container runs since a moment, after some restarts.
func (p *Pod) Restarted(at time.Time, restarts int32) *Pod {
	p.Status.Phase = corev1.PodRunning
	if p.Status.StartTime == nil {
		start := metav1.NewTime(at)
		p.Status.StartTime = &start
	}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: p.Spec.Containers[0].Name, RestartCount: restarts,
		State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(at)}},
	}}
	return p
}

// Ready says that the pod is Ready since a moment.
func (p *Pod) Ready(at time.Time) *Pod { return p.condition(corev1.PodReady, corev1.ConditionTrue, at) }

// NotReady says that the pod is not Ready since a moment.
func (p *Pod) NotReady(at time.Time) *Pod {
	return p.condition(corev1.PodReady, corev1.ConditionFalse, at)
}

// Terminating says that the pod was deleted, and is to be gone at a moment.
func (p *Pod) Terminating(at time.Time) *Pod {
	t := metav1.NewTime(at)
	p.DeletionTimestamp = &t
	return p
}

// Phase sets the phase.
func (p *Pod) Phase(phase corev1.PodPhase) *Pod {
	p.Status.Phase = phase
	return p
}

func (p *Pod) condition(t corev1.PodConditionType, s corev1.ConditionStatus, at time.Time) *Pod {
	condition := corev1.PodCondition{Type: t, Status: s, LastTransitionTime: metav1.NewTime(at)}
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == t {
			p.Status.Conditions[i] = condition
			return p
		}
	}
	p.Status.Conditions = append(p.Status.Conditions, condition)
	return p
}

// AllocationJSON writes the allocation annotation by hand, independently of the code under test. shares are pairs of
// a device's UUID and a quantity, as "GPU-0=30Gi".
func AllocationJSON(runtime berthv1alpha1.Runtime, shares ...string) string {
	devices := make([]string, len(shares))
	for i, share := range shares {
		uuid, quantity, _ := strings.Cut(share, "=")
		memory := resource.MustParse(quantity)
		devices[i] = fmt.Sprintf(`{"uuid":%q,"memory":"%d"}`, uuid, memory.Value())
	}
	if runtime == "" {
		runtime = berthv1alpha1.RuntimeCustom
	}
	return fmt.Sprintf(`{"version":1,"devices":[%s],"tensorParallelSize":%d,"runtime":%q}`,
		strings.Join(devices, ","), len(shares), runtime)
}
