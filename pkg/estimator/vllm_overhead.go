// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

import "strings"

// The figures of this file are fitted to start-up logs of vLLM on H100 (llm-d-planner, accuracy results v0.11 and
// v0.15 to v0.19; docs/estimation.md lists them beside the estimates).

// activations returns the peak of activations that the profile run sees.
//
// It is the sampler's: some bytes for each of max_num_seqs × vocabulary logits (float32 logits, probabilities, sorted
// copies; releases), on top of three hidden states of the whole batch and the buffers that fused experts keep. Small
// vocabularies, and models that answer with embeddings, leave the forward pass as the peak. Neither the context length,
// but for sparse attention, nor tensor parallelism, nor the weights' type moves it.
func (v *vllm) activations(tp, stage int64) int64 {
	width := v.elementBytes()
	batch := mul(v.batchedTokens, v.m.HiddenSize, width)
	fixed := add(mul(3, batch), v.expertBuffers(tp), v.latentWorkspace(), v.indexerWorkspace())
	if v.m.Vision != nil && !v.s.NoVision {
		fixed = add(fixed, multimodalActivations)
	}
	forward := v.forward(tp)
	if stage != v.pp-1 || v.pooling() {
		return forward // only the last stage samples
	}
	return max(add(mul(releaseOf(v.version).perLogit, v.logits()), fixed), forward)
}

// forward returns what one layer computes with, of the whole batch.
func (v *vllm) forward(tp int64) int64 {
	width := v.elementBytes()
	return add(mul(4, v.batchedTokens, v.m.HiddenSize, width), mul(3, v.batchedTokens, ceilDiv(v.m.FeedForward, tp), width),
		v.expertBuffers(tp), v.indexerWorkspace())
}

// logits returns how many logits the sampler is profiled with: a row per sequence, two with speculative decoding,
// however deep it is (vllm/v1/worker/gpu_model_runner.py, _dummy_sampler_run: one draft token each).
func (v *vllm) logits() int64 {
	rows := v.maxSeqs
	if v.s.SpeculativeTokens > 0 {
		rows = mul(2, rows)
	}
	return mul(rows, v.m.VocabularySize)
}

// samplerAfter returns what the sampler takes when it is warmed up after the cache has taken its part: outside the
// fraction. Releases that profile it take nothing more.
func (v *vllm) samplerAfter() int64 {
	if v.pooling() {
		return 0
	}
	return mul(releaseOf(v.version).samplerAfter, v.logits())
}

// pooling says whether the model answers with embeddings or scores: there is then no sampler, and no output layer
// (vllm/model_executor/models/adapters.py).
func (v *vllm) pooling() bool {
	return v.s.Embeddings || v.m.NoOutput || strings.HasSuffix(v.m.Architecture, "ForSequenceClassification") ||
		strings.HasSuffix(v.m.Architecture, "ForRewardModel")
}

// indexerWorkspace is where a sparse indexer gathers the keys of chunked prefills: 40 for each token of the context,
// of 132 bytes (vllm/v1/attention/backends/mla/indexer.py, get_max_prefill_buffer_size). 4.0 GiB for GLM-5.2 at 800k.
func (v *vllm) indexerWorkspace() int64 {
	var n int64
	for i := range v.m.Layers {
		if k := &v.m.Layers[i]; k.LatentDim > 0 && k.IndexerDim > 0 {
			n = max(n, ceilDiv(mul(40, v.context, indexerBytes(k)), max(k.CompressRatio, 1)))
		}
	}
	return n
}

// multimodalActivations is what profiling the image encoder adds to the peak: 0.05 to 0.25 GiB measured.
const multimodalActivations = 256 * mib

// expertBuffers are the workspaces of fused experts: for each token and each expert it visits, the larger of the
// expert's (halved) width and the hidden size, twice, and the summed output (vllm/model_executor/layers/fused_moe,
// workspace_shapes). MXFP4 kernels compute in place.
func (v *vllm) expertBuffers(tp int64) int64 {
	x := v.m.Experts
	if x == nil {
		return 0
	}
	width := v.elementBytes()
	output := mul(v.batchedTokens, v.m.HiddenSize, width)
	if v.expertType() == "MXFP4" {
		return output
	}
	inner := x.FeedForward
	if !v.s.ExpertParallel {
		inner = ceilDiv(inner, tp)
	}
	perVisit := add(max(inner, v.m.HiddenSize), max(mul(2, inner), v.m.HiddenSize))
	return add(mul(v.batchedTokens, x.Used, perVisit, width), output)
}

// latentWorkspace is where MLA gathers cached latents of chunked prefills: 64 Ki tokens at most.
func (v *vllm) latentWorkspace() int64 {
	var dim int64
	for i := range v.m.Layers {
		dim = max(dim, v.m.Layers[i].LatentDim)
	}
	return mul(min(mul(8, v.context), 64*kib), dim, 2)
}

// allocatorSlack is what PyTorch's allocator holds beyond the tensors, and what loading leaves behind: measured
// weights are 0.02 to 0.5 GiB above the sum of the tensors. A booking without it would lack that in the cache.
const allocatorSlack = 256 * mib

// nonTorch returns what the process allocates outside PyTorch between the start snapshot and the end of profiling:
// NCCL buffers, cuBLAS workspaces.
func (v *vllm) nonTorch(tp int64) int64 {
	r := releaseOf(v.version)
	switch tp {
	case 1:
		return r.alone
	case 2:
		return r.pair
	}
	return r.many
}

// startup returns what the process holds before vLLM looks at free memory, which is therefore outside its
// fraction: CUDA context 0.51 GiB; with NCCL and custom all-reduce 1.53 to 1.55 GiB, 2.01 for mixtures of experts.
func (v *vllm) startup(gpus int64) int64 { return startup(gpus, v.m.Experts != nil) }

func startup(gpus int64, experts bool) int64 {
	switch {
	case gpus == 1:
		return 540 * mib
	case experts:
		return 2100 * mib
	}
	return 1620 * mib
}

// graphs returns the memory of CUDA graphs: 0.64 to 1.85 GiB on v0.19, growing with the number of layers, larger for
// mixtures of experts, smaller where fewer sizes are captured (up to twice the tokens of a step of max_num_seqs, at most
// 512). Layers with a state double it (1.3 GiB for the 32 of Qwen3.5-9B, 2.0 for the 64 of Qwen3.6-27B), sparse attention
// more than that (4.1 of 5.0 reserved for the 78 of GLM-5.2). It does not shrink as fast as the sizes: 1.7 GiB for the 43
// layers of DeepSeek-V4-Flash with sizes up to 192.
func (v *vllm) graphs() int64 {
	if v.s.EnforceEager {
		return 0
	}
	perLayer := 18 * mib
	for i := range v.m.Layers {
		k := &v.m.Layers[i]
		switch {
		case k.IndexerDim > 0:
			perLayer = max(perLayer, 48*mib)
		case k.RecurrentWidth > 0 && v.version.atLeast(0, 18):
			perLayer = max(perLayer, 36*mib)
		}
	}
	n := add(400*mib, mul(perLayer, int64(v.m.LayerCount)))
	if v.m.Experts != nil {
		n = add(n, 640*mib)
	}
	captured := min(mul(2, v.maxSeqs, 1+v.s.SpeculativeTokens), 512)
	scale := ratio{captured, 512}
	if perLayer > 18*mib {
		scale = ratio{captured + 512, 1024}
	}
	return max(scale.of(n), 128*mib)
}
