// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// GPUSharing is who may be on the GPUs of a pod beside it.
type GPUSharing string

const (
	// ShareAny: whoever fits. The default.
	ShareAny GPUSharing = "any"
	// ShareOtherWorkloads: no replica of the pod's own workload, be it there before or come later.
	ShareOtherWorkloads GPUSharing = "other-workloads"
	// ShareNone: no other pod. The GPU is booked whole.
	ShareNone GPUSharing = "none"
)

// SharingOf returns who may be on the GPUs of a pod beside it; what cannot be read is ShareAny, and refused elsewhere.
func SharingOf(pod *corev1.Pod) GPUSharing {
	if s := pod.Annotations[AnnotationGPUSharing]; slices.Contains(sharings, s) {
		return GPUSharing(s)
	}
	return ShareAny
}

// FaultAction is what becomes of a pod whose GPU is lost, or that holds more than it booked.
type FaultAction string

const (
	// ActionIgnore leaves the pod of a lost GPU to itself, and ActionEvent one that holds too much, which is told. The defaults.
	ActionIgnore FaultAction = "Ignore"
	ActionEvent  FaultAction = "Event"
	// ActionEvict evicts the pod, within its PodDisruptionBudgets.
	ActionEvict FaultAction = "Evict"
)

// FaultActionOf returns what a pod says by one of the two annotations, else what is said for all.
func FaultActionOf(pod *corev1.Pod, key string, otherwise FaultAction) FaultAction {
	switch a := FaultAction(pod.Annotations[key]); a {
	case ActionIgnore, ActionEvent, ActionEvict:
		return a
	}
	return otherwise
}

// PodRequest is what a pod asks for by its annotations, parsed; ParsePodRequest makes it. A nil *PodRequest is a
// pod that asks for no GPU memory.
//
// +kubebuilder:object:generate=false
type PodRequest struct {
	// TotalMemory is the memory asked for over all GPUs of a count, in bytes: one entry for key 0 when the same
	// total holds for every count, else one entry per count. Nil when the memory is to be looked up from Model.
	TotalMemory map[int]int64
	// Model is the URI of what will be loaded; empty when only memory is asked for.
	Model string
	// Runtime is the engine; RuntimeCustom when not said.
	Runtime Runtime
	// GPUCounts are the allowed numbers of GPUs, ascending; nil when not said.
	GPUCounts []int
	// ContextLength, Parallel and KVCacheType are engine settings; zero when not said.
	ContextLength int
	Parallel      int
	KVCacheType   string
	// IdleAfter is how long the pod must be measured idle before a pod of equal priority may evict it; zero = never.
	IdleAfter time.Duration
	// MinRuntime is how long the pod must have been Ready before it can be a victim.
	MinRuntime time.Duration
	// Sharing is who may be on the pod's GPUs beside it; empty is ShareAny.
	Sharing GPUSharing
	// OnDeviceLost and OnOveruse are what becomes of the pod then; empty = what the scheduler's arguments say.
	OnDeviceLost FaultAction
	OnOveruse    FaultAction
	// Containers are the names given by the annotation; nil when not said.
	Containers []string
}
