// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package hfconfig

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/estimator/internal/saturate"
)

// Parse reads config.json and, where there is one, hf_quant_config.json (nil otherwise), and returns the model
// with its weights computed from its dimensions. It gives up when ctx ends.
func Parse(ctx context.Context, config, hfQuantConfig []byte) (*estimator.Model, error) {
	root, err := parse(config)
	if err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	var hfQuant fields
	if len(hfQuantConfig) > 0 {
		if hfQuant, err = parse(hfQuantConfig); err != nil {
			return nil, fmt.Errorf("hf_quant_config.json: %w", err)
		}
	}
	b, err := newBuilder(ctx, root, hfQuant)
	if err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	return b.model()
}

// builder turns one configuration into a model.
type builder struct {
	ctx  context.Context // of Parse
	root fields          // the whole configuration
	text fields          // the language model's part, with the root's fields where it has none
	arch string
	traits
	known bool
	quant *quantizer

	elementBytes int64
	hidden       int64
	heads        int64
	kvHeads      int64
	headDim      int64
	layers       int
	vocabulary   int64

	lists      lists
	parameters int64
	missing    []string // what had to be assumed
}

// newBuilder reads the dimensions that every model has.
func newBuilder(ctx context.Context, root, hfQuant fields) (*builder, error) {
	text := root
	if sub := root.sub("text_config", "llm_config", "language_config", "llm"); sub != nil {
		text = sub.over(root).over(classDefaults(sub))
	} else if thinker := root.sub("thinker_config"); thinker != nil { // Qwen Omni
		root = thinker.over(root)
		if sub := thinker.sub("text_config"); sub != nil {
			text = sub.over(root)
		}
	}
	b := &builder{ctx: ctx, root: root, text: text, lists: lists{map[string][]int64{}, map[string][]string{}}}
	b.arch = architecture(root)
	b.traits, b.known = traitsOf(b.arch, text.str("model_type"), root.str("model_type"))
	if inner, ok := traitsOf(text.str("model_type")); ok {
		b.tiedByDefault = b.tiedByDefault || inner.tiedByDefault // a language model inside of a larger one
	}
	b.text = text.over(b.defaults)

	quantConfig := root.sub("quantization_config", "compression_config")
	if quantConfig == nil {
		quantConfig = text.sub("quantization_config")
	}
	var err error
	if b.quant, err = newQuantizer(ctx, quantConfig, hfQuant); err != nil {
		return nil, err
	}
	if b.quant.unread {
		b.assume("quantization_config", 0)
	}
	b.elementBytes = 2
	if b.dtype() == "float32" {
		b.elementBytes = 4
	}

	b.hidden = b.text.int("hidden_size", "n_embd", "n_embed", "d_model", "dim", "model_dim")
	b.heads = b.text.int("num_attention_heads", "n_head", "n_heads", "num_heads")
	b.layers = b.layerCount()
	b.vocabulary = max(b.text.int("vocab_size", "padded_vocab_size", "n_vocab"), b.text.int("embedding_size"))
	if multiple := b.text.int("pad_vocab_size_multiple"); multiple > 0 {
		b.vocabulary = mul(ceilDiv(b.vocabulary, multiple), multiple)
	}
	switch {
	case b.hidden == 0:
		return nil, errors.New("hidden_size is missing: this is not the configuration of a language model")
	case b.layers == 0:
		return nil, errors.New("num_hidden_layers is missing")
	case b.layers > maxLayers:
		return nil, fmt.Errorf("%d layers are more than %d", b.layers, maxLayers)
	case b.heads == 0 && !b.known && b.text.int("kv_lora_rank") == 0 && b.text.int("encoder_attention_heads") == 0:
		return nil, fmt.Errorf("the architecture %s is not known, and its configuration does not say how many attention heads it has: "+
			"nothing can be said of its memory; measure it, and set berth.dev/gpu-memory", strconv.Quote(b.arch))
	}
	b.kvHeads = b.text.intOr(b.heads, "num_key_value_heads", "n_head_kv", "n_kv_heads", "num_kv_heads", "multi_query_group_num", "kv_n_heads")
	if b.kvHeads == 0 {
		b.kvHeads = b.heads
	}
	if attention := b.text.sub("attn_config"); attention != nil { // MPT, DBRX
		b.kvHeads = attention.intOr(b.kvHeads, "kv_n_heads")
	}
	if b.multiQueryDefault && b.text.bool(true, "multi_query") && !b.text.bool(false, "new_decoder_architecture") {
		b.kvHeads = 1 // whatever else it says (vllm/model_executor/models/falcon.py)
	}
	b.headDim = b.text.int("head_dim", "attention_head_dim", "kv_channels")
	if b.headDim == 0 && b.heads > 0 {
		b.headDim = b.hidden / b.heads
	}
	return b, nil
}

