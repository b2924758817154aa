// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package noderesource says how much GPU memory a node advertises as a resource. It is pure: reports and pods in, bytes out.
package noderesource

import (
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// LowerAfter is how long a node must have less than it advertises until it advertises less: a driver that is loaded anew
// reports no GPU for a while.
const LowerAfter = 10 * time.Minute

// Advertised returns what a node advertises, in bytes: what pods can be given of its GPUs, whatever their health, as the scheduler
// counts it; of a GPU that pods still have and that the report lacks, what they have booked; and never less than what the
// pods on it ask for, for a kubelet that starts anew takes them in one by one until nothing is left. pods are those that are
// bound to the node.
func Advertised(devices []berthv1alpha1.GPUDevice, headroom alloc.Bytes, pods []*corev1.Pod) int64 {
	var sum, asked alloc.Bytes
	reported, cut := map[string]bool{}, map[string]bool{}
	for i := range devices {
		reported[devices[i].UUID] = true
		cut[devices[i].Parent] = true // into instances, which count in its place
	}
	for i := range devices {
		if d := &devices[i]; !cut[d.UUID] {
			sum = sum.Plus(alloc.BytesOfInt64(d.Memory.Total.Value()).Minus(alloc.BytesOfInt64(d.Memory.Reserved.Value())).Minus(headroom))
		}
	}
	for _, pod := range pods {
		if gpustate.HasEnded(pod) {
			continue
		}
		asked = asked.Plus(alloc.BytesOfInt64(Asked(pod)))
		booked, err := gpustate.DecodeAllocation(pod.Annotations[berthv1alpha1.AnnotationAllocation])
		if err != nil {
			continue // what it asks for counts
		}
		for _, d := range booked.Devices {
			if !reported[d.UUID] {
				sum = sum.Plus(d.Memory)
			}
		}
	}
	return int64(min(sum.Max(asked).Uint64(), math.MaxInt64))
}

// Asked returns what a pod asks for by the resource, in bytes, as kubelets count it. It reads what Trim left.
func Asked(pod *corev1.Pod) int64 {
	if pod.Spec.Resources == nil {
		return 0
	}
	q := pod.Spec.Resources.Requests[berthv1alpha1.ResourceGPUMemory]
	return q.Value()
}

// Step says what becomes of what a node advertises. has is what it does now, negative for nothing, and want what it should;
// since is since when it should be less, the zero time if it should not have been before. It returns what to write, negative
// for nothing, and whether to; else, if it is to be less, when that is due.
func Step(has, want int64, since, now time.Time) (write int64, due bool, at time.Time) {
	switch {
	case want > has && want > 0:
		return want, true, time.Time{}
	case want == has || want <= 0 && has < 0:
		return has, false, time.Time{}
	case since.IsZero():
		return has, false, now.Add(LowerAfter)
	case now.Before(since.Add(LowerAfter)):
		return has, false, since.Add(LowerAfter)
	case want <= 0:
		return -1, true, time.Time{}
	}
	return want, true, time.Time{}
}
