// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package hfconfig

// architectures gives, by its name, what an architecture does beyond what its configuration says. A name is the class
// or model_type without separators and suffixes.
var architectures = map[string]func(*traits){
	"qwen":          func(t *traits) { t.halvedWidth = true; t.attentionBias = true },
	"qwen2":         func(t *traits) { t.attentionBias = true; t.windowOptIn = true },
	"qwen2moe":      func(t *traits) { t.attentionBias = true; t.windowOptIn = true; t.set(qwen2MoEDefaults) },
	"qwen2vl":       func(t *traits) { t.attentionBias, t.windowOptIn, t.multimodalRope = true, true, true },
	"qwen25vl":      func(t *traits) { t.attentionBias, t.windowOptIn, t.multimodalRope = true, true, true },
	"qwen25omni":    func(t *traits) { t.attentionBias, t.windowOptIn, t.multimodalRope = true, true, true },
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
	"gemma3":  func(t *traits) { gemma(t, 6, gemma3Defaults); t.ropeFactor = 8 },
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
	"bert":            encoder,
	"roberta":         encoder,
	"xlmroberta":      encoder,
	"distilbert":      encoder,
	"nomicbert":       encoder,
	"modernbert":      func(t *traits) { t.encoder, t.tiedByDefault = true, true },
	"new":             func(t *traits) { t.encoder, t.tiedByDefault = true, true },
	"gte":             func(t *traits) { t.encoder, t.tiedByDefault = true, true },
	"llama":           plain,
	"mistral3":        plain,
	"yi":              plain,
	"internlm":        plain,
	"internlm2":       plain,
	"internlm3":       plain,
	"aquila":          plain,
	"baichuan":        plain,
	"xverse":          plain,
	"qwen3vl":         func(t *traits) { t.multimodalRope = true },
	"qwen3vlmoe":      func(t *traits) { t.multimodalRope = true },
	"qwen3omnimoe":    func(t *traits) { t.multimodalRope = true },
	"granite":         plain,
	"olmo":            plain,
	"olmo2":           plain,
	"olmo3":           plain,
	"olmoe":           plain,
	"phi3":            plain,
	"phi3v":           func(t *traits) { t.defaultVision = clipLarge },
	"phi4mm":          func(t *traits) { t.defaultVision = siglip },
	"phi4multimodal":  func(t *traits) { t.defaultVision = siglip },
	"smollm3":         func(t *traits) { t.tiedByDefault = true },
	"seedoss":         plain,
	"exaone":          plain,
	"exaonemoe":       plain,
	"solar":           plain,
	"stablelm":        plain,
	"minicpm":         plain,
	"minicpmv":        plain,
	"minicpmo":        plain,
	"ernie45":         plain,
	"ernie45moe":      func(t *traits) { t.tiedByDefault = true },
	"ernie45vlmoe":    plain,
	"hunyuanv1dense":  plain,
	"hunyuanv1moe":    plain,
	"hunyuanmoev1":    plain,
	"hunyuandensev1":  plain,
	"hunyuan":         plain,
	"hunyuanmoe":      plain,
	"glm":             plain,
	"glm4":            plain,
	"glm4moe":         plain,
	"glm4v":           func(t *traits) { t.widerProjector = true },
	"glm4vmoe":        func(t *traits) { t.widerProjector = true },
	"glm46v":          func(t *traits) { t.widerProjector = true },
	"dots1":           plain,
	"bailingmoe":      plain,
	"bailingmoev2":    plain,
	"arcee":           plain,
	"apertus":         func(t *traits) { t.ungated = true },
	"deepseek":        plain,
	"deepseekv2":      plain,
	"deepseekv3":      plain,
	"deepseekv32":     plain,
	"kimik2":          plain,
	"kimik25":         plain,
	"kimivl":          plain,
	"kimidev":         plain,
	"glmmoedsa":       plain,
	"glm4moelite":     plain,
	"longcatflash":    func(t *traits) { t.twoAttentions, t.denseBesideExperts = true, true },
	"step3p5":         plain,
	"step3p7":         plain,
	"step3p7flash":    plain,
	"step3p5flash":    plain,
	"llava":           plain,
	"llavanext":       plain,
	"llavaonevision":  plain,
	"internvlchat":    plain,
	"internvl":        plain,
	"pixtral":         plain,
	"voxtral":         plain,
	"idefics3":        plain,
	"smolvlm":         plain,
	"gritlm":          plain,
	"teleflm":         plain,
	"telechat2":       plain,
	"afmoe":           plain,
	"decilm":          plain,
	"nemotronnas":     plain,
	"xcomposer2":      plain,
	"paligemma":       plain,
	"ovis":            plain,
	"ovis25":          plain,
	"keyevl15":        plain,
	"aria":            plain,
	"mimo":            plain,
	"mimov2flash":     plain,
	"orion":           plain,
	"grok1":           plain,
	"jais2":           plain,
	"lagunaxs":        plain,
	"kimi":            plain,
	"mistrallarge3":   plain,
	"ministral3":      plain,
	"ministral":       plain,
	"exaone45":        plain,
	"exaone4moe":      plain,
	"dream":           plain,
	"t5":              encoderDecoder,
	"mt5":             encoderDecoder,
	"umt5":            encoderDecoder,
	"bart":            encoderDecoder,
	"mbart":           encoderDecoder,
	"whisper":         encoderDecoder,
	"minicpm3":        func(t *traits) { t.tiedByDefault = true },
	"minimaxm3":       func(t *traits) { t.sparseBlock() },
	"minimaxm3vl":     func(t *traits) { t.sparseBlock() },
	"minimaxm3sparse": func(t *traits) { t.sparseBlock() },
	"mllama":          plain,
	"molmo":           func(t *traits) { t.halvedWidth = true; t.attentionBias = true; t.defaultVision = clipLarge },
	"recurrentgemma":  func(t *traits) { t.halvedWidth, t.tiedByDefault, t.windowedThroughout = true, true, true },
	"bitnet":          func(t *traits) { t.tiedByDefault, t.gatedAlways = true, true },
	"llada":           plain,
	"rwkv7":           func(t *traits) { t.recurrentOnly, t.ungated, t.rwkv = true, true, true },
	"rwkv6":           func(t *traits) { t.recurrentOnly, t.ungated, t.rwkv = true, true, true },
}

