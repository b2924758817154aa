// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
)

// LimitTold is how many of the containers that get the GPUs are told a memory limit by their environment.
type LimitTold uint8

// None of them, some, or all.
const (
	LimitToldNone LimitTold = iota
	LimitToldSome
	LimitToldAll
)

// limitToldTo looks at the environment of containers.
func limitToldTo(gpuContainers []*corev1.Container) LimitTold {
	told := 0
	for _, c := range gpuContainers {
		if berthv1alpha1.RefersToLimit(c) {
			told++
		}
	}
	switch told {
	case 0:
		return LimitToldNone
	case len(gpuContainers):
		return LimitToldAll
	}
	return LimitToldSome
}

// runAtOnce says whether several of the containers that get the GPUs can run at the same time: a limit is one container's, and
// their booking is the pod's. Init containers run one after another, before the main containers and beside sidecars.
func runAtOnce(pod *corev1.Pod, gpuContainers []*corev1.Container) bool {
	isInit := func(c *corev1.Container) bool {
		return slices.ContainsFunc(pod.Spec.InitContainers, func(i corev1.Container) bool { return i.Name == c.Name })
	}
	main, sidecars := 0, 0
	for _, c := range gpuContainers {
		switch {
		case !isInit(c):
			main++
		case c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways:
			sidecars++
		}
	}
	return main > 1 || sidecars > 0 && len(gpuContainers) > 1
}

// LimitOn returns who holds the pod to its booking on a node where its GPUs are named in a form, or the reason why the pod
// cannot be there. A node that says nothing of limits gets pods as if there were none.
func (h *HandOff) LimitOn(node *corev1.Node, report *Report, form berthv1alpha1.DeviceForm) (berthv1alpha1.Enforcement, alloc.Reason) {
	switch h.Enforcement {
	case berthv1alpha1.EnforcementToolkit:
		return h.limitByToolkit(report, form)
	case berthv1alpha1.EnforcementGPUSharing:
		return h.limitByGPUSharing(node, form)
	}
	return berthv1alpha1.EnforcementNone, ""
}

func (h *HandOff) limitByToolkit(report *Report, form berthv1alpha1.DeviceForm) (berthv1alpha1.Enforcement, alloc.Reason) {
	state := report.handOff[h.Handler].limits.State
	if form != berthv1alpha1.DeviceFormCDI && state == berthv1alpha1.MemoryLimitEnforced {
		state = "" // such names may lead to a specification that was made without the hook
	}
	switch {
	case state == berthv1alpha1.MemoryLimitEnforced && h.LimitTold != LimitToldAll:
		return "", ReasonNoLimitReference
	case state == berthv1alpha1.MemoryLimitEnforced && h.RunAtOnce:
		return "", ReasonSharedLimit
	case state == berthv1alpha1.MemoryLimitEnforced:
		return berthv1alpha1.EnforcementToolkit, ""
	case state == berthv1alpha1.MemoryLimitIgnored || h.LimitTold == LimitToldNone:
		return berthv1alpha1.EnforcementNone, ""
	case state == berthv1alpha1.MemoryLimitFails:
		return "", ReasonLimitsFail
	}
	return "", ReasonLimitsUnknown
}

func (h *HandOff) limitByGPUSharing(node *corev1.Node, form berthv1alpha1.DeviceForm) (berthv1alpha1.Enforcement, alloc.Reason) {
	switch status := GPUSharingStatus(node); {
	case status == "":
		return berthv1alpha1.EnforcementNone, ""
	case status != corev1.ConditionTrue:
		return "", ReasonGPUSharingNotReady
	case form == berthv1alpha1.DeviceFormNRI: // its variables would be read by nobody
		return "", ReasonLimitsUnknown
	case h.RunAtOnce:
		return "", ReasonSharedLimit
	case h.NoGPUSharing:
		return "", ReasonLongSharingName
	}
	return berthv1alpha1.EnforcementGPUSharing, ""
}

// GPUSharingStatus returns what the operator of kai-gpu-fractioning says of a node; empty if it says nothing.
func GPUSharingStatus(node *corev1.Node) corev1.ConditionStatus {
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; c.Type == berthv1alpha1.ConditionGPUFractioning {
			return c.Status
		}
	}
	return ""
}

// addLimit adds what those read who hold the containers to the booking: whole MiB, rounded down. MIG instances have no limit
// beside their own size, which is the hardware's.
func (a *Allocation) addLimit(annotations map[string]string, by berthv1alpha1.Enforcement, containers []string) error {
	if by != berthv1alpha1.EnforcementToolkit && by != berthv1alpha1.EnforcementGPUSharing || a.Parents != nil {
		return nil
	}
	memory := a.Devices[0].Memory
	for _, d := range a.Devices {
		if d.Memory != memory {
			return fmt.Errorf("a container has one limit for all its GPUs, and %s is booked", a)
		}
	}
	mib := strconv.FormatUint(memory.Uint64()>>20, 10)
	if by == berthv1alpha1.EnforcementToolkit {
		annotations[berthv1alpha1.AnnotationGPUMemoryLimit] = mib
		return nil
	}
	for _, name := range containers {
		berthv1alpha1.AddGPUSharing(annotations, name, annotations[berthv1alpha1.AnnotationVisibleDevices], mib+"Mi")
	}
	return nil
}
