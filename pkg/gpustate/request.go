// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
)

// Request is what a pod asks for, with its memory known: what the planner needs, and what the pod is told once it is
// placed.
type Request struct {
	alloc.Request
	// Runtime is the engine.
	Runtime berthv1alpha1.Runtime
	// Containers are the names of those that get the GPUs.
	Containers []string
	// HandOff is how they can be told, without the handler of the pod's RuntimeClass.
	HandOff HandOff
	// IdleAfter and MinRuntime are the pod's own terms as a victim.
	IdleAfter  time.Duration
	MinRuntime time.Duration
	// layerSplits has, for each option, the layers per device in the engine's order, where the model is known.
	layerSplits [][]int64
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
	engine := readEngine(parsed, containers[0])
	counts, err := engine.counts(parsed)
	if err != nil {
		return nil, nil, err
	}
	r := &Request{
		Runtime: engine.Name, HandOff: handOffOf(containers), IdleAfter: parsed.IdleAfter, MinRuntime: parsed.MinRuntime,
	}
	for _, c := range containers {
		r.Containers = append(r.Containers, c.Name)
	}
	var options []alloc.Option
	switch {
	case parsed.TotalMemory != nil:
		options, err = r.optionsOfTotal(parsed, counts, &engine)
		if profile != nil && profile.IsReady() {
			r.compare(profile, options, &engine)
		}
	case profile == nil || !profile.IsReady():
		return nil, &alloc.Unresolved{Model: parsed.Model, Why: profileState(profile)}, nil
	default:
		options, err = r.optionsOfModel(profile, counts, &engine, sizing)
	}
	if err != nil {
		return nil, nil, err
	}
	r.Notes = append(r.Notes, engine.notes...)
	if r.Request, err = alloc.NewRequest(options, engine.SplitsByLayers); err != nil {
		return nil, nil, err
	}
	return r, nil, nil
}

// optionsOfTotal splits a total that an admin measured evenly over the devices of each count.
func (r *Request) optionsOfTotal(parsed *berthv1alpha1.PodRequest, counts []int, engine *engine) ([]alloc.Option, error) {
	var options []alloc.Option
	for _, n := range counts {
		total, ok := parsed.TotalMemory[n]
		if !ok {
			total = parsed.TotalMemory[0]
		}
		share := alloc.BytesOfInt64(total).DividedUp(uint64(n))
		o := alloc.Option{
			Shares:             slices.Repeat([]alloc.Bytes{share}, n),
			TensorParallelSize: engine.tensorParallelSize(n),
			Take:               engine.take,
			Outside:            engine.outside(n),
		}
		if engine.told && !o.Outside.Less(share) {
			r.Notes = append(r.Notes, Note{
				Reason: "GPUMemoryTooSmall", Warning: true,
				Message: fmt.Sprintf("%d GPUs are not considered: %s on each is less than the %s that the engine needs outside its cache", n, share, o.Outside),
			})
			continue
		}
		options = append(options, o)
	}
	if len(options) == 0 {
		return nil, fmt.Errorf("%s leaves nothing for the model on any count of GPUs: %s needs %s on each GPU outside its cache",
			berthv1alpha1.AnnotationGPUMemory, parsed.Runtime, engine.outside(counts[0]))
	}
	return options, nil
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
