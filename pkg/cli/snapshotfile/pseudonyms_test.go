// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshotfile

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/gpunode"
	"github.com/berth-dev/berth/pkg/simulator"
)

// secretNames are what must not be in a file of secretive with pseudonyms.
var secretNames = []string{"acme", "zebra", "quagga", "7d9f8b6c5", "x2v4q", "okapi"}

// secretive are objects that name each other in all ways that there are.
func secretive() *simulator.Snapshot {
	labels := map[string]string{"app": "zebra", "pod-template-hash": "7d9f8b6c5", "berth.dev/allocated": "true"}
	selector := &metav1.LabelSelector{
		MatchLabels:      map[string]string{"app": "zebra"},
		MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpIn, Values: []string{"zebra", "quagga"}}},
	}
	at := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	pod := bt.MakePod("zebra-7d9f8b6c5-x2v4q").Memory("30Gi").Bound("okapi-1", at, "GPU-0=30Gi").Started(at).Obj()
	pod.Namespace, pod.Labels, pod.GenerateName, pod.UID = "acme-prod", labels, "zebra-7d9f8b6c5-", "uid-1"
	pod.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "zebra-7d9f8b6c5", Controller: ptr.To(true)}}
	term := corev1.PodAffinityTerm{LabelSelector: selector, Namespaces: []string{"acme-prod"}, NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": "acme-prod"}}}
	pod.Spec.Affinity = &corev1.Affinity{
		PodAffinity:     &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{*term.DeepCopy()}},
		PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{PodAffinityTerm: *term.DeepCopy()}}},
	}
	pod.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{TopologyKey: "zone", LabelSelector: selector.DeepCopy()}}
	pod.Spec.Volumes = []corev1.Volume{
		{Name: "m", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "quagga-zebra-0"}}},
		{Name: "quagga", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}},
	}
	pod.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "c", ResourceClaimName: ptr.To("quagga")}, {Name: "d", ResourceClaimTemplateName: ptr.To("zebra")}}
	pod.Status.ResourceClaimStatuses = []corev1.PodResourceClaimStatus{{Name: "d", ResourceClaimName: ptr.To("zebra-d")}}
	waits := bt.MakePod("quagga-0").Memory("30Gi").Obj()
	waits.Namespace, waits.UID = "acme-prod", "uid-2"
	waits.Status.NominatedNodeName = "okapi-1"
	waits.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Message: "waits for acme-prod/zebra-7d9f8b6c5-x2v4q. nearest on node okapi-1: acme-prod/quagga-9 of old"}}
	meta := metav1.ObjectMeta{Namespace: "acme-prod", Name: "zebra"}
	gn := bt.MakeGPUNodeOf("okapi-1", 1, "80Gi").Obj()
	return &simulator.Snapshot{Time: at, Notes: []string{"Pods of other namespaces than acme-prod could not be read"}, Objects: []runtime.Object{
		bt.MakeNode("okapi-1"), &gpunode.Object{ObjectMeta: gn.ObjectMeta, Status: &gn.Status}, pod, waits,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "acme-prod", Labels: map[string]string{"kubernetes.io/metadata.name": "acme-prod"}}},
		&appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "acme-prod", Name: "zebra-7d9f8b6c5", OwnerReferences: []metav1.OwnerReference{{Kind: "Deployment", Name: "zebra"}}}, Spec: appsv1.ReplicaSetSpec{Selector: selector.DeepCopy()}},
		&appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Selector: selector.DeepCopy()}},
		&corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "zebra"}}},
		&policyv1.PodDisruptionBudget{ObjectMeta: meta, Spec: policyv1.PodDisruptionBudgetSpec{Selector: selector.DeepCopy()}, Status: policyv1.PodDisruptionBudgetStatus{DisruptedPods: map[string]metav1.Time{"zebra-7d9f8b6c5-x2v4q": {}}}},
		&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "acme-prod", Name: "quagga-zebra-0"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "acme-disk"}},
		&corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "acme-disk"}, Spec: corev1.PersistentVolumeSpec{ClaimRef: &corev1.ObjectReference{Namespace: "acme-prod", Name: "quagga-zebra-0"}}},
		&resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "acme-prod", Name: "quagga"}, Status: resourcev1.ResourceClaimStatus{ReservedFor: []resourcev1.ResourceClaimConsumerReference{{Resource: "pods", Name: "zebra-7d9f8b6c5-x2v4q"}}}},
	}}
}

