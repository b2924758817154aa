// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/berth-dev/berth/pkg/estimator"
)

// estimateAliases are the engines' own names of settings: people copy them from command lines.
var estimateAliases = map[string]string{
	"max-model-len": "context-length", "ctx-size": "context-length", "num-ctx": "context-length", "ctx": "context-length",
	"vllm-version": "runtime-version", "engine-version": "runtime-version", "build": "runtime-version",
	"np": "parallel", "num-parallel": "parallel", "slots": "parallel",
	"kv-cache-dtype": "kv-cache-type", "cache-type-k": "kv-cache-type", "cache-type-v": "kv-cache-type-v",
	"gpus": "gpu-count", "gpu-total": "gpu-memory-total", "gpu-model": "gpu-name",
	"batch": "batch-size", "ubatch": "ubatch-size", "micro-batch-size": "ubatch-size",
	"flash-attn": "flash-attention", "n-gpu-layers": "gpu-layers", "ngl": "gpu-layers",
	"cpu-moe": "experts-on-cpu", "n-cpu-moe": "cpu-expert-layers", "no-mmproj": "no-vision", "language-model-only": "no-vision",
	"expert-parallel": "enable-expert-parallel", "pipeline-parallel": "pipeline-parallel-size", "tensor-parallel": "tensor-parallel-size",
	"num-speculative-tokens": "speculative-tokens", "kv-cache-memory": "kv-cache-memory-bytes",
	"kv-cache-free-gpu-memory-fraction": "gpu-memory-utilization", "free-gpu-memory-fraction": "gpu-memory-utilization",
	"max-seq-len": "context-length", "max-batch-size": "max-num-seqs", "max-num-tokens": "max-num-batched-tokens",
	"mem-fraction-static": "gpu-memory-utilization", "chunked-prefill-size": "max-num-batched-tokens", "max-running-requests": "max-num-seqs",
	"tp-size": "tensor-parallel-size", "tp": "tensor-parallel-size", "pp-size": "pipeline-parallel-size", "pp": "pipeline-parallel-size",
	"data-parallel-size": "dp-size", "dp": "dp-size", "disable-cuda-graph": "enforce-eager", "is-embedding": "embeddings",
	"embedding": "embeddings", "reranking": "embeddings", "rerank": "embeddings",
	"model-config": "config", "quant-config": "hf-quant-config",
}

