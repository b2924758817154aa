// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestHandOffFailure(t *testing.T) {
	const unresolvable = "failed to create containerd task: failed to create shim task: OCI runtime create failed: could not apply " +
		"required modification to OCI specification: error modifying OCI spec: failed to inject CDI devices: unresolvable CDI devices " +
		"management.nvidia.com/gpu=GPU-a"
	waiting := func(reason, message string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
	}
	ended := func(reason, message string) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: reason, Message: message, ExitCode: 128}}
	}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	for _, tc := range []struct {
		name        string
		state, last corev1.ContainerState
		want        string
	}{
		{name: "no state yet"},
		{name: "containerd cannot start it", state: waiting("RunContainerError", unresolvable), want: unresolvable},
		{name: "it was not started, seen before the kubelet tries again", state: ended("StartError", unresolvable), want: unresolvable},
		{name: "the kubelet backs off", state: waiting("CrashLoopBackOff", "back-off 10s restarting failed container"), last: ended("StartError", unresolvable), want: unresolvable},
		{name: "CRI-O cannot make it", state: waiting("CreateContainerError", "container create failed: time=\"2026\" level=error msg=\"failed to create NVIDIA Container Runtime: failed to construct OCI spec modifier\""),
			want: "container create failed: time=\"2026\" level=error msg=\"failed to create NVIDIA Container Runtime: failed to construct OCI spec modifier\""},
		{name: "the toolkit's hook fails", state: waiting("RunContainerError", "nvidia-container-cli: device error: runtime.nvidia.com/gpu=GPU-a: unknown device: unknown"),
			want: "nvidia-container-cli: device error: runtime.nvidia.com/gpu=GPU-a: unknown device: unknown"},
		{name: "a driver that cannot limit memory", state: waiting("RunContainerError", "runc create failed: error running createRuntime hook #3: exit status 127, stderr: nvidia-ctk: symbol lookup error: undefined symbol: nvmlDeviceSetMemoryLimits_v1"),
			want: "runc create failed: error running createRuntime hook #3: exit status 127, stderr: nvidia-ctk: symbol lookup error: undefined symbol: nvmlDeviceSetMemoryLimits_v1"},
		{name: "a hook of others fails", state: waiting("RunContainerError", "error running createRuntime hook #0: exit status 1")},
		{name: "it started later", state: running, last: ended("StartError", unresolvable)},
		{name: "it ran, and crashes now", state: waiting("CrashLoopBackOff", "back-off"), last: ended("Error", "failed to inject CDI devices")},
		{name: "it cannot start for another reason", state: waiting("CreateContainerError", "context deadline exceeded")},
		{name: "the newest attempt failed for another reason", state: waiting("RunContainerError", "no space left on device"), last: ended("StartError", unresolvable)},
		{name: "its image cannot be pulled", state: waiting("ImagePullBackOff", "Back-off pulling image")},
		{name: "its program says such a thing", state: ended("Error", unresolvable)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			status := []corev1.ContainerStatus{{State: tc.state, LastTerminationState: tc.last}}
			for where, pod := range map[string]*corev1.Pod{
				"container":      {Status: corev1.PodStatus{ContainerStatuses: append([]corev1.ContainerStatus{{State: running}}, status...)}},
				"init container": {Status: corev1.PodStatus{InitContainerStatuses: status}},
			} {
				if got, failed := HandOffFailure(pod); got != tc.want && tc.want != "" || failed != (tc.want != "") {
					t.Errorf("%s: %q, %t, want %q", where, got, failed, tc.want)
				}
			}
		})
	}
}
