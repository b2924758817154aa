// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

import (
	"encoding/json"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/berth-dev/berth/pkg/estimator/flags"
)

// This is vLLM.
var _ = register(&Engine{
	Name:  RuntimeVLLM,
	Title: "vLLM",
	Starts: func(words []string) bool {
		for i, w := range words {
			switch {
			// Others of its commands load no model: chat, complete, collect-env.
			case path.Base(w) == "vllm" && i+1 < len(words) && slices.Contains([]string{"serve", "bench", "run-batch"}, words[i+1]),
				strings.HasPrefix(w, "vllm.entrypoints"), w == "dynamo.vllm",
				strings.Contains(w, "from vllm import"), strings.Contains(w, "import vllm"):
				return true
			case w == "huggingfaceserver": // KServe's, which runs vLLM unless it is told not to
				return !slices.Contains(words[i:], "--backend=huggingface")
			}
		}
		return false
	},
	// Triton's images with vLLM have it in their tags.
	Image: func(name, tag string) bool {
		base := path.Base(name)
		return strings.Contains(base, "vllm") && !strings.Contains(base, "router") || strings.Contains(tag, "-vllm-") ||
			base == "huggingfaceserver" || base == "llm-d" || strings.HasPrefix(base, "llm-d-cuda")
	},
	Release:   vllmRelease,
	Flags:     vllmFlags,
	Arguments: vllmArguments,
	Settle: func(s *flags.Scanner) {
		// A value that cannot be known may switch it on.
		value, ok := s.Env.Lookup("VLLM_ALLOW_LONG_MAX_MODEL_LEN")
		if ok && (flags.Truthy(value) || strings.ContainsRune(value, flags.UnknownMark)) {
			s.Settings.LongContext = true
		}
	},
	MeasuresFreeMemory: true,
	Counts:             powersOfTwo,
	Share: &Share{
		Flag:     "--gpu-memory-utilization",
		Variable: "BERTH_GPU_MEMORY_UTILIZATION",
		Default:  func(s *Settings, _ DeviceInfo, _ int) int64 { return DefaultUtilization(s.Version) },
		Outside: func(s *Settings, dev DeviceInfo, gpus int) (int64, int64) {
			return OutsideUtilization(*s, dev, gpus), 0
		},
	},
	size: func(m *Model, s *Settings, dev DeviceInfo, e *Result) (sizer, error) { return newVLLM(m, s, dev, e) },
})

// powersOfTwo are the counts of an engine that cuts each layer: one unless it follows the choice.
func powersOfTwo(followsCount bool) []int {
	if followsCount {
		return []int{1, 2, 4, 8}
	}
	return []int{1}
}

// vllmFlags are the flags of "vllm serve" that memory depends on (docs.vllm.ai, "Engine Arguments"). vLLM takes
// underscores for hyphens.
var vllmFlags = flags.Table(map[string]flags.Flag{
	"--model --model-id":           flags.One(setModel),
	"--tensor-parallel-size -tp":   flags.One(shards),
	"--pipeline-parallel-size -pp": flags.One(stages),
	// Each copy has GPUs of its own; of those on several nodes, the local ones are this container's.
	"--data-parallel-size -dp": flags.One(func(s *flags.Scanner, name, value string) {
		if s.DataParallel.Source == flags.Unset {
			setCopies(s, name, value)
		}
	}),
	"--data-parallel-size-local -dpl": flags.One(setCopies),
	"--gpu-memory-utilization":        flags.One(fractionBy("BERTH_GPU_MEMORY_UTILIZATION")),
	"--kv-cache-memory-bytes --kv-cache-memory": flags.One(func(s *flags.Scanner, name, value string) {
		flags.Reference("", func(r *flags.Result) *flags.Number { return &r.KVCacheMemory }, flags.ParseNumber)(s, name, value)
		s.Settings.KVCacheMemory = s.KVCacheMemory.Value
	}),
	"--max-model-len":          flags.One(flags.NumberOrAuto(func(s *Settings) *int64 { return &s.ContextLength })),
	"--max-num-seqs":           flags.One(flags.Whole(func(s *Settings) *int64 { return &s.MaxNumSeqs })),
	"--max-num-batched-tokens": flags.One(flags.Whole(func(s *Settings) *int64 { return &s.MaxNumBatchedTokens })),
	"--block-size":             flags.One(flags.Whole(func(s *Settings) *int64 { return &s.BlockSize })),
	"--kv-cache-dtype":         flags.One(flags.Text(func(s *Settings) *string { return &s.KVCacheType })),
	"--dtype":                  flags.One(flags.Text(func(s *Settings) *string { return &s.DType })),
	"--quantization -q":        flags.One(flags.Text(func(s *Settings) *string { return &s.Quantization })),
	"--max-loras":              flags.One(flags.Whole(func(s *Settings) *int64 { return &s.MaxLoRAs })),
	"--max-lora-rank":          flags.One(flags.Whole(func(s *Settings) *int64 { return &s.MaxLoRARank })),
	"--enable-lora": flags.Maybe(func(s *flags.Scanner, name, value string) {
		if s.Classify(name, value) && (value == "" || flags.Truthy(value)) {
			s.Settings.MaxLoRAs = max(s.Settings.MaxLoRAs, 1)
		}
	}),
	"--enable-prefix-caching":    flags.Maybe(flags.SwitchTo(func(s *Settings) *Switch { return &s.PrefixCaching }, true)),
	"--no-enable-prefix-caching": flags.None(flags.SwitchTo(func(s *Settings) *Switch { return &s.PrefixCaching }, false)),
	"--runner --task --convert":  flags.One(setRunner),
	// A longer context than the model's own, by its configuration.
	"--hf-overrides --rope-scaling": flags.One(func(s *flags.Scanner, _, _ string) { s.Settings.LongContext = true }),
	"--enforce-eager":               flags.Maybe(flags.Boolean(func(s *Settings) *bool { return &s.EnforceEager }, true)),
	"--no-enforce-eager":            flags.None(flags.Boolean(func(s *Settings) *bool { return &s.EnforceEager }, false)),
	"--enable-expert-parallel -ep":  flags.Maybe(flags.Boolean(func(s *Settings) *bool { return &s.ExpertParallel }, true)),
	"--no-enable-expert-parallel":   flags.None(flags.Boolean(func(s *Settings) *bool { return &s.ExpertParallel }, false)),
	"--language-model-only":         flags.Maybe(flags.Boolean(func(s *Settings) *bool { return &s.NoVision }, true)),
	"--speculative-config -sc":      flags.One(setSpeculation),
	"--num-speculative-tokens":      flags.One(flags.Whole(func(s *Settings) *int64 { return &s.SpeculativeTokens })),
	// A file of flags, which is in the image or a volume.
	"--config": flags.One(elsewhere),
})

