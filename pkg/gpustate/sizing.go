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
// with the same settings.
func (r *Request) optionsOfModel(profile *berthv1alpha1.ModelProfile, counts []int, engine *engine, sizing Sizing) ([]alloc.Option, error) {
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
		r.correct(shares, observedPeak(profile, engine.settings, o.GPUCount), sizing)
		options = append(options, alloc.Option{
			Shares: shares, TensorParallelSize: o.TensorParallelSize,
			Take: engine.take, Outside: alloc.BytesOfInt64(o.Outside),
		})
		r.layerSplits = append(r.layerSplits, o.LayerSplit)
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
// admin trusts it. peak is nil if nothing was measured. Both are largest first, so they match device by device.
func (r *Request) correct(shares, peak []alloc.Bytes, sizing Sizing) {
	if len(peak) != len(shares) {
		return
	}
	before := shares[0]
	for i := range shares {
		measured := peak[i].Plus(peakMargin(peak[i]))
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
			Message: fmt.Sprintf("On %d GPUs the largest booking is %s instead of the estimated %s, because pods of this model were measured with a peak of %s",
				len(shares), shares[0], before, peak[0]),
		})
	}
}

// observedPeak returns the peak per device, largest first, of pods with the same settings and GPU count; nil if none
// was measured.
func observedPeak(profile *berthv1alpha1.ModelProfile, settings estimator.Settings, gpuCount int) []alloc.Bytes {
	for i := range profile.Status.ObservedPeaks {
		p := &profile.Status.ObservedPeaks[i]
		if p.Settings != settings || int(p.GPUCount) != gpuCount || len(p.Devices) != gpuCount {
			continue
		}
		out := make([]alloc.Bytes, gpuCount)
		for j := range p.Devices {
			out[j] = bytesOf(&p.Devices[j])
		}
		return out
	}
	return nil
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
