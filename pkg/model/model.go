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
	// Format decides which engines can load it.
	Format Format `json:"format"`
	// Architecture is general.architecture of a GGUF file ("qwen3moe") or the class named by config.json
	// ("Qwen3MoeForCausalLM").
	Architecture string `json:"architecture"`
	// UnknownArchitecture marks a model whose architecture the reader does not know: its KV geometry is the
	// largest that its dimensions allow, and estimates of it are marked as a fallback.
	// +optional
	UnknownArchitecture bool `json:"unknownArchitecture,omitempty"`
	// Quantization is the commonest type of the weights, for people: "Q4_K", "BF16", "FP8".
	// +optional
	Quantization string `json:"quantization,omitempty"`
	// WeightsSource says how far the weights below can be trusted.
	WeightsSource WeightsSource `json:"weightsSource"`
	// Parameters is the number of weights, all experts included.
	// +optional
	Parameters int64 `json:"parameters,omitempty"`
	// FileSize is the bytes of the model's files, all shards included.
	// +optional
	FileSize int64 `json:"fileSize,omitempty"`
	// ContextLength is the longest context, in tokens, that the model was made for.
	// +optional
	ContextLength int64 `json:"contextLength,omitempty"`
	// VocabularySize is the number of tokens the output layer tells apart.
	// +optional
	VocabularySize int64 `json:"vocabularySize,omitempty"`
	// HiddenSize is the width of the residual stream.
	HiddenSize int64 `json:"hiddenSize"`
	// FeedForward is the width of the widest dense feed-forward layer; zero when all layers are of experts.
	// +optional
	FeedForward int64 `json:"feedForward,omitempty"`
	// Ungated says that a dense feed-forward layer has two matrices instead of three (GGUF).
	// +optional
	Ungated bool `json:"ungated,omitempty"`
	// ParallelAttention says that a layer's attention and its feed-forward part read the same input (GGUF).
	// +optional
	ParallelAttention bool `json:"parallelAttention,omitempty"`
	// Heads and KVHeads are the largest numbers of attention and of key/value heads of any layer: what a
	// tensor-parallel size must divide. Zero for a model without attention.
	// +optional
	Heads int64 `json:"heads,omitempty"`
	// +optional
	KVHeads int64 `json:"kvHeads,omitempty"`
	// Experts describes the mixture of experts; nil for a dense model.
	// +optional
	Experts *Experts `json:"experts,omitempty"`
	// Layers are the kinds of layers. Never empty for a model of known architecture.
	Layers []LayerKind `json:"layers"`
	// LayerOrder is the kind (an index into Layers) of each layer, first to last; empty when there is one kind.
	// +optional
	LayerOrder []int32 `json:"layerOrder,omitempty"`
	// LayerCount is the number of layers, prediction layers (NextN, MTP) not included.
	LayerCount int32 `json:"layerCount"`
	// LayerWeights (GGUF) is the bytes of each layer, routed experts not included. GGUF files mix types from layer
	// to layer, and llama.cpp puts whole layers on devices.
	// +optional
	LayerWeights []int64 `json:"layerWeights,omitempty"`
	// ExpertWeights (GGUF) is the bytes of the routed experts of each layer; empty for a dense model.
	// +optional
	ExpertWeights []int64 `json:"expertWeights,omitempty"`
	// InputWidth is the elements per token that come in beside the token's embedding and stay until the layers that
	// read them: per-layer embeddings (Gemma 3n, 4), levels of image features (Qwen3-VL).
	// +optional
	InputWidth int64 `json:"inputWidth,omitempty"`
	// StreamWidth is the elements of the residual stream of a token where it is not HiddenSize: several copies of it
	// (hyper-connections).
	// +optional
	StreamWidth int64 `json:"streamWidth,omitempty"`
	// Embedding and Output are the bytes of the token embedding and of the output layer; Output is zero when it is
	// tied to the embedding (TiedEmbeddings).
	Embedding int64 `json:"embedding"`
	// +optional
	Output int64 `json:"output,omitempty"`
	// TiedEmbeddings says that the output layer is the embedding, stored once.
	// +optional
	TiedEmbeddings bool `json:"tiedEmbeddings,omitempty"`
	// NoOutput says that there is no output layer over the vocabulary: an encoder.
	// +optional
	NoOutput bool `json:"noOutput,omitempty"`
	// Cacheless says that nothing is kept from one batch to the next: encoders and diffusion models, whose tokens
	// attend to the batch only.
	// +optional
	Cacheless bool `json:"cacheless,omitempty"`
	// MirroredWeights (GGUF) is the bytes of all layers that llama.cpp's split mode tensor keeps whole on every
	// device: norms, routers, shared experts.
	// +optional
	MirroredWeights int64 `json:"mirroredWeights,omitempty"`
	// LargestMatrix (GGUF) is the bytes of the largest matrix of any layer, routed experts not included: what a
	// layer that is not on a GPU stages there.
	// +optional
	LargestMatrix int64 `json:"largestMatrix,omitempty"`
	// OtherWeights is what belongs to no layer and is neither embedding nor output: the last norm, position
	// tables, RoPE factors.
	// +optional
	OtherWeights int64 `json:"otherWeights,omitempty"`
	// RotaryElements is the elements of the tables of rotations (RoPE) that engines make while they load, which are in
	// no file: a cosine or sine for each position and rotated dimension.
	// +optional
	RotaryElements int64 `json:"rotaryElements,omitempty"`
	// HostWeights (GGUF) is what llama.cpp keeps on the host even when every layer is offloaded, beside the token
	// embedding: per-layer embeddings.
	// +optional
	HostWeights int64 `json:"hostWeights,omitempty"`
	// Vision is the image (and audio) tower; nil for a text model.
	// +optional
	Vision *Vision `json:"vision,omitempty"`
	// Draft is the model's own speculative layers (NextN, MTP); nil when it has none. They are loaded and used
	// only when the engine is told to (vLLM) or cost what llama.cpp gives them.
	// +optional
	Draft *Draft `json:"draft,omitempty"`
	// KVCacheScheme is the cache type that the checkpoint asks for ("fp8"), empty when it says nothing.
	// +optional
	KVCacheScheme string `json:"kvCacheScheme,omitempty"`
	// DType is the type that the model computes in unless the engine is told otherwise: "bfloat16", "float32".
	// +optional
	DType string `json:"dtype,omitempty"`
}

