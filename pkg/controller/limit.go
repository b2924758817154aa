// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/internal/redact"
)

// indexMadeFor is the namespace of the pods that a profile was made for.
const indexMadeFor = "berth.madefor"

func madeFor(obj client.Object) []string {
	if ns := obj.GetLabels()[berthv1alpha1.LabelMadeFor]; ns != "" {
		return []string{ns}
	}
	return nil
}

// hasRoom says whether one more profile, of a name, may be made for a namespace. Where it has as many as it may, the one that was
// not used for longest goes, of those that no pod names. What only pods of other namespaces name does not count: they could
// use it up.
//
// Profiles are cluster-scoped and in the memory of the scheduler and the controller: without a limit, who may create pods
// can fill both with URIs that he makes up.
func (r *podReconciler) hasRoom(ctx context.Context, namespace, name string) (bool, error) {
	var profiles berthv1alpha1.ModelProfileList
	if err := r.client.List(ctx, &profiles, client.MatchingFields{indexMadeFor: namespace}, client.UnsafeDisableDeepCopy); err != nil {
		return false, fmt.Errorf("list the profiles of namespace %s: %w", namespace, err)
	}
	var unused *berthv1alpha1.ModelProfile
	others := 0
	for i := range profiles.Items {
		p := &profiles.Items[i]
		own, other, err := r.usersOf(ctx, p, namespace)
		switch {
		case err != nil:
			return false, err
		case !own && other:
			others++
		case !own && isManaged(p) && (unused == nil || lastUseOf(p).Before(lastUseOf(unused))):
			unused = p
		}
	}
	limit := r.profilesPerNamespace + others
	if len(profiles.Items) >= limit {
		if unused == nil {
			return false, nil
		}
		if err := r.client.Delete(ctx, unused, client.Preconditions{UID: &unused.UID, ResourceVersion: &unused.ResourceVersion}); err != nil {
			return false, client.IgnoreNotFound(err)
		}
		log.FromContext(ctx).Info("Deleted a profile that no pod uses, to make room", "namespace", namespace, "source", redact.URI(unused.Spec.Source))
	}
	// Those that were made a moment ago may not be in the cache yet.
	live := &metav1.PartialObjectMetadataList{}
	live.SetGroupVersionKind(berthv1alpha1.GroupVersion.WithKind("ModelProfileList"))
	if err := r.live.List(ctx, live, client.MatchingLabels{berthv1alpha1.LabelMadeFor: namespace}); err != nil {
		return false, fmt.Errorf("list the profiles of namespace %s: %w", namespace, err)
	}
	made := slices.ContainsFunc(live.Items, func(m metav1.PartialObjectMetadata) bool { return m.Name == name })
	return made || len(live.Items) < limit, nil
}

// usersOf says whether pods of a namespace, and whether pods of others, name the model of a profile.
func (r *podReconciler) usersOf(ctx context.Context, profile *berthv1alpha1.ModelProfile, namespace string) (own, other bool, err error) {
	var pods corev1.PodList
	if err := r.client.List(ctx, &pods, client.MatchingFields{indexProfile: profile.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return false, false, fmt.Errorf("list the pods of profile %s: %w", profile.Name, err)
	}
	for _, ns := range namespacesOf(profile, pods.Items) {
		own, other = own || ns == namespace, other || ns != namespace
	}
	return own, other, nil
}

// lastUseOf returns when a pod last named the model of a profile, as far as is known.
func lastUseOf(profile *berthv1alpha1.ModelProfile) time.Time {
	last := profile.CreationTimestamp.Time
	if t := profile.Status.LastUsedTime; t != nil && t.After(last) {
		last = t.Time
	}
	return last
}
