// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
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

// makings are the profiles that were made a moment ago, by name: the cache may not have them yet.
type makings struct {
	mu   sync.Mutex
	made map[string]making
}

type making struct {
	namespace string
	at        time.Time
}

// makingKept is when a profile that was made must have come into the cache; else it was deleted before.
const makingKept = time.Minute

// hasRoom says whether one more profile, of a name, may be made for a namespace; if so, it counts from now on. Where there
// are as many as there may be, the one that was not used for longest goes, of those that no pod names. What only pods of
// other namespaces name does not count: they could use the limit up.
//
// Profiles are cluster-scoped and in the memory of the scheduler and the controller: without a limit, who may create pods
// can fill both with URIs that he makes up.
func (r *podReconciler) hasRoom(ctx context.Context, namespace, name string) (bool, error) {
	r.makings.mu.Lock()
	defer r.makings.mu.Unlock()
	if _, again := r.makings.made[name]; again {
		return true, nil
	}
	var profiles berthv1alpha1.ModelProfileList
	if err := r.client.List(ctx, &profiles, client.MatchingFields{indexMadeFor: namespace}, client.UnsafeDisableDeepCopy); err != nil {
		return false, fmt.Errorf("list the profiles of namespace %s: %w", namespace, err)
	}
	var unused *berthv1alpha1.ModelProfile
	count := 0
	for i := range profiles.Items {
		p := &profiles.Items[i]
		delete(r.makings.made, p.Name)
		own, other, err := r.usersOf(ctx, p, namespace)
		if err != nil {
			return false, err
		}
		if own || !other {
			count++
		}
		if !own && !other && isManaged(p) && (unused == nil || lastUseOf(p).Before(lastUseOf(unused))) {
			unused = p
		}
	}
	now := r.tell.clock.Now()
	for name, m := range r.makings.made {
		if now.Sub(m.at) > makingKept {
			delete(r.makings.made, name)
		} else if m.namespace == namespace {
			count++
		}
	}
	if count >= r.profilesPerNamespace {
		if unused == nil {
			return false, nil
		}
		// It fails if the profile is gone already: then the cache is behind, and the pod comes back.
		if err := r.client.Delete(ctx, unused, client.Preconditions{UID: &unused.UID, ResourceVersion: &unused.ResourceVersion}); err != nil {
			return false, fmt.Errorf("make room for profile %s: %w", name, err)
		}
		log.FromContext(ctx).Info("Deleted a profile that no pod uses, to make room", "namespace", namespace, "source", redact.URI(unused.Spec.Source))
	}
	if r.makings.made == nil {
		r.makings.made = map[string]making{}
	}
	r.makings.made[name] = making{namespace: namespace, at: now}
	return true, nil
}

// notMade takes back that a profile was made.
func (r *podReconciler) notMade(name string) {
	r.makings.mu.Lock()
	defer r.makings.mu.Unlock()
	delete(r.makings.made, name)
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
