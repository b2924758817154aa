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
	// runtime is the engine, as in the annotation berth.dev/runtime.
	Runtime Runtime `json:"runtime,omitempty"`
	// version is the engine's version: "0.19.0" for vLLM, a build number such as "b9849" for llama.cpp. Several
	// terms changed by gigabytes between versions; empty means the newest known.
	Version string `json:"version,omitempty"`
	// contextLength is in tokens: --max-model-len, --ctx-size (over all slots), OLLAMA_CONTEXT_LENGTH (of one slot).
	ContextLength int64 `json:"contextLength,omitempty"`
	// parallel is the sequences that are served at once: --parallel, OLLAMA_NUM_PARALLEL. For vLLM it is how many
	// requests of the full context the cache must hold.
	Parallel int64 `json:"parallel,omitempty"`
	// batchSize is llama.cpp's --batch-size, in tokens.
	BatchSize int64 `json:"batchSize,omitempty"`
	// microBatchSize is llama.cpp's --ubatch-size, in tokens.
	MicroBatchSize int64 `json:"microBatchSize,omitempty"`
	// kvCacheType is the type of keys and of values: "f16", "q8_0", "fp8".
	KVCacheType string `json:"kvCacheType,omitempty"`
	// kvCacheTypeV is the type of the values alone, where it differs.
	KVCacheTypeV string `json:"kvCacheTypeV,omitempty"`
	// flashAttention is llama.cpp's --flash-attn.
	FlashAttention Switch `json:"flashAttention,omitempty"`
	// kvUnified is llama.cpp's --kv-unified: one cache for all slots.
	KVUnified Switch `json:"kvUnified,omitempty"`
	// swaFull is llama.cpp's --swa-full: sliding-window layers keep the whole context.
	SWAFull bool `json:"swaFull,omitempty"`
	// noKVOffload is llama.cpp's --no-kv-offload: the cache stays on the host.
	NoKVOffload bool `json:"noKVOffload,omitempty"`
	// gpuLayers is one more than llama.cpp's --gpu-layers: layers on GPUs, the output layer counted as one. Absent means all.
	GPULayers Layers `json:"gpuLayers,omitempty"`
	// expertsOnCPU says that routed experts stay on the host: --cpu-moe, --n-cpu-moe.
	ExpertsOnCPU bool `json:"expertsOnCPU,omitempty"`
	// cpuExpertLayers is of how many layers, from the first, they stay there; absent means of all.
	CPUExpertLayers int64 `json:"cpuExpertLayers,omitempty"`
	// splitMode is llama.cpp's --split-mode: "layer" (default), "row", "tensor", "none".
	SplitMode string `json:"splitMode,omitempty"`
	// tensorSplit is llama.cpp's --tensor-split, as given: proportions separated by commas.
	TensorSplit string `json:"tensorSplit,omitempty"`
	// noVision says that the vision tower is not loaded (--no-mmproj, --language-model-only).
	NoVision bool `json:"noVision,omitempty"`
	// speculativeTokens is how many tokens the model's own draft layers predict (MTP); zero means not used.
	SpeculativeTokens int64 `json:"speculativeTokens,omitempty"`
	// draftModel names another model that is loaded beside this one to predict tokens (vLLM's --speculative-config).
	DraftModel string `json:"draftModel,omitempty"`
	// embeddings says that the server answers with embeddings or scores instead of text: llama.cpp's --embeddings and
	// --reranking (every token of a micro-batch is then an output), vLLM's --runner pooling (nothing is sampled).
	Embeddings bool `json:"embeddings,omitempty"`
	// quantization is vLLM's --quantization: what is done to the weights when they are loaded.
	Quantization string `json:"quantization,omitempty"`
	// dtype is vLLM's --dtype.
	DType string `json:"dtype,omitempty"`
	// gpuMemoryUtilization is vLLM's --gpu-memory-utilization in parts per million (0.92 is 920000).
	GPUMemoryUtilization int64 `json:"gpuMemoryUtilization,omitempty"`
	// utilizationHandedOver says that the fraction is not the engine's or the user's to choose: it will be derived
	// from the booking, so the model is booked for what it needs.
	UtilizationHandedOver bool `json:"utilizationHandedOver,omitempty"`
	// kvCacheMemory is vLLM's --kv-cache-memory-bytes, in bytes: the cache takes this much, whatever is free.
	KVCacheMemory int64 `json:"kvCacheMemory,omitempty"`
	// maxNumSeqs is the sequences that vLLM computes in one step at most.
	MaxNumSeqs int64 `json:"maxNumSeqs,omitempty"`
	// maxNumBatchedTokens is the tokens that vLLM computes in one step at most.
	MaxNumBatchedTokens int64 `json:"maxNumBatchedTokens,omitempty"`
	// longContext says that vLLM takes a context longer than the model's: VLLM_ALLOW_LONG_MAX_MODEL_LEN, --hf-overrides.
	LongContext bool `json:"longContext,omitempty"`
	// prefixCaching is vLLM's --enable-prefix-caching; hybrids have it by default from v0.20 on.
	PrefixCaching Switch `json:"prefixCaching,omitempty"`
	// blockSize is vLLM's --block-size, tokens of one page of the cache.
	BlockSize int64 `json:"blockSize,omitempty"`
	// enforceEager is vLLM's --enforce-eager: no CUDA graphs.
	EnforceEager bool `json:"enforceEager,omitempty"`
	// expertParallel is vLLM's --enable-expert-parallel.
	ExpertParallel bool `json:"expertParallel,omitempty"`
	// dataParallel is vLLM's --data-parallel-size and SGLang's --dp-size: so many copies of the model, each on GPUs of
	// its own.
	DataParallel int64 `json:"dataParallel,omitempty"`
	// dpAttention is SGLang's --enable-dp-attention: dataParallel is then so many groups of the ranks of one copy, each of
	// which attends for itself.
	DPAttention bool `json:"dpAttention,omitempty"`
	// graphBatchSize is SGLang's --cuda-graph-max-bs, the largest batch with a CUDA graph.
	GraphBatchSize int64 `json:"graphBatchSize,omitempty"`
	// maxTotalTokens is SGLang's --max-total-tokens: the cache holds this many tokens, whatever is free.
	MaxTotalTokens int64 `json:"maxTotalTokens,omitempty"`
	// pipelineParallel is the --pipeline-parallel-size; a GPU count is then tensor times pipeline parallel.
	PipelineParallel int64 `json:"pipelineParallel,omitempty"`
	// maxLoRAs is the adapters that vLLM keeps at once; zero means that LoRA is off.
	MaxLoRAs int64 `json:"maxLoRAs,omitempty"`
	// maxLoRARank is the largest rank of an adapter.
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
