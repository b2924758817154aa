// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

// weights returns the bytes of weights on one rank of a pipeline stage.
//
// Column- and row-parallel matrices are divided by tp; key and value projections by as many ranks as there are
// key/value heads; norms, routers and MLA down-projections are whole on each rank; embedding and output are padded
// to 64 rows and divided (vllm/model_executor/layers/{linear,vocab_parallel_embedding}.py).
func (v *vllm) weights(tp, stage int64) int64 {
	m := v.m
	if m.WeightsSource == WeightsFromFileSize || len(m.LayerWeights) > 0 {
		return v.weightsOfFile(tp)
	}
	layers := v.stageLayers(stage)
	var sum int64
	for i := range m.Layers {
		sum = add(sum, mul(v.layerWeights(&m.Layers[i], tp), layers.count(i)))
	}
	scale := v.typeScale()
	embedding, output := v.vocabulary(m.Embedding, tp), v.vocabulary(m.Output, tp)
	if v.pooling() {
		output = 0
	}
	if stage == 0 {
		sum = add(sum, scale.of(embedding))
		sum = add(sum, v.visionWeights(tp))
	}
	if stage == v.pp-1 {
		sum = add(sum, scale.of(output), scale.of(m.OtherWeights), v.draftWeights(tp))
		if m.TiedEmbeddings && v.pp > 1 {
			sum = add(sum, scale.of(embedding)) // the last stage has a copy of its own
		}
	}
	return add(sum, v.ropeCache(), v.lora(layers))
}

// stageWeights returns the weights of one rank: attention is cut by its own ranks, experts by all, those of the other
// copies included (vllm/model_executor/layers/fused_moe/config.py, FusedMoEParallelConfig).
func (v *vllm) stageWeights(all, attention, stage int64) int64 {
	sum := v.weights(attention, stage)
	if all == attention || v.m.WeightsSource == WeightsFromFileSize || len(v.m.LayerWeights) > 0 {
		return sum
	}
	linear := v.typeScale().times(v.runtimeQuantization())
	layers := v.stageLayers(stage)
	for i := range v.m.Layers {
		share := func(ranks int64) int64 {
			return linear.of(ceilDiv(v.paddedExperts(v.m.Layers[i].Weights.Experts, ranks), ranks))
		}
		sum = sub(sum, mul(sub(share(attention), share(all)), layers.count(i)))
	}
	return sum
}

// weightsOfFile divides weights of which only the sizes are known. What tensor parallelism replicates is not known
// then: a twentieth of the whole is added for it.
func (v *vllm) weightsOfFile(tp int64) int64 {
	whole := max(weightsAtLeast(v.m), 1)
	if v.m.WeightsSource == WeightsFromFileSize {
		whole = max(v.m.FileSize, whole)
	}
	share := ceilDiv(whole, mul(tp, v.pp))
	if tp*v.pp > 1 {
		share = add(share, whole/20)
	}
	return share
}

// layerWeights returns the bytes of one layer on one rank.
func (v *vllm) layerWeights(k *LayerKind, tp int64) int64 {
	w := &k.Weights
	scale := v.typeScale()
	linear := scale.times(v.runtimeQuantization())
	kvRanks := min(tp, max(k.KVHeads, 1))
	sum := add(
		linear.of(ceilDiv(w.Sharded, tp)),
		linear.of(ceilDiv(w.KV, kvRanks)),
		linear.of(ceilDiv(v.paddedExperts(w.Experts, tp), tp)),
		scale.of(w.Replicated),
	)
	return add(sum, ceilDiv(absorbed(k, v.elementBytes()), tp))
}

// absorbed is the second copy of MLA's up-projection that attention over the latent needs: W_UK and W_UV split
// apart in the computing type (vllm/v1/attention/backends/mla/common.py, process_weights_after_loading).
func absorbed(k *LayerKind, elementBytes int64) int64 {
	if k.LatentDim == 0 || k.LatentValueDim == 0 {
		return 0
	}
	nope := sub(k.KeyDim, sub(k.LatentDim, k.LatentValueDim))
	return mul(k.LatentValueDim, k.Heads, add(nope, k.ValueDim), elementBytes)
}

// paddedExperts returns the bytes of the routed experts after the padding that MXFP4 kernels want: the hidden size
// to a multiple of 256, the width on one rank to one of 128 (vllm/model_executor/layers/quantization/mxfp4.py).
// It explains 13.64 and 7.01 GiB of gpt-oss-20b at tensor-parallel size 1 and 2, of 12.8 GiB in the file.
func (v *vllm) paddedExperts(n, tp int64) int64 {
	x := v.m.Experts
	if n == 0 || x == nil || v.expertType() != "MXFP4" || x.FeedForward == 0 || v.m.HiddenSize == 0 {
		return n
	}
	if x.Type == "" {
		n = ratio{17, 32 * v.elementBytes()}.of(n) // 4 bits and one byte of scale per 32
	}
	width := x.FeedForward
	if !v.s.ExpertParallel {
		width = ceilDiv(width, tp)
	}
	hidden := ratio{roundUp(v.m.HiddenSize, 256), v.m.HiddenSize}
	return hidden.times(ratio{roundUp(width, 128), width}).of(n)
}

// vocabulary returns the bytes of one rank's rows of an embedding or output matrix.
func (v *vllm) vocabulary(bytes, tp int64) int64 {
	rows := v.m.VocabularySize
	if bytes == 0 || rows == 0 {
		return ceilDiv(bytes, tp)
	}
	return ratio{ceilDiv(roundUp(rows, 64), tp), rows}.of(bytes)
}

