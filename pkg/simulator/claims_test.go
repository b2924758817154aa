// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	bt "github.com/berth-dev/berth/internal/testing"
)

// nics is a template of claims for one NIC, the class of NICs, and slices with one NIC on each of some nodes.
func nics(nodes ...string) []runtime.Object {
	objects := []runtime.Object{
		&resourcev1.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: "nic"}},
		&resourcev1.ResourceClaimTemplate{
			ObjectMeta: metav1.ObjectMeta{Namespace: bt.Namespace, Name: "one-nic"},
			Spec: resourcev1.ResourceClaimTemplateSpec{Spec: resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: []resourcev1.DeviceRequest{{
				Name: "nic", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "nic", AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: 1},
			}}}}},
		},
	}
	for _, node := range nodes {
		objects = append(objects, &resourcev1.ResourceSlice{
			ObjectMeta: metav1.ObjectMeta{Name: "nics-" + node},
			Spec: resourcev1.ResourceSliceSpec{
				Driver: "nic.example.com", NodeName: ptr.To(node), Pool: resourcev1.ResourcePool{Name: node, Generation: 1, ResourceSliceCount: 1},
				Devices: []resourcev1.Device{{Name: "nic0"}},
			},
		})
	}
	return objects
}

func withNIC(p *bt.Pod) *corev1.Pod {
	pod := p.Obj()
	pod.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "nic", ResourceClaimTemplateName: ptr.To("one-nic")}}
	return pod
}

// TestPodsWithClaims: claims are made from their templates, hold their devices, and let go of them with their pods.
func TestPodsWithClaims(t *testing.T) {
	objects := append(gpuNode(bt.MakeGPUsOf("a", 2, "80Gi")), gpuNode(bt.MakeGPUsOf("b", 2, "80Gi"))...)
	s := simulate(t, append(objects, nics("b")...)...)
	first, second := withNIC(bt.MakePod("p").Memory("30Gi")), withNIC(bt.MakePod("q").Memory("5Gi"))
	run(t, s, first, second)
	if got := result(t, s, first); !strings.HasPrefix(got, "b ") {
		t.Errorf("the first goes where there is a NIC: %s", got)
	}
	if got := result(t, s, second); !strings.Contains(got, "pending: ") || !strings.Contains(got, "cannot allocate all claims") {
		t.Errorf("the second finds none: %s", got)
	}
	higher := bt.MakePod("high").Memory("140Gi").GPUCount("2").Priority(9).Obj()
	higher.Spec.NodeSelector = map[string]string{corev1.LabelHostname: "b"}
	run(t, s, higher)
	if got := result(t, s, higher); !strings.HasPrefix(got, "b ") || !strings.Contains(got, "evicting p") {
		t.Errorf("the first is evicted for its memory: %s", got)
	}
	if got := result(t, s, second); !strings.HasPrefix(got, "b ") {
		t.Errorf("the second gets the NIC that is free then: %s", got)
	}
	lost := withNIC(bt.MakePod("lost").Memory("30Gi"))
	lost.Spec.ResourceClaims[0].ResourceClaimTemplateName = ptr.To("none")
	run(t, s, lost)
	if got := result(t, s, lost); !strings.Contains(got, "pending: ") {
		t.Errorf("a claim of no template: %s", got)
	}
}

// TestAClaimOfSeveralPods holds its devices until the last of them is gone.
func TestAClaimOfSeveralPods(t *testing.T) {
	claim := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: bt.Namespace, Name: "shared"}}
	claim.Status.Allocation = &resourcev1.AllocationResult{}
	claim.Status.ReservedFor = []resourcev1.ResourceClaimConsumerReference{{Resource: "pods", Name: "p", UID: "p"}, {Resource: "pods", Name: "q", UID: "q"}}
	for _, tt := range []struct {
		pod  string
		held bool
	}{{"r", true}, {"p", true}, {"q", false}} {
		if leave(claim, bt.MakePod(tt.pod).Obj()) || (claim.Status.Allocation != nil) != tt.held {
			t.Errorf("once %s is gone: %+v", tt.pod, claim.Status)
		}
	}
	unused := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: bt.Namespace}, Status: resourcev1.ResourceClaimStatus{Allocation: &resourcev1.AllocationResult{}}}
	if leave(unused, bt.MakePod("p").Obj()); unused.Status.Allocation == nil {
		t.Error("a claim that the pod has nothing to do with is changed")
	}
}

