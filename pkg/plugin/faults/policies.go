// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/internal/eventnote"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/config"
	"github.com/berth-dev/berth/pkg/plugin/policies"
	"github.com/berth-dev/berth/pkg/plugin/words"
)

// schedulerLease is the name of the Lease that is told of: it stands for the scheduler, whichever pod leads.
const schedulerLease = "berth-scheduler"

// WatchPolicies checks the admission policies until ctx ends, whether or not this process leads.
func (w *Watcher) WatchPolicies(ctx context.Context, api *rest.Config) error {
	interval := w.Args.PolicyCheckInterval.Duration
	if interval == 0 {
		return nil
	}
	checker, err := policies.NewChecker(api, w.Args.PoliciesLeftOut)
	if err != nil {
		return err
	}
	w.Policies.Expect()
	checks := &policies.Watcher{
		Check: checker.Check, Interval: interval, State: w.Policies, Clock: w.Clock, Leading: w.Leader.Leading,
		Found: func(f policies.Finding) {
			inForce := 0.0
			if f.Verdict == policies.InForce {
				inForce = 1
			}
			w.PolicyInForce.WithLabelValues(f.Policy).Set(inForce)
		},
		Changed: w.PoliciesChanged,
		Tell:    w.TellPolicies,
	}
	go checks.Run(ctx)
	return nil
}

// PoliciesMissing returns why no pod with a request is placed for the sake of the policies; empty if they may be.
func (w *Watcher) PoliciesMissing() string {
	if w.Args.OnMissingPolicies != config.StopPlacing {
		return ""
	}
	why := w.Policies.Why()
	if why == "" {
		return ""
	}
	return string(gpustate.ReasonPolicies) + ": " + why
}

// PoliciesChanged retries the pods that waited for the policies.
func (w *Watcher) PoliciesChanged(well bool) {
	if well && w.Args.OnMissingPolicies == config.StopPlacing {
		w.Wake.Activate(w.Wake.Parked.All())
	}
}

// TellPolicies writes an Event of what is wrong with the policies, or that nothing is any more.
func (w *Watcher) TellPolicies(why string) {
	lease := &corev1.ObjectReference{
		APIVersion: coordinationv1.SchemeGroupVersion.String(), Kind: "Lease", Namespace: berthv1alpha1.Namespace, Name: schedulerLease,
	}
	if why == "" {
		w.Handle.EventRecorder().Eventf(lease, nil, corev1.EventTypeNormal, words.EventPoliciesInForce, words.ActionCheckPolicies,
			"All admission policies of Berth are in force again")
		return
	}
	note := "Admission policies of Berth are not known to be in force: " + why + ". Apply the manifests again"
	if w.Args.OnMissingPolicies == config.StopPlacing {
		note = "No pod that asks for GPU memory is placed. " + note
	}
	w.Handle.EventRecorder().Eventf(lease, nil, corev1.EventTypeWarning, words.EventPoliciesMissing, words.ActionCheckPolicies, "%s", eventnote.Fit(note))
}
