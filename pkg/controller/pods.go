// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/internal/eventnote"
	"github.com/berth-dev/berth/internal/redact"
)

// podReconciler sees to it that each model that a pod names has a profile, and that gated pods know what they wait
// for.
type podReconciler struct {
	client client.Client
	tell   *announcer

	profilesPerNamespace int
	makings              makings
}

// limitRetry is when a pod is looked at again whose namespace has as many profiles as it may.
const limitRetry = 30 * time.Second

// errLimit is that a namespace has as many profiles as it may.
var errLimit = errors.New("the namespace has as many profiles as it may")

// Reconcile implements reconcile.Reconciler for pods.
func (r *podReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	pod := &corev1.Pod{}
	if err := r.client.Get(ctx, req.NamespacedName, pod); err != nil {
		r.tell.forget(req.NamespacedName)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if source := pod.Annotations[berthv1alpha1.AnnotationModel]; redact.HasSecret(source) && isGated(pod) {
		// Admission refuses it: the pod is older, or the policies are missing. No profile is made, which would show it.
		return ctrl.Result{RequeueAfter: r.tell.tell(pod, corev1.EventTypeWarning, EventUnknown, "secret",
			fmt.Sprintf("The memory of %s cannot be known: %s", shownURI(source), redact.Why))}, nil
	}
	name := profileNameOf(pod)
	if name == "" || pod.DeletionTimestamp != nil {
		r.tell.forget(req.NamespacedName)
		return ctrl.Result{}, nil
	}
	profile, err := r.ensure(ctx, pod, name)
	switch {
	case errors.Is(err, errLimit):
		if isGated(pod) {
			r.explainLimit(pod)
		}
		return ctrl.Result{RequeueAfter: limitRetry}, nil
	case err != nil:
		return ctrl.Result{}, err
	}
	if !isGated(pod) || profile != nil && profile.IsReady() && !isOfAnother(profile, pod) {
		r.tell.forget(req.NamespacedName)
		return ctrl.Result{}, nil
	}
	return ctrl.Result{RequeueAfter: r.explain(pod, profile)}, nil
}

// ensure returns the profile of the pod's model, which it makes if there is none; nil for one that only an admin can
// make, and one of another model if it has the name.
func (r *podReconciler) ensure(ctx context.Context, pod *corev1.Pod, name string) (*berthv1alpha1.ModelProfile, error) {
	profile, another, free, err := findProfile(ctx, r.client, pod)
	if err != nil || profile != nil {
		return profile, err
	}
	source := pod.Annotations[berthv1alpha1.AnnotationModel]
	if source == berthv1alpha1.ProfileScheme+name {
		return nil, nil
	}
	if free == "" {
		return another, nil
	}
	if room, err := r.hasRoom(ctx, pod.Namespace, free); err != nil {
		return nil, err
	} else if !room {
		return nil, errLimit
	}
	name = free
	profile = &berthv1alpha1.ModelProfile{
		ObjectMeta: metav1.ObjectMeta{
			Name: name,
			Labels: map[string]string{
				berthv1alpha1.LabelManagedBy: berthv1alpha1.ManagedByController,
				berthv1alpha1.LabelMadeFor:   pod.Namespace,
			},
		},
		Spec: berthv1alpha1.ModelProfileSpec{Source: source},
	}
	if err := r.client.Create(ctx, profile); err != nil {
		if apierrors.IsAlreadyExists(err) {
			return profile, nil // made for another pod a moment ago: its event brings the pod back
		}
		r.notMade(name)
		return nil, fmt.Errorf("create profile %s: %w", name, err)
	}
	log.FromContext(ctx).Info("Created a profile", "modelProfile", name, "source", source)
	return profile, nil
}

// maxShownURI is how much of a URI, in bytes, is shown in an Event, so that there is room for what is said of it.
const maxShownURI = 200

// shownURI is the URI of a model in an Event.
func shownURI(uri string) string { return eventnote.Middle(redact.URI(uri), maxShownURI) }

// explainLimit tells a gated pod that no more models are looked up for its namespace, and what to do.
func (r *podReconciler) explainLimit(pod *corev1.Pod) {
	r.tell.tell(pod, corev1.EventTypeWarning, EventLimit, "",
		fmt.Sprintf("The memory of %s is not looked up: pods of namespace %s name %d models already, as many as they may. Delete pods of other models, "+
			"say the memory by berth.dev/gpu-memory, or ask an admin for a ModelProfile or for more (--profiles-per-namespace)",
			shownURI(pod.Annotations[berthv1alpha1.AnnotationModel]), pod.Namespace, r.profilesPerNamespace))
}

// explain tells a gated pod what it waits for. It returns when to tell it again.
func (r *podReconciler) explain(pod *corev1.Pod, profile *berthv1alpha1.ModelProfile) time.Duration {
	source := shownURI(pod.Annotations[berthv1alpha1.AnnotationModel])
	if profile == nil {
		return r.tell.tell(pod, corev1.EventTypeWarning, EventNoProfile, source,
			fmt.Sprintf("There is no ModelProfile for %s: name the model itself, or ask an admin to create the profile", source))
	}
	if isOfAnother(profile, pod) {
		return r.tell.tell(pod, corev1.EventTypeWarning, EventUnknown, profile.Name+"Conflict",
			fmt.Sprintf("ModelProfile %s is of %s: an admin must delete or rename it before the memory of %s can be known", profile.Name, shownURI(profile.Spec.Source), source))
	}
	ready := profile.ReadyCondition()
	if ready == nil || ready.Reason == berthv1alpha1.ProfileResolving {
		return r.tell.tell(pod, corev1.EventTypeNormal, EventWaiting, profile.Name,
			fmt.Sprintf("Waiting until the memory of %s is known (ModelProfile %s)", source, profile.Name))
	}
	return r.tell.tell(pod, corev1.EventTypeWarning, EventUnknown, profile.Name+ready.Reason,
		fmt.Sprintf("The memory of %s cannot be known: %s: %s (ModelProfile %s; berth.dev/gpu-memory can say it instead)",
			source, ready.Reason, ready.Message, profile.Name))
}

// isOfAnother says whether the profile has the name of the pod's model's profile, but is of another model: an admin
// may have called one so.
func isOfAnother(profile *berthv1alpha1.ModelProfile, pod *corev1.Pod) bool {
	return !profile.IsOf(pod.Annotations[berthv1alpha1.AnnotationModel])
}
