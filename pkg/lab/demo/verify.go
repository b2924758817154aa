// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/cli/gpumap"
	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// verify says what is wrong with how the pods were placed, by the API objects alone: nothing that the scheduler
// remembers is believed. It books all allocations anew on empty GPUs, one by one, and checks each by alloc.Validate.
func verify(o *gpumap.Objects, headroom resource.Quantity) error {
	nodes := map[string]*alloc.Node{}
	for i := range o.GPUNodes {
		nodes[o.GPUNodes[i].Name] = emptyNode(&o.GPUNodes[i], alloc.BytesOfInt64(headroom.Value()))
	}
	found := map[string]int{}
	var errs []error
	for i := range o.Pods {
		pod := &o.Pods[i]
		w := workloadOf(pod)
		if w == nil {
			continue
		}
		found[w.name]++
		var err error
		if w.gpus > 0 {
			err = verifyPlaced(pod, w, nodes[pod.Spec.NodeName])
		} else {
			err = verifyPending(pod, w)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("pod %s: %w", pod.Name, err))
		}
	}
	for i := range tour {
		for j := range tour[i].workloads {
			if w := &tour[i].workloads[j]; found[w.name] != int(w.replicas) {
				errs = append(errs, fmt.Errorf("deployment %s has %d pods, want %d", w.name, found[w.name], w.replicas))
			}
		}
	}
	return errors.Join(errs...)
}

// emptyNode is a node without pods: only what processes of no pod use is gone from its GPUs.
func emptyNode(gn *berthv1alpha1.GPUNode, headroom alloc.Bytes) *alloc.Node {
	n := &alloc.Node{Name: gn.Name}
	for i := range gn.Status.Devices {
		d := &gn.Status.Devices[i]
		total, reserved := bytesOf(&d.Memory.Total), bytesOf(&d.Memory.Reserved)
		device := alloc.Device{
			UUID: d.UUID, Index: int(d.Index), Model: d.Model, Total: total, Capacity: total.Minus(reserved).Minus(headroom),
		}
		if d.Health != berthv1alpha1.DeviceHealthy {
			device.Blocked = alloc.ReasonUnhealthy
		}
		for j := range d.Processes {
			if d.Processes[j].PodUID == "" {
				device.Used = device.Used.Plus(bytesOf(&d.Processes[j].Memory))
			}
		}
		n.Devices = append(n.Devices, device)
	}
	return n
}

// verifyPlaced books the allocation of a pod on its node, which has the pods before it.
func verifyPlaced(pod *corev1.Pod, w *workload, node *alloc.Node) error {
	if node == nil {
		return fmt.Errorf("is on no node with GPUs: %s", waitsFor(pod))
	}
	a, err := gpustate.DecodeAllocation(pod.Annotations[berthv1alpha1.AnnotationAllocation])
	if err != nil {
		return err
	}
	if len(a.Devices) != w.gpus {
		return fmt.Errorf("has %d GPUs, want %d", len(a.Devices), w.gpus)
	}
	if err := alloc.Validate(node, a.Devices); err != nil {
		return fmt.Errorf("is placed wrong on node %s: %w", node.Name, err)
	}
	var booked alloc.Bytes
	for _, share := range a.Devices {
		booked = booked.Plus(share.Memory)
		for i := range node.Devices {
			if d := &node.Devices[i]; d.UUID == share.UUID {
				d.Used = d.Used.Plus(share.Memory)
			}
		}
	}
	return errors.Join(verifyBooked(pod, booked, len(a.Devices)), verifyHandOff(pod, a))
}

// verifyBooked compares what is booked for a pod with what it asks for.
func verifyBooked(pod *corev1.Pod, booked alloc.Bytes, gpus int) error {
	request, err := berthv1alpha1.ParsePodRequest(pod)
	if err != nil {
		return err
	}
	asked, ok := request.TotalMemory[gpus]
	if !ok {
		asked = request.TotalMemory[0]
	}
	// An even split rounds each share up to whole bytes.
	if want := alloc.BytesOfInt64(asked); booked.Less(want) || want.Plus(alloc.BytesOf(uint64(gpus))).Less(booked) {
		return fmt.Errorf("%s are booked, want %s", booked, want)
	}
	return nil
}

// verifyHandOff checks that the container is told its GPUs, and the number of them where its engine needs it.
func verifyHandOff(pod *corev1.Pod, a *gpustate.Allocation) error {
	if got, want := pod.Annotations[berthv1alpha1.AnnotationGPUUUIDs], a.UUIDs(); got != want {
		return fmt.Errorf("is told the GPUs %q, but was given %q", got, want)
	}
	visible := pod.Annotations[berthv1alpha1.AnnotationVisibleDevices]
	if got := strings.ReplaceAll(visible, berthv1alpha1.CDIKindRuntime+"=", ""); got != a.UUIDs() {
		return fmt.Errorf("has its runtime told the GPUs %q, but was given %q", visible, a.UUIDs())
	}
	if !gpustate.HasReference(pod) {
		return errors.New("has a container that does not take its GPUs from the allocation")
	}
	want := len(a.Devices)
	if estimator.EngineOf(a.Runtime).SplitsByLayers {
		want = 1
	}
	if a.TensorParallelSize != want {
		return fmt.Errorf("has tensor-parallel size %d on %d GPUs, want %d", a.TensorParallelSize, len(a.Devices), want)
	}
	return nil
}

// verifyPending checks that a pod for which there is no room waits, and says why.
func verifyPending(pod *corev1.Pod, w *workload) error {
	if pod.Spec.NodeName != "" {
		return fmt.Errorf("is on node %s, where there is no room for it", pod.Spec.NodeName)
	}
	if message := waitsFor(pod); !strings.Contains(message, string(w.reason)) {
		return fmt.Errorf("waits because %q, want %q", message, w.reason)
	}
	return nil
}

// waitsFor is why a pod is pending, as the scheduler wrote it on the pod.
func waitsFor(pod *corev1.Pod) string {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return c.Message
		}
	}
	return ""
}

// workloadOf returns the workload of the tour that a pod belongs to, or nil.
func workloadOf(pod *corev1.Pod) *workload {
	for i := range tour {
		for j := range tour[i].workloads {
			if w := &tour[i].workloads[j]; pod.Namespace == corev1.NamespaceDefault && pod.Labels["app"] == w.name {
				return w
			}
		}
	}
	return nil
}

func bytesOf(q *resource.Quantity) alloc.Bytes { return alloc.BytesOfInt64(q.Value()) }
