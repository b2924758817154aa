// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"cmp"
	"fmt"
	"strings"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/estimator"
)

// peak is what was measured of pods of a model, as far as it counts for a pod.
type peak struct {
	// devices is the most that each GPU held, largest first, and excess the most beyond what the estimate booked.
	devices []alloc.Bytes
	excess  alloc.Bytes
	// samples is how many pods it is the highest of.
	samples int
	// where says, for people, whose pods these were.
	where string
}

// peakFor returns what was measured of pods with the same settings and GPU count in a namespace; if nothing was, the
// largest of what was in the namespaces whose measurements an admin lets count for all; nil if that is nothing either.
// What others measure elsewhere is no business of the pod's: whoever can run a model could make it too large, or too
// small, for everybody else.
func peakFor(profile *berthv1alpha1.ModelProfile, namespace string, settings estimator.Settings, gpuCount int) *peak {
	find := func(namespace string) *berthv1alpha1.ObservedPeak {
		for i := range profile.Status.ObservedPeaks {
			p := &profile.Status.ObservedPeaks[i]
			if p.Namespace == namespace && p.Settings == settings && int(p.GPUCount) == gpuCount && len(p.Devices) == gpuCount {
				return p
			}
		}
		return nil
	}
	if namespace == "" {
		return nil // entries of older controllers have none either
	}
	if own := find(namespace); own != nil {
		p := &peak{devices: make([]alloc.Bytes, gpuCount), where: "in namespace " + namespace}
		p.raise(own)
		return p
	}
	shared := &peak{devices: make([]alloc.Bytes, gpuCount)}
	var from []string
	for _, other := range profile.Spec.PeaksFrom {
		if p := find(other); p != nil && other != "" {
			shared.raise(p)
			from = append(from, other)
		}
	}
	if len(from) == 0 {
		return nil
	}
	shared.where = fmt.Sprintf("in namespace %s, which an admin chose for all,", strings.Join(from, ", "))
	return shared
}

func (p *peak) raise(o *berthv1alpha1.ObservedPeak) {
	for i := range p.devices {
		p.devices[i] = p.devices[i].Max(bytesOf(&o.Devices[i]))
	}
	p.excess = p.excess.Max(bytesOf(&o.Excess))
	p.samples += cmp.Or(len(o.Runs), int(o.Samples))
}
