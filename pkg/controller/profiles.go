// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/internal/redact"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/modelsource"
)

// profileReconciler resolves profiles and deletes those that nobody uses. The work queue holds each profile once,
// however many pods name it, so one model is looked up once.
type profileReconciler struct {
	client   client.Client
	status   statusWriter
	resolver Resolver
	clock    clock.PassiveClock
	attempts attempts
	turns    *turns
	options  Options
}

// waitForTurn is when a profile asks for its turn again that nobody woke. It should never be needed.
const waitForTurn = time.Minute

// errNotYet is that another model's turn is first.
var errNotYet = errors.New("it is not its turn")

// Reconcile implements reconcile.Reconciler for profiles.
func (r *profileReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	result, err := r.reconcile(ctx, req)
	if errors.Is(err, errNotYet) {
		return ctrl.Result{RequeueAfter: waitForTurn}, nil
	}
	r.turns.done(req.Name)
	return result, err
}

func (r *profileReconciler) reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	profile := &berthv1alpha1.ModelProfile{}
	if err := r.client.Get(ctx, req.NamespacedName, profile); err != nil {
		r.attempts.forget(req.Name)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if profile.DeletionTimestamp != nil {
		return ctrl.Result{}, nil
	}
	var pods corev1.PodList
	if err := r.client.List(ctx, &pods, client.MatchingFields{indexProfile: profile.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return ctrl.Result{}, fmt.Errorf("list the pods of profile %s: %w", profile.Name, err)
	}
	namespaces := namespacesOf(profile, pods.Items)
	used := len(namespaces) > 0
	if !used && isManaged(profile) {
		left := r.keptFor(profile)
		if left <= 0 {
			return ctrl.Result{}, r.collect(ctx, profile)
		}
		return ctrl.Result{RequeueAfter: left}, nil
	}
	next, err := r.resolveIfDue(ctx, profile, namespaces)
	return ctrl.Result{RequeueAfter: next}, err
}

// namespacesOf returns the namespaces of the pods, of those with the profile's name, that name its model.
func namespacesOf(profile *berthv1alpha1.ModelProfile, pods []corev1.Pod) []string {
	found := map[string]bool{}
	for i := range pods {
		if profile.IsOf(pods[i].Annotations[berthv1alpha1.AnnotationModel]) {
			found[pods[i].Namespace] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// keptFor returns how long the profile is still kept though no pod names it.
func (r *profileReconciler) keptFor(profile *berthv1alpha1.ModelProfile) time.Duration {
	ttl := r.options.ProfileTTL
	if profile.Status.Model == nil || len(profile.Status.ObservedPeaks) == 0 {
		// All that it holds can be read again; whoever makes up URIs by the hundred leaves such ones.
		ttl = min(ttl, r.options.FailedProfileTTL)
	}
	return lastUseOf(profile).Add(ttl).Sub(r.clock.Now())
}

// collect deletes the profile unless it changed since it was read.
func (r *profileReconciler) collect(ctx context.Context, profile *berthv1alpha1.ModelProfile) error {
	err := r.client.Delete(ctx, profile, client.Preconditions{UID: &profile.UID, ResourceVersion: &profile.ResourceVersion})
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	log.FromContext(ctx).Info("Deleted a profile that no pod uses", "source", redact.URI(profile.Spec.Source))
	return nil
}

// resolveIfDue looks the model up when it is time to and it is its turn, and returns when it is time again. namespaces are
// those of the pods that name it.
func (r *profileReconciler) resolveIfDue(ctx context.Context, profile *berthv1alpha1.ModelProfile, namespaces []string) (time.Duration, error) {
	used := len(namespaces) > 0
	now := r.clock.Now()
	name, uid := profile.Name, string(profile.UID)
	wait, known := r.attempts.due(name, uid, now)
	if !known && profile.IsReady() {
		// Known from before this controller started; it is looked at again in its own time.
		wait = r.attempts.succeeded(name, uid, now, r.options.RefreshInterval)
	}
	if n, last := profile.Status.UnfinishedAttempts, profile.Status.LastAttemptTime; !known && n > 0 && last != nil {
		wait = max(wait, r.attempts.unfinished(name, uid, now, last.Time, n))
	}
	if wait > 0 {
		return r.touch(ctx, profile, used, wait)
	}
	if !used {
		namespaces = []string{""} // an admin's
	}
	if !r.turns.take(profile.Name, r.resolver.Host(profile.Spec.Source), namespaces) {
		return 0, errNotYet
	}
	err := r.status.patch(ctx, profile, func(s *berthv1alpha1.ModelProfileStatus) {
		if profile.ReadyCondition() == nil {
			setReady(profile, s, metav1.ConditionUnknown, berthv1alpha1.ProfileResolving, "The source has not answered yet")
		}
		at := metav1.NewTime(now)
		s.LastAttemptTime = &at
		s.UnfinishedAttempts++
	})
	if err != nil {
		return 0, err
	}
	next, err := r.resolve(ctx, profile, used)
	if ctx.Err() != nil {
		// The controller stops in order, which is no fault of the model.
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		return 0, errors.Join(ctx.Err(), r.status.patch(last, profile, ended))
	}
	return next, err
}

// stopTimeout bounds what is written when the controller stops.
const stopTimeout = 2 * time.Second

// ended takes down that an attempt ended, however.
func ended(s *berthv1alpha1.ModelProfileStatus) { s.UnfinishedAttempts = 0 }

// touch takes down that the profile is used, if it is, to within the hour.
func (r *profileReconciler) touch(ctx context.Context, profile *berthv1alpha1.ModelProfile, used bool, wait time.Duration) (time.Duration, error) {
	if !used {
		return wait, nil
	}
	grain := min(time.Hour, r.options.ProfileTTL/4)
	if t := profile.Status.LastUsedTime; t != nil && r.clock.Since(t.Time) < grain {
		return min(wait, grain), nil
	}
	now := metav1.NewTime(r.clock.Now())
	return min(wait, grain), r.status.patch(ctx, profile, func(s *berthv1alpha1.ModelProfileStatus) { s.LastUsedTime = &now })
}

// resolve looks the model up and writes what came of it.
func (r *profileReconciler) resolve(ctx context.Context, profile *berthv1alpha1.ModelProfile, used bool) (time.Duration, error) {
	logger := log.FromContext(ctx).WithValues("source", redact.URI(profile.Spec.Source))
	wasReady := profile.IsReady()
	known := ""
	if wasReady {
		known = profile.Status.ETag
	}
	started := r.clock.Now()
	limited, cancel := context.WithTimeout(ctx, r.options.ResolveTimeout)
	res, resolveErr := resolve(limited, r.resolver, profile.Spec.Source, known)
	cancel()
	if ctx.Err() != nil {
		return 0, ctx.Err() // the controller stops; that says nothing of the model
	}
	now := r.clock.Now()
	observeResolution(resolveErr, now.Sub(started))

	if resolveErr != nil {
		reason, message, retryAfter := failure(resolveErr)
		next := r.attempts.failed(profile.Name, string(profile.UID), now, reason, retryAfter)
		logger.Info("Could not resolve a model", "reason", reason, "message", message, "retryIn", next.Round(time.Second),
			"causeReason", modelsource.ReasonOf(modelsource.Cause(resolveErr)), "cause", modelsource.Cause(resolveErr).Error())
		if wasReady {
			// What was known of it still holds as far as anybody can tell.
			return next, r.status.patch(ctx, profile, ended)
		}
		return next, r.status.patch(ctx, profile, func(s *berthv1alpha1.ModelProfileStatus) {
			ended(s)
			setReady(profile, s, metav1.ConditionFalse, string(reason), message)
			s.LastUsedTime = lastUse(s.LastUsedTime, used, now)
		})
	}

	next := r.attempts.succeeded(profile.Name, string(profile.UID), now, r.options.RefreshInterval)
	err := r.status.patch(ctx, profile, func(s *berthv1alpha1.ModelProfileStatus) {
		ended(s)
		setResolved(profile, s, res, now)
		s.LastUsedTime = lastUse(s.LastUsedTime, used, now)
	})
	if err != nil {
		// It has to be written yet, so the next attempt is not to wait for the interval.
		r.attempts.forget(profile.Name)
		return 0, err
	}
	if !res.unchanged {
		logger.Info("Resolved a model", "revision", res.revision, "size", alloc.BytesOfInt64(res.size), "took", now.Sub(started).Round(time.Millisecond))
	}
	return next, nil
}

// setResolved writes what was found out. Peaks of other files than these are forgotten.
func setResolved(profile *berthv1alpha1.ModelProfile, s *berthv1alpha1.ModelProfileStatus, res *resolution, now time.Time) {
	if s.ETag != "" && s.ETag != res.etag {
		s.ObservedPeaks = nil
		at := metav1.NewTime(now)
		s.RevisionTime = &at
	}
	s.Revision, s.ETag = res.revision, res.etag
	s.Size = alloc.BytesOfInt64(res.size).String()
	if !res.unchanged {
		s.Model = res.model
	}
	setReady(profile, s, metav1.ConditionTrue, berthv1alpha1.ProfileResolved, "The model's memory is known from its files")
}

func setReady(profile *berthv1alpha1.ModelProfile, s *berthv1alpha1.ModelProfileStatus, status metav1.ConditionStatus, reason, message string) {
	s.ObservedGeneration = profile.Generation
	meta.SetStatusCondition(&s.Conditions, metav1.Condition{
		Type: berthv1alpha1.ConditionReady, Status: status, Reason: reason, Message: message, ObservedGeneration: profile.Generation,
	})
}

func lastUse(before *metav1.Time, used bool, now time.Time) *metav1.Time {
	if !used {
		return before
	}
	t := metav1.NewTime(now)
	return &t
}
