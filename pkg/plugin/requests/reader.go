// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package requests

import (
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	nodelisters "k8s.io/client-go/listers/node/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// Resolved is what a pod asks for: at most one of the fields Request, Unresolved and Err is set; none is for a pod that
// asks for no GPU memory.
type Resolved struct {
	Request    *gpustate.Request
	Unresolved *alloc.Unresolved
	Err        error
	// Model is the source of the model, empty if none is named; Profile is the name of its ModelProfile by rule, whichever
	// of its names the profile has.
	Model, Profile string
	// FileSize is that of the model's files in bytes, zero if it is not known.
	FileSize int64
	// Shape is the number of what is asked for.
	Shape uint64

	// What it was made from.
	podVersion, profileVersion string
	told                       *told
}

// told is what the pod's owner was told last. All versions of a pod share it: the scheduler makes new ones itself, when it
// writes why the pod waits.
type told struct {
	mu    sync.Mutex
	notes []gpustate.Note
}

// IsPlain says that the pod asks for no GPU memory.
func (r *Resolved) IsPlain() bool { return r.Request == nil && r.Unresolved == nil && r.Err == nil }

// Announce calls tell for what is noteworthy about how the request was read, once for as long as it is.
func (r *Resolved) Announce(tell func(gpustate.Note)) {
	r.told.mu.Lock()
	defer r.told.mu.Unlock()
	for _, n := range r.Request.Notes {
		if !slices.Contains(r.told.notes, n) {
			tell(n)
		}
	}
	r.told.notes = r.Request.Notes
}

// Reader reads what pods ask for. It is safe for concurrent use.
type Reader struct {
	// Profiles are looked up for pods that name a model.
	Profiles Profiles
	// Classes are those that pods name.
	Classes nodelisters.RuntimeClassLister
	// Sizing is how memory is derived from a model.
	Sizing gpustate.Sizing
	// Enforcement is who holds containers to what is booked.
	Enforcement berthv1alpha1.Enforcement
	// Exists says whether the API still has a pod. What is read of one that is gone is not kept.
	Exists func(*corev1.Pod) bool

	shapes Shapes
	read   sync.Map // types.UID → *Resolved
}

// Of returns what a pod asks for. Annotations are parsed once for each version of the pod and of its profile.
func (r *Reader) Of(pod *corev1.Pod) *Resolved {
	if !hasOurKeys(pod.Annotations) && !hasOurKeys(pod.Labels) && !berthv1alpha1.AsksByResource(pod) {
		return nothing // nothing to parse, nothing to remember
	}
	var profile *berthv1alpha1.ModelProfile
	already := &told{}
	if known, ok := r.read.Load(pod.UID); ok {
		old := known.(*Resolved)
		if old.Model != "" {
			profile = r.Profiles.of(old.Model)
		}
		if old.podVersion == pod.ResourceVersion && old.profileVersion == versionOf(profile) {
			return old
		}
		already = old.told
	}
	parsed, err := berthv1alpha1.ParsePodRequest(pod)
	out := &Resolved{Err: err, podVersion: pod.ResourceVersion, told: already}
	if parsed != nil {
		if parsed.Model != "" {
			out.Model, out.Profile = parsed.Model, berthv1alpha1.ModelProfileName(parsed.Model)
			profile = r.Profiles.of(parsed.Model)
			out.profileVersion = versionOf(profile)
			if profile != nil && profile.Status.Model != nil {
				out.FileSize = profile.Status.Model.FileSize
			}
		}
		out.Request, out.Unresolved, out.Err = gpustate.NewRequest(pod, parsed, profile, r.Sizing)
	}
	if out.Request != nil {
		out.Shape = r.shapes.Of(out.Request)
	}
	r.read.Store(pod.UID, out)
	if !r.Exists(pod) {
		r.Forget(pod.UID) // nobody else would: that it is gone may have been told before
	}
	return out
}

// Forget forgets a pod that is bound or gone.
func (r *Reader) Forget(pod types.UID) { r.read.Delete(pod) }

// HandOff returns how the pod can be told its GPUs, or the reason why it cannot on any node. It is looked up anew in
// each cycle: a RuntimeClass comes and goes without a change of the pod.
func (r *Reader) HandOff(pod *corev1.Pod, request *gpustate.Request) (gpustate.HandOff, alloc.Reason) {
	h := request.HandOff
	h.Enforcement = r.Enforcement
	if h.LimitTold != gpustate.LimitToldNone && h.Enforcement != berthv1alpha1.EnforcementToolkit {
		return h, gpustate.ReasonLimitNotGiven
	}
	name := pod.Spec.RuntimeClassName
	if name == nil || *name == "" {
		return h, ""
	}
	class, err := r.Classes.Get(*name)
	if err != nil {
		return h, gpustate.ReasonNoRuntimeClass // the only error of a lister
	}
	h.Handler = class.Handler
	return h, ""
}

// nothing is what a pod without a request asks for.
var nothing = &Resolved{}

// hasOurKeys says whether there is anything of Berth's, be it misspelt, among annotations or labels.
func hasOurKeys(m map[string]string) bool {
	for key := range m {
		if strings.HasPrefix(key, berthv1alpha1.GroupName+"/") {
			return true
		}
	}
	return false
}
