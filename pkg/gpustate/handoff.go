// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
)

// Allocation returns what an allocation that was planned on a node books for the pod of this request: the shares of its plan,
// or the devices whole, so that nobody can be placed beside it by any version of the scheduler.
func (r *Request) Allocation(a *alloc.Allocation, node *alloc.Node) *Allocation {
	booked := &Allocation{Devices: slices.Clone(a.Devices), TensorParallelSize: a.TensorParallelSize, Runtime: r.Runtime}
	if corrections := r.sizedOn(node).corrections; a.Option < len(corrections) {
		booked.Correction = corrections[a.Option]
	}
	for i := range a.Devices {
		for j := range node.Devices {
			if node.Devices[j].UUID == a.Devices[i].UUID {
				booked.setParent(i, node.Devices[j].Parent)
				if r.Company.Sharing == berthv1alpha1.ShareNone {
					booked.Devices[i].Memory = node.Devices[j].Capacity
				}
			}
		}
	}
	return booked
}

// Annotations returns what the pod is told of its allocation on a node, from which its environment is made. form is
// what the node's container runtime takes, and limit who holds the containers to what is booked.
func (r *Request) Annotations(a *alloc.Allocation, node *alloc.Node, form berthv1alpha1.DeviceForm, limit berthv1alpha1.Enforcement) (map[string]string, error) {
	booked, sizes := r.Allocation(a, node), r.sizedOn(node)
	encoded, err := EncodeAllocation(booked)
	if err != nil {
		return nil, err
	}
	out := map[string]string{
		berthv1alpha1.AnnotationAllocation:         encoded,
		berthv1alpha1.AnnotationGPUUUIDs:           booked.UUIDs(),
		berthv1alpha1.AnnotationVisibleDevices:     visibleDevices(booked, form),
		berthv1alpha1.AnnotationTensorParallelSize: strconv.Itoa(a.TensorParallelSize),
		berthv1alpha1.AnnotationTensorSplit:        sizes.tensorSplit(a),
	}
	if ratio := utilization(a, node, sizes.request.Options()[a.Option].Outside); ratio > 0 {
		out[berthv1alpha1.AnnotationGPUMemoryUtilization] = formatRatio(ratio)
	}
	if key := freeFractions[r.told]; key != "" {
		outside, before := sizes.request.Options()[a.Option].Outside, sizes.before[len(a.Devices)]
		if ratio := fractionOfFree(a, node, outside, before); ratio > 0 {
			out[key] = formatRatio(ratio)
		}
	}
	if form == berthv1alpha1.DeviceFormNRI {
		for _, name := range r.Containers {
			out[berthv1alpha1.NRIAnnotationPrefix+name] = booked.qualified(berthv1alpha1.CDIKind)
		}
	}
	return out, booked.addLimit(out, limit, r.Containers)
}

// utilization is the largest fraction of a device that an engine may take on every device of the allocation so that
// its process stays within its booking: the least of (booked − outside) / total, where outside is what the process
// takes beside its fraction. All ranks of an engine are given one fraction, so the tightest device decides.
func utilization(a *alloc.Allocation, node *alloc.Node, outside alloc.Bytes) alloc.Ratio {
	least := alloc.RatioOne
	for _, share := range a.Devices {
		total := alloc.Bytes{}
		for i := range node.Devices {
			if node.Devices[i].UUID == share.UUID {
				total = node.Devices[i].Total
			}
		}
		least = min(least, share.Memory.Minus(outside).FractionOf(total))
	}
	return least
}

// freeFractions are the annotations that engines are told a fraction of what is free by, under their variables.
var freeFractions = map[string]string{
	berthv1alpha1.EnvMemFractionStatic:     berthv1alpha1.AnnotationMemFractionStatic,
	berthv1alpha1.EnvFreeGPUMemoryFraction: berthv1alpha1.AnnotationFreeGPUMemoryFraction,
}

// fractionOfFree is the largest fraction of what is free when it starts that an engine may take so that its process stays
// within its booking: (booked − outside) / (free − before), where free is what nobody holds by the last report. Its ranks
// go by the least free of their GPUs (see package estimator).
//
// Until the engine is ready nobody else is placed there (the loader rule), so what is free can only grow meanwhile, when
// somebody leaves; then it takes more than it was given, as it would by a fraction of its own.
func fractionOfFree(a *alloc.Allocation, node *alloc.Node, outside, before alloc.Bytes) alloc.Ratio {
	var booked, free alloc.Bytes
	for j, share := range a.Devices {
		unused := alloc.Bytes{}
		for i := range node.Devices {
			if node.Devices[i].UUID == share.UUID {
				unused = node.Devices[i].Unused
			}
		}
		if j == 0 || share.Memory.Less(booked) {
			booked = share.Memory
		}
		if j == 0 || unused.Less(free) {
			free = unused
		}
	}
	return booked.Minus(outside).FractionOf(free.Minus(before))
}

// formatRatio writes a ratio with three decimals, rounded down: what every version of vLLM reads.
func formatRatio(r alloc.Ratio) string {
	return fmt.Sprintf("%d.%03d", r/alloc.RatioOne, r%alloc.RatioOne/1000)
}

// tensorSplit is llama.cpp's --tensor-split: the layers per device, in the engine's order, where the model is known,
// else proportions of the booked memory in MiB. It is never empty, which llama.cpp would not parse.
func (s *sizes) tensorSplit(a *alloc.Allocation) string {
	parts := make([]string, len(a.Devices))
	for i, share := range a.Devices {
		parts[i] = strconv.FormatUint(max(share.Memory.Uint64()>>20, 1), 10)
	}
	if a.Option < len(s.layerSplits) && len(s.layerSplits[a.Option]) == len(parts) {
		for i, layers := range s.layerSplits[a.Option] {
			parts[i] = strconv.FormatInt(layers, 10)
		}
	}
	return strings.Join(parts, ",")
}
