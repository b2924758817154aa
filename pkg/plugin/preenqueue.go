// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/parked"
)

// PreEnqueue keeps a pod out of the queue while the size of its model is not known, while its victims are being evicted,
// or while the books of a new term are being read, which takes a second or two: a cycle that can only fail would tell the
// pod's owner what is over when it is read. The controller tells the user, by Events, what a gated pod waits for; no API
// is called here.
func (pl *Plugin) PreEnqueue(ctx context.Context, pod *corev1.Pod) *fwk.Status {
	if status := pl.evictor.PreEnqueue(ctx, pod); !status.IsSuccess() {
		return status
	}
	if pod.Spec.NodeName != "" {
		return nil // whatever its model is, it is placed; see PreFilter
	}
	resolved := pl.resolve(pod)
	if resolved.request != nil && pl.recovery.underWay() {
		// Listed before that is looked at again, so that a recovery which ends in between retries the pod.
		pl.park(parked.Pod{Pod: pod, Request: resolved.request, Shape: resolved.shape, Profile: resolved.profile})
		if pl.recovery.underWay() {
			return rejected(fwk.UnschedulableAndUnresolvable, gpustate.ReasonRecovering)
		}
	}
	if resolved.unresolved == nil {
		return nil
	}
	// Listed before the profile is looked at again, so that a profile that becomes ready in between is not missed.
	pl.park(parked.Pod{Pod: pod, Profile: resolved.profile})
	if resolved = pl.resolve(pod); resolved.unresolved == nil {
		return nil
	}
	return rejected(fwk.UnschedulableAndUnresolvable, gpustate.ReasonModelUnknown)
}

// resolved is what a pod asks for: at most one of the fields request, unresolved and err is set; none is for a pod
// that asks for no GPU memory.
type resolved struct {
	request    *gpustate.Request
	unresolved *alloc.Unresolved
	err        error
	// model is the source of the model, empty if none is named; profile is the name of its ModelProfile by rule, whichever
	// of its names the profile has.
	model, profile string
	// shape is the number of what is asked for.
	shape uint64

	// What it was made from.
	podVersion, profileVersion string
	// announced says that the pod's owner was told of the request's notes.
	announced sync.Once
}

// resolve returns what a pod asks for. Annotations are parsed once for each version of the pod and of its profile.
func (pl *Plugin) resolve(pod *corev1.Pod) *resolved {
	if !hasOurKeys(pod.Annotations) && !hasOurKeys(pod.Labels) {
		return asksForNothing // nothing to parse, nothing to remember
	}
	var profile *berthv1alpha1.ModelProfile
	if cached, ok := pl.requests.Load(pod.UID); ok {
		r := cached.(*resolved)
		if r.model != "" {
			profile = pl.profiles.of(r.model)
		}
		if r.podVersion == pod.ResourceVersion && r.profileVersion == versionOf(profile) {
			return r
		}
	}
	parsed, err := berthv1alpha1.ParsePodRequest(pod)
	r := &resolved{err: err, podVersion: pod.ResourceVersion}
	if parsed != nil {
		if parsed.Model != "" {
			r.model, r.profile = parsed.Model, berthv1alpha1.ModelProfileName(parsed.Model)
			profile = pl.profiles.of(parsed.Model)
			r.profileVersion = versionOf(profile)
		}
		r.request, r.unresolved, r.err = gpustate.NewRequest(pod, parsed, profile, gpustate.Sizing{TrustObservedPeaks: pl.args.TrustObservedPeaks})
	}
	if r.request != nil {
		r.shape = pl.shapes.Of(r.request)
	}
	pl.requests.Store(pod.UID, r)
	if !pl.exists(pod) {
		pl.requests.Delete(pod.UID) // nobody else would: that it is gone may have been told before
	}
	return r
}

// hasOurKeys says whether there is anything of Berth's, be it misspelt, among annotations or labels.
func hasOurKeys(m map[string]string) bool {
	for key := range m {
		if strings.HasPrefix(key, berthv1alpha1.GroupName+"/") {
			return true
		}
	}
	return false
}

// asksForNothing is what a pod without a request asks for.
var asksForNothing = &resolved{}

func versionOf(p *berthv1alpha1.ModelProfile) string {
	if p == nil {
		return ""
	}
	return p.ResourceVersion
}

// rejected is a status whose only reason is a constant.
func rejected(code fwk.Code, reason alloc.Reason) *fwk.Status {
	return fwk.NewStatus(code, string(reason))
}
