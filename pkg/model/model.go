// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package model

// Format is the file format of a model's weights.
type Format string

const (
	FormatGGUF        Format = "gguf"
	FormatSafetensors Format = "safetensors"
)

// WeightsSource says how the sizes of the weights came to be known.
type WeightsSource string

const (
	// WeightsFromTensors: summed over the tensors that the file's header lists. Exact.
	WeightsFromTensors WeightsSource = "tensors"
	// WeightsFromConfig: computed from the dimensions of a known architecture and its quantization config.
	WeightsFromConfig WeightsSource = "config"
	// WeightsFromFileSize: only the size of the files is known; all of it is taken to be loaded.
	WeightsFromFileSize WeightsSource = "fileSize"
)

// Model is what a model is, as far as its memory goes. It is small (a few KiB even for a hybrid of a hundred
// layers: layers are grouped by kind and no tensor is listed) because it is the status of a ModelProfile.
type Model struct {
	// format decides which engines can load it.
	Format Format `json:"format"`
	// architecture is general.architecture of a GGUF file ("qwen3moe") or the class named by config.json
	// ("Qwen3MoeForCausalLM").
	Architecture string `json:"architecture"`
	// unknownArchitecture marks a model whose architecture the reader does not know: its KV geometry is the
	// largest that its dimensions allow, and estimates of it are marked as a fallback.
	// +optional
	UnknownArchitecture bool `json:"unknownArchitecture,omitempty"`
	// quantization is the commonest type of the weights, for people: "Q4_K", "BF16", "FP8".
	// +optional
	Quantization string `json:"quantization,omitempty"`
	// weightsSource says how far the weights below can be trusted.
	WeightsSource WeightsSource `json:"weightsSource"`
	// parameters is the number of weights, all experts included.
	// +optional
	Parameters int64 `json:"parameters,omitempty"`
	// fileSize is the bytes of the model's files, all shards included.
	// +optional
	FileSize int64 `json:"fileSize,omitempty"`
	// contextLength is the longest context, in tokens, that the model was made for.
	// +optional
	ContextLength int64 `json:"contextLength,omitempty"`
	// vocabularySize is the number of tokens the output layer tells apart.
	// +optional
	VocabularySize int64 `json:"vocabularySize,omitempty"`
	// hiddenSize is the width of the residual stream.
	HiddenSize int64 `json:"hiddenSize"`
	// feedForward is the width of the widest dense feed-forward layer; zero when all layers are of experts.
	// +optional
	FeedForward int64 `json:"feedForward,omitempty"`
	// ungated says that a dense feed-forward layer has two matrices instead of three (GGUF).
	// +optional
	Ungated bool `json:"ungated,omitempty"`
	// parallelAttention says that a layer's attention and its feed-forward part read the same input (GGUF).
	// +optional
	ParallelAttention bool `json:"parallelAttention,omitempty"`
	// heads is the largest number of attention heads of any layer, which a tensor-parallel size must divide. Zero for a
	// model without attention.
	// +optional
	Heads int64 `json:"heads,omitempty"`
	// kvHeads is the largest number of key/value heads of any layer, of which a tensor-parallel size must be a divisor or a
	// multiple.
	// +optional
	KVHeads int64 `json:"kvHeads,omitempty"`
	// experts describes the mixture of experts; absent for a dense model.
	// +optional
	Experts *Experts `json:"experts,omitempty"`
	// layers are the kinds of layers. Never empty for a model of known architecture.
	Layers []LayerKind `json:"layers"`
	// layerOrder is the kind (an index into layers) of each layer, first to last; empty when there is one kind.
	// +optional
	LayerOrder []int32 `json:"layerOrder,omitempty"`
	// layerCount is the number of layers, prediction layers (NextN, MTP) not included.
	LayerCount int32 `json:"layerCount"`
	// layerWeights (GGUF) is the bytes of each layer, routed experts not included. GGUF files mix types from layer
	// to layer, and llama.cpp puts whole layers on devices.
	// +optional
	LayerWeights []int64 `json:"layerWeights,omitempty"`
	// expertWeights (GGUF) is the bytes of the routed experts of each layer; empty for a dense model.
	// +optional
	ExpertWeights []int64 `json:"expertWeights,omitempty"`
	// inputWidth is the elements per token that come in beside the token's embedding and stay until the layers that
	// read them: per-layer embeddings (Gemma 3n, 4), levels of image features (Qwen3-VL).
	// +optional
	InputWidth int64 `json:"inputWidth,omitempty"`
	// streamWidth is the elements of the residual stream of a token where it is not hiddenSize: several copies of it
	// (hyper-connections).
	// +optional
	StreamWidth int64 `json:"streamWidth,omitempty"`
	// embedding is the bytes of the token embedding.
	Embedding int64 `json:"embedding"`
	// output is the bytes of the output layer; zero when it is tied to the embedding (tiedEmbeddings).
	// +optional
	Output int64 `json:"output,omitempty"`
	// tiedEmbeddings says that the output layer is the embedding, stored once.
	// +optional
	TiedEmbeddings bool `json:"tiedEmbeddings,omitempty"`
	// noOutput says that there is no output layer over the vocabulary: an encoder.
	// +optional
	NoOutput bool `json:"noOutput,omitempty"`
	// cacheless says that nothing is kept from one batch to the next: encoders and diffusion models, whose tokens
	// attend to the batch only.
	// +optional
	Cacheless bool `json:"cacheless,omitempty"`
	// mirroredWeights (GGUF) is the bytes of all layers that llama.cpp's split mode tensor keeps whole on every
	// device: norms, routers, shared experts.
	// +optional
	MirroredWeights int64 `json:"mirroredWeights,omitempty"`
	// largestMatrix (GGUF) is the bytes of the largest matrix of any layer, routed experts not included: what a
	// layer that is not on a GPU stages there.
	// +optional
	LargestMatrix int64 `json:"largestMatrix,omitempty"`
	// otherWeights is the bytes of what belongs to no layer and is neither embedding nor output: the last norm, position
	// tables, RoPE factors.
	// +optional
	OtherWeights int64 `json:"otherWeights,omitempty"`
	// rotaryElements is the elements of the tables of rotations (RoPE) that engines make while they load, which are in
	// no file: a cosine or sine for each position and rotated dimension.
	// +optional
	RotaryElements int64 `json:"rotaryElements,omitempty"`
	// hostWeights (GGUF) is the bytes of what llama.cpp keeps on the host even when every layer is offloaded, beside the token
	// embedding: per-layer embeddings.
	// +optional
	HostWeights int64 `json:"hostWeights,omitempty"`
	// vision is the image (and audio) tower; absent for a text model.
	// +optional
	Vision *Vision `json:"vision,omitempty"`
	// draft is the model's own speculative layers (NextN, MTP); absent when it has none. They are loaded and used
	// only when the engine is told to (vLLM) or cost what llama.cpp gives them.
	// +optional
	Draft *Draft `json:"draft,omitempty"`
	// kvCacheScheme is the cache type that the checkpoint asks for ("fp8"), empty when it says nothing.
	// +optional
	KVCacheScheme string `json:"kvCacheScheme,omitempty"`
	// dtype is the type that the model computes in unless the engine is told otherwise: "bfloat16", "float32".
	// +optional
	DType string `json:"dtype,omitempty"`
}