// Experts are the routed feed-forward layers of a mixture of experts.
type Experts struct {
	// Count is the number of routed experts of a layer, Used how many of them a token visits.
	Count int64 `json:"count"`
	Used  int64 `json:"used"`
	// FeedForward is the width of one expert, SharedFeedForward that of all shared experts together.
	FeedForward int64 `json:"feedForward"`
	// +optional
	SharedFeedForward int64 `json:"sharedFeedForward,omitempty"`
	// Ungated says that an expert has two matrices instead of three.
	// +optional
	Ungated bool `json:"ungated,omitempty"`
	// Biased says that the experts have biases.
	// +optional
	Biased bool `json:"biased,omitempty"`
	// Type is the type of their weights where it is quantized ("MXFP4"); some engines pad certain types.
	// +optional
	Type string `json:"type,omitempty"`
	// LargestMatrix (GGUF) is the bytes of the largest matrix of all routed experts of one layer.
	// +optional
	LargestMatrix int64 `json:"largestMatrix,omitempty"`
	// FusedGate (GGUF) says that gate and up projections are one matrix.
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
	Kind LayerKindName `json:"kind"`
	// Count is the number of layers of this kind.
	Count int32 `json:"count"`
	// Heads and KVHeads are the attention heads and the key/value heads of a layer.
	// +optional
	Heads int64 `json:"heads,omitempty"`
	// +optional
	KVHeads int64 `json:"kvHeads,omitempty"`
	// KeyDim and ValueDim are the elements of one head's key and value. Latent layers do not cache them.
	// +optional
	KeyDim int64 `json:"keyDim,omitempty"`
	// +optional
	ValueDim int64 `json:"valueDim,omitempty"`
	// Window is the attention window in tokens, of sliding-window layers.
	// +optional
	Window int64 `json:"window,omitempty"`
	// LatentDim is the elements kept per token by a latent layer (kv_lora_rank + qk_rope_head_dim).
	// +optional
	LatentDim int64 `json:"latentDim,omitempty"`
	// LatentValueDim is the part of LatentDim that is not position (kv_lora_rank). llama.cpp before January 2026
	// stored it a second time, as values.
	// +optional
	LatentValueDim int64 `json:"latentValueDim,omitempty"`
	// CrossTokens is the tokens that a cross-attention layer keeps of one request.
	// +optional
	CrossTokens int64 `json:"crossTokens,omitempty"`
	// CompressRatio is how many tokens share one entry of the cache beyond Window (DeepSeek V4); zero means that
	// nothing beyond Window is kept, or, without a Window, one entry each.
	// +optional
	CompressRatio int64 `json:"compressRatio,omitempty"`
	// IndexerDim is the elements kept per token by a sparse-attention indexer (DeepSeek V3.2, GLM 5).
	// +optional
	IndexerDim int64 `json:"indexerDim,omitempty"`
	// IndexerHeads is the heads of an indexer whose scores are computed head by head (MiniMax M3).
	// +optional
	IndexerHeads int64 `json:"indexerHeads,omitempty"`
	// SharesCacheOf (GGUF) is one more than the layer whose keys and values this one reads; zero for a layer with
	// its own, or with none.
	// +optional
	SharesCacheOf int32 `json:"sharesCacheOf,omitempty"`
	// ConvState and SSMState are the elements of a recurrent layer's states per sequence.
	// +optional
	ConvState int64 `json:"convState,omitempty"`
	// +optional
	SSMState int64 `json:"ssmState,omitempty"`
	// RecurrentWidth is the inner width of a recurrent layer (d_inner), which sizes its activations. RWKV, with its
	// many projections at once, counts for 5/2 of its width.
	// +optional
	RecurrentWidth int64 `json:"recurrentWidth,omitempty"`
	// ProjectionWidth (GGUF) is the width of what a recurrent layer's states and inputs are projected to at once
	// (Mamba 2, RWKV): it is copied between GPUs where such a layer is the first of its GPU.
	// +optional
	ProjectionWidth int64 `json:"projectionWidth,omitempty"`
	// Weights (safetensors) is the bytes of one layer of this kind, by how tensor parallelism places them.
	// +optional
	Weights PlacedWeights `json:"weights,omitzero"`
}