// visionWeights returns the tower's bytes on one rank; towers whose heads tp does not divide are replicated.
func (v *vllm) visionWeights(tp int64) int64 {
	t := v.m.Vision
	if t == nil || v.s.NoVision {
		return 0
	}
	if t.Heads > 0 && t.Heads%tp != 0 {
		return add(t.Sharded, t.Replicated)
	}
	return add(ceilDiv(t.Sharded, tp), t.Replicated)
}

// draftWeights returns the bytes of the model's own speculative layers, loaded only when they are used.
func (v *vllm) draftWeights(tp int64) int64 {
	d := v.m.Draft
	if d == nil || v.s.SpeculativeTokens == 0 {
		return 0
	}
	kvRanks := min(tp, max(v.m.KVHeads, 1))
	return add(ceilDiv(d.Weights.Sharded, tp), ceilDiv(d.Weights.KV, kvRanks), ceilDiv(d.Weights.Experts, tp), d.Weights.Replicated)
}

// ropeCache is the tables of rotations (vllm/model_executor/layers/rotary_embedding), in the computing type, which layers
// share. A model that does not say their size has one, for its context; and so has one whose context is extended.
func (v *vllm) ropeCache() int64 {
	var dim int64
	for i := range v.m.Layers {
		k := &v.m.Layers[i]
		d := k.KeyDim
		if k.LatentValueDim > 0 {
			d = sub(k.LatentDim, k.LatentValueDim)
		} else if k.LatentDim > 0 {
			d = 64 // DeepSeek V4 rotates the last 64 elements
		}
		dim = max(dim, d)
	}
	one := mul(min(max(v.m.ContextLength, v.context), 1<<20), dim)
	return mul(max(one, v.m.RotaryElements), v.elementBytes())
}

// lora is the buffers for adapters: for each of max_loras and each linear layer A (rank × in) and B (out × rank)
// (vllm/lora/layers). Thinly documented; not measured here.
func (v *vllm) lora(layers stageLayers) int64 {
	if v.s.MaxLoRAs == 0 {
		return 0
	}
	rank := max(v.s.MaxLoRARank, 16)
	var sum int64
	for i := range v.m.Layers {
		k := &v.m.Layers[i]
		query, kv := mul(k.Heads, k.KeyDim), mul(k.KVHeads, k.KeyDim)
		widths := add(mul(4, v.m.HiddenSize), mul(2, query), mul(2, kv), mul(3, add(v.m.HiddenSize, v.m.FeedForward)))
		sum = add(sum, mul(widths, layers.count(i)))
	}
	return mul(sum, v.s.MaxLoRAs, rank, 2)
}

// typeScale is by how much unquantized weights grow or shrink when they are loaded in another type.
func (v *vllm) typeScale() ratio {
	if !v.unquantized() {
		return ratio{1, 1}
	}
	stored := int64(2)
	if v.m.DType == "float32" {
		stored = 4
	}
	return ratio{v.elementBytes(), stored}
}

// runtimeQuantization is by how much --quantization shrinks the linear layers of a checkpoint whose configuration
// says nothing of quantization; embedding and output keep their type. Methods that need a prepared checkpoint come
// here only when its configuration was written by hand; compressed-tensors has 8 bits at most.
func (v *vllm) runtimeQuantization() ratio {
	if !v.unquantized() {
		return ratio{1, 1}
	}
	switch q := v.s.Quantization; {
	case q == "", q == "mxfp4": // MXFP4 is of experts alone
		return ratio{1, 1}
	case containsFold(q, "fp4"), containsFold(q, "nf4"), containsFold(q, "awq"), containsFold(q, "gptq"), containsFold(q, "round"), q == "bitsandbytes":
		return ratio{9, 16 * v.elementBytes()} // 4 bits and half a bit of scales
	}
	return ratio{1, v.elementBytes()}
}

// expertType returns the type of the routed experts: the checkpoint's, or the one that --quantization makes.
func (v *vllm) expertType() string {
	if v.m.Experts == nil {
		return ""
	}
	if v.m.Experts.Type == "" && v.unquantized() && v.s.Quantization == "mxfp4" {
		return "MXFP4"
	}
	return v.m.Experts.Type
}

// unquantized says whether the checkpoint's linear layers are of a plain floating-point type.
func (v *vllm) unquantized() bool {
	switch v.m.Quantization {
	case "", "BF16", "FP16", "FP32":
		return true
	}
	return false
}

// stageLayers counts the layers of each kind in one pipeline stage.
type stageLayers struct {
	m           *Model
	first, last int64 // layers [first, last)
}

// stageLayers returns the layers of a stage: as equal as they go, the remainder to the middle stages first and
// never to the last (vllm/distributed/utils.py, get_pp_indices).
func (v *vllm) stageLayers(stage int64) stageLayers {
	n := int64(v.m.LayerCount)
	if v.pp == 1 {
		return stageLayers{v.m, 0, n}
	}
	each, rest := n/v.pp, n%v.pp
	first := int64(0)
	size := func(s int64) int64 {
		// Stages pp-2, pp-3, … take one more each.
		if s != v.pp-1 && s >= v.pp-1-rest {
			return each + 1
		}
		return each
	}
	for s := range stage {
		first += size(s)
	}
	return stageLayers{v.m, first, first + size(stage)}
}

func (s stageLayers) count(kind int) int64 {
	if s.first == 0 && s.last == int64(s.m.LayerCount) {
		return int64(s.m.Layers[kind].Count)
	}
	if len(s.m.LayerOrder) == 0 {
		return s.last - s.first
	}
	var n int64
	for _, k := range s.m.LayerOrder[s.first:s.last] {
		if int(k) == kind {
			n++
		}
	}
	return n
}
