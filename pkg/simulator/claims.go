// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// claims is the controller of resource claims (kubernetes, pkg/controller/resourceclaim): it makes those of new pods from
// their templates, and lets go of those of pods that are gone.
type claims struct {
	world *world
	// templates has the templates by namespace and name.
	templates map[types.NamespacedName]*resourcev1.ResourceClaimTemplate
}

func newClaims(w *world, objects []runtime.Object) *claims {
	c := &claims{world: w, templates: map[types.NamespacedName]*resourcev1.ResourceClaimTemplate{}}
	for _, obj := range objects {
		if t, ok := obj.(*resourcev1.ResourceClaimTemplate); ok {
			c.templates[types.NamespacedName{Namespace: t.Namespace, Name: t.Name}] = t
		}
	}
	return c
}

// make makes the claims of a pod. Where there is no template there is no claim, and the scheduler says so.
func (c *claims) make(pod *corev1.Pod) error {
	for i := range pod.Spec.ResourceClaims {
		asked := &pod.Spec.ResourceClaims[i]
		template := c.templates[types.NamespacedName{Namespace: pod.Namespace, Name: ptr.Deref(asked.ResourceClaimTemplateName, "")}]
		made := slices.ContainsFunc(pod.Status.ResourceClaimStatuses, func(s corev1.PodResourceClaimStatus) bool { return s.Name == asked.Name })
		if template == nil || made {
			continue
		}
		name := pod.Name + "-" + asked.Name
		claim := &resourcev1.ResourceClaim{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: pod.Namespace, Name: name, UID: types.UID("sim-claim-" + pod.Namespace + "-" + name),
				Labels: template.Spec.Labels, Annotations: template.Spec.Annotations,
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID, Controller: ptr.To(true)}},
			},
			Spec: *template.Spec.Spec.DeepCopy(),
		}
		if err := c.world.put(claim); err != nil {
			return err
		}
		pod.Status.ResourceClaimStatuses = append(pod.Status.ResourceClaimStatuses, corev1.PodResourceClaimStatus{Name: asked.Name, ResourceClaimName: &name})
	}
	return nil
}

// ended lets go of the claims of a pod that is gone.
func (c *claims) ended(pod *corev1.Pod) error {
	if len(pod.Spec.ResourceClaims) == 0 && pod.Status.ExtendedResourceClaimStatus == nil {
		return nil
	}
	for _, claim := range all[*resourcev1.ResourceClaim](c.world) {
		next := claim.DeepCopy()
		var err error
		switch gone := leave(next, pod); {
		case gone:
			err = c.world.remove(claim)
		case len(next.Status.ReservedFor) != len(claim.Status.ReservedFor):
			err = c.world.put(next)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// leave takes a pod that is gone off a claim, whose devices are free once nobody has it reserved. It says whether the claim
// goes with its pod.
func leave(claim *resourcev1.ResourceClaim, pod *corev1.Pod) (gone bool) {
	if claim.Namespace != pod.Namespace {
		return false
	}
	if owner := metav1.GetControllerOf(claim); owner != nil && owner.UID == pod.UID {
		return true
	}
	had := len(claim.Status.ReservedFor)
	claim.Status.ReservedFor = slices.DeleteFunc(claim.Status.ReservedFor, func(r resourcev1.ResourceClaimConsumerReference) bool { return r.UID == pod.UID })
	if had > 0 && len(claim.Status.ReservedFor) == 0 {
		claim.Status.Allocation = nil
	}
	return false
}