// PlacedWeights are bytes by how vLLM's tensor parallelism places them.
type PlacedWeights struct {
	// Sharded is divided by the tensor-parallel size: query, output, dense feed-forward.
	// +optional
	Sharded int64 `json:"sharded,omitempty"`
	// KV is the key and value projections: divided by min(size, kvHeads), replicated beyond that.
	// +optional
	KV int64 `json:"kv,omitempty"`
	// Experts is the routed experts: divided by the tensor-parallel or expert-parallel size.
	// +optional
	Experts int64 `json:"experts,omitempty"`
	// Replicated is whole on every rank: norms, routers, MLA down-projections, indexers.
	// +optional
	Replicated int64 `json:"replicated,omitempty"`
}

// Vision is the tower that turns images (and audio) into embeddings.
type Vision struct {
	// Sharded and Replicated are its weights by placement. The towers that vLLM cannot shard are replicated.
	// +optional
	Sharded int64 `json:"sharded,omitempty"`
	// +optional
	Replicated int64 `json:"replicated,omitempty"`
	// Projector names the kind of projector of a GGUF mmproj file ("gemma3", "qwen2vl_merger").
	// +optional
	Projector string `json:"projector,omitempty"`
	// HiddenSize, FeedForward, Heads and Layers are those of the tower.
	// +optional
	HiddenSize int64 `json:"hiddenSize,omitempty"`
	// +optional
	FeedForward int64 `json:"feedForward,omitempty"`
	// +optional
	Heads int64 `json:"heads,omitempty"`
	// +optional
	Layers int64 `json:"layers,omitempty"`
	// MaxPatches is the patches of the largest image that the tower takes at once; it sizes its activations.
	// +optional
	MaxPatches int64 `json:"maxPatches,omitempty"`
}

// Draft is the speculative layers that come with a model.
type Draft struct {
	// Layers is how many there are.
	Layers int64 `json:"layers"`
	// Weights is the bytes of all of them by placement.
	Weights PlacedWeights `json:"weights"`
	// KVKind is the index in Model.Layers of the kind whose cache geometry they have.
	// +optional
	KVKind int32 `json:"kvKind,omitempty"`
	// Cached (GGUF) says that llama.cpp gives them a row of the main cache even when they are not used.
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