// plain stands for an architecture that its configuration describes fully: attention and a gated feed-forward layer,
// or a mixture of experts, with the usual names.
func plain(*traits) {}

const (
	qwen2MoEDefaults = `{"num_experts":60,"num_experts_per_tok":4,"moe_intermediate_size":1408,"shared_expert_intermediate_size":5632}`
	mixtralDefaults  = `{"num_local_experts":8,"num_experts_per_tok":2,"num_key_value_heads":8}`
	gemma3Defaults   = `{"num_attention_heads":8,"num_key_value_heads":4,"head_dim":256,"vocab_size":262208,"sliding_window":4096,"max_position_embeddings":131072,"rope_local_base_freq":10000}`
	gemma3nDefaults  = `{"num_attention_heads":8,"num_key_value_heads":2,"head_dim":256,"vocab_size":262400,"vocab_size_per_layer_input":262144,"hidden_size_per_layer_input":256,"num_kv_shared_layers":15,"sliding_window":512,"max_position_embeddings":32768}`
)

// clipLarge is the tower of models that leave it to their class: CLIP ViT-L/14 at 336 pixels.
const clipLarge = `{"hidden_size":1024,"num_hidden_layers":24,"num_attention_heads":16,"intermediate_size":4096,"image_size":336,"patch_size":14}`

// siglip is SigLIP-so400m, 448 pixels.
const siglip = `{"hidden_size":1152,"num_hidden_layers":27,"num_attention_heads":16,"intermediate_size":4304,"image_size":448,"patch_size":14}`

func encoderDecoder(t *traits) { t.encoderDecoder = true }

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