// addFlags adds the settings. Names are those of annotations where there is one, else the engine's own.
func (o *estimateOptions) addFlags(f *pflag.FlagSet) {
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		name = strings.ReplaceAll(name, "_", "-")
		if alias, ok := estimateAliases[name]; ok {
			name = alias
		}
		return pflag.NormalizedName(name)
	})
	s := &o.settings
	f.StringVarP(&o.output, "output", "o", "table", "table or json")
	f.StringVar(&o.config, "config", "", "config.json of a model whose weights are not at hand")
	f.StringVar(&o.quantConfig, "hf-quant-config", "", "hf_quant_config.json that goes with --config (default: the one beside it)")
	f.StringVar(&o.projector, "mmproj", "", "GGUF file of the image projector that is loaded with the model")
	f.StringVar(&o.runtime, "runtime", "", "one of "+strings.Join(estimator.RuntimeNames(), ", ")+" (default: vllm for safetensors, llama.cpp for GGUF)")
	f.StringVar(&s.Version, "runtime-version", "", "version of the engine: 0.19.0, b9849 (default: the newest known)")
	f.StringVar(&o.gpuCount, "gpu-count", "", "numbers of GPUs: 1,2,4 or 2-8 (default: 1,2,4,8)")
	f.Int64Var(&o.tensorSize, "tensor-parallel-size", 0, "one tensor-parallel size instead of --gpu-count")
	f.StringVar(&o.gpuMemory, "gpu-memory-total", "", "physical memory of one GPU, as nvidia-smi shows it: 79.19Gi")
	f.StringVar(&o.gpuName, "gpu-name", "", "name of the GPUs, as nvidia-smi shows it; CUDA's own memory depends on it")
	f.VarP(number{&s.ContextLength}, "context-length", "c", "tokens of context: over all slots (llama.cpp), of one (Ollama), of one request (vLLM)")
	f.Int64Var(&s.Parallel, "parallel", 0, "sequences served at once; for vLLM, requests of the full context that must fit")
	f.StringVar(&s.KVCacheType, "kv-cache-type", "", "type of the KV cache: f16, q8_0, fp8, …")
	f.StringVar(&s.KVCacheTypeV, "kv-cache-type-v", "", "type of the values where it differs (llama.cpp)")
	f.StringVar(&o.utilization, "gpu-memory-utilization", "", "vLLM's fraction of each GPU, SGLang's and TensorRT-LLM's of what is free: 0.9; or auto, for a fraction made to fit the model")
	f.Int64Var(&s.KVCacheMemory, "kv-cache-memory-bytes", 0, "vLLM's cache in bytes, instead of a fraction")
	f.Int64Var(&s.MaxNumSeqs, "max-num-seqs", 0, "vLLM's sequences of one step, SGLang's of all")
	f.Var(number{&s.MaxNumBatchedTokens}, "max-num-batched-tokens", "tokens of one step (vLLM), of one prefill (SGLang)")
	f.Int64Var(&s.BlockSize, "block-size", 0, "vLLM's tokens of one page of the cache")
	f.BoolVar(&s.EnforceEager, "enforce-eager", false, "vLLM or SGLang without CUDA graphs")
	f.StringVar(&s.Quantization, "quantization", "", "what vLLM does to the weights when it loads them: fp8, bitsandbytes")
	f.StringVar(&s.DType, "dtype", "", "type that vLLM computes in: bfloat16, float32")
	f.Int64Var(&s.PipelineParallel, "pipeline-parallel-size", 0, "vLLM's pipeline stages; a GPU count is then both sizes multiplied")
	f.BoolVar(&s.ExpertParallel, "enable-expert-parallel", false, "vLLM with whole experts on each GPU")
	f.Int64Var(&s.DataParallel, "dp-size", 0, "SGLang's copies of the model, each on GPUs of its own")
	f.BoolVar(&s.DPAttention, "enable-dp-attention", false, "SGLang with attention by groups of ranks, --dp-size of them")
	f.Int64Var(&s.GraphBatchSize, "cuda-graph-max-bs", 0, "SGLang's largest batch with a CUDA graph")
	f.Var(number{&s.MaxTotalTokens}, "max-total-tokens", "SGLang's cache in tokens, instead of a fraction")
	f.Int64Var(&s.SpeculativeTokens, "speculative-tokens", 0, "tokens predicted by the model's own draft layers (MTP)")
	f.Int64Var(&s.MaxLoRAs, "max-loras", 0, "vLLM's adapters held at once")
	f.Int64Var(&s.MaxLoRARank, "max-lora-rank", 0, "rank of the largest of them")
	f.Int64Var(&s.BatchSize, "batch-size", 0, "llama.cpp's logical batch")
	f.Int64Var(&s.MicroBatchSize, "ubatch-size", 0, "llama.cpp's physical batch")
	f.StringVar(&o.flash, "flash-attention", "", "llama.cpp's flash attention: on, off or auto")
	f.Lookup("flash-attention").NoOptDefVal = "on"
	f.StringVar(&o.unified, "kv-unified", "", "llama.cpp's one cache for all slots: on or off")
	f.Lookup("kv-unified").NoOptDefVal = "on"
	f.StringVar(&o.gpuLayers, "gpu-layers", "", "llama.cpp's layers on GPUs, the output layer counted as one (default: all)")
	f.StringVar(&s.SplitMode, "split-mode", "", "llama.cpp's split over GPUs: layer, row, tensor or none")
	f.StringVar(&s.TensorSplit, "tensor-split", "", "llama.cpp's proportions of the GPUs: 3,1")
	f.BoolVar(&s.ExpertsOnCPU, "experts-on-cpu", false, "llama.cpp with the experts of all layers on the host")
	f.Int64Var(&o.cpuExperts, "cpu-expert-layers", 0, "llama.cpp with the experts of the first N layers on the host")
	f.BoolVar(&s.SWAFull, "swa-full", false, "llama.cpp with whole caches for windowed layers")
	f.BoolVar(&s.NoKVOffload, "no-kv-offload", false, "llama.cpp with the cache on the host")
	f.BoolVar(&s.Embeddings, "embeddings", false, "the server answers with embeddings or scores instead of text")
	f.BoolVar(&s.NoVision, "no-vision", false, "the image tower is not loaded")
}