func setCopies(s *flags.Scanner, name, value string) {
	flags.Reference("", func(r *flags.Result) *flags.Number { return &r.DataParallel }, flags.ParseCount)(s, name, value)
	s.Settings.DataParallel = s.DataParallel.Value
}

// setRunner reads what the server is for: --runner pooling, --task embed (and its like), --convert embed.
func setRunner(s *flags.Scanner, name, value string) {
	if !s.Classify(name, value) {
		return
	}
	switch value {
	case "pooling", "embed", "embedding", "classify", "score", "reward", "token_embed", "token_classify":
		s.Settings.Embeddings = true
	case "generate":
		s.Settings.Embeddings = false
	}
}

// setModel takes the model that the engine is told to load.
func setModel(s *flags.Scanner, name, value string) {
	if s.Classify(name, value) {
		s.Model = value
	}
}

// setSpeculation reads --speculative-config, a JSON object. The model's own draft layers (MTP) cost what the model says;
// another model is loaded beside it.
func setSpeculation(s *flags.Scanner, name, value string) {
	if !s.Classify(name, value) {
		return
	}
	var config struct {
		Tokens int64  `json:"num_speculative_tokens"`
		Model  string `json:"model"`
	}
	if json.Unmarshal([]byte(value), &config) != nil || config.Tokens < 0 || config.Tokens > 1<<10 {
		s.MarkInvalid(name, value)
		return
	}
	s.Settings.SpeculativeTokens = config.Tokens
	if config.Model != s.Model {
		s.Settings.DraftModel = flags.Shorten(config.Model)
	}
}

// vllmArguments returns the arguments after the program, the model of "vllm serve MODEL" as a flag. entrypoint says
// that the image's own entrypoint runs, which is "vllm serve".
func vllmArguments(words []string, entrypoint bool) []string {
	for i, w := range words {
		if path.Base(w) == "vllm" && i+1 < len(words) && words[i+1] == "serve" {
			rest := words[i+2:]
			if len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
				return append([]string{"--model=" + rest[0]}, rest[1:]...)
			}
			return rest
		}
		if strings.HasPrefix(w, "vllm.entrypoints") || w == "dynamo.vllm" || w == "huggingfaceserver" {
			return words[i+1:]
		}
	}
	if entrypoint && len(words) > 0 && !strings.HasPrefix(words[0], "-") && !strings.ContainsRune(words[0], flags.UnknownMark) {
		return append([]string{"--model=" + words[0]}, words[1:]...)
	}
	return words
}

var vllmTag = regexp.MustCompile(`^v?([0-9]{1,4}\.[0-9]{1,4})([.+-].*|rc.*)?$`)

// vllmRelease returns the release ("0.19") that an image is of by its tag, for what differs between them; empty if it
// does not say, or is not called after vLLM, so that its tag may count something else.
func vllmRelease(name, tag string) string {
	match := vllmTag.FindStringSubmatch(tag)
	if match == nil || !strings.Contains(path.Base(name), "vllm") || countsOtherwise(name) {
		return ""
	}
	return match[1]
}

// countsOtherwise says whether the tags of an image count the releases of something around the engine: Dynamo's
// (vllm-runtime, sglang-runtime), and the months of NVIDIA's.
func countsOtherwise(name string) bool {
	return strings.HasSuffix(name, "-runtime") || strings.HasPrefix(name, "nvcr.io/nvidia/")
}
