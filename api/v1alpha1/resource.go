// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ResourceGPUMemory is a request written as a resource of one container, and what nodes advertise. It counts whole bytes.
const ResourceGPUMemory corev1.ResourceName = GroupName + "/gpu-memory"

// gpuMemoryOf returns what a container asks for by the resource; false if it does not name it.
func gpuMemoryOf(c *corev1.Container) (resource.Quantity, bool) {
	if q, ok := c.Resources.Limits[ResourceGPUMemory]; ok {
		return q, true
	}
	q, ok := c.Resources.Requests[ResourceGPUMemory]
	return q, ok
}

// AsksByResource says whether a container of the pod asks for GPU memory by the resource.
func AsksByResource(pod *corev1.Pod) bool {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if _, ok := gpuMemoryOf(&list[i]); ok {
				return true
			}
		}
	}
	return false
}

// asking is a container that asks by the resource.
type asking struct {
	path      *field.Path // of the limit
	container *corev1.Container
	quantity  resource.Quantity
	stays     bool
}

// askingByResource returns the containers that do, in the order of the pod, init containers first.
func askingByResource(pod *corev1.Pod) (found []asking) {
	add := func(path *field.Path, list []corev1.Container, stays func(*corev1.Container) bool) {
		for i := range list {
			if q, ok := gpuMemoryOf(&list[i]); ok {
				found = append(found, asking{path.Index(i).Child("resources", "limits").Key(string(ResourceGPUMemory)), &list[i], q, stays(&list[i])})
			}
		}
	}
	spec := field.NewPath("spec")
	add(spec.Child("initContainers"), pod.Spec.InitContainers, isSidecar)
	add(spec.Child("containers"), pod.Spec.Containers, func(*corev1.Container) bool { return true })
	return found
}

// readResource completes a request by what containers ask for by the resource: alone it is the total for every count, and
// beside the annotation it is the smallest of its totals, which is what admission adds to the container that the GPUs are for.
func (p *parser) readResource(r *PodRequest) {
	list := askingByResource(p.pod)
	if len(list) == 0 {
		return
	}
	a := &list[0]
	refuse := func(a *asking, detail string) {
		p.errs = append(p.errs, field.Invalid(a.path, a.quantity.String(), detail))
	}
	if len(list) > 1 {
		refuse(&list[1], fmt.Sprintf("the containers of a pod share its GPU memory, and container %q asks for it already: "+
			"write the total on one of them", a.container.Name))
		return
	}
	if !a.stays {
		refuse(a, "an init container ends before the pod runs: write it on the container that the GPUs are for")
		return
	}
	total, err := parseTotal(a.quantity.String())
	if err != nil {
		refuse(a, err.Error())
		return
	}
	if _, ok := p.pod.Annotations[AnnotationGPUMemory]; !ok {
		r.TotalMemory = map[int]int64{0: total}
	} else if least := smallest(r.TotalMemory); least > 0 && least != total {
		refuse(a, fmt.Sprintf("the annotation %s asks for %s: write the same, or leave one of them out",
			AnnotationGPUMemory, resource.NewQuantity(least, resource.BinarySI)))
	}
}

// smallest returns the smallest of totals, 0 if there are none.
func smallest(totals map[int]int64) (least int64) {
	for _, total := range totals {
		if least == 0 || total < least {
			least = total
		}
	}
	return least
}

// checkAsking says whether the container that asks by the resource is the one that the GPUs are for.
func checkAsking(pod *corev1.Pod, gpuContainer string) error {
	for _, a := range askingByResource(pod) {
		if a.stays && a.container.Name != gpuContainer {
			return fmt.Errorf("container %q asks for %s, and the GPUs are for container %q: write the resource there",
				a.container.Name, ResourceGPUMemory, gpuContainer)
		}
	}
	return nil
}