// Experts are the routed feed-forward layers of a mixture of experts.
type Experts struct {
	// count is the number of routed experts of a layer.
	Count int64 `json:"count"`
	// used is how many of them a token visits.
	Used int64 `json:"used"`
	// feedForward is the width of one expert.
	FeedForward int64 `json:"feedForward"`
	// sharedFeedForward is the width of all shared experts together.
	// +optional
	SharedFeedForward int64 `json:"sharedFeedForward,omitempty"`
	// ungated says that an expert has two matrices instead of three.
	// +optional
	Ungated bool `json:"ungated,omitempty"`
	// biased says that the experts have biases.
	// +optional
	Biased bool `json:"biased,omitempty"`
	// type is the type of their weights where it is quantized ("MXFP4"); some engines pad certain types.
	// +optional
	Type string `json:"type,omitempty"`
	// largestMatrix (GGUF) is the bytes of the largest matrix of all routed experts of one layer.
	// +optional
	LargestMatrix int64 `json:"largestMatrix,omitempty"`
	// fusedGate (GGUF) says that gate and up projections are one matrix.
	// +optional
	FusedGate bool `json:"fusedGate,omitempty"`
}

// LayerKindName names what a layer keeps for each token or sequence.
type LayerKindName string

const (
	// LayerAttention keeps keys and values of every token of the context.
	LayerAttention LayerKindName = "attention"
	// LayerSlidingWindow keeps keys and values of the last Window tokens.
	LayerSlidingWindow LayerKindName = "slidingWindow"
	// LayerLatent keeps one compressed vector per token for keys and values together (MLA).
	LayerLatent LayerKindName = "latent"
	// LayerRecurrent keeps a state of fixed size per sequence (Mamba, gated delta net, RWKV). A layer with both a
	// state and attention has the kind of its attention.
	LayerRecurrent LayerKindName = "recurrent"
	// LayerCross keeps keys and values of CrossTokens tokens of something else than the context: an image, or what an
	// encoder made of the input.
	LayerCross LayerKindName = "cross"
	// LayerStateless keeps nothing: feed-forward only, or keys and values shared with an earlier layer.
	LayerStateless LayerKindName = "stateless"
)

