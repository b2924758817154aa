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
	// EvenShares books on each GPU of a pod what the fullest of them needs: a container has one memory limit for all.
	EvenShares bool
}

// PeakMargin is what is booked beyond an observed peak: agents sample, so the true peak lies somewhat above what they saw.
func PeakMargin(peak alloc.Bytes) alloc.Bytes {
	return peak.DividedUp(50).Max(alloc.MiB(256))
}

// sizer finds out what a request needs on a kind of GPU.
type sizer struct {
	parsed *berthv1alpha1.PodRequest
	counts []int
	engine *engine
	// profile is what is known of the model, nil if nothing is.
	profile *berthv1alpha1.ModelProfile
	// namespace is the pod's, whose peaks count.
	namespace string
	sizing    Sizing
}

// key stands for all that the sizes follow from beside the options.
func (z *sizer) key() string {
	key := fmt.Sprint(z.engine.settings, z.engine.fraction, z.engine.told, z.engine.sized)
	if z.profile != nil {
		key += z.profile.Spec.Source + "@" + z.profile.ResourceVersion
		if len(z.profile.Status.ObservedPeaks) > 0 {
			key += " in " + z.namespace
		}
	}
	return key
}

// on returns the size on a kind of GPU.
func (z sizer) on(dev estimator.DeviceInfo) (*sizes, error) {
	if z.engine.told && z.engine.Share.NeedsModel && (z.parsed.TotalMemory != nil || z.profile == nil) {
		return nil, fmt.Errorf("%s is told its fraction by what is known of its model: name it in %s instead of %s, or write a fraction of your own",
			z.engine.Title, berthv1alpha1.AnnotationModel, berthv1alpha1.AnnotationGPUMemory)
	}
	s := &sizes{before: map[int]alloc.Bytes{}}
	var options []alloc.Option
	var err error
	if z.parsed.TotalMemory == nil {
		options, err = s.optionsOfModel(&z, dev)
	} else if options, err = s.optionsOfTotal(&z, dev); err == nil && z.profile != nil {
		s.compare(&z, options)
	}
	if err != nil {
		return nil, err
	}
	for i := range options {
		options[i].Alone = z.parsed.Sharing == berthv1alpha1.ShareNone
		if z.sizing.EvenShares {
			evenOut(options[i].Shares)
		}
	}
	s.request, err = alloc.NewRequest(options, z.engine.SplitsByLayers)
	return s, err
}

func evenOut(shares []alloc.Bytes) {
	largest := slices.MaxFunc(shares, alloc.Bytes.Compare)
	for i := range shares {
		shares[i] = largest
	}
}

// optionsOfTotal splits a total that an admin measured evenly over the devices of each count.
func (s *sizes) optionsOfTotal(z *sizer, dev estimator.DeviceInfo) ([]alloc.Option, error) {
	var options []alloc.Option
	for _, n := range z.counts {
		total, ok := z.parsed.TotalMemory[n]
		if !ok {
			total = z.parsed.TotalMemory[0]
		}
		share := alloc.BytesOfInt64(total).DividedUp(uint64(n))
		outside, before := z.engine.outside(dev, n, share)
		o := alloc.Option{
			Shares:             slices.Repeat([]alloc.Bytes{share}, n),
			TensorParallelSize: z.engine.tensorParallelSize(n),
			Take:               z.engine.take(dev, n),
			OfFree:             z.engine.ofFree(),
		}
		o.Outside = beside(outside, before, o.Take)
		s.before[n] = before
		if z.engine.told && !o.Outside.Less(share) {
			s.notes = append(s.notes, Note{
				Reason: "GPUMemoryTooSmall", Warning: true,
				Message: fmt.Sprintf("%d GPUs are not considered: %s on each is less than the %s that the engine needs outside its cache", n, share, o.Outside),
			})
			continue
		}
		options = append(options, o)
	}
	if len(options) == 0 {
		outside, _ := z.engine.outside(dev, z.counts[0], alloc.Bytes{})
		return nil, fmt.Errorf("%s leaves nothing for the model on any count of GPUs: %s needs %s on each GPU outside its cache",
			berthv1alpha1.AnnotationGPUMemory, z.engine.Name, outside)
	}
	return options, nil
}

