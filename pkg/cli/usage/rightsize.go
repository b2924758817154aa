// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package usage

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// Advice is a pod whose booking is far from what was measured. All memory is over its GPUs, in bytes.
type Advice struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	GPUs      int    `json:"gpus"`
	Booked    int64  `json:"booked"`
	// Peak is the most that such pods, or this one now, were measured to hold; Samples is how many, and Where says of whom.
	Peak    int64  `json:"peak"`
	Samples int    `json:"samples"`
	Where   string `json:"where"`
	// Measured is what it holds now; 0 if it is not measured.
	Measured int64 `json:"measured"`
	// Needs is what the line books: the peak, with the margin that the scheduler adds to a peak, rounded up.
	Needs int64 `json:"needs"`
	// Line is what to write among the annotations of the pod's template; empty if no line says it, and Hint what to do instead.
	Line string `json:"line,omitempty"`
	Hint string `json:"hint,omitempty"`
}

// Unsized is a pod of which it cannot be said what it needs.
type Unsized struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Reason    string `json:"reason"`
}

const (
	// A booking is worth a line if it is smaller by a tenth and by 1Gi, or if it was exceeded by more than agents' quantum.
	leastSaving = int64(1) << 30
	quantum     = int64(64) << 20
	// Lines have whole GiB on each GPU, below coarse whole quarters.
	coarse = int64(4) << 30
)

// rightSizing compares bookings with what was measured.
func (b *builder) rightSizing(o *Objects) (advice []Advice, unsized []Unsized) {
	advice, unsized = []Advice{}, []Unsized{}
	byPod := map[*pod][]*holding{}
	for i := range b.holdings {
		h := &b.holdings[i]
		byPod[h.pod] = append(byPod[h.pod], h)
	}
	for p, held := range byPod {
		if p.object == nil || p.object.Annotations[berthv1alpha1.AnnotationAllocation] == "" {
			continue // not Berth's to size
		}
		a, reason := adviceFor(o, p.object, held)
		switch {
		case reason != "":
			unsized = append(unsized, Unsized{p.namespace, p.name, reason})
		case a != nil:
			advice = append(advice, *a)
		}
	}
	slices.SortFunc(advice, func(a, b Advice) int {
		return cmp.Or(cmp.Compare(b.far(), a.far()), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(unsized, func(a, b Unsized) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return advice, unsized
}

// far is how far a booking is from the need.
func (a *Advice) far() int64 { return max(a.Booked-a.Needs, a.Needs-a.Booked) }

// adviceFor says what a pod should book, nil if about what it does; reason says why that cannot be said.
func adviceFor(o *Objects, pod *corev1.Pod, held []*holding) (a *Advice, reason string) {
	booking, err := gpustate.BookingOf(pod)
	if err != nil || booking.Whole {
		return nil, "what it books cannot be read"
	}
	profile := profileOf(o, pod)
	seen, err := gpustate.ObservedOf(pod, profile, len(booking.Devices))
	switch {
	case err != nil:
		return nil, "its request cannot be read: " + err.Error()
	case seen == nil:
		return nil, "it has a booking and no request"
	case seen.Fills:
		return nil, seen.Engine + " takes all that it is booked, so what it holds says nothing of what it needs"
	case seen.Request.Sharing == berthv1alpha1.ShareNone:
		return nil, "it has its GPUs to itself (" + berthv1alpha1.AnnotationGPUSharing + "), so they are booked whole"
	case seen.Request.Model == "":
		return nil, "it names no model in " + berthv1alpha1.AnnotationModel + ", and peaks are kept by model"
	case len(o.Profiles) == 0:
		return nil, "no ModelProfile could be read, and they keep the peaks"
	case profile == nil:
		return nil, "there is no ModelProfile of its model, which would keep the peaks"
	case seen.Peak == nil:
		return nil, "no pod like it (model, settings, number of GPUs, namespace) was measured yet once it was Ready"
	}
	a = &Advice{
		Namespace: pod.Namespace, Name: pod.Name, GPUs: len(booking.Devices), Samples: seen.Samples, Where: seen.Where,
	}
	peak := make([]int64, len(seen.Peak))
	for i := range peak {
		peak[i] = seen.Peak[i].Int64()
	}
	booked, now := make([]int64, 0, len(peak)), make([]int64, 0, len(peak))
	for _, d := range booking.Devices {
		booked = append(booked, d.Memory.Int64())
		measured := int64(0)
		if i := slices.IndexFunc(held, func(h *holding) bool { return h.uuid == d.UUID }); i >= 0 {
			measured = held[i].measured
		}
		now = append(now, measured)
		a.Booked += d.Memory.Int64()
		a.Measured += measured
	}
	largestFirst(booked)
	largestFirst(now)
	exceeded := false
	for i := range peak {
		if isReady(pod) { // else it loads, and may hold for a while what it does not need
			peak[i] = max(peak[i], now[i])
		}
		a.Peak += peak[i]
		exceeded = exceeded || peak[i] > booked[i]+quantum
	}
	a.Needs = int64(len(peak)) * rounded(alloc.BytesOfInt64(peak[0]))
	if saving := a.Booked - a.Needs; !exceeded && (saving < leastSaving || saving < a.Booked/10) {
		return nil, ""
	}
	a.write(seen)
	return a, ""
}

// rounded is what to book on a GPU for a peak.
func rounded(peak alloc.Bytes) int64 {
	needs := peak.Plus(gpustate.PeakMargin(peak)).Int64()
	step := int64(256) << 20
	if needs >= coarse {
		step = 1 << 30
	}
	return (needs + step - 1) / step * step
}

// write says which line books what the pod needs.
func (a *Advice) write(seen *gpustate.Observed) {
	value := quantity(a.Needs)
	stated := seen.Request.TotalMemory
	switch {
	case len(seen.Counts) == 1:
	case stated == nil:
		a.Hint = fmt.Sprintf("its size is estimated for %d numbers of GPUs, and measured on %d: an admin can book what was measured by the scheduler's argument trustObservedPeaks",
			len(seen.Counts), a.GPUs)
		return
	default: // what other counts need was not measured here, and stays
		totals := map[int]int64{}
		for _, n := range seen.Counts {
			totals[n] = cmp.Or(stated[n], stated[0])
		}
		totals[a.GPUs] = a.Needs
		var parts []string
		for _, n := range slices.Sorted(maps.Keys(totals)) {
			parts = append(parts, strconv.Itoa(n)+"="+quantity(totals[n]))
		}
		value = strings.Join(parts, ",")
	}
	a.Line = berthv1alpha1.AnnotationGPUMemory + ": " + value
}

// profileOf returns the profile of a pod's model, nil if there is none.
func profileOf(o *Objects, pod *corev1.Pod) *berthv1alpha1.ModelProfile {
	model := pod.Annotations[berthv1alpha1.AnnotationModel]
	if model == "" {
		return nil
	}
	for _, name := range berthv1alpha1.ModelProfileNames(model) {
		for i := range o.Profiles {
			if p := &o.Profiles[i]; p.Name == name && p.IsOf(model) {
				return p
			}
		}
	}
	return nil
}

func isReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func largestFirst(amounts []int64) {
	slices.SortFunc(amounts, func(a, b int64) int { return cmp.Compare(b, a) })
}

// quantity writes bytes as annotations have them.
func quantity(bytes int64) string { return resource.NewQuantity(bytes, resource.BinarySI).String() }
