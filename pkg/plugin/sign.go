// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	fwk "k8s.io/kube-scheduler/framework"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/cycle"
	"github.com/berth-dev/berth/pkg/plugin/requests"
)

// podSignature is everything of a pod that Filter and Score read: pods with equal signatures can share a ranking of
// nodes.
type podSignature struct {
	Priority    int32
	Runtime     berthv1alpha1.Runtime
	MixedModels bool
	HandOff     gpustate.HandOff
	Options     []requests.OptionSignature
	Sizing      string
	Asked       int64
	Company     gpustate.Company
	// Loads is what the pod loads, if that was loaded anywhere or may be on a node as an image.
	Loads string `json:",omitempty"`
	// CPU and Memory are what is asked of the host, where ranks depend on it.
	CPU, Memory uint64 `json:",omitempty"`
}

// SignPod returns the signature of what a pod asks for. A pod whose request is not known cannot be signed.
func (pl *Plugin) SignPod(_ context.Context, pod *corev1.Pod) ([]fwk.SignFragment, *fwk.Status) {
	r := pl.requests.Of(pod)
	switch {
	case r.Err != nil:
		return nil, rejected(fwk.Unschedulable, gpustate.ReasonInvalidRequest)
	case r.Unresolved != nil:
		return nil, rejected(fwk.Unschedulable, gpustate.ReasonModelUnknown)
	case r.Request == nil && pl.mix == nil:
		return nil, nil
	case r.Request == nil:
		needs := cycle.NeedsOf(pod)
		return signed(podSignature{CPU: needs.CPU, Memory: needs.Memory.Uint64()}), nil
	}
	handOff, reason := pl.requests.HandOff(pod, r.Request)
	if reason != "" {
		return nil, rejected(fwk.Unschedulable, reason)
	}
	company, loads := r.Request.Company, ""
	if w := pl.warmFor(pod, r); w.Prefers() {
		loads = w.Loads.Key + strings.Join(w.Loads.Images, " ")
	}
	if loads == "" && !pl.tracker.Ledger.KeepsApart(&company) {
		company.Workload = "" // whose replica it is decides nothing
	}
	signature := podSignature{
		Company: company, Loads: loads,
		Priority: corev1helpers.PodPriority(pod), Runtime: r.Request.Runtime, MixedModels: r.Request.MixedModels(),
		HandOff: handOff, Options: requests.OptionSignatures(r.Request), Sizing: r.Request.Sizing(),
		Asked: cycle.AskedOf(pod),
	}
	if pl.mix != nil {
		needs := cycle.NeedsOf(pod)
		signature.CPU, signature.Memory = needs.CPU, needs.Memory.Uint64()
	}
	return signed(signature), nil
}

func signed(s podSignature) []fwk.SignFragment {
	return []fwk.SignFragment{{Key: berthv1alpha1.GroupName + "/request", Value: s}}
}
