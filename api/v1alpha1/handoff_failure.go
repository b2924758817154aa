// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// handOffErrors are what the parts say that hand GPUs to a container, when they cannot. The CDI library of the NVIDIA
// container toolkit, containerd and CRI-O: cache.InjectDevices; the toolkit's runtime: internal/runtime,
// internal/modifier and internal/oci; its hook: assertModeIsLegacy; what the hook runs: nvidia-container-cli; containerd
// and CRI-O where an NRI plugin names devices: pkg/cdi.WithCDIDevices.
var handOffErrors = []string{
	"unresolvable CDI devices",
	"failed to inject CDI devices",
	"CDI device injection failed",
	"automatic CDI modifier",
	"failed to generate CDI spec",
	"could not apply required modification to OCI specification",
	"failed to create NVIDIA Container Runtime",
	"invoking the NVIDIA Container Runtime Hook directly",
	"nvidia-container-cli: ",
}

// startFailures are the reasons by which the kubelet, or the container runtime, says that a container was not started:
// the kubelet's own, containerd's and CRI-O's.
var startFailures = []string{"CreateContainerError", "RunContainerError", "StartError", "ContainerCannotRun"}

// HandOffFailure returns what the kubelet says of a container that now cannot start because the node's container runtime
// does not hand it its GPUs, or cannot set its memory limit; false if there is none. It ends when a later attempt succeeds.
func HandOffFailure(pod *corev1.Pod) (message string, failed bool) {
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range statuses {
			if message, failed := startFailure(&statuses[i]); failed {
				return message, true
			}
		}
	}
	return "", false
}

// startFailure returns the newest failure of a container that does not run. Between two attempts the kubelet only says
// that it backs off: what the last one said is in the last state then.
func startFailure(s *corev1.ContainerStatus) (string, bool) {
	switch {
	case s.State.Waiting != nil:
		if w := s.State.Waiting; slices.Contains(startFailures, w.Reason) {
			return w.Message, isHandOffError(w.Message)
		}
		return terminated(s.LastTerminationState.Terminated)
	case s.State.Terminated != nil:
		return terminated(s.State.Terminated)
	}
	return "", false
}

func terminated(t *corev1.ContainerStateTerminated) (string, bool) {
	if t == nil || !slices.Contains(startFailures, t.Reason) {
		return "", false
	}
	return t.Message, isHandOffError(t.Message)
}

func isHandOffError(message string) bool {
	return slices.ContainsFunc(handOffErrors, func(e string) bool { return strings.Contains(message, e) }) || IsLimitFailure(message)
}
