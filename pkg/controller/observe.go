// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpunode"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// peakReconciler takes down in profiles what GPUNodes report of pods that run a model.
type peakReconciler struct {
	client client.Client
	status statusWriter
	clock  clock.PassiveClock
	ratios ratios
}

// Reconcile implements reconcile.Reconciler for GPUNodes.
func (r *peakReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	object := &gpunode.Object{}
	if err := r.client.Get(ctx, req.NamespacedName, object, client.UnsafeDisableDeepCopy); err != nil {
		delete(r.ratios, req.Name)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	node := object.GPUNode()
	if node == nil {
		ctrl.LoggerFrom(ctx).Info("The report cannot be read, and nothing of it counts", "problem", object.Problem)
		return ctrl.Result{}, nil
	}
	var errs []error
	held := heldBy(node)
	for uid, devices := range held {
		errs = append(errs, r.observe(ctx, node.Name, uid, devices))
	}
	if err := errors.Join(errs...); err != nil {
		return ctrl.Result{}, err
	}
	next := r.ratios.next(node.Name, held, r.clock.Now())
	if next.IsZero() {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{RequeueAfter: max(next.Sub(r.clock.Now()), time.Second)}, nil
}

// heldBy returns the bytes that each pod is measured to hold, by device; never more than the device has by the same
// report.
func heldBy(node *berthv1alpha1.GPUNode) map[types.UID]map[string]int64 {
	held := map[types.UID]map[string]int64{}
	for i := range node.Status.Devices {
		d := &node.Status.Devices[i]
		for j := range d.Processes {
			p := &d.Processes[j]
			if p.PodUID == "" {
				continue
			}
			if held[p.PodUID] == nil {
				held[p.PodUID] = map[string]int64{}
			}
			before := held[p.PodUID][d.UUID]
			held[p.PodUID][d.UUID] += min(max(p.Memory.Value(), 0), max(d.Memory.Total.Value(), 0)-before)
		}
	}
	return held
}

// observe takes down what one pod holds, if that says something of its model.
func (r *peakReconciler) observe(ctx context.Context, node string, uid types.UID, devices map[string]int64) error {
	var pods corev1.PodList
	if err := r.client.List(ctx, &pods, client.MatchingFields{indexUID: string(uid)}, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("find pod %s: %w", uid, err)
	}
	if len(pods.Items) != 1 {
		return nil // another scheduler's
	}
	pod := &pods.Items[0]
	if pod.Spec.NodeName != node {
		return nil // what a node says counts for its own pods only
	}
	m := measure(pod, devices)
	if m == nil {
		return nil
	}
	profile, _, _, err := findProfile(ctx, r.client, pod)
	if err != nil || profile == nil {
		return err
	}
	if !r.isOfThisRevision(profile, pod) {
		return nil
	}
	// A profile whose model is not known can have peaks all the same: they are what will be known of it.
	folded, isNew := false, false
	err = r.status.patch(ctx, profile, func(s *berthv1alpha1.ModelProfileStatus) {
		isNew = runOf(s, m) == nil
		folded = fold(profile, m, r.clock.Now())
	})
	if err != nil {
		return err
	}
	if folded {
		peaksFolded.Inc()
	}
	peak := runOf(&profile.Status, m)
	switch {
	case peak == nil: // there are enough newer ones
	case isNew:
		r.ratios.begin(node, uid, r.clock.Now())
	default:
		r.ratios.observe(node, pod, m, peak, r.clock.Now())
	}
	return nil
}

// measure returns what the pod's allocation holds, nil when that is not its peak or not all of it: a model that still
// loads holds less than it will, and sometimes more than it will need.
func measure(pod *corev1.Pod, devices map[string]int64) *measurement {
	if profileNameOf(pod) == "" || pod.DeletionTimestamp != nil || readySince(pod).IsZero() {
		return nil
	}
	booking, err := gpustate.DecodeAllocation(pod.Annotations[berthv1alpha1.AnnotationAllocation])
	if err != nil {
		return nil
	}
	settings, err := gpustate.EngineSettings(pod)
	if err != nil {
		return nil
	}
	m := &measurement{namespace: pod.Namespace, pod: pod.UID, created: pod.CreationTimestamp, settings: settings}
	for _, d := range booking.Devices {
		held := devices[d.UUID]
		if held <= 0 {
			return nil
		}
		m.devices = append(m.devices, held)
		estimated := d.Memory.Minus(booking.Correction).Int64()
		if berthv1alpha1.SharingOf(pod) == berthv1alpha1.ShareNone {
			estimated = 0 // it has the GPU whole, whatever was estimated
		}
		m.booked = append(m.booked, estimated)
	}
	return m
}

// isOfThisRevision says whether the pod runs the files that the profile is about, as far as can be known: it started
// after they last changed.
func (r *peakReconciler) isOfThisRevision(profile *berthv1alpha1.ModelProfile, pod *corev1.Pod) bool {
	since := profile.Status.RevisionTime
	return since == nil || pod.Status.StartTime != nil && since.Before(pod.Status.StartTime)
}

// readySince returns when the pod became Ready, the zero time if it is not.
func readySince(pod *corev1.Pod) time.Time {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime.Time
		}
	}
	return time.Time{}
}
