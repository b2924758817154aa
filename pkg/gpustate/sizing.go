// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"fmt"
	"slices"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/estimator"
)

// Sizing is what an admin set about how memory is booked for a model that is looked up.
type Sizing struct {
	// TrustObservedPeaks books what was measured before alone, without the estimate, where there is a measurement.
	TrustObservedPeaks bool
}

// peakMargin is added to an observed peak: agents sample, so the true peak lies somewhat above what they saw.
func peakMargin(peak alloc.Bytes) alloc.Bytes {
	return peak.DividedUp(50).Max(alloc.MiB(256))
}

// optionsOfModel sizes the options by the estimate of a model, corrected by what agents measured of pods that ran it
// with the same settings, in the pod's namespace or where an admin trusts it.
func (r *Request) optionsOfModel(profile *berthv1alpha1.ModelProfile, namespace string, counts []int, engine *engine, sizing Sizing) ([]alloc.Option, error) {
	estimate, err := estimator.Estimate(profile.Status.Model, engine.settings, counts, estimator.DeviceInfo{})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", profile.Spec.Source, err)
	}
	var options []alloc.Option
	for i := range estimate.Options {
		o := &estimate.Options[i]
		shares := make([]alloc.Bytes, len(o.Devices))
		for j := range o.Devices {
			shares[j] = alloc.BytesOfInt64(o.Devices[j].Total)
		}
		outside := alloc.BytesOfInt64(o.Outside)
		var correction alloc.Bytes
		if peak := peakFor(profile, namespace, engine.settings, o.GPUCount); peak != nil {
			if engine.fillsBooking() {
				correction = r.addExcess(shares, peak)
				outside = outside.Plus(correction)
			} else {
				r.correct(shares, peak, sizing)
			}
		}
		r.corrections = append(r.corrections, correction)
		layers := inEngineOrder(shares, o)
		options = append(options, alloc.Option{
			Shares: shares, TensorParallelSize: o.TensorParallelSize, Take: engine.take, Outside: outside,
		})
		r.layerSplits = append(r.layerSplits, layers)
	}
	if len(options) == 0 {
		if len(estimate.Refused) > 0 {
			return nil, fmt.Errorf("%s: %s cannot use %d GPUs: %s", profile.Spec.Source, r.Runtime, estimate.Refused[0].GPUCount, estimate.Refused[0].Reason)
		}
		return nil, fmt.Errorf("%s: no number of GPUs to consider", profile.Spec.Source)
	}
	if estimate.Fallback {
		r.Notes = append(r.Notes, Note{
			Reason: "ModelArchitectureUnknown", Warning: true,
			Message: fmt.Sprintf("%s is of an architecture that is not known: its memory is an upper bound from its file size", profile.Spec.Source),
		})
	}
	return options, nil
}

// correct replaces shares by what was measured before: the larger of the two, or the measured peak alone where the
// admin trusts it. Both are largest first, so they match device by device.
func (r *Request) correct(shares []alloc.Bytes, peak *peak, sizing Sizing) {
	before := shares[0]
	for i := range shares {
		measured := peak.devices[i]
		measured = measured.Plus(peakMargin(measured))
		if sizing.TrustObservedPeaks {
			shares[i] = measured
		} else {
			shares[i] = shares[i].Max(measured)
		}
	}
	slices.SortFunc(shares, func(a, b alloc.Bytes) int { return b.Compare(a) })
	if shares[0] != before {
		r.Notes = append(r.Notes, Note{
			Reason: "BookingCorrected",
			Message: fmt.Sprintf("On %d GPUs the largest booking is %s instead of the estimated %s, because pods of this model %s were measured with a peak of %s",
				len(shares), shares[0], before, peak.where, peak.devices[0]),
		})
	}
}

// addExcess corrects an engine that fills whatever it is booked (vLLM's cache takes all that is left of its fraction):
// what it holds says nothing of what it needs, and booking that would raise the booking with every run. What counts
// is how far it was measured beyond its booking, which lies outside its fraction. It returns the excess.
func (r *Request) addExcess(shares []alloc.Bytes, peak *peak) alloc.Bytes {
	if peak.excess.IsZero() {
		return peak.excess
	}
	for i := range shares {
		shares[i] = shares[i].Plus(peak.excess)
	}
	r.Notes = append(r.Notes, Note{
		Reason: "BookingCorrected",
		Message: fmt.Sprintf("On %d GPUs the booking is raised by %s to %s, because pods of this model %s were measured to hold that much beyond theirs",
			len(shares), peak.excess, shares[0], peak.where),
	})
	return peak.excess
}

// inEngineOrder makes the shares of an engine that splits by layers fit whatever devices are chosen, and returns the
// layers per device in the engine's own order. Such an engine puts the output layer on its last device, and which of
// the chosen ones that is the planner does not know; so each device books what the largest share needs (they differ
// by a layer or two), and the last gets the layers of the device with the output layer. Nil for other engines.
func inEngineOrder(shares []alloc.Bytes, o *estimator.Option) []int64 {
	if len(o.LayerSplit) != len(shares) || o.OutputDevice < 0 || o.OutputDevice >= len(shares) {
		return nil
	}
	for i := range shares {
		shares[i] = shares[0]
	}
	layers := slices.Delete(slices.Clone(o.LayerSplit), o.OutputDevice, o.OutputDevice+1)
	return append(layers, o.LayerSplit[o.OutputDevice])
}

// compare notes where the totals that the pod states are far from the estimate of its model: one of them is wrong, and
// too little is an out-of-memory error. The stated totals are booked all the same.
func (r *Request) compare(profile *berthv1alpha1.ModelProfile, stated []alloc.Option, engine *engine) {
	counts := make([]int, len(stated))
	for i := range stated {
		counts[i] = len(stated[i].Shares)
	}
	estimate, err := estimator.Estimate(profile.Status.Model, engine.settings, counts, estimator.DeviceInfo{})
	if err != nil {
		return
	}
	for i := range estimate.Options {
		o := &estimate.Options[i]
		j := slices.Index(counts, o.GPUCount)
		says, needs := stated[j].Shares[0], alloc.BytesOfInt64(o.Devices[0].Total)
		gap := needs.Minus(says).Plus(says.Minus(needs))
		if gap.Compare(needs.DividedUp(4).Max(alloc.GiB(2))) <= 0 {
			continue
		}
		r.Notes = append(r.Notes, Note{
			Reason: "GPUMemoryFarFromEstimate", Warning: says.Less(needs),
			Message: fmt.Sprintf("On %d GPUs %s books %s on each, but %s is estimated to need up to %s on one; the annotation is booked",
				o.GPUCount, berthv1alpha1.AnnotationGPUMemory, says, profile.Spec.Source, needs),
		})
		return
	}
}