// LayerKind is what all layers of one kind have in common.
type LayerKind struct {
	// kind says what a layer keeps for each token or sequence.
	Kind LayerKindName `json:"kind"`
	// count is the number of layers of this kind.
	Count int32 `json:"count"`
	// heads is the attention heads of a layer.
	// +optional
	Heads int64 `json:"heads,omitempty"`
	// kvHeads is the key/value heads of a layer.
	// +optional
	KVHeads int64 `json:"kvHeads,omitempty"`
	// keyDim is the elements of one head's key. Latent layers do not cache them.
	// +optional
	KeyDim int64 `json:"keyDim,omitempty"`
	// valueDim is the elements of one head's value. Latent layers do not cache them.
	// +optional
	ValueDim int64 `json:"valueDim,omitempty"`
	// window is the attention window in tokens, of sliding-window layers.
	// +optional
	Window int64 `json:"window,omitempty"`
	// latentDim is the elements kept per token by a latent layer (kv_lora_rank + qk_rope_head_dim).
	// +optional
	LatentDim int64 `json:"latentDim,omitempty"`
	// latentValueDim is the part of latentDim that is not position (kv_lora_rank). llama.cpp before January 2026
	// stored it a second time, as values.
	// +optional
	LatentValueDim int64 `json:"latentValueDim,omitempty"`
	// crossTokens is the tokens that a cross-attention layer keeps of one request.
	// +optional
	CrossTokens int64 `json:"crossTokens,omitempty"`
	// compressRatio is how many tokens share one entry of the cache beyond window (DeepSeek V4); zero means that
	// nothing beyond window is kept, or, without a window, one entry each.
	// +optional
	CompressRatio int64 `json:"compressRatio,omitempty"`
	// indexerDim is the elements kept per token by a sparse-attention indexer (DeepSeek V3.2, GLM 5).
	// +optional
	IndexerDim int64 `json:"indexerDim,omitempty"`
	// indexerHeads is the heads of an indexer whose scores are computed head by head (MiniMax M3).
	// +optional
	IndexerHeads int64 `json:"indexerHeads,omitempty"`
	// sharesCacheOf (GGUF) is one more than the layer whose keys and values this one reads; zero for a layer with
	// its own, or with none.
	// +optional
	SharesCacheOf int32 `json:"sharesCacheOf,omitempty"`
	// convState is the elements of a recurrent layer's state of its convolution, per sequence.
	// +optional
	ConvState int64 `json:"convState,omitempty"`
	// ssmState is the elements of a recurrent layer's other state, per sequence.
	// +optional
	SSMState int64 `json:"ssmState,omitempty"`
	// recurrentWidth is the inner width of a recurrent layer (d_inner), which sizes its activations. RWKV, with its
	// many projections at once, counts for 5/2 of its width.
	// +optional
	RecurrentWidth int64 `json:"recurrentWidth,omitempty"`
	// projectionWidth (GGUF) is the width of what a recurrent layer's states and inputs are projected to at once
	// (Mamba 2, RWKV): it is copied between GPUs where such a layer is the first of its GPU.
	// +optional
	ProjectionWidth int64 `json:"projectionWidth,omitempty"`
	// weights (safetensors) is the bytes of one layer of this kind, by how tensor parallelism places them.
	// +optional
	Weights PlacedWeights `json:"weights,omitzero"`
}

