// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/berth-dev/berth/pkg/estimator"
)

// gpustackRule is what GPUStack reserves for a model of these weights: a fifth more and 2 GiB.
func gpustackRule(weightsGiB float64) float64 { return 1.2*weightsGiB + 2 }

// comparison is the memory of one record by three estimates, in GiB.
type comparison struct {
	id                                string
	measured, ours, library, gpustack float64
}

// TestBeatsOtherRules compares whole sums per GPU with gguf-parser-go alone and with GPUStack's rule on the records
// that have every part.
func TestBeatsOtherRules(t *testing.T) {
	rows := append(vllmComparisons(t), llamaComparisons(t)...)
	var b strings.Builder
	fmt.Fprintf(&b, "\n%-74s %9s %9s %8s %14s %8s %10s %8s\n", "record", "measured", "estimate", "error", "gguf-parser-go", "error", "GPUStack", "error")
	var errors [3]float64
	var counts [3]int
	for _, r := range rows {
		fmt.Fprintf(&b, "%-74s %9.2f", r.id, r.measured)
		for i, v := range []float64{r.ours, r.library, r.gpustack} {
			if math.IsNaN(v) {
				fmt.Fprintf(&b, " %9s %8s", "–", "–")
				continue
			}
			e := 100 * (v - r.measured) / r.measured
			fmt.Fprintf(&b, " %9.2f %+7.1f%%", v, e)
			errors[i] += math.Abs(e)
			counts[i]++
		}
		b.WriteByte('\n')
	}
	for i := range errors {
		errors[i] /= float64(max(counts[i], 1))
	}
	t.Logf("%s(GiB on the GPU with the most)", b.String())
	t.Logf("mean error: estimate %.1f%% of %d, gguf-parser-go %.1f%% of %d, GPUStack's rule %.1f%% of %d",
		errors[0], counts[0], errors[1], counts[1], errors[2], counts[2])
	if errors[0] >= errors[1] || errors[0] >= errors[2] {
		t.Errorf("mean errors %.1f%%, %.1f%%, %.1f%%: the estimate is not the best", errors[0], errors[1], errors[2])
	}
}

// vllmComparisons: what a vLLM needs to start with one request of its context.
func vllmComparisons(t *testing.T) []comparison {
	known := readKnownModels(t)
	var rows []comparison
	for _, r := range readRecords(t, "vllm") {
		if !strings.HasPrefix(r.ID, "vl-llmd019") || number(r.Measured, "kv_tokens") == 0 || number(r.Settings, "pipeline_parallel") > 1 {
			continue
		}
		m := modelOf(t, &r, known)
		s, counts := vllmSettings(&r)
		result, err := estimator.Estimate(m, s, counts, estimator.DeviceInfo{Total: int64(number(r.Measured, "gpu_total") * gibibyte)})
		if err != nil {
			t.Fatal(err)
		}
		request := number(r.Measured, "available_kv") / number(r.Measured, "max_concurrency")
		rows = append(rows, comparison{
			id: r.ID,
			measured: number(r.Measured, "non_kv_total") + number(r.Measured, "init_used_before_weights") +
				number(r.Measured, "cuda_graph_actual") + request,
			ours: float64(result.Options[0].Devices[0].Total) / gibibyte, library: math.NaN(),
			gpustack: gpustackRule(number(r.Measured, "weights")),
		})
	}
	return rows
}

// llamaComparisons: buffers over all GPUs. The weights are the measured ones for all, as most files are not at hand.
func llamaComparisons(t *testing.T) []comparison {
	var rows []comparison
	for _, r := range readRecords(t, "llama.cpp", "ollama") {
		spec, ok := llamaModels[r.ID]
		want, _ := componentsOf(&r)
		if !ok || r.Tier != "full-breakdown" || want.model == 0 {
			continue
		}
		s, counts := llamaSettings(&r)
		header := spec.Write()
		result, err := estimator.Estimate(modelOfHeader(t, header), s, counts, estimator.DeviceInfo{Name: r.GPU})
		if err != nil {
			t.Fatal(err)
		}
		var ours float64
		for i := range result.Options[0].Devices {
			c := &result.Options[0].Devices[i].Components
			ours += float64(c.KVCache+c.RecurrentState+c.Compute) / mebibyte
		}
		compute := 0.0
		for _, d := range r.Measured["device"].(map[string]any) {
			compute += number(d.(map[string]any), "compute")
		}
		library := math.NaN()
		if counts[0] == 1 {
			library = (want.model + libraryTotal(t, header, &s)) / 1024
		}
		rows = append(rows, comparison{
			id: r.ID, measured: (want.model + want.kv + want.state + compute) / 1024, ours: (want.model + ours) / 1024,
			library: library, gpustack: gpustackRule(want.model / 1024),
		})
	}
	return rows
}
