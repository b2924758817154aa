// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package hfconfig

import (
	"encoding/json"
	"maps"
	"strings"
)

// traits are what an architecture does that its config.json does not say.
type traits struct {
	// defaults are the values of its configuration class for fields that configurations leave out.
	defaults fields
	// attentionName and the others are the modules' names in the checkpoint, as quantization configs use them.
	attentionName, feedForwardName, expertsName, sharedExpertsName, mixerName string
	// normsPerLayer is the vectors of hidden size of one layer.
	normsPerLayer int64
	// windowPeriod: every windowPeriod-th layer attends to everything, the others to a window.
	windowPeriod           int64
	sharedExpertsByDefault int64
	// blocks caches DeciLM's list of layers.
	blocks []fields

	tiedByDefault      bool // output and embedding share one matrix unless said otherwise
	ungated            bool // feed-forward of two matrices
	gatedAttention     bool // the query projection brings an output gate
	attentionBias      bool
	multiQueryDefault  bool // one key/value head unless said otherwise
	encoder            bool // no output layer
	learnedPositions   bool
	lightning          bool // attn_type_list tells linear from full attention
	recurrentOnly      bool // no attention at all
	mamba2             bool
	parallelMambaOnly  bool // every layer has attention and Mamba side by side
	windowedThroughout bool // sliding_window holds for every layer
	windowOptIn        bool // sliding_window holds only with use_sliding_window
	oneHalfPerLayer    bool // a layer is either mixer or feed-forward
	noFeedForward      bool
	denseBesideExperts bool // a dense feed-forward layer runs beside the experts
	expertBias         bool
	halvedWidth        bool // intermediate_size counts gate and up together
	fourTimesHidden    bool // the feed-forward width is 4 × hidden unless said otherwise
}

// plain are architectures that their configuration describes fully: attention and a gated feed-forward layer, or
// a mixture of experts, with the usual names.
var plain = []string{
	"llama", "mistral", "mistral3", "mixtral", "yi", "internlm", "internlm2", "internlm3", "aquila", "baichuan", "xverse", "qwen3",
	"qwen3moe", "qwen2vl", "qwen25vl", "qwen3vl", "qwen3vlmoe", "qwen3omnimoe", "granite", "granitemoe", "olmo", "olmo2", "olmo3",
	"olmoe", "phi3", "phi3v", "phi3small", "phi4mm", "phi4multimodal", "phimoe", "smollm3", "seedoss", "exaone", "exaone4",
	"exaonemoe", "solar", "stablelm", "minicpm", "minicpm3", "minicpmv", "minicpmo", "ernie45", "ernie45moe", "ernie45vlmoe", "hunyuanv1dense",
	"hunyuanv1moe", "hunyuan", "hunyuanmoe", "glm", "glm4", "glm4moe", "glm4v", "glm4vmoe", "glm46v", "dots1", "bailingmoe", "bailingmoev2", "arcee", "apertus",
	"deepseek", "deepseekv2", "deepseekv3", "deepseekv32", "kimik2", "kimik25", "kimivl", "kimidev", "glmmoedsa", "glm4moelite", "longcatflash",
	"step3p5", "step3p7", "step3p7flash", "step3p5flash", "minimaxm3", "llava", "llavanext", "llavaonevision", "internvlchat", "internvl",
	"pixtral", "voxtral", "idefics3", "smolvlm", "mllama", "gritlm", "teleflm", "telechat2", "afmoe", "decilm", "nemotronnas", "xcomposer2",
	"paligemma", "ovis", "ovis25", "keyevl15", "aria", "mimo", "mimov2flash", "orion", "zamba2", "grok1", "qwen2", "qwen2moe", "qwen2audio",
	"jais2", "lagunaxs", "kimi", "mistrallarge3",
}