// architecture returns the class that config.json names, else its model_type.
func architecture(root fields) string {
	if a := root.strs("architectures"); len(a) > 0 && a[0] != "" {
		return a[0]
	}
	if a := root.str("architecture", "model_type"); a != "" {
		return a
	}
	if ssm := root.sub("ssm_cfg"); ssm != nil { // the checkpoints of state-spaces name only their layer
		if ssm.str("layer") == "Mamba2" {
			return "Mamba2LMHeadModel"
		}
		return "MambaLMHeadModel"
	}
	return "unknown"
}

func (b *builder) layerCount() int {
	if n := b.text.int("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers"); n > 0 {
		if b.twoAttentions {
			n *= 2
		}
		return int(min(n, maxLayers+1))
	}
	for _, list := range []string{"layers_block_type", "layer_types"} {
		if l := b.text.strs(list); len(l) > 0 {
			return len(l)
		}
	}
	return len(b.text.str("hybrid_override_pattern"))
}

// dtype returns the type of unquantized weights: "bfloat16" where the configuration is silent.
func (b *builder) dtype() string {
	d := b.text.str("torch_dtype", "dtype")
	if d == "" {
		d = b.root.str("torch_dtype", "dtype")
	}
	d = strings.TrimPrefix(d, "torch.")
	if d == "" {
		d = "bfloat16"
	}
	return d
}

// placement is where a module's bytes go under tensor parallelism.
type placement int

const (
	sharded placement = iota
	kvSharded
	replicated
	experts
)

// layer collects one layer: its cache geometry and its weights.
type layer struct {
	b      *builder
	prefix string
	kind   estimator.LayerKind
}

// linear adds a matrix that a quantization config may quantize.
func (l *layer) linear(name string, in, out int64, p placement) { l.linears(name, in, out, 1, p) }

// linears adds count equal matrices (experts).
func (l *layer) linears(name string, in, out, count int64, p placement) {
	s := l.b.quant.scheme(l.prefix + name)
	if p == experts {
		s = l.b.expertsScheme(s)
	}
	n := s.bytes(in, out, count, l.b.elementBytes)
	l.b.quant.seen[s.name] = saturate.Add(l.b.quant.seen[s.name], n)
	accumulate(&l.b.parameters, mul(in, out, count))
	l.place(n, p)
}

// raw adds elements of the model's own type: norms, convolutions, biases, routers.
func (l *layer) raw(elements int64, p placement) {
	accumulate(&l.b.parameters, elements)
	l.place(mul(elements, l.b.elementBytes), p)
}

// float32s adds elements that are kept in float32 whatever the model's type.
func (l *layer) float32s(elements int64, p placement) {
	accumulate(&l.b.parameters, elements)
	l.place(mul(elements, 4), p)
}

func (l *layer) place(n int64, p placement) {
	w := &l.kind.Weights
	switch p {
	case kvSharded:
		accumulate(&w.KV, n)
	case replicated:
		accumulate(&w.Replicated, n)
	case experts:
		accumulate(&w.Experts, n)
	default:
		accumulate(&w.Sharded, n)
	}
}

// model assembles the layers and what lies around them.
func (b *builder) model() (*estimator.Model, error) {
	m := &estimator.Model{
		Format:              estimator.FormatSafetensors,
		Architecture:        b.arch,
		UnknownArchitecture: !b.known,
		WeightsSource:       estimator.WeightsFromConfig,
		ContextLength:       b.contextLength(),
		VocabularySize:      b.vocabulary,
		HiddenSize:          b.hidden,
		DType:               b.dtype(),
		KVCacheScheme:       b.quant.kvCache,
		LayerCount:          int32(b.layers),
	}
	kinds := newKinds(b.layers)
	if b.twoStacks() {
		kinds = b.stacks(m)
		m.LayerCount = int32(len(kinds.order))
		b.layers = 0
	}
	for i := range b.layers {
		if err := b.ctx.Err(); err != nil {
			return nil, err
		}
		l := &layer{b: b, prefix: "layers." + strconv.Itoa(i) + "."}
		b.mix(l, i)
		feedForward, hasExperts := b.feedForward(l, i)
		m.FeedForward = max(m.FeedForward, feedForward)
		if hasExperts && m.Experts == nil {
			m.Experts = b.experts()
		}
		l.raw(mul(b.normsPerLayer, b.hidden), replicated)
		kinds.add(l.kind)
	}
	m.Layers, m.LayerOrder = kinds.result()
	for i := range m.Layers {
		if m.Layers[i].Kind == estimator.LayerRecurrent {
			continue // its heads are not attention heads
		}
		m.Heads = max(m.Heads, m.Layers[i].Heads)
		m.KVHeads = max(m.KVHeads, m.Layers[i].KVHeads)
	}
	b.embeddings(m)
	m.RotaryElements = b.rotaryElements(m)
	m.Vision = b.towers()
	m.Draft = b.draft(m)
	m.Parameters = b.parameters
	m.Quantization = b.quantizationName()
	if m.Experts != nil {
		m.Experts.Type = b.expertTypeName()
	}
	if err := b.ctx.Err(); err != nil {
		return nil, err // names were not all matched
	}
	if len(b.missing) > 0 {
		// A dimension that had to be assumed makes the whole an assumption, whatever the architecture.
		m.UnknownArchitecture = true
	}
	return m, nil
}