// PlacedWeights are bytes by how vLLM's tensor parallelism places them.
type PlacedWeights struct {
	// sharded is the bytes that are divided by the tensor-parallel size: query, output, dense feed-forward.
	// +optional
	Sharded int64 `json:"sharded,omitempty"`
	// kv is the bytes of the key and value projections: divided by min(size, kvHeads), replicated beyond that.
	// +optional
	KV int64 `json:"kv,omitempty"`
	// experts is the bytes of the routed experts: divided by the tensor-parallel or expert-parallel size.
	// +optional
	Experts int64 `json:"experts,omitempty"`
	// replicated is the bytes that are whole on every rank: norms, routers, MLA down-projections, indexers.
	// +optional
	Replicated int64 `json:"replicated,omitempty"`
}

// Vision is the tower that turns images (and audio) into embeddings.
type Vision struct {
	// sharded is the bytes of its weights that are divided by the tensor-parallel size.
	// +optional
	Sharded int64 `json:"sharded,omitempty"`
	// replicated is the bytes of its weights that are whole on every rank: all, of towers that vLLM cannot shard.
	// +optional
	Replicated int64 `json:"replicated,omitempty"`
	// projector names the kind of projector of a GGUF mmproj file ("gemma3", "qwen2vl_merger").
	// +optional
	Projector string `json:"projector,omitempty"`
	// hiddenSize is the width of the tower's residual stream.
	// +optional
	HiddenSize int64 `json:"hiddenSize,omitempty"`
	// feedForward is the width of its feed-forward layers.
	// +optional
	FeedForward int64 `json:"feedForward,omitempty"`
	// heads is the attention heads of one of its layers.
	// +optional
	Heads int64 `json:"heads,omitempty"`
	// layers is how many layers it has.
	// +optional
	Layers int64 `json:"layers,omitempty"`
	// maxPatches is the patches of the largest image that the tower takes at once; it sizes its activations.
	// +optional
	MaxPatches int64 `json:"maxPatches,omitempty"`
}

// Draft is the speculative layers that come with a model.
type Draft struct {
	// layers is how many there are.
	Layers int64 `json:"layers"`
	// weights is the bytes of all of them by placement.
	Weights PlacedWeights `json:"weights"`
	// kvKind is the index in model.layers of the kind whose cache geometry they have.
	// +optional
	KVKind int32 `json:"kvKind,omitempty"`
	// cached (GGUF) says that llama.cpp gives them a row of the main cache even when they are not used.
	// +optional
	Cached bool `json:"cached,omitempty"`
}

// KindOf returns the kind of layer i; i must be in [0, LayerCount).
func (m *Model) KindOf(i int) *LayerKind {
	if i < len(m.LayerOrder) {
		return &m.Layers[m.LayerOrder[i]]
	}
	return &m.Layers[0]
}
