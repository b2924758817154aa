// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
)

func TestPlanWritesOnlyWhatChanges(t *testing.T) {
	node := bt.MakeNode("a")
	node.Annotations = map[string]string{berthv1alpha1.AnnotationCordonedGPUs: "GPU-b, GPU-a"}
	a, c := GPU{UUID: "GPU-a"}, GPU{UUID: "GPU-c"}
	tests := []struct {
		name     string
		gpus     []GPU
		cordoned bool
		changed  []GPU
		value    string
	}{
		{name: "one more", gpus: []GPU{a, c}, cordoned: true, changed: []GPU{c}, value: "GPU-a,GPU-b,GPU-c"},
		{name: "one fewer", gpus: []GPU{a, c}, changed: []GPU{a}, value: "GPU-b"},
		{name: "none left", gpus: []GPU{a, {UUID: "GPU-b"}}, changed: []GPU{a, {UUID: "GPU-b"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			changed, value := Plan(node, tt.gpus, tt.cordoned)
			if diff := cmp.Diff(tt.changed, changed); diff != "" || value != tt.value {
				t.Errorf("the annotation is %q, want %q; changed (-want +got)\n%s", value, tt.value, diff)
			}
		})
	}
}

func TestWhoADrainEvicts(t *testing.T) {
	at := time.Unix(0, 0)
	owned := func(p *bt.Pod, kind string) *corev1.Pod {
		controller := true
		p.OwnerReferences = []metav1.OwnerReference{{Kind: kind, Name: "o", Controller: &controller}}
		return p.Obj()
	}
	withVolume := func(pod *corev1.Pod, medium corev1.StorageMedium) *corev1.Pod {
		pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: medium}}}}
		return pod
	}
	on := func(name, share string) *bt.Pod { return bt.MakePod(name).Memory("1Gi").Bound("a", at, share) }
	static := owned(on("static", "GPU-0=1Gi"), "Node")
	static.Annotations[corev1.MirrorPodAnnotationKey] = "x"
	report := bt.MakeGPUNodeOf("a", 2, "80Gi").Instance("MIG-a", "GPU-0", "10Gi").At("GPU-0").AssignedTo("whole")
	tests := []struct {
		name  string
		pod   *corev1.Pod
		drain Drain
		stays bool
		err   string
	}{
		{name: "a pod that holds it", pod: owned(on("p", "GPU-0=1Gi"), "ReplicaSet")},
		{name: "one of a DaemonSet, which comes back elsewhere on the node", pod: owned(on("p", "GPU-0=1Gi"), "DaemonSet")},
		{name: "one on an instance of it", pod: owned(on("p", "MIG-a=1Gi"), "ReplicaSet")},
		{name: "one that the kubelet gave it to", pod: owned(bt.MakePod("whole").Node("a"), "ReplicaSet")},
		{name: "one on another GPU", pod: owned(on("p", "GPU-1=1Gi"), "ReplicaSet"), stays: true},
		{name: "one that has ended", pod: owned(on("p", "GPU-0=1Gi").Phase(corev1.PodSucceeded), "Job"), stays: true},
		{name: "a static one", pod: static, stays: true, err: "take their files from the node: default/static"},
		{name: "one that nobody makes again", pod: on("p", "GPU-0=1Gi").Obj(), stays: true, err: "use --force"},
		{name: "one that nobody makes again, by force", pod: on("p", "GPU-0=1Gi").Obj(), drain: Drain{Force: true}},
		{name: "one with data", pod: withVolume(owned(on("p", "GPU-0=1Gi"), "ReplicaSet"), ""), stays: true, err: "use --delete-emptydir-data"},
		{name: "one with data that may be lost", pod: withVolume(owned(on("p", "GPU-0=1Gi"), "ReplicaSet"), ""), drain: Drain{DeleteEmptyDirData: true}},
		{name: "one with shared memory", pod: withVolume(owned(on("p", "GPU-0=1Gi"), "ReplicaSet"), corev1.StorageMediumMemory)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			going, err := tt.drain.choose([]corev1.Pod{*tt.pod}, newHolding(&report.Obj().Status, []GPU{{UUID: "GPU-0"}}))
			if (len(going) == 0) != tt.stays || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%d pods go, %v, want it to stay: %v, %q", len(going), err, tt.stays, tt.err)
			}
		})
	}
}