// embeddings adds the token embedding, the output layer and what belongs to no layer.
func (b *builder) embeddings(m *estimator.Model) {
	width := b.text.intOr(b.hidden, "word_embed_proj_dim") // OPT-350m has narrower ones, and matrices between
	table := mul(b.vocabulary, width)
	accumulate(&b.parameters, table)
	m.Embedding = mul(table, b.elementBytes)
	m.TiedEmbeddings = b.text.bool(b.tiedByDefault || b.twoStacks(), "tie_word_embeddings", "tie_embeddings", "weight_tying")
	m.Cacheless, m.NoOutput = b.encoder, b.encoder
	if !m.TiedEmbeddings && !b.encoder {
		accumulate(&b.parameters, table)
		m.Output = mul(table, b.elementBytes)
	}
	m.OtherWeights = mul(b.hidden, b.elementBytes)
	if width != b.hidden {
		accumulate(&b.parameters, mul(2, width, b.hidden))
		accumulate(&m.OtherWeights, mul(2, width, b.hidden, b.elementBytes))
	}
	if perLayer := b.text.int("hidden_size_per_layer_input"); perLayer > 0 { // Gemma 3n, Gemma 4 E-models
		all := mul(perLayer, int64(b.layers))
		elements := mul(b.text.intOr(b.vocabulary, "vocab_size_per_layer_input"), all) + mul(3, b.hidden, all) // a table, and three projections
		if inputs := b.text.int("altup_num_inputs"); inputs > 1 {
			elements += mul(2*(inputs-1), b.hidden, b.hidden)
		}
		elements += mul(2, b.text.int("laurel_rank"), b.hidden, int64(b.layers))
		accumulate(&b.parameters, elements)
		accumulate(&m.OtherWeights, mul(elements, b.elementBytes))
	}
	if b.learnedPositions {
		elements := mul(m.ContextLength, b.hidden)
		accumulate(&b.parameters, elements)
		accumulate(&m.OtherWeights, mul(elements, b.elementBytes))
	}
}

// quantizationName names the type that most bytes of the linear layers have.
func (b *builder) quantizationName() string {
	best, bytes := "", int64(-1)
	for name, n := range b.quant.seen {
		if n > bytes || n == bytes && name < best {
			best, bytes = name, n
		}
	}
	if best != "" {
		return best
	}
	switch b.dtype() {
	case "float32":
		return "FP32"
	case "float16":
		return "FP16"
	}
	return "BF16"
}

// expertTypeName names the type of the routed experts of the first layer that has them.
func (b *builder) expertTypeName() string {
	for i := range b.layers {
		if b.hasExperts(i) {
			return b.expertsScheme(b.quant.scheme("layers." + strconv.Itoa(i) + "." + b.expertsName + ".0.up_proj")).name
		}
	}
	return ""
}

// expertsScheme returns how routed experts are stored, given what the quantization config says: DeepSeek V4 calls
// itself FP8 and names the 4-bit type of its experts apart.
func (b *builder) expertsScheme(s scheme) scheme {
	if s.bits == 8 && b.text.str("expert_dtype") == "fp4" {
		return schemeMXFP4
	}
	return s
}

// kinds groups equal layers.
type kinds struct {
	list  []estimator.LayerKind
	index map[estimator.LayerKind]int32
	order []int32
}

func newKinds(layers int) *kinds {
	return &kinds{index: make(map[estimator.LayerKind]int32), order: make([]int32, 0, layers)}
}

func (k *kinds) add(kind estimator.LayerKind) {
	i, ok := k.index[kind]
	if !ok {
		i = int32(len(k.list))
		k.index[kind] = i
		k.list = append(k.list, kind)
	}
	k.list[i].Count++
	k.order = append(k.order, i)
}

func (k *kinds) result() ([]estimator.LayerKind, []int32) {
	if len(k.list) == 1 {
		return k.list, nil
	}
	return estimator.CompactKinds(k.list, k.order)
}
