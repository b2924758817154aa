// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

// The figures of this file are fitted to start-up logs of vLLM on H100 (llm-d-planner, accuracy results v0.11 and
// v0.15 to v0.19; docs/estimation.md lists them beside the estimates).

// activations returns the peak of activations that the profile run sees.
//
// It is the sampler's: about 14 bytes for each of max_num_seqs × vocabulary logits (float32 logits, probabilities,
// sorted copies), 38 bytes up to v0.16, on top of three hidden states of the whole batch and the buffers that
// fused experts keep. Small vocabularies leave the forward pass as the peak. Neither the context length, nor
// tensor parallelism, nor the weights' type moves it.
func (v *vllm) activations(tp, stage int64) int64 {
	width := v.elementBytes()
	batch := mul(v.batchedTokens, v.m.HiddenSize, width)
	fixed := add(mul(3, batch), v.expertBuffers(tp), v.latentWorkspace())
	if v.m.Vision != nil && !v.s.NoVision {
		fixed = add(fixed, multimodalActivations)
	}
	forward := add(mul(4, batch), mul(3, v.batchedTokens, ceilDiv(v.m.FeedForward, tp), width), v.expertBuffers(tp))
	if stage != v.pp-1 {
		return forward // only the last stage samples
	}
	perLogit := int64(14)
	if !v.version.atLeast(0, 17) {
		perLogit = 38
	}
	rows := mul(v.maxSeqs, 1+v.s.SpeculativeTokens)
	return max(add(mul(perLogit, rows, v.m.VocabularySize), fixed), forward)
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
// NCCL buffers, cuBLAS workspaces. 0.13 up to v0.17, then 0.24 to 0.46 GiB on one GPU; 2.06 to 2.10 on two, 2.13 to
// 2.21 on four (0.55 on two up to v0.11).
func (v *vllm) nonTorch(tp int64) int64 {
	switch old := !v.version.atLeast(0, 12); {
	case tp == 1 && !v.version.atLeast(0, 18):
		return 160 * mib
	case tp == 1:
		return 384 * mib
	case old:
		return 576 * mib
	case tp == 2:
		return 2150 * mib
	}
	return 2270 * mib
}

// startup returns what the process holds before vLLM looks at free memory, which is therefore outside its
// fraction: CUDA context 0.51 GiB; with NCCL and custom all-reduce 1.53 to 1.55 GiB, 2.01 for mixtures of experts.
func (v *vllm) startup(gpus int64) int64 {
	switch {
	case gpus == 1:
		return 540 * mib
	case v.m.Experts != nil:
		return 2100 * mib
	}
	return 1620 * mib
}

// graphs returns the memory of CUDA graphs: 0.64 to 1.85 GiB measured, growing with the number of layers, larger
// for mixtures of experts, smaller where fewer sizes are captured (up to twice max_num_seqs, at most 512).
func (v *vllm) graphs() int64 {
	if v.s.EnforceEager {
		return 0
	}
	n := add(400*mib, mul(18*mib, int64(v.m.LayerCount)))
	if v.m.Experts != nil {
		n = add(n, 640*mib)
	}
	captured := min(2*v.maxSeqs, 512)
	return max(ratio{captured, 512}.of(n), 128*mib)
}
