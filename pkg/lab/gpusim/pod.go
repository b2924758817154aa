// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpusim

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/lab/kwok"
)

// Annotations of a pod that say what it does with its GPUs.
const (
	// AnnotationGPUMemory is what the pod's process really takes on each of its GPUs, "50Gi"; what was booked for
	// it, less a twentieth, if there is none.
	AnnotationGPUMemory = "lab.berth.dev/gpu-memory"
	// AnnotationGPUActive says, with "false", that the pod does not compute, and with "unknown", that nobody can tell, as of
	// clients of CUDA MPS; it computes otherwise.
	AnnotationGPUActive = "lab.berth.dev/gpu-active"
)

const (
	// defaultLoadTime is how long the memory of a pod grows that does not say how long it loads.
	defaultLoadTime = time.Second
	// activityUnknown is the value of AnnotationGPUActive for what cannot be measured.
	activityUnknown = "unknown"
	// slack is the share of its booking that a pod leaves unused: bookings are made so that they suffice.
	slack = 20
)

// Use is what a pod does with the GPUs of its node.
type Use struct {
	// Pod is the pod's name.
	Pod types.NamespacedName
	// Memory is what it holds in the end, in bytes by the UUID of the device.
	Memory map[string]uint64
	// Started is when it began to load, and LoadTime how long it takes.
	Started  time.Time
	LoadTime time.Duration
	// Active says that it computes.
	Active bool
	// ActivityUnknown says that nobody can tell.
	ActivityUnknown bool
}

// UseOf returns what a pod does with its GPUs; nil if it has none or does not run.
func UseOf(pod *corev1.Pod) (*Use, error) {
	value, ok := pod.Annotations[berthv1alpha1.AnnotationAllocation]
	if !ok || pod.Status.Phase != corev1.PodRunning || pod.Status.StartTime == nil {
		return nil, nil
	}
	allocation, err := gpustate.DecodeAllocation(value)
	if err != nil {
		return nil, err
	}
	use := &Use{
		Pod:      types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name},
		Memory:   make(map[string]uint64, len(allocation.Devices)),
		Started:  pod.Status.StartTime.Time,
		LoadTime: defaultLoadTime,
		Active:   true,
	}
	for _, d := range allocation.Devices {
		booked := d.Memory.Uint64()
		use.Memory[d.UUID] = booked - booked/slack
	}
	if value, ok := pod.Annotations[AnnotationGPUMemory]; ok {
		q, err := resource.ParseQuantity(value)
		if err != nil || q.Sign() < 0 {
			return nil, fmt.Errorf("%s: %q is not an amount of memory such as 50Gi", AnnotationGPUMemory, value)
		}
		for uuid := range use.Memory {
			use.Memory[uuid] = uint64(q.Value())
		}
	}
	switch value, ok := pod.Annotations[AnnotationGPUActive]; {
	case !ok:
	case value == activityUnknown:
		use.Active, use.ActivityUnknown = false, true
	default:
		if use.Active, err = strconv.ParseBool(value); err != nil {
			return nil, fmt.Errorf("%s: %q is neither true nor false nor unknown", AnnotationGPUActive, value)
		}
	}
	if d, err := time.ParseDuration(pod.Annotations[kwok.AnnotationReadyAfter]); err == nil {
		use.LoadTime = d
	}
	return use, nil
}
