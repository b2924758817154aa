// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gguf

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/estimator/internal/saturate"
)

// maxLayers is more than llama.cpp loads (LLAMA_MAX_LAYERS is 512).
const maxLayers = 1024

// builder turns the headers of one model's files into a model.
type builder struct {
	h      *Header // the first file's: it has the metadata
	arch   string
	blocks []block
	model  *estimator.Model
	types  map[string]int64 // bytes by tensor type
	// upExperts and gatedExperts: there are such matrices of experts.
	upExperts, gatedExperts, biasedExperts bool
	// gated: there are gates of dense layers. upRows: the rows of their up matrices, which may hold the gate as well.
	gated  bool
	upRows int64
	// normed: there is a norm between attention and the feed-forward part.
	normed bool
}

// block is what the tensor table says of one layer.
type block struct {
	weights, experts, mirrored    int64
	largest, largestExpert        int64 // bytes of the largest matrix
	fusedGate                     bool  // gate and up of the experts are one matrix
	keyWidth, valueWidth          int64 // rows of attn_k and attn_v
	compressorWidth               int64 // rows of attn_compressor_kv
	latent, absorbed              bool  // attn_kv_a_mqa; attn_k_b, MLA's own layout
	recurrent, attention, indexer bool
	nextn                         bool // a multi-token prediction layer
}

// Model returns the model of a header; more are the headers of the other files of a split model.
func (h *Header) Model(more ...*Header) (*estimator.Model, error) {
	b := &builder{h: h, arch: h.string("general.architecture"), types: map[string]int64{}}
	if b.arch == "" {
		return nil, errors.New("general.architecture is missing")
	}
	if len(b.arch) > 64 {
		return nil, errors.New("general.architecture is longer than 64 bytes")
	}
	layers := b.int("block_count")
	if layers > maxLayers {
		return nil, fmt.Errorf("%d layers are more than %d", layers, maxLayers)
	}
	b.blocks = make([]block, layers)
	b.model = &estimator.Model{
		Format: estimator.FormatGGUF, Architecture: b.arch, WeightsSource: estimator.WeightsFromTensors,
		UnknownArchitecture: !known[b.arch],
	}
	count := 0
	for _, file := range append([]*Header{h}, more...) {
		b.model.FileSize += file.Bytes + file.DataBytes
		for i := range file.Tensors {
			b.add(&file.Tensors[i])
		}
		count += len(file.Tensors)
	}
	if count == 0 {
		return nil, errors.New("the file has no tensors")
	}
	b.model.Quantization = b.commonestType()
	if b.arch == "clip" {
		b.model.UnknownArchitecture = false
		b.clip()
		return b.model, nil
	}
	if layers == 0 {
		return nil, fmt.Errorf("%s.block_count is missing", b.arch)
	}
	b.dimensions()
	b.layers()
	return b.model, nil
}

// key returns the metadata value of a key of the architecture.
func (b *builder) key(name string) value { return b.h.values[b.arch+"."+name] }

// int returns a whole number not above 2^40; of an array the largest; 0 when it is absent or makes no sense.
func (b *builder) int(name string) int64 { return b.key(name).max() }

func (v value) max() int64 {
	n := v.whole
	for _, w := range v.array {
		n = max(n, w)
	}
	if n < 0 || n > 1<<40 {
		return 0
	}
	return n
}

// at returns element i of an array, or the number if it is not an array; ok is false when there is neither.
func (v value) at(i int) (n int64, ok bool) {
	switch {
	case v.kind == kindNumber:
		n = v.whole
	case v.kind == kindArray && i < len(v.array):
		n = v.array[i]
	default:
		return 0, false
	}
	if n < 0 || n > 1<<40 {
		return 0, false
	}
	return n, true
}

func (h *Header) string(key string) string { return h.values[key].str }

