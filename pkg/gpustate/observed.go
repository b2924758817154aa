// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
)

// Observed is what agents measured that says what a pod needs. It is what a booking is corrected by, told to people.
type Observed struct {
	// Request is what the pod asks for, and Counts the numbers of GPUs that it can be placed on.
	Request *berthv1alpha1.PodRequest
	Counts  []int
	// Engine is the title of the pod's engine. Fills says that it takes all that it is booked, so that what it holds says
	// nothing of what it needs; then there is no peak.
	Engine string
	Fills  bool
	// Peak is the most that each GPU held, largest first; nil if nothing was measured that counts for the pod.
	Peak []alloc.Bytes
	// Samples is how many pods it is the highest of, and Where says, for people, whose they were.
	Samples int
	Where   string
}

// ObservedOf returns what was measured of pods like one, on a number of GPUs: of the same model, settings and namespace, or
// where an admin lets others count. profile is that of the pod's model, nil if there is none. It is nil if the pod asks for
// nothing.
func ObservedOf(pod *corev1.Pod, profile *berthv1alpha1.ModelProfile, gpus int) (*Observed, error) {
	parsed, err := berthv1alpha1.ParsePodRequest(pod)
	if err != nil || parsed == nil {
		return nil, err
	}
	containers, err := gpuContainers(pod)
	if err != nil {
		return nil, err
	}
	engine, err := readEngine(pod, parsed, containers[0])
	if err != nil {
		return nil, err
	}
	o := &Observed{Request: parsed, Engine: engine.Title, Fills: engine.fillsBooking()}
	if o.Counts, err = engine.counts(parsed); err != nil {
		return nil, err
	}
	if o.Fills || profile == nil {
		return o, nil
	}
	if p := peakFor(profile, pod.Namespace, engine.settings, gpus); p != nil {
		o.Peak, o.Samples, o.Where = p.devices, p.samples, p.where
	}
	return o, nil
}
