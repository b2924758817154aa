// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/estimator/modelfile"
)

// startKinds are kinds of GPU with 22.5, 79.6 and 140.4 GiB.
var startKinds = map[string]alloc.Device{
	"L4":   {Model: "NVIDIA L4", Total: alloc.MiB(23034)},
	"H100": h100,
	"H200": {Model: "NVIDIA H200", Total: alloc.MiB(143771)},
}

// takesAtLeast is what an engine takes of a GPU of total MiB, by its documentation, when it is told fraction, or nothing.
func takesAtLeast(s *start, gpu string, total float64, gpus int) float64 {
	beside := float64(startOnOne)
	if gpus > 1 {
		beside = 1587 // 1.55 GiB of a dense model
	}
	told := func(otherwise float64) float64 {
		if s.Want.Fraction > 0 {
			return s.Want.Fraction
		}
		return otherwise
	}
	switch s.Want.Engine {
	case "vllm": // The fraction of the GPU, and beside it what is there before it looks.
		otherwise := 0.92
		if minor, err := strconv.Atoi(strings.TrimPrefix(s.Want.Settings.Version, "0.")); err == nil && minor < 20 {
			otherwise = 0.90
			if !s.Want.Settings.EnforceEager {
				beside += 655 // graphs of 0.64 GiB, the least that was measured, which are inside since v0.21
			}
		}
		return told(otherwise)*total + beside
	case "sglang": // The fraction of what is free once CUDA has started, and 512 MiB outside of it.
		// (memory − reserve)/memory; the reserve is 512 + 1.5 × tokens of a prefill + 2 × largest batch with a graph + 128.
		otherwise := map[string]float64{
			"L4":   1 - (512+1.5*2048+2*24+128)/total,
			"H100": 1 - (512+1.5*8192+2*256+128)/total,
			"H200": 1 - (512+1.5*8192+2*256+128)/total,
		}[gpu]
		return told(otherwise-0.0005)*(total-beside) + beside + 512
	case "tensorrt-llm": // The fraction of what is free once the weights are there.
		return told(0.9) * total
	}
	return total // Text Generation Inference and NIM: all of it
}

// TestPublicStartsAreBookedWhatTheyTake books the starts whose models' configurations are public on three kinds of GPU, as
// the scheduler does: never less than the engine takes, no more than the GPU where the model fits it, and more than the GPU,
// so that it is not placed there, where it does not.
func TestPublicStartsAreBookedWhatTheyTake(t *testing.T) {
	dir := os.Getenv("BERTH_DATA")
	if dir == "" {
		t.Skip("BERTH_DATA is not set")
	}
	booked := 0
	for _, s := range readStarts(t) {
		if s.Config == "" {
			continue
		}
		booked++
		t.Run(s.Name, func(t *testing.T) {
			model, err := modelfile.ReadConfig(modelfile.Dir(filepath.Join(dir, "model-configs")), s.Config+"_config.json", s.Config+"_hf_quant_config.json")
			if err != nil {
				t.Fatal(err)
			}
			profile := &berthv1alpha1.ModelProfile{Spec: berthv1alpha1.ModelProfileSpec{Source: "hf://org/model"}}
			profile.Status.Model = model
			profile.Status.Conditions = []metav1.Condition{{Type: berthv1alpha1.ConditionReady, Status: metav1.ConditionTrue}}
			pod := bt.MakePod("p").Model("hf://org/model")
			s.Container.Name = pod.Spec.Containers[0].Name
			pod.Spec.Containers[0] = s.Container
			r := askedBy(t, pod, profile)
			if string(r.Runtime) != s.Want.Engine {
				t.Errorf("booked as %q, want %q", r.Runtime, s.Want.Engine)
			}
			for gpu, device := range startKinds {
				devices := slices.Repeat([]alloc.Device{device}, 8)
				node := nodeOf(devices...)
				options := r.On(node).Options()
				gpus := int(max(s.Want.TensorParallel, 1) * max(s.Want.PipelineParallel, 1) * max(s.Want.DataParallel, 1))
				if len(options) != 1 || len(options[0].Shares) != gpus {
					t.Fatalf("%s: %d options, want one of %d GPUs", gpu, len(options), gpus)
				}
				total := float64(device.Total.Uint64()) / (1 << 20)
				has := float64(options[0].On(0, &node.Devices[0]).Uint64()) / (1 << 20)
				takes := takesAtLeast(&s, gpu, total, gpus)
				t.Logf("%s: it takes %.0f MiB of %.0f, and %.0f are booked", gpu, takes, total, has)
				if has < takes {
					t.Errorf("%s: %.0f MiB are booked, and it takes %.0f", gpu, has, takes)
				}
				if fits := has <= total; fits != slices.Contains(s.Fits, gpu) {
					t.Errorf("%s: %.0f MiB are booked of %.0f, want it to fit %v", gpu, has, total, s.Fits)
				}
			}
		})
	}
	if booked < 15 {
		t.Errorf("%d starts were booked", booked)
	}
}