// add accounts for one tensor by its name.
func (b *builder) add(t *Tensor) {
	m := b.model
	m.Parameters = saturate.Add(m.Parameters, t.Elements)
	b.types[t.Type] += t.Bytes
	name := strings.TrimPrefix(t.Name, "dec.")
	if rest, ok := strings.CutPrefix(name, "blk."); ok {
		number, part, ok := strings.Cut(rest, ".")
		i, err := strconv.Atoi(number)
		if ok && err == nil && i >= 0 && i < len(b.blocks) {
			b.blocks[i].add(t, part)
			b.upExperts = b.upExperts || strings.HasPrefix(part, "ffn_up_exps")
			b.gatedExperts = b.gatedExperts || strings.HasPrefix(part, "ffn_gate_exps")
			b.biasedExperts = b.biasedExperts || part == "ffn_up_exps.bias"
			b.gated = b.gated || part == "ffn_gate.weight"
			b.normed = b.normed || strings.HasPrefix(part, "ffn_norm") || strings.HasPrefix(part, "post_")
			if part == "ffn_up.weight" && len(t.Dims) > 1 {
				b.upRows = max(b.upRows, int64(min(t.Dims[1], math.MaxInt32)))
			}
			return
		}
	}
	switch {
	case t.Name == "token_embd.weight":
		m.Embedding += t.Bytes
		if len(t.Dims) == 2 {
			m.VocabularySize = int64(t.Dims[1])
		}
	case t.Name == "output.weight":
		m.Output += t.Bytes
	case strings.HasPrefix(t.Name, "token_embd"), strings.HasPrefix(t.Name, "position_embd"),
		strings.HasPrefix(t.Name, "token_types"), strings.HasPrefix(t.Name, "per_layer_token_embd"):
		m.HostWeights += t.Bytes // inputs stay on the host
	case strings.HasPrefix(t.Name, "per_layer_model_proj"), strings.HasPrefix(t.Name, "per_layer_proj_norm"):
		if len(b.blocks) > 0 { // loaded with the first layer (src/models/gemma4.cpp, load_arch_tensors)
			b.blocks[0].weights += t.Bytes
		}
	case strings.HasPrefix(t.Name, "v."), strings.HasPrefix(t.Name, "mm."), strings.HasPrefix(t.Name, "a."),
		strings.HasPrefix(t.Name, "resampler."):
		b.vision().Replicated += t.Bytes
	default:
		m.OtherWeights += t.Bytes
	}
}

func (b *builder) vision() *estimator.Vision {
	if b.model.Vision == nil {
		b.model.Vision = &estimator.Vision{}
	}
	return b.model.Vision
}

// add accounts for one tensor of a layer.
func (l *block) add(t *Tensor, part string) {
	if strings.HasPrefix(part, "ffn_") && strings.Contains(part, "_exps") {
		l.experts += t.Bytes
		l.largestExpert = max(l.largestExpert, t.Bytes)
		l.fusedGate = l.fusedGate || strings.HasPrefix(part, "ffn_gate_up_exps")
		return
	}
	l.weights += t.Bytes
	if len(t.Dims) >= 2 {
		l.largest = max(l.largest, t.Bytes)
	}
	if mirrored(t, part) {
		l.mirrored += t.Bytes
	}
	rows := int64(0)
	if len(t.Dims) >= 2 {
		rows = int64(min(t.Dims[1], math.MaxInt32))
	}
	switch {
	case part == "attn_k.weight":
		l.attention, l.keyWidth = true, rows
	case part == "attn_v.weight":
		l.attention, l.valueWidth = true, rows
	case part == "attn_qkv.weight":
		l.attention = true
	case strings.HasPrefix(part, "attn_kv_a"):
		l.attention, l.latent = true, true
	case part == "attn_kv.weight": // DeepSeek V4
		l.attention = true
	case part == "attn_compressor_kv.weight":
		l.compressorWidth = rows
	case part == "attn_k_b.weight":
		l.absorbed = true
	case strings.HasPrefix(part, "nextn."):
		l.nextn = true
	case strings.HasPrefix(part, "indexer."):
		l.indexer = true
	case strings.HasPrefix(part, "ssm_"), strings.HasPrefix(part, "time_mix_"), strings.HasPrefix(part, "shortconv."):
		l.recurrent = true
	}
}

