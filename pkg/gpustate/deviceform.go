// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
)

// HandOff is how a pod's containers can be told their GPUs: what Forms found in the pod, and the handler of its
// RuntimeClass. It is comparable.
type HandOff struct {
	// Handler is the runtime handler that the pod's RuntimeClass names; empty for the node's default runtime.
	Handler string
	// OnlyUUIDs says that a container refers to bare UUIDs, so that it is of no use to hand it anything else.
	OnlyUUIDs bool
	// NoNRI says that the name of a container is too long for the annotation that an NRI plugin reads.
	NoNRI bool
	// Enforcement is the scheduler's argument: who holds containers to what is booked; empty for nobody.
	Enforcement berthv1alpha1.Enforcement
	// RunAtOnce says that several containers share the pod's booking at the same time.
	RunAtOnce bool
	// NoGPUSharing says that the name of a container is too long for the annotations that fractiond reads.
	NoGPUSharing bool
	// LimitTold is how many of its containers refer to a memory limit.
	LimitTold LimitTold
}

// maxNRIName is how long the name of a container can be in an annotation's key, whose part behind the slash, with
// "container.", has at most 63 characters.
const maxNRIName = 63 - len("container.")

// handOffOf reads how the containers that get the GPUs can be told them.
func handOffOf(pod *corev1.Pod, gpuContainers []*corev1.Container) HandOff {
	h := HandOff{RunAtOnce: runAtOnce(pod, gpuContainers), LimitTold: limitToldTo(gpuContainers)}
	for _, c := range gpuContainers {
		h.OnlyUUIDs = h.OnlyUUIDs || berthv1alpha1.WantsUUIDs(c)
		h.NoNRI = h.NoNRI || len(c.Name) > maxNRIName
		h.NoGPUSharing = h.NoGPUSharing || len(c.Name) > berthv1alpha1.MaxGPUSharingName
	}
	return h
}

// FormOn returns the form in which a node is told the pod's GPUs, or the reason why the pod cannot be there: there is no form, or
// no memory limit where there has to be one.
func (h *HandOff) FormOn(node *corev1.Node, report *Report) (berthv1alpha1.DeviceForm, alloc.Reason) {
	form, reason := h.formOn(node, report)
	if reason == "" {
		_, reason = h.LimitOn(node, report, form)
	}
	if reason != "" {
		return "", reason
	}
	return form, ""
}

// formOn returns the form in which a node is told the pod's GPUs, or the reason why there is none. An admin's
// annotation on the node wins over what the agent reports. Where nothing is known of the pod's runtime handler (the
// agent is older, or has not looked at it), the qualified CDI names are taken: nvidia-container-runtime resolves them in
// every mode but "legacy" since 1.17, while bare UUIDs fail in the default configuration of the GPU operator since 25.10.
// It does a few look-ups and parses nothing: it runs for each pod and node.
func (h *HandOff) formOn(node *corev1.Node, report *Report) (berthv1alpha1.DeviceForm, alloc.Reason) {
	if h.Handler != "" && !hasHandler(node, h.Handler) {
		return "", ReasonNoRuntimeHandler
	}
	if override, ok := node.Annotations[berthv1alpha1.AnnotationHandOff]; ok {
		form := berthv1alpha1.DeviceForm(override)
		if !isForm(form) {
			return "", ReasonHandOffOverride
		}
		if reason := h.refuses(form); reason != "" {
			return "", reason
		}
		return form, ""
	}
	runtime, known := report.handOff[h.Handler]
	accepts := runtime.accepts
	switch {
	case !known && h.OnlyUUIDs:
		return berthv1alpha1.DeviceFormUUID, ""
	case !known:
		return berthv1alpha1.DeviceFormCDI, ""
	case len(accepts) == 0:
		return "", ReasonNoHandOff
	}
	for _, form := range accepts {
		if h.refuses(form) == "" {
			return form, ""
		}
	}
	return "", h.refuses(accepts[0])
}

// refuses says why the pod cannot be told its GPUs in a form; empty if it can.
func (h *HandOff) refuses(form berthv1alpha1.DeviceForm) alloc.Reason {
	switch {
	case h.OnlyUUIDs && form != berthv1alpha1.DeviceFormUUID:
		return ReasonOnlyUUIDs
	case h.NoNRI && form == berthv1alpha1.DeviceFormNRI:
		return ReasonLongName
	}
	return ""
}