// TestPseudonyms: no name is left, and what named one thing still names one thing.
func TestPseudonyms(t *testing.T) {
	var out bytes.Buffer
	if err := Encode(&out, secretive(), Replace{Pods: true, Nodes: true}, false); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for _, name := range secretNames {
		if strings.Contains(text, name) {
			t.Errorf("%s is in the file", name)
		}
	}
	s, err := decode(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]runtime.Object{}
	for i, name := range []string{"pod", "waits", "namespace", "replicaset", "statefulset", "service", "budget", "claim", "volume", "devices"} {
		by[name] = s.Objects[2+i]
	}
	pod, waits := by["pod"].(*corev1.Pod), by["waits"].(*corev1.Pod)
	node := s.Objects[0].(*corev1.Node)
	budget := by["budget"].(*policyv1.PodDisruptionBudget)
	_, disrupted := budget.Status.DisruptedPods[pod.Name]
	claim, volume := by["claim"].(*corev1.PersistentVolumeClaim), by["volume"].(*corev1.PersistentVolume)
	term := pod.Spec.Affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution[0]
	same := map[string][]string{
		"the ReplicaSet of the pod":             {pod.OwnerReferences[0].Name, by["replicaset"].(*appsv1.ReplicaSet).Name, strings.TrimSuffix(pod.GenerateName, "-")},
		"its Deployment, by name":               {pod.OwnerReferences[0].Name, by["replicaset"].(*appsv1.ReplicaSet).OwnerReferences[0].Name + "-" + pod.Labels["pod-template-hash"]},
		"the label that all select":             {pod.Labels["app"], budget.Spec.Selector.MatchLabels["app"], by["service"].(*corev1.Service).Spec.Selector["app"], term.LabelSelector.MatchExpressions[0].Values[0]},
		"the namespace":                         {pod.Namespace, waits.Namespace, by["namespace"].(*corev1.Namespace).Name, term.Namespaces[0], term.NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"], volume.Spec.ClaimRef.Namespace},
		"the claim":                             {pod.Spec.Volumes[0].PersistentVolumeClaim.ClaimName, claim.Name, volume.Spec.ClaimRef.Name},
		"its volume":                            {claim.Spec.VolumeName, volume.Name},
		"the pod that has devices":              {pod.Name, by["devices"].(*resourcev1.ResourceClaim).Status.ReservedFor[0].Name},
		"the devices":                           {*pod.Spec.ResourceClaims[0].ResourceClaimName, by["devices"].(*resourcev1.ResourceClaim).Name},
		"the node":                              {node.Name, node.Labels[corev1.LabelHostname], pod.Spec.NodeName, waits.Status.NominatedNodeName, s.Objects[1].(*gpunode.Object).Name},
		"what is well known":                    {pod.Labels["berth.dev/allocated"], "true"},
		"that the budget lets the pod go":       {map[bool]string{true: "it does"}[disrupted], "it does"},
		"that a text still names the pod":       {map[bool]string{true: "it does"}[strings.Contains(waits.Status.Conditions[0].Message, pod.Namespace+"/"+pod.Name+". nearest on node "+node.Name)], "it does"},
		"the ordinal by which people tell":      {waits.Name[strings.LastIndex(waits.Name, "-"):], "-0"},
		"the order of names, by which ties end": {map[bool]string{true: "kept"}[waits.Name < pod.Name], "kept"}, // quagga before zebra
	}
	for what, names := range same {
		for _, name := range names[1:] {
			if diff := cmp.Diff(names[0], name); diff != "" || name == "" {
				t.Errorf("%s: %q", what, names)
			}
		}
	}
}

// TestPseudonymsOfPodsAlone leave nodes their names.
func TestPseudonymsOfPodsAlone(t *testing.T) {
	var out bytes.Buffer
	if err := Encode(&out, secretive(), Replace{Pods: true}, true); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); !strings.Contains(text, "okapi-1") || strings.Contains(text, "zebra") {
		t.Errorf("%s", text)
	}
}