// mirrored says whether split mode tensor keeps a tensor of a layer whole on every device: vectors, routers and
// shared experts (llama.cpp, llama-model.cpp, the split of tensors by name).
func mirrored(t *Tensor, part string) bool {
	return len(t.Dims) < 2 || strings.HasPrefix(part, "ffn_gate_inp") || strings.Contains(part, "_shexp")
}

// commonestType returns the type of most bytes.
func (b *builder) commonestType() string {
	best, most := "", int64(-1)
	for name, n := range b.types {
		if n > most || n == most && name < best {
			best, most = name, n
		}
	}
	return best
}

// clip fills in the tower of a projector file (mmproj).
func (b *builder) clip() {
	v := b.vision()
	// Every tensor of such a file is the tower's.
	v.Replicated += b.model.OtherWeights
	b.model.OtherWeights = 0
	for _, l := range b.blocks {
		v.Replicated += l.weights
	}
	key := func(name string) int64 { return b.h.values["clip.vision."+name].max() }
	v.HiddenSize = key("embedding_length")
	v.FeedForward = key("feed_forward_length")
	v.Heads = key("attention.head_count")
	v.Layers = key("block_count")
	v.Projector = b.h.string("clip.projector_type")
	if v.Projector == "" {
		v.Projector = b.h.string("clip.vision.projector_type")
	}
	if n, ok := projectorPatches[v.Projector]; ok {
		v.MaxPatches = n
	} else if patch := key("patch_size"); patch > 0 {
		side := min(key("image_size"), 1<<15) / patch
		v.MaxPatches = side * side
	}
	b.model.HiddenSize = v.HiddenSize
}

// dimensions fills in what holds for the whole model.
func (b *builder) dimensions() {
	m := b.model
	m.ContextLength = b.int("context_length")
	m.HiddenSize = b.int("embedding_length")
	m.FeedForward = b.int("feed_forward_length")
	m.TiedEmbeddings = m.Output == 0
	m.Ungated = !b.gated && b.upRows > 0 && b.upRows == m.FeedForward
	m.ParallelAttention = b.upRows > 0 && (!b.normed || b.int("use_parallel_residual") > 0)
	m.StreamWidth = product(b.int("hyper_connection.count"), m.HiddenSize)
	m.InputWidth = product(b.int("embedding_length_per_layer_input"), int64(len(b.blocks))) +
		product(b.int("n_deepstack_layers"), m.HiddenSize) + product(2*b.int("altup.num_inputs"), m.HiddenSize)
	if m.VocabularySize == 0 {
		m.VocabularySize = b.int("vocab_size")
	}
	if m.VocabularySize == 0 {
		m.VocabularySize = b.h.values["tokenizer.ggml.tokens"].length
	}
	if n := b.int("expert_count"); n > 0 {
		x := &estimator.Experts{Count: n, Used: max(b.int("expert_used_count"), 1), FeedForward: b.int("expert_feed_forward_length")}
		if x.FeedForward == 0 {
			x.FeedForward = m.FeedForward
		}
		x.SharedFeedForward = b.int("expert_shared_feed_forward_length")
		if x.SharedFeedForward == 0 {
			x.SharedFeedForward = min(b.int("expert_shared_count"), 1<<10) * x.FeedForward
		}
		x.Ungated = b.upExperts && !b.gatedExperts
		x.Biased = b.biasedExperts || b.arch == "gpt-oss" || b.arch == "gptoss"
		m.Experts = x
		if b.int("leading_dense_block_count") == 0 && b.int("interleave_moe_layer_step") <= 1 && m.FeedForward == x.FeedForward {
			m.FeedForward = 0
		}
	}
}