// TestDrainOfAPodWithAClaim: its devices are free, and it is given a claim anew.
func TestDrainOfAPodWithAClaim(t *testing.T) {
	objects := append(gpuNode(bt.MakeGPUsOf("a", 1, "80Gi")), gpuNode(bt.MakeGPUsOf("b", 1, "80Gi"))...)
	before := simulate(t, append(objects, nics("a", "b")...)...)
	pod := withNIC(bt.MakePod("p").Memory("60Gi"))
	run(t, before, pod)
	placed := before.Pod(pod.Namespace, pod.Name)
	snapshot := &Snapshot{Time: epoch, Objects: append(append(objects, nics("a", "b")...), placed)}
	for _, claim := range all[*resourcev1.ResourceClaim](before.world) {
		snapshot.Objects = append(snapshot.Objects, claim)
	}
	displaced, err := snapshot.Drain(placed.Spec.NodeName)
	if err != nil {
		t.Fatal(err)
	}
	after, err := New(t.Context(), snapshot, Options{Args: neverStale})
	if err != nil {
		t.Fatal(err)
	}
	run(t, after, displaced...)
	if got := result(t, after, pod); strings.Contains(got, "pending") || strings.HasPrefix(got, placed.Spec.NodeName+" ") {
		t.Errorf("from %s: %s", placed.Spec.NodeName, got)
	}
	if claims := all[*resourcev1.ResourceClaim](after.world); len(claims) != 1 || claims[0].Status.Allocation == nil {
		t.Errorf("claims: %+v", claims)
	}
}

// TestPodsWithVolumes go where their volumes are, or can be made.
func TestPodsWithVolumes(t *testing.T) {
	wait, name := storagev1.VolumeBindingWaitForFirstConsumer, "local"
	on := func(node string) []corev1.NodeSelectorTerm {
		return []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}}}}
	}
	claim := func(claim, class, volume string) *corev1.PersistentVolumeClaim {
		c := &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: bt.Namespace, Name: claim, UID: "uid-x"},
			Spec: corev1.PersistentVolumeClaimSpec{
				StorageClassName: &class, VolumeName: volume, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
			},
			Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending},
		}
		if volume != "" {
			c.Annotations = map[string]string{"pv.kubernetes.io/bind-completed": "yes"}
			c.Status.Phase = corev1.ClaimBound
		}
		return c
	}
	topology := []corev1.TopologySelectorTerm{{MatchLabelExpressions: []corev1.TopologySelectorLabelRequirement{{Key: corev1.LabelHostname, Values: []string{"a"}}}}}
	objects := append(gpuNode(bt.MakeGPUsOf("a", 2, "80Gi")), gpuNode(bt.MakeGPUsOf("b", 2, "80Gi"))...)
	objects = append(objects,
		&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: "p.example.com", VolumeBindingMode: &wait, AllowedTopologies: topology},
		&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "at-once"}, Provisioner: "p.example.com", VolumeBindingMode: ptr.To(storagev1.VolumeBindingImmediate)},
		&corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: "disk"},
			Spec: corev1.PersistentVolumeSpec{
				Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				ClaimRef:     &corev1.ObjectReference{Namespace: bt.Namespace, Name: "bound", UID: "uid-x"},
				NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: on("b")}},
			},
			Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeBound},
		},
		claim("bound", name, "disk"), claim("first", name, ""), claim("unbound", "at-once", ""),
	)
	with := func(name, claim string) *corev1.Pod {
		pod := bt.MakePod(name).Memory("30Gi").Obj()
		pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim}}}}
		return pod
	}
	s := simulate(t, objects...)
	for _, tt := range []struct{ claim, want string }{
		{"bound", "b "}, {"first", "a "}, {"unbound", "pending: 0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims"},
		{"none", `pending: 0/2 nodes are available: persistentvolumeclaim "none" not found`},
	} {
		pod := with("of-"+tt.claim, tt.claim)
		run(t, s, pod)
		if got := result(t, s, pod); !strings.HasPrefix(got, tt.want) {
			t.Errorf("claim %s: %s, want %s", tt.claim, got, tt.want)
		}
	}
}
