// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/estimator/hfconfig"
)

// llama8B is the configuration of a dense model of 8 billion parameters in BF16: 15 GiB of weights.
const llama8B = `{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":4096,"intermediate_size":14336,
"num_hidden_layers":32,"num_attention_heads":32,"num_key_value_heads":8,"vocab_size":128256,"max_position_embeddings":8192,
"torch_dtype":"bfloat16","tie_word_embeddings":false}`

// profileOf returns the profile of a model that is known, with what was measured of it.
func profileOf(t *testing.T, peaks ...berthv1alpha1.ObservedPeak) *berthv1alpha1.ModelProfile {
	t.Helper()
	model, err := hfconfig.Parse(t.Context(), []byte(llama8B), nil)
	if err != nil {
		t.Fatal(err)
	}
	p := &berthv1alpha1.ModelProfile{Spec: berthv1alpha1.ModelProfileSpec{Source: "hf://org/llama-8b"}}
	p.Status.Model, p.Status.ObservedPeaks = model, peaks
	p.Status.Conditions = []metav1.Condition{{Type: berthv1alpha1.ConditionReady, Status: metav1.ConditionTrue}}
	return p
}

// sized returns the largest share of the only option of a pod, and the request's notes by reason.
func sized(t *testing.T, pod *bt.Pod, profile *berthv1alpha1.ModelProfile, sizing Sizing) (*alloc.Option, map[string]string) {
	t.Helper()
	parsed, err := berthv1alpha1.ParsePodRequest(pod.Obj())
	if err != nil {
		t.Fatal(err)
	}
	r, unresolved, err := NewRequest(pod.Obj(), parsed, profile, sizing)
	if err != nil || unresolved != nil {
		t.Fatalf("unresolved %v, error %v", unresolved, err)
	}
	notes := map[string]string{}
	for _, n := range r.Notes {
		notes[n.Reason] = n.Message
	}
	return &r.Options()[0], notes
}

func TestBookingFollowsWhatWasMeasured(t *testing.T) {
	const big = "60Gi"
	custom := bt.MakePod("p").Model("hf://org/llama-8b")
	settings, err := EngineSettings(custom.Obj())
	if err != nil {
		t.Fatal(err)
	}
	peak := func(s estimator.Settings, device string) berthv1alpha1.ObservedPeak {
		return berthv1alpha1.ObservedPeak{Namespace: "default", Settings: s, GPUCount: 1, Devices: []resource.Quantity{resource.MustParse(device)}}
	}
	estimate, _ := sized(t, custom, profileOf(t), Sizing{})
	if estimate.Shares[0].Less(alloc.GiB(15)) {
		t.Fatalf("estimated %s, less than the weights", estimate.Shares[0])
	}
	for name, tc := range map[string]struct {
		peak   berthv1alpha1.ObservedPeak
		sizing Sizing
		want   alloc.Bytes
	}{
		// 60Gi + 2 % of it
		"a peak above the estimate is booked with a margin":   {peak(settings, big), Sizing{}, alloc.GiB(60).Plus(alloc.GiB(60).DividedUp(50))},
		"a peak below the estimate changes nothing":           {peak(settings, "1Gi"), Sizing{}, estimate.Shares[0]},
		"a trusted peak below the estimate replaces it":       {peak(settings, "1Gi"), Sizing{TrustObservedPeaks: true}, alloc.MiB(1024 + 256)},
		"a peak measured with other settings changes nothing": {peak(estimator.Settings{ContextLength: 1}, big), Sizing{}, estimate.Shares[0]},
	} {
		t.Run(name, func(t *testing.T) {
			o, notes := sized(t, custom, profileOf(t, tc.peak), tc.sizing)
			if o.Shares[0] != tc.want {
				t.Errorf("booked %s, want %s", o.Shares[0], tc.want)
			}
			if _, told := notes["BookingCorrected"]; told != (tc.want != estimate.Shares[0]) {
				t.Errorf("the owner was told: %v", told)
			}
		})
	}
}

// TestBookingOfAnEngineThatFillsItDoesNotCreep: a vLLM holds what it was booked, so booking that plus a margin would
// raise it with every run. Only what it held beyond its booking counts.
func TestBookingOfAnEngineThatFillsItDoesNotCreep(t *testing.T) {
	vllm := bt.MakePod("p").Model("hf://org/llama-8b").Runtime(berthv1alpha1.RuntimeVLLM).
		Args("--gpu-memory-utilization=$(BERTH_GPU_MEMORY_UTILIZATION)")
	settings, err := EngineSettings(vllm.Obj())
	if err != nil {
		t.Fatal(err)
	}
	estimate, _ := sized(t, vllm, profileOf(t), Sizing{})
	peak := berthv1alpha1.ObservedPeak{Namespace: "default", Settings: settings, GPUCount: 1, Devices: []resource.Quantity{resource.MustParse("70Gi")}}
	if o, _ := sized(t, vllm, profileOf(t, peak), Sizing{}); o.Shares[0] != estimate.Shares[0] {
		t.Errorf("booked %s after a run that filled its booking, want %s as before", o.Shares[0], estimate.Shares[0])
	}
	peak.Excess = resource.MustParse("1Gi")
	o, notes := sized(t, vllm, profileOf(t, peak), Sizing{})
	if want := estimate.Shares[0].Plus(alloc.GiB(1)); o.Shares[0] != want || o.Outside != estimate.Outside.Plus(alloc.GiB(1)) {
		t.Errorf("booked %s with %s outside, want %s with 1Gi more outside", o.Shares[0], o.Outside, want)
	}
	if notes["BookingCorrected"] == "" {
		t.Error("the owner was not told")
	}
}

func TestStatedMemoryFarFromTheEstimateIsToldAndBooked(t *testing.T) {
	for memory, far := range map[string]bool{"4Gi": true, "20Gi": false, "70Gi": true} {
		o, notes := sized(t, bt.MakePod("p").Model("hf://org/llama-8b").Memory(memory), profileOf(t), Sizing{})
		if want := resource.MustParse(memory); o.Shares[0] != alloc.BytesOfInt64(want.Value()) {
			t.Errorf("%s: booked %s", memory, o.Shares[0])
		}
		if told := strings.Contains(notes["GPUMemoryFarFromEstimate"], "hf://org/llama-8b"); told != far {
			t.Errorf("%s: told %v, want %v (%q)", memory, told, far, notes)
		}
	}
}