// special are the others. A name is the class or model_type without separators and suffixes.
var special = map[string]func(*traits){
	"qwen":          func(t *traits) { t.halvedWidth = true; t.attentionBias = true },
	"qwen2":         func(t *traits) { t.attentionBias = true; t.windowOptIn = true },
	"qwen2moe":      func(t *traits) { t.attentionBias = true; t.windowOptIn = true; t.set(qwen2MoEDefaults) },
	"qwen2vl":       func(t *traits) { t.attentionBias = true; t.windowOptIn = true },
	"qwen25vl":      func(t *traits) { t.attentionBias = true; t.windowOptIn = true },
	"qwen2audio":    func(t *traits) { t.attentionBias = true; t.windowOptIn = true },
	"qwen3":         func(t *traits) { t.windowOptIn = true },
	"qwen3moe":      func(t *traits) { t.windowOptIn = true },
	"qwen3next":     func(t *traits) { t.gatedAttention = true },
	"qwen35":        func(t *traits) { t.gatedAttention = true },
	"qwen35moe":     func(t *traits) { t.gatedAttention = true },
	"mistral":       func(t *traits) { t.windowedThroughout = true },
	"mixtral":       func(t *traits) { t.windowedThroughout = true; t.sparseBlock(); t.set(mixtralDefaults) },
	"granitemoe":    func(t *traits) { t.sparseBlock() },
	"phimoe":        func(t *traits) { t.sparseBlock() },
	"minimaxm2":     func(t *traits) { t.sparseBlock() },
	"minimaxm3":     func(t *traits) { t.sparseBlock() },
	"minimaxtext01": func(t *traits) { t.sparseBlock(); t.lightning = true },
	"minimaxm1":     func(t *traits) { t.sparseBlock(); t.lightning = true },
	"minimax":       func(t *traits) { t.sparseBlock(); t.lightning = true },
	"minimaxvl01":   func(t *traits) { t.sparseBlock(); t.lightning = true },
	"phi":           func(t *traits) { t.ungated = true; t.attentionBias = true },
	"phi3small":     func(t *traits) { t.attentionBias = true },
	"starcoder2": func(t *traits) {
		t.ungated = true
		t.tiedByDefault = true
		t.attentionBias = true
		t.windowedThroughout = true
	},
	"gptbigcode": func(t *traits) { gpt2(t); t.multiQueryDefault = true },
	"gpt2":       gpt2,
	"gptj":       func(t *traits) { t.ungated = true; t.fourTimesHidden = true },
	"gptneo":     func(t *traits) { gpt2(t) },
	"gptneox":    func(t *traits) { t.ungated = true; t.attentionBias = true },
	"opt": func(t *traits) {
		t.ungated = true
		t.tiedByDefault = true
		t.attentionBias = true
		t.learnedPositions = true
	},
	"bloom": func(t *traits) {
		t.ungated = true
		t.tiedByDefault = true
		t.fourTimesHidden = true
		t.attentionBias = true
	},
	"falcon": func(t *traits) {
		t.ungated = true
		t.tiedByDefault = true
		t.fourTimesHidden = true
		t.multiQueryDefault = true
	},
	"mpt":           func(t *traits) { t.ungated = true; t.tiedByDefault = true; t.fourTimesHidden = true },
	"dbrx":          func(t *traits) { t.expertsName = "ffn.experts" },
	"nemotron":      func(t *traits) { t.ungated = true },
	"persimmon":     func(t *traits) { t.ungated = true },
	"arctic":        func(t *traits) { t.sparseBlock(); t.denseBesideExperts = true },
	"cohere":        func(t *traits) { t.tiedByDefault = true },
	"cohere2":       func(t *traits) { t.tiedByDefault = true; t.windowPeriod = 4 },
	"cohere2vision": func(t *traits) { t.tiedByDefault = true; t.windowPeriod = 4 },
	"exaone4":       func(t *traits) { t.windowPeriod = 4 },
	"chatglm":       func(t *traits) { t.attentionBias = true },
	"gemma":         func(t *traits) { t.tiedByDefault = true; t.set(`{"head_dim":256}`) },
	"gemma2": func(t *traits) {
		gemma(t, 2, `{"num_attention_heads":8,"num_key_value_heads":4,"head_dim":256,"vocab_size":256000,"sliding_window":4096,"max_position_embeddings":8192}`)
	},
	"gemma3":  func(t *traits) { gemma(t, 6, gemma3Defaults) },
	"gemma3n": func(t *traits) { gemma(t, 5, gemma3nDefaults) },
	"gemma4": func(t *traits) {
		gemma(t, 6, `{"head_dim":256,"vocab_size":262144,"sliding_window":512}`)
		t.expertsName = "experts"
	},
	"gptoss": func(t *traits) { t.windowPeriod = 2; t.attentionBias = true; t.expertBias = true },
	"llama4": func(t *traits) {
		t.expertsName, t.sharedExpertsName, t.feedForwardName = "feed_forward.experts", "feed_forward.shared_expert", "feed_forward"
		t.sharedExpertsByDefault = 1
	},
	"deepseekv4": func(t *traits) {
		t.attentionName, t.feedForwardName, t.expertsName, t.sharedExpertsName = "attn", "ffn", "ffn.experts", "ffn.shared_experts"
	},
	"kimilinear":      func(t *traits) { t.sparseBlock() },
	"kimik3":          func(t *traits) { t.sparseBlock() },
	"nemotronh":       nemotronH,
	"nemotronhpuzzle": nemotronH,
	"mamba":           func(t *traits) { t.recurrentOnly, t.noFeedForward, t.tiedByDefault = true, true, true },
	"mamba2": func(t *traits) {
		t.recurrentOnly, t.noFeedForward, t.mamba2 = true, true, true
		t.set(`{"head_dim":64,"n_groups":1,"ssm_state_size":128}`)
	},
	"falconmamba":      func(t *traits) { t.recurrentOnly, t.noFeedForward, t.tiedByDefault = true, true, true },
	"falconh1":         func(t *traits) { t.parallelMambaOnly = true },
	"jamba":            func(t *traits) { t.feedForwardName, t.expertsName = "feed_forward", "feed_forward.experts" },
	"bamba":            func(t *traits) { t.feedForwardName = "feed_forward" },
	"granitemoehybrid": func(t *traits) { t.sparseBlock() },
	"lfm2":             func(t *traits) { t.feedForwardName = "feed_forward"; t.tiedByDefault = true },
	"lfm2moe": func(t *traits) {
		t.feedForwardName, t.expertsName = "feed_forward", "feed_forward.experts"
		t.tiedByDefault = true
	},
	"bert":       encoder,
	"roberta":    encoder,
	"xlmroberta": encoder,
	"distilbert": encoder,
	"nomicbert":  encoder,
	"modernbert": func(t *traits) { t.encoder, t.tiedByDefault = true, true },
	"new":        func(t *traits) { t.encoder, t.tiedByDefault = true, true },
	"gte":        func(t *traits) { t.encoder, t.tiedByDefault = true, true },
}