// resolveSettings checks the flags that are not numbers.
func (o *estimateOptions) resolveSettings() error {
	s := &o.settings
	switch r := estimator.Runtime(strings.ToLower(o.runtime)); r {
	case "llamacpp", "llama-cpp", "llama-server", "llama_cpp":
		s.Runtime = estimator.RuntimeLlamaCpp
	default:
		s.Runtime = r
	}
	if err := checkVersion(s.Version, s.Runtime); err != nil {
		return err
	}
	if o.cpuExperts > 0 {
		s.ExpertsOnCPU, s.CPUExpertLayers = true, o.cpuExperts
	}
	switch o.utilization {
	case "":
	case "auto":
		s.UtilizationHandedOver = true
	default:
		f, err := strconv.ParseFloat(o.utilization, 64)
		if err != nil || !(f > 0 && f <= 1) {
			return fmt.Errorf("--gpu-memory-utilization %q is not a fraction between 0 and 1, such as 0.9, nor auto", o.utilization)
		}
		s.GPUMemoryUtilization = int64(math.Round(f * 1e6))
	}
	var err error
	if s.FlashAttention, err = parseSwitch("--flash-attention", o.flash); err != nil {
		return err
	}
	if s.KVUnified, err = parseSwitch("--kv-unified", o.unified); err != nil {
		return err
	}
	if o.gpuLayers != "" && o.gpuLayers != "all" && o.gpuLayers != "auto" {
		n, err := strconv.ParseInt(strings.SplitN(o.gpuLayers, "/", 2)[0], 10, 32) // "26/33", as logs have it
		if err != nil {
			return fmt.Errorf("--gpu-layers %q is not a number, nor all", o.gpuLayers)
		}
		s.GPULayers = estimator.LayersOf(n)
	}
	return nil
}

// release matches the versions that engines give themselves: 0.19.0, v0.21.1rc1, b9849.
var release = regexp.MustCompile(`^(v?[0-9]+\.[0-9]+([.+-]?[0-9a-zA-Z]+)*|b?[0-9]+)$`)

// checkVersion refuses a version that would be taken for the newest because it cannot be read.
func checkVersion(version string, runtime estimator.Runtime) error {
	if version == "" || release.MatchString(version) && (runtime != estimator.RuntimeVLLM || strings.Contains(version, ".")) {
		return nil
	}
	return fmt.Errorf("--runtime-version %q is no release, such as 0.19.0 (vllm, ollama) or b9849 (llama.cpp)", version)
}

func parseSwitch(flag, value string) (estimator.Switch, error) {
	switch strings.ToLower(value) {
	case "", "auto":
		return estimator.SwitchDefault, nil
	case "on", "true", "1", "yes", "enabled":
		return estimator.SwitchOn, nil
	case "off", "false", "0", "no", "disabled":
		return estimator.SwitchOff, nil
	}
	return "", fmt.Errorf("%s %q is none of on, off, auto", flag, value)
}

// counts returns the GPU counts to estimate, ascending; nil for the default.
func (o *estimateOptions) counts() ([]int, error) {
	if o.tensorSize != 0 {
		if o.gpuCount != "" {
			return nil, fmt.Errorf("--tensor-parallel-size and --gpu-count say the same: give one")
		}
		return []int{int(o.tensorSize) * max(int(o.settings.PipelineParallel), 1)}, nil
	}
	if o.gpuCount == "" {
		return nil, nil
	}
	var counts []int
	for part := range strings.SplitSeq(o.gpuCount, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		from, err := strconv.Atoi(first)
		to := from
		if err == nil && isRange {
			to, err = strconv.Atoi(last)
		}
		if err != nil || from < 1 || to < from || to > 64 {
			return nil, fmt.Errorf("--gpu-count %q is not a list of numbers from 1 to 64, such as 1,2,4 or 2-8", o.gpuCount)
		}
		for n := from; n <= to; n++ {
			counts = append(counts, n)
		}
	}
	slices.Sort(counts)
	return slices.Compact(counts), nil
}

// device returns what was said of the GPUs.
func (o *estimateOptions) device() (estimator.DeviceInfo, error) {
	d := estimator.DeviceInfo{Name: o.gpuName}
	if o.gpuMemory == "" {
		return d, nil
	}
	q, err := resource.ParseQuantity(strings.TrimSuffix(strings.TrimSpace(o.gpuMemory), "B"))
	if err != nil {
		return d, fmt.Errorf("--gpu-memory-total %q is not an amount of memory, such as 79.19Gi", o.gpuMemory)
	}
	d.Total = q.Value()
	if d.Total < 64<<20 {
		return d, fmt.Errorf("--gpu-memory-total %q is %d bytes: did you mean %sGi?", o.gpuMemory, d.Total, o.gpuMemory)
	}
	return d, nil
}
