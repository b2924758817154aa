// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package model

// Runtime is the inference engine: it decides how a model splits over GPUs, which flags it is handed and how it behaves
// while loading. The values are those of the annotation berth.dev/runtime.
type Runtime string

const (
	RuntimeCustom   Runtime = "custom"
	RuntimeVLLM     Runtime = "vllm"
	RuntimeOllama   Runtime = "ollama"
	RuntimeLlamaCpp Runtime = "llama.cpp"
	RuntimeSGLang   Runtime = "sglang"
	RuntimeTensorRT Runtime = "tensorrt-llm"
)

// Runtimes are all of them, in the order in which they are told to people.
var Runtimes = []Runtime{RuntimeVLLM, RuntimeOllama, RuntimeLlamaCpp, RuntimeSGLang, RuntimeTensorRT, RuntimeCustom}

// Settings are how an engine is told to run a model. The zero value of each field means "not said": the engine's
// own default is then used. Settings are comparable, so that measured peaks can be kept by them.
type Settings struct {
	Runtime Runtime `json:"runtime,omitempty"`
	// Version is the engine's version: "0.19.0" for vLLM, a build number such as "b9849" for llama.cpp. Several
	// terms changed by gigabytes between versions; empty means the newest known.
	Version string `json:"version,omitempty"`
	// ContextLength is in tokens: --max-model-len, --ctx-size (over all slots), OLLAMA_CONTEXT_LENGTH (of one slot).
	ContextLength int64 `json:"contextLength,omitempty"`
	// Parallel is the sequences that are served at once: --parallel, OLLAMA_NUM_PARALLEL. For vLLM it is how many
	// requests of the full context the cache must hold.
	Parallel int64 `json:"parallel,omitempty"`
	// BatchSize and MicroBatchSize are llama.cpp's --batch-size and --ubatch-size, in tokens.
	BatchSize      int64 `json:"batchSize,omitempty"`
	MicroBatchSize int64 `json:"microBatchSize,omitempty"`
	// KVCacheType is the type of keys and of values ("f16", "q8_0", "fp8"); KVCacheTypeV of the values alone
	// where it differs.
	KVCacheType  string `json:"kvCacheType,omitempty"`
	KVCacheTypeV string `json:"kvCacheTypeV,omitempty"`
	// FlashAttention is llama.cpp's --flash-attn.
	FlashAttention Switch `json:"flashAttention,omitempty"`
	// KVUnified is llama.cpp's --kv-unified: one cache for all slots.
	KVUnified Switch `json:"kvUnified,omitempty"`
	// SWAFull is llama.cpp's --swa-full: sliding-window layers keep the whole context.
	SWAFull bool `json:"swaFull,omitempty"`
	// NoKVOffload is llama.cpp's --no-kv-offload: the cache stays on the host.
	NoKVOffload bool `json:"noKVOffload,omitempty"`
	// GPULayers is llama.cpp's --gpu-layers: layers on GPUs, the output layer counted as one. Nil means all. Set
	// with Layers.
	GPULayers Layers `json:"gpuLayers,omitempty"`
	// ExpertsOnCPU says that the routed experts of all layers (CPUExpertLayers of them when not zero, from the
	// first) stay on the host: --cpu-moe, --n-cpu-moe.
	ExpertsOnCPU    bool  `json:"expertsOnCPU,omitempty"`
	CPUExpertLayers int64 `json:"cpuExpertLayers,omitempty"`
	// SplitMode is llama.cpp's --split-mode: "layer" (default), "row", "tensor", "none".
	SplitMode string `json:"splitMode,omitempty"`
	// TensorSplit is llama.cpp's --tensor-split, as given: proportions separated by commas.
	TensorSplit string `json:"tensorSplit,omitempty"`
	// NoVision says that the vision tower is not loaded (--no-mmproj, --language-model-only).
	NoVision bool `json:"noVision,omitempty"`
	// SpeculativeTokens is how many tokens the model's own draft layers predict (MTP); zero means not used.
	SpeculativeTokens int64 `json:"speculativeTokens,omitempty"`
	// DraftModel names another model that is loaded beside this one to predict tokens (vLLM's --speculative-config).
	DraftModel string `json:"draftModel,omitempty"`
	// Embeddings says that the server answers with embeddings or scores instead of text: llama.cpp's --embeddings and
	// --reranking (every token of a micro-batch is then an output), vLLM's --runner pooling (nothing is sampled).
	Embeddings bool `json:"embeddings,omitempty"`
	// Quantization is vLLM's --quantization: what is done to the weights when they are loaded.
	Quantization string `json:"quantization,omitempty"`
	// DType is vLLM's --dtype.
	DType string `json:"dtype,omitempty"`
	// GPUMemoryUtilization is vLLM's --gpu-memory-utilization in parts per million (0.92 is 920000).
	GPUMemoryUtilization int64 `json:"gpuMemoryUtilization,omitempty"`
	// UtilizationHandedOver says that the fraction is not the engine's or the user's to choose: it will be derived
	// from the booking, so the model is booked for what it needs.
	UtilizationHandedOver bool `json:"utilizationHandedOver,omitempty"`
	// KVCacheMemory is vLLM's --kv-cache-memory-bytes: the cache takes this much, whatever is free.
	KVCacheMemory int64 `json:"kvCacheMemory,omitempty"`
	// MaxNumSeqs and MaxNumBatchedTokens are vLLM's limits for one step.
	MaxNumSeqs          int64 `json:"maxNumSeqs,omitempty"`
	MaxNumBatchedTokens int64 `json:"maxNumBatchedTokens,omitempty"`
	// LongContext says that vLLM takes a context longer than the model's: VLLM_ALLOW_LONG_MAX_MODEL_LEN, --hf-overrides.
	LongContext bool `json:"longContext,omitempty"`
	// PrefixCaching is vLLM's --enable-prefix-caching; hybrids have it by default from v0.20 on.
	PrefixCaching Switch `json:"prefixCaching,omitempty"`
	// BlockSize is vLLM's --block-size, tokens of one page of the cache.
	BlockSize int64 `json:"blockSize,omitempty"`
	// EnforceEager is vLLM's --enforce-eager: no CUDA graphs.
	EnforceEager bool `json:"enforceEager,omitempty"`
	// ExpertParallel is vLLM's --enable-expert-parallel.
	ExpertParallel bool `json:"expertParallel,omitempty"`
	// DataParallel is vLLM's --data-parallel-size and SGLang's --dp-size: so many copies of the model, each on GPUs of
	// its own; with DPAttention (--enable-dp-attention) so many groups of the ranks of one copy, each of which attends for
	// itself.
	DataParallel int64 `json:"dataParallel,omitempty"`
	DPAttention  bool  `json:"dpAttention,omitempty"`
	// GraphBatchSize is SGLang's --cuda-graph-max-bs, the largest batch with a CUDA graph.
	GraphBatchSize int64 `json:"graphBatchSize,omitempty"`
	// MaxTotalTokens is SGLang's --max-total-tokens: the cache holds this many tokens, whatever is free.
	MaxTotalTokens int64 `json:"maxTotalTokens,omitempty"`
	// PipelineParallel is the --pipeline-parallel-size; a GPU count is then tensor times pipeline parallel.
	PipelineParallel int64 `json:"pipelineParallel,omitempty"`
	// MaxLoRAs and MaxLoRARank size vLLM's adapter buffers; zero MaxLoRAs means that LoRA is off.
	MaxLoRAs    int64 `json:"maxLoRAs,omitempty"`
	MaxLoRARank int64 `json:"maxLoRARank,omitempty"`
}

// Switch is a flag with three states.
type Switch string

const (
	SwitchDefault Switch = ""
	SwitchOn      Switch = "on"
	SwitchOff     Switch = "off"
)

// Layers is a number of layers that tells "not said" (the zero value) from "none": it holds the number plus one.
type Layers int64

// LayersOf returns n layers; a negative n means all, as engines have it.
func LayersOf(n int64) Layers {
	if n < 0 {
		return 0
	}
	return Layers(n + 1)
}

// Count returns the number of layers, and false when it was not said (all of them).
func (l Layers) Count() (int64, bool) { return int64(l) - 1, l > 0 }