const (
	qwen2MoEDefaults = `{"num_experts":60,"num_experts_per_tok":4,"moe_intermediate_size":1408,"shared_expert_intermediate_size":5632}`
	mixtralDefaults  = `{"num_local_experts":8,"num_experts_per_tok":2,"num_key_value_heads":8}`
	gemma3Defaults   = `{"num_attention_heads":8,"num_key_value_heads":4,"head_dim":256,"vocab_size":262208,"sliding_window":4096,"max_position_embeddings":131072}`
	gemma3nDefaults  = `{"num_attention_heads":8,"num_key_value_heads":2,"head_dim":256,"vocab_size":262400,"vocab_size_per_layer_input":262144,"hidden_size_per_layer_input":256,"num_kv_shared_layers":15,"sliding_window":512,"max_position_embeddings":32768}`
)

func gpt2(t *traits) {
	t.ungated, t.tiedByDefault, t.fourTimesHidden, t.learnedPositions, t.attentionBias = true, true, true, true, true
}

func encoder(t *traits) {
	t.ungated, t.encoder, t.learnedPositions, t.attentionBias = true, true, true, true
}

func gemma(t *traits, period int64, defaults string) {
	t.tiedByDefault, t.windowPeriod, t.normsPerLayer = true, period, 4
	t.set(defaults)
}

func nemotronH(t *traits) {
	t.oneHalfPerLayer, t.ungated, t.normsPerLayer = true, true, 1
	t.attentionName, t.mixerName, t.feedForwardName = "mixer", "mixer", "mixer"
	t.expertsName, t.sharedExpertsName = "mixer.experts", "mixer.shared_experts"
}

// sparseBlock sets the names of checkpoints whose mixtures are called block_sparse_moe.
func (t *traits) sparseBlock() {
	t.expertsName, t.sharedExpertsName = "block_sparse_moe.experts", "block_sparse_moe.shared_experts"
}

// set gives the defaults of the configuration class; the literals of this file are all valid.
func (t *traits) set(defaults string) {
	var f fields
	if json.Unmarshal([]byte(defaults), &f) == nil {
		t.defaults = f
	}
}

// traitsOf returns the traits of an architecture by its class or, failing that, its model types, and whether one
// of them is known.
func traitsOf(names ...string) (traits, bool) {
	t := traits{
		attentionName: "self_attn", feedForwardName: "mlp", expertsName: "mlp.experts",
		sharedExpertsName: "mlp.shared_expert", mixerName: "mamba", normsPerLayer: 2,
	}
	for _, name := range names {
		key := normalise(name)
		if apply, ok := special[key]; ok {
			apply(&t)
			return t, true
		}
		for _, p := range plain {
			if p == key {
				return t, true
			}
		}
	}
	return t, false
}

// normalise reduces "Qwen3_5MoeForConditionalGeneration" and "qwen3_5_moe_text" to "qwen35moe".
func normalise(name string) string {
	for _, suffix := range []string{
		"ForConditionalGeneration", "ForCausalLM", "ForSequenceClassification", "ForRewardModel", "ForMaskedLM",
		"LMHeadModel", "ForEmbedding", "ForTextEncoding", "ForImageTextToText", "Model",
	} {
		if cut, ok := strings.CutSuffix(name, suffix); ok && cut != "" {
			name = cut
			break
		}
	}
	name = strings.NewReplacer("_", "", "-", "", ".", "").Replace(strings.ToLower(name))
	if cut, ok := strings.CutSuffix(name, "text"); ok && cut != "" && cut != "minimax" {
		name = cut
	}
	return name
}

// KnownArchitectures returns how many architectures are known, for the documentation.
func KnownArchitectures() int {
	all := maps.Clone(special)
	for _, p := range plain {
		all[p] = nil
	}
	return len(all)
}
