// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package testing

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// GPUNode builds a GPUNode. Methods that are about a device are about the one added last.
type GPUNode struct{ berthv1alpha1.GPUNode }

// MakeGPUNode returns a report of a node without GPUs.
func MakeGPUNode(name string) *GPUNode {
	return &GPUNode{berthv1alpha1.GPUNode{ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: "1"}}}
}

// MakeGPUNodeOf returns a report of n empty, healthy GPUs of one model, "GPU-0" to "GPU-<n-1>", linked with one
// another. A GPU is in one node: where there are several nodes, MakeGPUsOf makes their reports.
func MakeGPUNodeOf(name string, n int, total string) *GPUNode { return linked(name, n, total, GPU) }

// MakeGPUsOf is MakeGPUNodeOf with UUIDs as GPUOf makes them.
func MakeGPUsOf(name string, n int, total string) *GPUNode {
	return linked(name, n, total, func(i int) string { return GPUOf(name, i) })
}

func linked(name string, n int, total string, uuid func(int) string) *GPUNode {
	g := MakeGPUNode(name)
	for i := range n {
		g.GPU(uuid(i), total)
	}
	for i := range g.Status.Devices {
		for j := range n {
			if i != j {
				g.Status.Devices[i].Links = append(g.Status.Devices[i].Links,
					berthv1alpha1.GPULink{Peer: uuid(j), Type: berthv1alpha1.LinkNVLink})
			}
		}
	}
	return g
}

// GPU returns the UUID of the GPU with an index.
func GPU(index int) string { return fmt.Sprintf("GPU-%d", index) }

// GPUOf returns the UUID of the GPU with an index of one of several nodes.
func GPUOf(node string, index int) string { return fmt.Sprintf("GPU-%s-%d", node, index) }

// Obj returns the GPUNode.
func (g *GPUNode) Obj() *berthv1alpha1.GPUNode { return g.DeepCopy() }

// ResourceVersion sets the version of the object.
func (g *GPUNode) ResourceVersion(v string) *GPUNode {
	g.ObjectMeta.ResourceVersion = v
	return g
}

// GPU adds a healthy, empty device.
func (g *GPUNode) GPU(uuid, total string) *GPUNode {
	g.Status.Devices = append(g.Status.Devices, berthv1alpha1.GPUDevice{
		UUID: uuid, Index: int32(len(g.Status.Devices)), Model: "NVIDIA H100 80GB HBM3", Health: berthv1alpha1.DeviceHealthy,
		Memory: berthv1alpha1.GPUMemory{Total: resource.MustParse(total)},
	})
	return g
}

func (g *GPUNode) last() *berthv1alpha1.GPUDevice { return &g.Status.Devices[len(g.Status.Devices)-1] }

// At makes the methods that follow be about a device that was added before.
func (g *GPUNode) At(uuid string) *GPUNode {
	d, n := g.Status.Devices, len(g.Status.Devices)-1
	for i := range d {
		if d[i].UUID == uuid {
			d[i], d[n] = d[n], d[i]
			return g
		}
	}
	panic("no device " + uuid)
}

// Model sets the device's model.
func (g *GPUNode) Model(name string) *GPUNode {
	g.last().Model = name
	return g
}

// Reserved sets what the driver keeps.
func (g *GPUNode) Reserved(quantity string) *GPUNode {
	g.last().Memory.Reserved = resource.MustParse(quantity)
	return g
}

// Used sets what the driver says is in use, whoever uses it.
func (g *GPUNode) Used(quantity string) *GPUNode {
	g.last().Memory.Used = resource.MustParse(quantity)
	return g
}

// Unhealthy makes the device unhealthy.
func (g *GPUNode) Unhealthy() *GPUNode {
	g.last().Health, g.last().Reason = berthv1alpha1.DeviceUnhealthy, "Xid 79"
	return g
}

// AssignedTo gives the whole device to a pod.
func (g *GPUNode) AssignedTo(pod types.UID) *GPUNode {
	g.last().AssignedTo = pod
	return g
}

// AssignedPods gives the whole device to several pods.
func (g *GPUNode) AssignedPods(pods ...types.UID) *GPUNode {
	g.last().AssignedTo, g.last().AssignedPods = pods[0], pods
	return g
}

// Instance adds a healthy, empty MIG instance of a GPU, which it makes one that is cut into instances.
func (g *GPUNode) Instance(uuid, parent, total string) *GPUNode {
	g.At(parent).last().Health, g.last().Reason = berthv1alpha1.DeviceUnhealthy, berthv1alpha1.DeviceReasonMIGParent
	index := g.last().Index
	g.GPU(uuid, total).last().Parent, g.last().Index = parent, index
	return g.Model("NVIDIA H100 80GB HBM3 MIG 3g.40gb")
}

// Process adds what a pod ("" = nobody known) holds, with its activity not measured, and counts it as in use.
func (g *GPUNode) Process(pod types.UID, quantity string) *GPUNode {
	return g.process(berthv1alpha1.GPUProcess{PodUID: pod, Memory: resource.MustParse(quantity)})
}

// Active adds a process that computes now.
func (g *GPUNode) Active(pod types.UID, quantity string) *GPUNode {
	return g.process(berthv1alpha1.GPUProcess{PodUID: pod, Memory: resource.MustParse(quantity), Active: true})
}

// Idle adds a process that was last seen computing at a moment of the agent's clock.
func (g *GPUNode) Idle(pod types.UID, quantity string, lastActive time.Time) *GPUNode {
	at := metav1.NewTime(lastActive)
	return g.process(berthv1alpha1.GPUProcess{PodUID: pod, Memory: resource.MustParse(quantity), LastActiveTime: &at})
}

func (g *GPUNode) process(p berthv1alpha1.GPUProcess) *GPUNode {
	d := g.last()
	d.Processes = append(d.Processes, p)
	d.Memory.Used.Add(p.Memory)
	return g
}

// MakeNode returns a node with room for any pod that asks for no GPUs of the device plugin.
func MakeNode(name string) *corev1.Node {
	room := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("1Ti"),
		corev1.ResourcePods: resource.MustParse("110"),
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}},
		Status:     corev1.NodeStatus{Capacity: room, Allocatable: room.DeepCopy()},
	}
}

// AdvertiseGPUs makes a node advertise GPUs of the device plugin.
func AdvertiseGPUs(n *corev1.Node, count int64) *corev1.Node {
	n.Status.Allocatable[berthv1alpha1.ResourceNVIDIAGPU] = *resource.NewQuantity(count, resource.DecimalSI)
	return n
}
