// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/manifests"
)

// TestWhereAgentsRun matches the DaemonSet's affinity as its controller does. Terms of an affinity are alternatives, so
// each label of a GPU node has to say that the driver stays.
func TestWhereAgentsRun(t *testing.T) {
	objects, err := manifests.Objects("agent")
	if err != nil {
		t.Fatal(err)
	}
	var affinity nodeaffinity.RequiredNodeAffinity
	for _, o := range objects {
		if o.GetKind() == "DaemonSet" {
			spec := podSpec(t, o)
			affinity = nodeaffinity.GetRequiredNodeAffinity(&corev1.Pod{Spec: *spec})
		}
	}
	for _, gpus := range []string{
		"nvidia.com/gpu.present", "feature.node.kubernetes.io/pci-10de.present",
		"feature.node.kubernetes.io/pci-0302_10de.present", "berth.dev/gpus",
	} {
		for _, state := range []string{
			"", "upgrade-required", "cordon-required", "wait-for-jobs-required", "pod-deletion-required", "drain-required",
			"pod-restart-required", "validation-required", "uncordon-required", "upgrade-done", "upgrade-failed",
		} {
			labels := map[string]string{gpus: "true"}
			if state != "" {
				labels[berthv1alpha1.LabelDriverUpgradeState] = state
			}
			got, err := affinity.Match(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: labels}})
			if err != nil {
				t.Fatal(err)
			}
			if want := !berthv1alpha1.DriverGoes(labels); got != want {
				t.Errorf("%v: the agent runs there: %t, want %t", labels, got, want)
			}
		}
	}
	if got, err := affinity.Match(&corev1.Node{}); got || err != nil {
		t.Errorf("a node without GPUs: %t, %v", got, err)
	}
}

// TestWhatTheAgentMayDoOnItsNode holds the DaemonSet to docs/agent.md; what user and group mean, cmd/agent tests.
func TestWhatTheAgentMayDoOnItsNode(t *testing.T) {
	objects, err := manifests.Objects("agent")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if o.GetKind() != "DaemonSet" {
			continue
		}
		spec := podSpec(t, o)
		pod := &corev1.PodSecurityContext{
			RunAsUser: new(int64(0)), RunAsGroup: new(int64(65532)),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		}
		if diff := cmp.Diff(pod, spec.SecurityContext); diff != "" {
			t.Errorf("of the pod (-want +got):\n%s", diff)
		}
		container := &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		}
		if diff := cmp.Diff(container, spec.Containers[0].SecurityContext); diff != "" || len(spec.Containers) != 1 {
			t.Errorf("of its only container (-want +got):\n%s", diff)
		}
		if spec.HostNetwork || spec.HostIPC || !spec.HostPID {
			t.Errorf("host network %t, IPC %t, PIDs %t", spec.HostNetwork, spec.HostIPC, spec.HostPID)
		}
		for _, m := range spec.Containers[0].VolumeMounts {
			if !m.ReadOnly && m.Name != "state" {
				t.Errorf("%s is writable", m.MountPath)
			}
		}
	}
}
