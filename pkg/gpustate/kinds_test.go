// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"testing"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
)

// nodeOf returns a node with GPUs of the given kinds.
func nodeOf(devices ...alloc.Device) *alloc.Node {
	for i := range devices {
		devices[i].UUID = "GPU-" + string(rune('a'+i))
		devices[i].Capacity = devices[i].Total
	}
	return &alloc.Node{Name: testNode, Devices: devices}
}

var (
	h100 = alloc.Device{Model: "NVIDIA H100 80GB HBM3", Total: alloc.MiB(81559)}
	a10  = alloc.Device{Model: "NVIDIA A10", Total: alloc.MiB(23028)}
)

func askedBy(t *testing.T, pod *bt.Pod, profile *berthv1alpha1.ModelProfile) *Request {
	t.Helper()
	parsed, err := berthv1alpha1.ParsePodRequest(pod.Obj())
	if err != nil {
		t.Fatal(err)
	}
	r, unresolved, err := NewRequest(pod.Obj(), parsed, profile, Sizing{})
	if err != nil || unresolved != nil {
		t.Fatalf("unresolved %v, error %v", unresolved, err)
	}
	return r
}

// TestASmallCardIsNotBookedByTheDefaultsOfALargeOne: vLLM profiles 1024 sequences on an H100 and 256 on an A10. For a
// vocabulary of 128256 (Llama 3) the sampler alone differs by 14 bytes × 768 × 128256, 1.28 GiB.
func TestASmallCardIsNotBookedByTheDefaultsOfALargeOne(t *testing.T) {
	pod := bt.MakePod("p").Model("hf://org/llama-8b").Runtime(berthv1alpha1.RuntimeVLLM).Annotation("context-length", "4096").
		Image("vllm/vllm-openai:v0.19.1").Args("--gpu-memory-utilization=$(BERTH_GPU_MEMORY_UTILIZATION)")
	r := askedBy(t, pod, profileOf(t))
	on := func(devices ...alloc.Device) alloc.Bytes { return r.On(nodeOf(devices...)).Options()[0].Shares[0] }

	small, large := on(a10, a10), on(h100)
	if gap := large.Minus(small); gap.Less(alloc.MiB(1300)) {
		t.Errorf("%s is booked on an A10 and %s on an H100, want at least 1300Mi less", small, large)
	}
	if general := r.Options()[0].Shares[0]; general.Less(large) || on(a10, h100) != general {
		t.Errorf("%s is booked on unlike GPUs and %s on those that are not known, want the larger of all", on(a10, h100), general)
	}
	if on(a10) != small || r.On(nodeOf(a10)) != r.On(nodeOf(a10, a10)) {
		t.Error("it was sized anew for a kind of GPU that was met before")
	}
	node := nodeOf(a10, a10, a10, a10)
	if n := testing.AllocsPerRun(100, func() { r.On(node) }); n != 0 {
		t.Errorf("asking again for each of thousands of nodes allocates %v times", n)
	}
}

// TestANodeThatReportsEverNewKindsCostsNoMemory: what its agent says is bounded by nobody.
func TestANodeThatReportsEverNewKindsCostsNoMemory(t *testing.T) {
	r := askedBy(t, bt.MakePod("p").Model("hf://org/llama-8b").Runtime(berthv1alpha1.RuntimeVLLM), profileOf(t))
	for i := range uint64(4 * maxKinds) {
		r.On(nodeOf(alloc.Device{Model: h100.Model, Total: alloc.MiB(80_000 + i)}))
	}
	if n := len(*r.known.Load()); n > maxKinds {
		t.Errorf("%d kinds are kept, want at most %d", n, maxKinds)
	}
}

// TestAContextThatTheEngineRefusesIsTold: the model of the test has a limit of 8192 tokens.
func TestAContextThatTheEngineRefusesIsTold(t *testing.T) {
	for context, told := range map[string]bool{"8192": false, "8193": true} {
		pod := bt.MakePod("p").Model("hf://org/llama-8b").Runtime(berthv1alpha1.RuntimeVLLM).Annotation("context-length", context)
		_, notes := sized(t, pod, profileOf(t), Sizing{})
		if got := notes["EngineWillNotStart"] != ""; got != told {
			t.Errorf("a context of %s: told %v (%q), want %v", context, got, notes["EngineWillNotStart"], told)
		}
	}
}

// TestAStatedTotalIsTheSameOnEveryGPU: nothing of it is estimated, and the engine takes what it needs.
func TestAStatedTotalIsTheSameOnEveryGPU(t *testing.T) {
	r := askedBy(t, bt.MakePod("p").Memory("30Gi"), nil)
	if r.On(nodeOf(a10)) != r.On(nodeOf(h100)) || r.Sizing() != "" {
		t.Error("it is sized by kinds of GPUs")
	}
}
