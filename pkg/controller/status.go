// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// statusWriter writes the status of profiles. Two reconcilers do, one of which may have read its profile minutes
// ago, so a change is a function that is applied again to the newest status after a conflict.
type statusWriter struct {
	client client.Client
	// live reads past the cache, which after a conflict is known to be old.
	live client.Reader
}

// maxWrites is how often a change is tried.
const maxWrites = 5

// patch applies change to the status of profile and writes it if it is another then. It succeeds when the profile is
// gone: nothing is left to say of it.
func (w *statusWriter) patch(ctx context.Context, profile *berthv1alpha1.ModelProfile, change func(*berthv1alpha1.ModelProfileStatus)) error {
	uid := profile.UID
	for attempt := 1; ; attempt++ {
		before := profile.DeepCopy()
		change(&profile.Status)
		if equality.Semantic.DeepEqual(before.Status, profile.Status) {
			return nil
		}
		err := w.client.Status().Patch(ctx, profile, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
		if err == nil || apierrors.IsNotFound(err) {
			return nil
		}
		if !apierrors.IsConflict(err) || attempt == maxWrites {
			return fmt.Errorf("write the status of profile %s: %w", profile.Name, err)
		}
		if err := w.live.Get(ctx, client.ObjectKeyFromObject(profile), profile); err != nil {
			return client.IgnoreNotFound(err)
		}
		if profile.UID != uid {
			return errors.New("the profile was made anew meanwhile")
		}
	}
}
