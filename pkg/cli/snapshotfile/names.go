// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshotfile

import (
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// visitor is shown the strings of objects that carry names of namespaces, or of what is in one, and returns others for them.
type visitor struct {
	// name is shown a name, or the value of a label of a pod, which selectors choose by.
	name func(string) string
	// text is shown a text that may quote names.
	text func(string) string
}

// visit shows all names that an object of a file carries. Names of nodes are not among them, nor are those of cluster-wide
// objects, but for namespaces and volumes.
func (v *visitor) visit(obj runtime.Object) {
	if accessor, err := meta.Accessor(obj); err == nil {
		v.meta(obj, accessor)
	}
	switch o := obj.(type) {
	case *corev1.Pod:
		v.pod(o)
	case *corev1.Service:
		v.values(o.Spec.Selector)
	case *appsv1.ReplicaSet:
		v.selector(o.Spec.Selector)
	case *appsv1.StatefulSet:
		v.selector(o.Spec.Selector)
	case *policyv1.PodDisruptionBudget:
		v.selector(o.Spec.Selector)
		disrupted := map[string]metav1.Time{}
		for pod, at := range o.Status.DisruptedPods {
			disrupted[v.name(pod)] = at
		}
		o.Status.DisruptedPods = disrupted
		for i := range o.Status.Conditions {
			o.Status.Conditions[i].Message = v.text(o.Status.Conditions[i].Message)
		}
	case *corev1.PersistentVolumeClaim:
		v.each(&o.Spec.VolumeName)
	case *corev1.PersistentVolume:
		v.each(&o.Name)
		if ref := o.Spec.ClaimRef; ref != nil {
			v.each(&ref.Namespace, &ref.Name)
		}
	case *storagev1.VolumeAttachment:
		v.pointers(o.Spec.Source.PersistentVolumeName)
	case *resourcev1.ResourceClaim:
		for i := range o.Status.ReservedFor {
			v.each(&o.Status.ReservedFor[i].Name)
		}
	case *berthv1alpha1.ModelProfile:
		for i := range o.Spec.PeaksFrom {
			v.each(&o.Spec.PeaksFrom[i])
		}
		for i := range o.Status.ObservedPeaks {
			v.each(&o.Status.ObservedPeaks[i].Namespace)
		}
	}
}

func (v *visitor) meta(obj runtime.Object, m metav1.Object) {
	switch obj.(type) {
	case *corev1.Node, *coordinationv1.Lease: // named after nodes
		return
	case *corev1.Namespace:
	default:
		if m.GetNamespace() == "" {
			return
		}
	}
	m.SetName(v.name(m.GetName()))
	m.SetGenerateName(v.name(m.GetGenerateName()))
	m.SetNamespace(v.name(m.GetNamespace()))
	labels, owners := m.GetLabels(), m.GetOwnerReferences()
	v.values(labels)
	m.SetLabels(labels)
	for i := range owners {
		if owners[i].Kind != "Node" {
			v.each(&owners[i].Name)
		}
	}
	m.SetOwnerReferences(owners)
	if by := m.GetAnnotations()[berthv1alpha1.AnnotationBoundBy]; by != "" { // it begins with the name of a scheduler's pod
		m.GetAnnotations()[berthv1alpha1.AnnotationBoundBy] = v.name(by)
	}
}

func (v *visitor) pod(p *corev1.Pod) {
	for i := range p.Spec.Volumes {
		switch volume := &p.Spec.Volumes[i]; {
		case volume.PersistentVolumeClaim != nil:
			v.each(&volume.PersistentVolumeClaim.ClaimName)
		case volume.Ephemeral != nil:
			v.each(&volume.Name) // its claim is named after the pod and it
		}
	}
	for i := range p.Spec.ResourceClaims {
		v.pointers(p.Spec.ResourceClaims[i].ResourceClaimName, p.Spec.ResourceClaims[i].ResourceClaimTemplateName)
	}
	for i := range p.Spec.TopologySpreadConstraints {
		v.selector(p.Spec.TopologySpreadConstraints[i].LabelSelector)
	}
	if a := p.Spec.Affinity; a != nil && a.PodAffinity != nil {
		v.terms(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution, a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if a := p.Spec.Affinity; a != nil && a.PodAntiAffinity != nil {
		v.terms(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution, a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if group := p.Spec.SchedulingGroup; group != nil {
		v.pointers(group.PodGroupName)
	}
	for i := range p.Status.ResourceClaimStatuses {
		v.pointers(p.Status.ResourceClaimStatuses[i].ResourceClaimName)
	}
	if s := p.Status.ExtendedResourceClaimStatus; s != nil {
		v.each(&s.ResourceClaimName)
	}
	for i := range p.Status.NodeAllocatableResourceClaimStatuses {
		v.each(&p.Status.NodeAllocatableResourceClaimStatuses[i].ResourceClaimName)
	}
	for i := range p.Status.Conditions {
		p.Status.Conditions[i].Message = v.text(p.Status.Conditions[i].Message)
	}
}

func (v *visitor) terms(required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm) {
	term := func(t *corev1.PodAffinityTerm) {
		v.selector(t.LabelSelector)
		v.selector(t.NamespaceSelector)
		for i := range t.Namespaces {
			v.each(&t.Namespaces[i])
		}
	}
	for i := range required {
		term(&required[i])
	}
	for i := range preferred {
		term(&preferred[i].PodAffinityTerm)
	}
}

func (v *visitor) selector(s *metav1.LabelSelector) {
	if s == nil {
		return
	}
	v.values(s.MatchLabels)
	for i := range s.MatchExpressions {
		for j := range s.MatchExpressions[i].Values {
			v.each(&s.MatchExpressions[i].Values[j])
		}
	}
}

func (v *visitor) values(labels map[string]string) {
	for key, value := range labels {
		labels[key] = v.name(value)
	}
}

func (v *visitor) each(names ...*string) {
	for _, name := range names {
		*name = v.name(*name)
	}
}

func (v *visitor) pointers(names ...*string) {
	for _, name := range names {
		if name != nil {
			*name = v.name(*name)
		}
	}
}
