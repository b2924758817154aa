// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
)

// TestWhosePeaksCount: those of the pod's own namespace, else those that an admin lets count for all, else nobody's. The
// pod is of the namespace default, its model is estimated at less than 20Gi.
func TestWhosePeaksCount(t *testing.T) {
	pod := bt.MakePod("p").Model("hf://org/llama-8b")
	settings, err := EngineSettings(pod.Obj())
	if err != nil {
		t.Fatal(err)
	}
	measured := func(namespace, held string) berthv1alpha1.ObservedPeak {
		return berthv1alpha1.ObservedPeak{Namespace: namespace, Settings: settings, GPUCount: 1, Devices: []resource.Quantity{resource.MustParse(held)}}
	}
	estimate, _ := sized(t, pod, profileOf(t), Sizing{})
	// peak + 2 %
	after := func(peak uint64) alloc.Bytes { return alloc.GiB(peak).Plus(alloc.GiB(peak).DividedUp(50)) }
	for name, tc := range map[string]struct {
		peaks  []berthv1alpha1.ObservedPeak
		from   []string
		sizing Sizing
		want   alloc.Bytes
		told   string
	}{
		"a tenant that names a shared model holds 76Gi → pods of other namespaces are booked as before": {
			peaks: []berthv1alpha1.ObservedPeak{measured("mallory", "76Gi")}, want: estimate.Shares[0],
		},
		"a tenant that names a shared model holds nearly nothing, and peaks are trusted → the same": {
			peaks: []berthv1alpha1.ObservedPeak{measured("mallory", "64Mi")}, sizing: Sizing{TrustObservedPeaks: true}, want: estimate.Shares[0],
		},
		"its own namespace measured 40Gi": {
			peaks: []berthv1alpha1.ObservedPeak{measured("mallory", "76Gi"), measured("default", "40Gi")}, want: after(40), told: "in namespace default were",
		},
		"an admin lets another namespace's measurements count": {
			peaks: []berthv1alpha1.ObservedPeak{measured("mallory", "76Gi"), measured("platform", "50Gi")}, from: []string{"platform"}, want: after(50),
			told: "in namespace platform, which an admin chose for all,",
		},
		"and two of them: the larger counts": {
			peaks: []berthv1alpha1.ObservedPeak{measured("platform", "50Gi"), measured("other", "60Gi")}, from: []string{"other", "none", "platform"}, want: after(60),
			told: "in namespace other, platform,",
		},
		"its own namespace's come before those": {
			peaks: []berthv1alpha1.ObservedPeak{measured("platform", "50Gi"), measured("default", "40Gi")}, from: []string{"platform"}, want: after(40), told: "in namespace default were",
		},
		"what an older controller wrote, of nobody knows whom, does not count": {
			peaks: []berthv1alpha1.ObservedPeak{measured("", "9000Gi")}, from: []string{""}, want: estimate.Shares[0],
		},
	} {
		t.Run(name, func(t *testing.T) {
			profile := profileOf(t, tc.peaks...)
			profile.Spec.PeaksFrom, profile.Generation = tc.from, 2 // the admin's write does not make the model unknown
			o, notes := sized(t, pod, profile, tc.sizing)
			if o.Shares[0] != tc.want {
				t.Errorf("booked %s, want %s", o.Shares[0], tc.want)
			}
			if note := notes["BookingCorrected"]; !strings.Contains(note, tc.told) || (note == "") != (tc.told == "") {
				t.Errorf("the owner was told %q, want it to say %q", note, tc.told)
			}
		})
	}
}

// TestACorrectedBookingSaysSo: what is booked because earlier runs held more than the estimate is taken off again where
// the next run is measured. Else a run that holds exactly what it was booked would count as one without excess, and the
// booking would fall and rise by turns.
func TestACorrectedBookingSaysSo(t *testing.T) {
	vllm := bt.MakePod("p").Model("hf://org/llama-8b").Runtime(berthv1alpha1.RuntimeVLLM).Args("--gpu-memory-utilization=$(BERTH_GPU_MEMORY_UTILIZATION)")
	settings, err := EngineSettings(vllm.Obj())
	if err != nil {
		t.Fatal(err)
	}
	node := alloc.Node{Devices: []alloc.Device{{UUID: "GPU-0", Total: alloc.GiB(80), Capacity: alloc.GiB(80)}}}
	booked := func(peaks ...berthv1alpha1.ObservedPeak) *Allocation {
		t.Helper()
		parsed, err := berthv1alpha1.ParsePodRequest(vllm.Obj())
		if err != nil {
			t.Fatal(err)
		}
		r, _, err := NewRequest(vllm.Obj(), parsed, profileOf(t, peaks...), Sizing{})
		if err != nil {
			t.Fatal(err)
		}
		best, ok := alloc.Best(&node, &r.Request, alloc.MostAllocated)
		if !ok {
			t.Fatal("it does not fit")
		}
		annotations, err := r.Annotations(&best, &node, berthv1alpha1.DeviceFormUUID, "")
		if err != nil {
			t.Fatal(err)
		}
		a, err := DecodeAllocation(annotations[berthv1alpha1.AnnotationAllocation])
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	first := booked()
	second := booked(berthv1alpha1.ObservedPeak{
		Namespace: "default", Settings: settings, GPUCount: 1, Devices: []resource.Quantity{resource.MustParse("20Gi")}, Excess: resource.MustParse("1Gi"),
	})
	if !first.Correction.IsZero() || second.Correction != alloc.GiB(1) {
		t.Errorf("corrections %s and %s, want none and 1Gi", first.Correction, second.Correction)
	}
	if got, want := second.Devices[0].Memory.Minus(second.Correction), first.Devices[0].Memory; got != want {
		t.Errorf("without its correction %s is booked, want %s as at first", got, want)
	}
}
