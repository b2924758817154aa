// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/internal/redact"
)

// Names of the indices of cached pods.
const (
	// indexProfile is the name of the profile of a pod's model, for pods that are not over.
	indexProfile = "berth.profile"
	indexUID     = "berth.uid"
	indexNode    = "berth.node"
)

// profileNameOf returns the name of the profile of the pod's model, "" if it needs none or must not have one, because its
// URI holds a secret.
func profileNameOf(pod *corev1.Pod) string {
	source := pod.Annotations[berthv1alpha1.AnnotationModel]
	if source == "" || redact.HasSecret(source) || pod.Spec.SchedulerName != berthv1alpha1.SchedulerName || isOver(pod) {
		return ""
	}
	return berthv1alpha1.ModelProfileName(source)
}

// profileNamesOf returns all names that the profile of the pod's model can have, none if it needs none.
func profileNamesOf(pod *corev1.Pod) []string {
	if profileNameOf(pod) == "" {
		return nil
	}
	return berthv1alpha1.ModelProfileNames(pod.Annotations[berthv1alpha1.AnnotationModel])
}

// findProfile returns the profile of the pod's model. Where there is none, it returns the first name that is free for it,
// "" if profiles of other models have all; another is one of those.
func findProfile(ctx context.Context, c client.Reader, pod *corev1.Pod) (profile, another *berthv1alpha1.ModelProfile, free string, err error) {
	for _, name := range profileNamesOf(pod) {
		p := &berthv1alpha1.ModelProfile{}
		switch err := c.Get(ctx, client.ObjectKey{Name: name}, p); {
		case apierrors.IsNotFound(err):
			free = cmp.Or(free, name)
		case err != nil:
			return nil, nil, "", fmt.Errorf("get profile %s: %w", name, err)
		case p.IsOf(pod.Annotations[berthv1alpha1.AnnotationModel]):
			return p, nil, "", nil
		default:
			another = p
		}
	}
	return nil, another, free, nil
}

func isOver(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// isGated says whether the pod waits for its model's profile: a pod whose memory is written down does not.
func isGated(pod *corev1.Pod) bool {
	return pod.Spec.NodeName == "" && pod.DeletionTimestamp == nil && pod.Annotations[berthv1alpha1.AnnotationGPUMemory] == ""
}

// isManaged says whether the controller made the profile, and may delete it: an admin's choice in it would be lost.
func isManaged(p *berthv1alpha1.ModelProfile) bool {
	return p.Labels[berthv1alpha1.LabelManagedBy] == berthv1alpha1.ManagedByController && len(p.Spec.PeaksFrom) == 0
}
