// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gpumap shows what the GPUs of a cluster hold, as the scheduler sees it: Build derives a Map from API
// objects through the same view as the scheduler, and Map.Render draws it as text. Both are pure.
package gpumap

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// APIVersion and Kind are those of the JSON form. Fields are added to it, and never change or go within a version.
	APIVersion = "cli.berth.dev/v1alpha1"
	Kind       = "GPUMap"
)

// Map is what the GPUs of a cluster hold. All memory is in bytes.
type Map struct {
	metav1.TypeMeta `json:",inline"`
	// Time is when the objects were read, by the clock of the API server.
	Time metav1.Time `json:"time"`
	// Nodes are the nodes with GPUs, by name.
	Nodes []Node `json:"nodes"`
	// PendingPods are the pods that wait for Berth to place them, the longest waiting first.
	PendingPods []PendingPod `json:"pendingPods"`
	// Notes say what could not be read, and what that means for the rest.
	Notes []string `json:"notes,omitempty"`
}

// Node is one node and its GPUs.
type Node struct {
	Name string `json:"name"`
	// Reason is why the scheduler places no GPU pod on the node, whatever is free; empty if it does.
	Reason string `json:"reason,omitempty"`
	// Problems are what else keeps pods away from the node, or explains Reason.
	Problems      []string `json:"problems,omitempty"`
	DriverVersion string   `json:"driverVersion,omitempty"`
	// Pool is the node pool that it is of; empty if nothing says it.
	Pool string `json:"pool,omitempty"`
	// LastHeard is when the node's agent last renewed its Lease.
	LastHeard *metav1.Time `json:"lastHeard,omitempty"`
	// Devices are its GPUs, by index.
	Devices []Device `json:"devices"`
}

// Device is one GPU, or one MIG instance.
type Device struct {
	UUID              string `json:"uuid"`
	Index             int    `json:"index"`
	Model             string `json:"model,omitempty"`
	ComputeCapability string `json:"computeCapability,omitempty"`
	// State is whether pods can be placed on the device, and Reason why not.
	State  State  `json:"state"`
	Reason string `json:"reason,omitempty"`
	// Total is the physical memory. Capacity is what can be booked of it: the driver's own share and the scheduler's
	// headroom are off.
	Total    int64 `json:"total"`
	Capacity int64 `json:"capacity"`
	// Booked is the sum of what pods were promised, and Measured what the driver says is in use, by whomever.
	Booked   int64 `json:"booked"`
	Measured int64 `json:"measured"`
	// Leaving is held by processes of pods that are gone, and Foreign by processes of no pod at all.
	Leaving int64 `json:"leaving"`
	Foreign int64 `json:"foreign"`
	// Free is what can still be booked: Capacity − Σ max(booked, measured) of the pods − Leaving − Foreign, at least
	// zero; zero where State is not Ready.
	Free int64 `json:"free"`
	// Pods are who is on the device, by namespace and name.
	Pods []PodShare `json:"pods"`
}

// State is whether pods can be placed on a device.
type State string

const (
	StateReady     State = "Ready"
	StateUnhealthy State = "Unhealthy"
	// StateAssigned: pods hold the whole device through the kubelet's device manager, or a resource claim does.
	StateAssigned State = "Assigned"
	// StateContested: other nodes report the device too.
	StateContested State = "Contested"
	// StateCordoned: an admin keeps new pods off the device.
	StateCordoned State = "Cordoned"
)

// PodShare is one pod on one device.
type PodShare struct {
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	UID       types.UID `json:"uid"`
	Booked    int64     `json:"booked"`
	Measured  int64     `json:"measured"`
	// Charged is what counts: the larger of the two.
	Charged int64 `json:"charged"`
	// Model is what it runs, as its annotation says it.
	Model string `json:"model,omitempty"`
	// Whole says that the pod has the device to itself, whatever it needs of it.
	Whole bool `json:"whole,omitempty"`
	// Loading says that the pod is not Ready yet.
	Loading bool `json:"loading,omitempty"`
	// IdleSince is since when it was measured to compute nothing; absent if it computes, or that is not measured.
	IdleSince *metav1.Time `json:"idleSince,omitempty"`
}

// PendingPod is a pod that waits for Berth to place it.
type PendingPod struct {
	Namespace string      `json:"namespace"`
	Name      string      `json:"name"`
	UID       types.UID   `json:"uid"`
	Since     metav1.Time `json:"since"`
	// GPUMemory, Model and GPUCount are its request, as its annotations say it.
	GPUMemory string `json:"gpuMemory,omitempty"`
	Model     string `json:"model,omitempty"`
	GPUCount  string `json:"gpuCount,omitempty"`
	// NominatedNode is where others leave to make room for it.
	NominatedNode string `json:"nominatedNode,omitempty"`
	// Reason is why it waits.
	Reason string `json:"reason"`
}

// Free returns what can still be booked on the node: in all, and on the device that has most, in bytes. It is nothing
// where the scheduler places no pods.
func (n *Node) Free() (sum, largest int64) {
	if n.Reason != "" {
		return 0, 0
	}
	for i := range n.Devices {
		sum += n.Devices[i].Free
		largest = max(largest, n.Devices[i].Free)
	}
	return sum, largest
}

// DefaultSettings are the defaults of the scheduler's arguments.
func DefaultSettings() Settings {
	return Settings{
		Headroom:    resource.MustParse("256Mi"),
		StaleAfter:  metav1.Duration{Duration: defaultStaleAfter},
		LoadTimeout: metav1.Duration{Duration: defaultLoadTimeout},
		DRADrivers:  []string{"gpu.nvidia.com"},
	}
}