// optionsOfModel sizes the options by the estimate of a model, corrected by what agents measured of pods that ran it
// with the same settings, in the pod's namespace or where an admin trusts it.
func (s *sizes) optionsOfModel(z *sizer, dev estimator.DeviceInfo) ([]alloc.Option, error) {
	source := z.profile.Spec.Source
	estimate, err := estimator.Estimate(z.profile.Status.Model, z.engine.settings, z.counts, dev)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	var options []alloc.Option
	for i := range estimate.Options {
		o := &estimate.Options[i]
		if i == 0 && !o.Feasible && dev.Total == 0 { // on any GPU
			s.notes = append(s.notes, Note{Reason: "EngineWillNotStart", Warning: true, Message: o.Reason})
		}
		shares := make([]alloc.Bytes, len(o.Devices))
		for j := range o.Devices {
			shares[j] = alloc.BytesOfInt64(o.Devices[j].Total)
		}
		outside := alloc.BytesOfInt64(o.Outside)
		var correction alloc.Bytes
		if peak := peakFor(z.profile, z.namespace, z.engine.settings, o.GPUCount); peak != nil {
			if z.engine.fillsBooking() {
				correction = s.addExcess(shares, peak)
				outside = outside.Plus(correction)
			} else {
				s.correct(shares, peak, z.sizing)
			}
		}
		s.corrections = append(s.corrections, correction)
		layers := inEngineOrder(shares, o)
		take, before := z.engine.take(dev, o.GPUCount), alloc.BytesOfInt64(o.Before)
		if z.engine.Share != nil && z.engine.Share.NeedsModel && before.IsZero() {
			outside, before = shares[0], shares[0] // estimated as another engine: all of it may be beside its cache
		}
		options = append(options, alloc.Option{
			Shares: shares, TensorParallelSize: o.TensorParallelSize, Take: take, OfFree: z.engine.ofFree(), Outside: beside(outside, before, take),
		})
		s.before[o.GPUCount] = before
		s.layerSplits = append(s.layerSplits, layers)
	}
	if len(options) == 0 {
		if len(estimate.Refused) > 0 {
			return nil, fmt.Errorf("%s: %s cannot use %d GPUs: %s", source, z.engine.Name, estimate.Refused[0].GPUCount, estimate.Refused[0].Reason)
		}
		return nil, fmt.Errorf("%s: no number of GPUs to consider", source)
	}
	if z.engine.Name == berthv1alpha1.RuntimeCustom && len(estimate.Notes) > 0 {
		s.notes = append(s.notes, Note{
			Reason:  "EngineAssumed",
			Message: fmt.Sprintf("nothing shows which engine the container runs (%s): name it in %s", estimate.Notes[0], berthv1alpha1.AnnotationRuntime),
		})
	}
	if estimate.Fallback {
		s.notes = append(s.notes, Note{
			Reason: "ModelArchitectureUnknown", Warning: true,
			Message: fmt.Sprintf("%s is of an architecture that is not known, or its configuration is incomplete: every layer is taken to attend to the whole context, and the real need may differ", source),
		})
	}
	return options, nil
}

// correct replaces shares by what was measured before: the larger of the two, or the measured peak alone where the
// admin trusts it. Both are largest first, so they match device by device.
func (s *sizes) correct(shares []alloc.Bytes, peak *peak, sizing Sizing) {
	before := shares[0]
	for i := range shares {
		measured := peak.devices[i]
		measured = measured.Plus(PeakMargin(measured))
		if sizing.TrustObservedPeaks {
			shares[i] = measured
		} else {
			shares[i] = shares[i].Max(measured)
		}
	}
	slices.SortFunc(shares, func(a, b alloc.Bytes) int { return b.Compare(a) })
	if shares[0] != before {
		s.notes = append(s.notes, Note{
			Reason: "BookingCorrected",
			Message: fmt.Sprintf("On %d GPUs the largest booking is %s instead of the estimated %s, because pods of this model %s were measured with a peak of %s",
				len(shares), shares[0], before, peak.where, peak.devices[0]),
		})
	}
}

// addExcess corrects an engine that fills whatever it is booked (vLLM's cache takes all that is left of its fraction):
// what it holds says nothing of what it needs, and booking that would raise the booking with every run. What counts
// is how far it was measured beyond its booking, which lies outside its fraction. It returns the excess.
func (s *sizes) addExcess(shares []alloc.Bytes, peak *peak) alloc.Bytes {
	if peak.excess.IsZero() {
		return peak.excess
	}
	for i := range shares {
		shares[i] = shares[i].Plus(peak.excess)
	}
	s.notes = append(s.notes, Note{
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
func (s *sizes) compare(z *sizer, stated []alloc.Option) {
	counts := make([]int, len(stated))
	for i := range stated {
		counts[i] = len(stated[i].Shares)
	}
	estimate, err := estimator.Estimate(z.profile.Status.Model, z.engine.settings, counts, estimator.DeviceInfo{})
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
		s.notes = append(s.notes, Note{
			Reason: "GPUMemoryFarFromEstimate", Warning: says.Less(needs),
			Message: fmt.Sprintf("On %d GPUs %s books %s on each, but %s is estimated to need up to %s on one; the annotation is booked",
				o.GPUCount, berthv1alpha1.AnnotationGPUMemory, says, z.profile.Spec.Source, needs),
		})
		return
	}
}
