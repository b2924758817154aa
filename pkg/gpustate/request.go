// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/estimator"
)

// Request is what a pod asks for, with its memory known: what the planner needs, and what the pod is told once it is
// placed.
type Request struct {
	// Request is what it asks for of GPUs of which nothing is known; On says what it asks for of those of a node.
	alloc.Request
	// Runtime is the engine.
	Runtime berthv1alpha1.Runtime
	// Company is next to whom it may be.
	Company Company
	// Containers are the names of those that get the GPUs.
	Containers []string
	// told is the variable of a fraction of what is free that the command refers to, empty if it refers to none.
	told string
	// HandOff is how they can be told, without the handler of the pod's RuntimeClass.
	HandOff HandOff
	// IdleAfter and MinRuntime are the pod's own terms as a victim.
	IdleAfter  time.Duration
	MinRuntime time.Duration
	kinds
	// Notes are what a user may want to know of how the request was read.
	Notes []Note
}

// Note is something to tell the pod's owner by an Event.
type Note struct {
	// Reason is the Event's reason, in CamelCase.
	Reason string
	// Message is for people.
	Message string
	// Warning marks notes that ask for action.
	Warning bool
}

// NewRequest resolves what a pod asks for. parsed is its annotations; profile is what is known of its model, nil if
// nothing is. Exactly one of the results is not nil: a request, what it waits for, or why it is invalid.
func NewRequest(pod *corev1.Pod, parsed *berthv1alpha1.PodRequest, profile *berthv1alpha1.ModelProfile, sizing Sizing) (*Request, *alloc.Unresolved, error) {
	containers, err := gpuContainers(pod)
	if err != nil {
		return nil, nil, err
	}
	engine, err := readEngine(pod, parsed, containers[0])
	if err != nil {
		return nil, nil, err
	}
	counts, err := engine.counts(parsed)
	if err != nil {
		return nil, nil, err
	}
	if engine.onSeveral != "" && slices.Max(counts) > 1 {
		engine.notes = append(engine.notes, Note{Reason: "OnSeveralGPUs", Message: engine.onSeveral})
	}
	r := &Request{
		Runtime: engine.Name, HandOff: handOffOf(pod, containers), IdleAfter: parsed.IdleAfter, MinRuntime: parsed.MinRuntime,
		Company: companyOf(pod),
	}
	for _, c := range containers {
		r.Containers = append(r.Containers, c.Name)
	}
	if engine.ofFree() && engine.told {
		r.told = engine.Share.Variable
	}
	known := profile != nil && profile.IsReady()
	if parsed.TotalMemory == nil && !known {
		return nil, &alloc.Unresolved{Model: parsed.Model, Why: profileState(profile)}, nil
	}
	z := sizer{parsed: parsed, counts: counts, engine: &engine, namespace: pod.Namespace, sizing: sizing}
	if known {
		z.profile = profile
	}
	if r.general, err = z.on(estimator.DeviceInfo{}); err != nil {
		return nil, nil, err
	}
	r.Request, r.Notes = r.general.request, append(r.general.notes, engine.notes...)
	if parsed.TotalMemory == nil || engine.Share != nil {
		r.size, r.sizing = z.on, z.key()
	}
	return r, nil, nil
}

// gpuContainers returns the containers that share the GPUs; the first is the one whose engine they are for.
func gpuContainers(pod *corev1.Pod) ([]*corev1.Container, error) {
	names, err := berthv1alpha1.GPUContainers(pod)
	if err != nil {
		return nil, err
	}
	out := make([]*corev1.Container, 0, len(names))
	for _, name := range names {
		for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
			if i := slices.IndexFunc(list, func(c corev1.Container) bool { return c.Name == name }); i >= 0 {
				out = append(out, &list[i])
				break // names are unique over both lists
			}
		}
	}
	return out, nil
}

// HasReference says whether each of the pod's containers that get GPUs will be told them: without it an image with
// NVIDIA_VISIBLE_DEVICES=all baked in would see every GPU of the node.
func HasReference(pod *corev1.Pod) bool {
	containers, err := gpuContainers(pod)
	return err == nil && !slices.ContainsFunc(containers, func(c *corev1.Container) bool { return !berthv1alpha1.HasReference(c) })
}

// profileState says, for people, what a pod waits for.
func profileState(p *berthv1alpha1.ModelProfile) string {
	if p == nil {
		return "no ModelProfile yet"
	}
	if c := p.ReadyCondition(); c != nil {
		return c.Reason + ": " + c.Message
	}
	return "the controller has not seen the ModelProfile yet"
}