// hasHandler says whether a node has a runtime handler. Container runtimes before containerd 2.0 and CRI-O 1.30, and
// kubelets that do not ask, list none: then it is not known, and the kubelet refuses the pod if it is missing.
func hasHandler(node *corev1.Node, handler string) bool {
	handlers := node.Status.RuntimeHandlers
	return len(handlers) == 0 || slices.ContainsFunc(handlers, func(h corev1.NodeRuntimeHandler) bool { return h.Name == handler })
}

// readHandOff returns the forms that each runtime handler of a report takes; nil if nothing is known. A form that this
// version does not know is none.
func readHandOff(h *berthv1alpha1.HandOff) map[string]runtimeForms {
	runtimes := RuntimesOf(h)
	if len(runtimes) == 0 {
		return nil
	}
	out := make(map[string]runtimeForms, len(runtimes))
	for i := range runtimes {
		r := runtimeForms{note: runtimes[i].Message}
		if l := runtimes[i].MemoryLimits; l != nil {
			r.limits = *l
		}
		for _, form := range runtimes[i].Accepts {
			if isForm(form) {
				r.accepts = append(r.accepts, form)
			}
		}
		out[runtimes[i].Handler] = r
	}
	return out
}

// runtimeForms is what a runtime handler takes.
type runtimeForms struct {
	// accepts are the forms, the preferred one first; none if it takes no GPUs from Berth.
	accepts []berthv1alpha1.DeviceForm
	// note is what was found of it, for people.
	note string
	// limits is what becomes of a memory limit; its state is empty if that is not known.
	limits berthv1alpha1.MemoryLimits
}

func (r runtimeForms) equal(o runtimeForms) bool {
	return slices.Equal(r.accepts, o.accepts) && r.limits.State == o.limits.State
}

// KnowsHandOff says whether the agent told what a runtime handler takes.
func (r *Report) KnowsHandOff(handler string) bool {
	_, known := r.handOff[handler]
	return known
}

// LimitsNote is what the agent says of memory limits with a runtime handler, for people; empty if it says nothing.
func (r *Report) LimitsNote(handler string) string { return r.handOff[handler].limits.Message }

// HandOffNote is what the agent says of a runtime handler, for people; empty if it says nothing.
func (r *Report) HandOffNote(handler string) string { return r.handOff[handler].note }

func isForm(f berthv1alpha1.DeviceForm) bool {
	return f == berthv1alpha1.DeviceFormCDI || f == berthv1alpha1.DeviceFormUUID || f == berthv1alpha1.DeviceFormNRI
}

// HandOffProblems says, for people, what is known to be in the way on a node on which no runtime handler takes GPUs from
// Berth; nil if one does, or if nothing is known, or if an admin overrides what was found.
func HandOffProblems(node *corev1.Node, h *berthv1alpha1.HandOff) []string {
	if override, ok := node.Annotations[berthv1alpha1.AnnotationHandOff]; ok {
		if isForm(berthv1alpha1.DeviceForm(override)) {
			return nil
		}
		return []string{"its annotation " + berthv1alpha1.AnnotationHandOff + " is none of CDI, UUID and NRI"}
	}
	var problems []string
	runtimes := RuntimesOf(h)
	for i := range runtimes {
		r := &runtimes[i]
		if len(r.Accepts) > 0 {
			return nil
		}
		name := "its default runtime"
		if r.Handler != "" {
			name = "its runtime handler " + r.Handler
		}
		problem := name + " takes no GPUs from Berth"
		if r.Message != "" {
			problem += ": " + r.Message
		}
		problems = append(problems, problem)
	}
	return problems
}

// visibleDevices is the value of the annotation berth.dev/visible-devices in a form. Where an NRI plugin hands the
// devices over it is "void", so that a runtime that reads the variable adds none of its own.
func visibleDevices(a *Allocation, form berthv1alpha1.DeviceForm) string {
	switch form {
	case berthv1alpha1.DeviceFormNRI:
		return berthv1alpha1.VisibleDevicesVoid
	case berthv1alpha1.DeviceFormUUID:
		return a.UUIDs()
	}
	return a.qualified(berthv1alpha1.CDIKindRuntime)
}

// qualified lists the devices as CDI names of a kind. Each is qualified: a runtime in mode "auto" takes a list for CDI
// names only if all its elements are.
func (a *Allocation) qualified(kind string) string {
	names := make([]string, len(a.Devices))
	for i, d := range a.Devices {
		names[i] = kind + "=" + d.UUID
	}
	return strings.Join(names, ",")
}
