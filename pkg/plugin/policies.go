// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

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

// watchPolicies checks the admission policies until ctx ends, whether or not this process leads.
func (pl *Plugin) watchPolicies(ctx context.Context, config *rest.Config) error {
	interval := pl.args.PolicyCheckInterval.Duration
	if interval == 0 {
		return nil
	}
	checker, err := policies.NewChecker(config, pl.args.PoliciesLeftOut)
	if err != nil {
		return err
	}
	pl.policies.Expect()
	w := &policies.Watcher{
		Check: checker.Check, Interval: interval, State: pl.policies, Clock: pl.clock, Leading: pl.leader.Leading,
		Found: func(f policies.Finding) {
			inForce := 0.0
			if f.Verdict == policies.InForce {
				inForce = 1
			}
			pl.metrics.policyInForce.WithLabelValues(f.Policy).Set(inForce)
		},
		Changed: pl.policiesChanged,
		Tell:    pl.tellPolicies,
	}
	go w.Run(ctx)
	return nil
}

// policiesMissing returns why no pod with a request is placed for the sake of the policies; empty if they may be.
func (pl *Plugin) policiesMissing() string {
	if pl.args.OnMissingPolicies != config.StopPlacing {
		return ""
	}
	why := pl.policies.Why()
	if why == "" {
		return ""
	}
	return string(gpustate.ReasonPolicies) + ": " + why
}

// policiesChanged retries the pods that waited for the policies.
func (pl *Plugin) policiesChanged(well bool) {
	if well && pl.args.OnMissingPolicies == config.StopPlacing {
		pl.wake.Activate(pl.parked.All())
	}
}

// tellPolicies writes an Event of what is wrong with the policies, or that nothing is any more.
func (pl *Plugin) tellPolicies(why string) {
	lease := &corev1.ObjectReference{
		APIVersion: coordinationv1.SchemeGroupVersion.String(), Kind: "Lease", Namespace: berthv1alpha1.Namespace, Name: schedulerLease,
	}
	if why == "" {
		pl.handle.EventRecorder().Eventf(lease, nil, corev1.EventTypeNormal, words.EventPoliciesInForce, words.ActionCheckPolicies,
			"All admission policies of Berth are in force again")
		return
	}
	note := "Admission policies of Berth are not known to be in force: " + why + ". Apply the manifests again"
	if pl.args.OnMissingPolicies == config.StopPlacing {
		note = "No pod that asks for GPU memory is placed. " + note
	}
	pl.handle.EventRecorder().Eventf(lease, nil, corev1.EventTypeWarning, words.EventPoliciesMissing, words.ActionCheckPolicies, "%s", eventnote.Fit(note))
}
