// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package whatif

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// TestServersAreToldWhatTheyWerePromised: an engine that takes a share of its GPUs is told by a flag that names it, one that takes
// what it needs is told nothing. Whoever writes a server by hand does the same.
func TestServersAreToldWhatTheyWerePromised(t *testing.T) {
	for runtime, want := range map[string][]string{
		"vllm":      {"--own", "--gpu-memory-utilization=$(BERTH_GPU_MEMORY_UTILIZATION)", "--tensor-parallel-size=$(BERTH_TENSOR_PARALLEL_SIZE)"},
		"sglang":    {"--own", "--mem-fraction-static=$(BERTH_MEM_FRACTION_STATIC)", "--tensor-parallel-size=$(BERTH_TENSOR_PARALLEL_SIZE)"},
		"llama.cpp": {"--own"},
		"":          {"--own"},
	} {
		d := Serving("s", nil, map[string]string{berthv1alpha1.AnnotationRuntime: runtime, berthv1alpha1.AnnotationModel: ""}, "--own")
		if diff := cmp.Diff(want, d.Spec.Template.Spec.Containers[0].Args); diff != "" {
			t.Errorf("%q (-want +got)\n%s", runtime, diff)
		}
		if _, there := d.Spec.Template.Annotations[berthv1alpha1.AnnotationModel]; there {
			t.Errorf("%q: an annotation without a value is there", runtime)
		}
		made, err := (&Model{Name: "s", GPUMemory: "1Gi", Runtime: runtime, Args: []string{"--own"}}).pods("")
		if err != nil || len(made) != 1 {
			t.Fatalf("%q: %d pods: %v", runtime, len(made), err)
		}
		if diff := cmp.Diff(want, made[0].Spec.Containers[0].Args); diff != "" {
			t.Errorf("%q, of a list of models (-want +got)\n%s", runtime, diff)
		}
	}
}
