// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator_test

import (
	"github.com/berth-dev/berth/pkg/estimator/gguftest"
)

// The dimensions below are those of the public configurations of the models that the records name.

func qwen35(layers int, hidden, feedForward, heads, kvHeads, inner uint64) gguftest.Model {
	return gguftest.Model{
		Architecture: "qwen35", Layers: layers, Hidden: hidden, FeedForward: feedForward, Heads: heads, KVHeads: kvHeads, KeyDim: 256, ValueDim: 256,
		Vocabulary: 248320, Context: 262144, Type: gguftest.Q4_K, FullAttentionInterval: 4, Inner: inner, State: 128, Groups: 16, ConvKernel: 4,
	}
}

var (
	qwen35x2B  = qwen35(24, 2048, 6144, 8, 2, 2048)
	qwen35x4B  = qwen35(32, 2560, 9216, 16, 4, 4096)
	qwen35x9B  = qwen35(32, 4096, 12288, 16, 4, 4096)
	qwen35x27B = qwen35(64, 5120, 17408, 24, 4, 6144)

	glm52 = gguftest.Model{
		Architecture: "glm-dsa", Layers: 78, Hidden: 6144, FeedForward: 12288, Heads: 64, KVHeads: 1, KeyDim: 256, ValueDim: 256, Vocabulary: 154880,
		Context: 1 << 20, Type: gguftest.Q4_K, LatentRank: 512, RopeDim: 64, IndexerDim: 128, IndexerLayers: 21,
		Experts: 256, ExpertsUsed: 8, ExpertFeedForward: 2048, SharedFeedForward: 2048,
	}
	kimiK2 = gguftest.Model{
		Architecture: "deepseek2", Layers: 61, Hidden: 7168, FeedForward: 18432, Heads: 64, KVHeads: 1, KeyDim: 192, ValueDim: 128, Vocabulary: 163840,
		Context: 262144, Type: gguftest.Q4_K, LatentRank: 512, RopeDim: 64, Experts: 384, ExpertsUsed: 8, ExpertFeedForward: 2048, SharedFeedForward: 2048,
	}
	gptOSS120B = gguftest.Model{
		Architecture: "gpt-oss", Layers: 36, Hidden: 2880, FeedForward: 2880, Heads: 64, KVHeads: 8, KeyDim: 64, ValueDim: 64, Vocabulary: 201088,
		Context: 131072, Type: gguftest.Q8_0, Window: 128, Experts: 128, ExpertsUsed: 4, ExpertFeedForward: 2880,
	}
	qwen3x30B = gguftest.Model{
		Architecture: "qwen3moe", Layers: 48, Hidden: 2048, FeedForward: 6144, Heads: 32, KVHeads: 4, KeyDim: 128, ValueDim: 128, Vocabulary: 151936,
		Context: 40960, Type: gguftest.Q4_K, Experts: 128, ExpertsUsed: 8, ExpertFeedForward: 768,
	}
)

// llamaModels are the models of the records of llama.cpp and Ollama.
var llamaModels = map[string]gguftest.Model{
	"lc-hilbert-qwen35-9b-np1": qwen35x9B,
	"lc-hilbert-qwen35-9b-np4": qwen35x9B,
	"lc-qwen35-9b-256k-q8-np2": qwen35x9B,
	"lc-ci-pythia28b-q8_0": {
		Architecture: "gptneox", Layers: 32, Hidden: 2560, FeedForward: 10240, Heads: 32, KVHeads: 32, KeyDim: 80, ValueDim: 80, Vocabulary: 50304,
		Context: 2048, Type: gguftest.Q8_0, Ungated: true, FusedQKV: true,
	},
	"ol-16480-gptoss120b-np2-256k":           gptOSS120B,
	"lc-est-qwen38-27b-kv-32k-q8":            qwen35x27B,
	"lc-unsloth-ctxcompute-qwen352b":         qwen35x2B,
	"lc-unsloth-ctxcompute-qwen354b":         qwen35x4B,
	"lc-unsloth-ctxcompute-qwen359b":         qwen35x9B,
	"lc-unsloth-ctxcompute-qwen3627b":        qwen35x27B,
	"lc-unsloth-mlacompute-glm52":            glm52,
	"lc-unsloth-mlacompute-kimik27":          kimiK2,
	"lc-unsloth-qwen35-9b-tensor2gpu-8192":   qwen35x9B,
	"lc-unsloth-qwen35-9b-tensor2gpu-131072": qwen35x9B,
	"lc-qwen3-30b-a3b-expcpu-2gpu":           qwen3x30B,
	"lc-qwen36-27b-mtp-udq4kxl-128k-q8-np4":  qwen35x27B,
	"lc-glm52-4gpu-768k":                     glm52,
	"lc-glm52-4gpu-896k":                     glm52,
	"ik-kimik2-128k-q8":                      kimiK2,
	"lc-qwen3x-27b-128k-f16-ngl26":           qwen35x27B,
	"lm-1862-qwen36-27b-256k-np4":            qwen35x27B,
	"ol-6160-mistral-small-22b-q6kl-48k-q8": {
		Architecture: "llama", Layers: 56, Hidden: 6144, FeedForward: 16384, Heads: 48, KVHeads: 8, KeyDim: 128, ValueDim: 128, Vocabulary: 32768,
		Context: 131072, Type: gguftest.Q6_K, OutputType: gguftest.Q8_0, EmbeddingType: gguftest.Q8_0,
	},
	"ol-10553-70b-4k-2gpu": {
		Architecture: "llama", Layers: 80, Hidden: 8192, FeedForward: 28672, Heads: 64, KVHeads: 8, KeyDim: 128, ValueDim: 128, Vocabulary: 128256,
		Context: 131072, Type: gguftest.Q4_K,
	},
}

// weightsKnown are the records whose files are of types that the table above gives.
var weightsKnown = map[string]bool{"lc-ci-pythia28b-q8_0": true, "ol-6160-mistral-small-22b-q6kl-48k-q8": true}

// missingLlama are the records that the table above leaves out.
var missingLlama = map[string]string{
	"lc-est-ling3-mla-kv-64k-q8":               "only the geometry of the cache is public: TestRecordsOfStatedGeometry",
	"lc-unsloth-ctxcompute-gemma431b":          "mixed head dimensions: TestRecordsOfStatedGeometry",
	"lc-unsloth-kimik3-4gpu-1m-compute":        "two kinds of layers: TestRecordsOfStatedGeometry",
	"lc-unsloth-qwen36-27b-mtp-compute-tensor": "the context is not stated",
	"lc-15860-breakdown-3x4090":                "the model is not named; used for the CUDA context",
	"ol-10128-qwen25-7b-1m-256k-q8":            "driver totals of a version without the engine's own figures",
}

var llamaExcuses = map[string]string{
	"lc-glm52-4gpu-896k kv":        "the record leaves out the cache of the indexer, 4593.75 MiB",
	"ol-10553-70b-4k-2gpu compute": "a build of 2025, not stated, that reserves logits of a whole micro-batch on the last GPU",
}

// sweepModels are the models of the compute buffer sweep, by architecture.
var sweepModels = map[string]gguftest.Model{
	"bloom":       dense("bloom", 30, 4096, 16384, 32, 32, 128, 250880).with(func(m *gguftest.Model) { m.Ungated, m.FusedQKV = true, true }),
	"baichuan":    dense("baichuan", 40, 5120, 13696, 40, 40, 128, 64000).Model,
	"chatglm":     dense("chatglm", 40, 4096, 13696, 32, 2, 128, 151552).with(func(m *gguftest.Model) { m.FusedQKV, m.FusedUp, m.Type, m.DownType = true, true, gguftest.Q8_0, 0 }),
	"command-r":   dense("command-r", 64, 12288, 33792, 96, 8, 128, 256000).with(func(m *gguftest.Model) { m.Type, m.DownType = gguftest.IQ1_M, 0 }),
	"falcon":      dense("falcon", 60, 8192, 32768, 128, 8, 64, 65024).with(func(m *gguftest.Model) { m.Ungated, m.FusedQKV = true, true }),
	"gemma2":      dense("gemma2", 26, 2304, 9216, 8, 4, 256, 256000).with(func(m *gguftest.Model) { m.Window = 4096 }),
	"gemma3":      dense("gemma3", 26, 1152, 6912, 4, 1, 256, 262144).with(func(m *gguftest.Model) { m.Window = 512 }),
	"gptneox":     dense("gptneox", 24, 2048, 8192, 16, 16, 128, 50304).with(func(m *gguftest.Model) { m.Ungated, m.FusedQKV = true, true }),
	"exaone":      dense("exaone", 32, 4096, 14336, 32, 8, 128, 102400).Model,
	"glm4":        dense("glm4", 40, 4096, 13696, 32, 2, 128, 151552).Model,
	"internlm2":   dense("internlm2", 32, 4096, 14336, 32, 8, 128, 92544).Model,
	"llama-embed": dense("llama-embed", 16, 2048, 8192, 32, 8, 64, 128256).Model,
	"minicpm":     dense("minicpm", 32, 4096, 16384, 32, 2, 128, 73448).Model,
	"mistral3":    dense("mistral3", 34, 4096, 14336, 32, 8, 128, 131072).Model,
	"mpt":         dense("mpt", 32, 4096, 16384, 32, 32, 128, 50432).with(func(m *gguftest.Model) { m.Ungated, m.FusedQKV = true, true }),
	"orion":       dense("orion", 40, 5120, 15360, 40, 40, 128, 84608).Model,
	"phi3":        dense("phi3", 32, 3072, 8192, 32, 32, 96, 32064).with(func(m *gguftest.Model) { m.FusedQKV = true }),
	"plamo":       dense("plamo", 40, 5120, 13824, 40, 40, 128, 50432).Model,
	"qwen":        dense("qwen", 40, 5120, 13696, 40, 40, 128, 152064).with(func(m *gguftest.Model) { m.FusedQKV = true }),
	"qwen2":       dense("qwen2", 36, 2048, 11008, 16, 2, 128, 151936).Model,
	"qwen2vl":     dense("qwen2vl", 28, 3584, 18944, 28, 4, 128, 152064).Model,
	"dream":       dense("dream", 28, 3584, 18944, 28, 4, 128, 152064).Model,
	"qwen3":       dense("qwen3", 36, 2560, 9728, 32, 8, 128, 151936).Model,
	"qwen3vl": dense("qwen3vl", 36, 4096, 12288, 32, 8, 128, 151936).with(func(m *gguftest.Model) {
		m.Extra = []gguftest.KV{{Key: "qwen3vl.n_deepstack_layers", Value: uint32(3)}}
	}),
	"seed_oss":     dense("seed_oss", 64, 5120, 27648, 80, 8, 128, 155136).Model,
	"smollm3":      dense("smollm3", 36, 2048, 11008, 16, 4, 128, 128256).Model,
	"stablelm":     dense("stablelm", 24, 2048, 5632, 32, 32, 64, 100352).Model,
	"starcoder":    dense("starcoder", 52, 6144, 24576, 48, 1, 128, 49152).with(func(m *gguftest.Model) { m.Ungated, m.FusedQKV = true, true }),
	"starcoder2":   dense("starcoder2", 32, 4608, 18432, 36, 4, 128, 49152).with(func(m *gguftest.Model) { m.Ungated = true }),
	"xverse":       dense("xverse", 32, 4096, 11008, 32, 32, 128, 100534).Model,
	"olmo":         dense("olmo", 16, 2048, 8192, 16, 16, 128, 50304).Model,
	"nemotron":     dense("nemotron", 32, 3072, 9216, 24, 8, 128, 256000).with(func(m *gguftest.Model) { m.Ungated = true }),
	"arcee":        dense("arcee", 36, 2560, 18432, 20, 4, 128, 128004).with(func(m *gguftest.Model) { m.Ungated = true }),
	"apertus":      dense("apertus", 32, 4096, 21504, 32, 8, 128, 131072).with(func(m *gguftest.Model) { m.Ungated = true }),
	"dbrx":         typed(gguftest.IQ1_S, mixture("dbrx", 40, 6144, 48, 8, 128, 100352, 16, 4, 10752, 0)),
	"deepseek":     mixture("deepseek", 28, 2048, 16, 16, 128, 102400, 64, 6, 1408, 2816),
	"bailingmoe":   mixture("bailingmoe", 28, 2048, 16, 4, 128, 126464, 64, 6, 1408, 2816),
	"ernie4_5-moe": mixture("ernie4_5-moe", 28, 2560, 20, 4, 128, 103424, 64, 6, 1536, 3072),
	"gpt-oss":      typed(gguftest.MXFP4, mixture("gpt-oss", 24, 2880, 64, 8, 64, 201088, 32, 4, 2880, 0)),
	"granitemoe":   mixture("granitemoe", 32, 1536, 24, 8, 64, 49155, 40, 8, 512, 0),
	"olmoe":        mixture("olmoe", 16, 2048, 16, 16, 128, 50304, 64, 8, 1024, 0),
	"phimoe":       mixture("phimoe", 32, 4096, 32, 8, 128, 32064, 16, 2, 6400, 0),
	"qwen3moe":     mixture("qwen3moe", 48, 2048, 32, 4, 128, 151936, 128, 8, 768, 0),
	"llama4":       typed(gguftest.IQ1_M, mixture("llama4", 48, 5120, 40, 8, 128, 202048, 16, 1, 8192, 8192)),
	"hunyuan-moe":  typed(gguftest.TQ1_0, mixture("hunyuan-moe", 32, 4096, 32, 8, 128, 128167, 64, 8, 3072, 3072)),
	"qwen35":       qwen35x27B,
	"qwen35moe": {
		Architecture: "qwen35moe", Layers: 40, Hidden: 2048, Heads: 16, KVHeads: 2, KeyDim: 256, ValueDim: 256, Vocabulary: 248320, Context: 262144,
		Type: gguftest.Q4_K, FullAttentionInterval: 4, Inner: 4096, State: 128, Groups: 16, ConvKernel: 4,
		Experts: 256, ExpertsUsed: 8, ExpertFeedForward: 512, SharedFeedForward: 512,
	},
	"qwen3next": {
		Architecture: "qwen3next", Layers: 48, Hidden: 2048, Heads: 16, KVHeads: 2, KeyDim: 256, ValueDim: 256, Vocabulary: 151936, Context: 262144,
		Type: gguftest.Q3_K, FullAttentionInterval: 4, Inner: 4096, State: 128, Groups: 16, ConvKernel: 4,
		Experts: 512, ExpertsUsed: 10, ExpertFeedForward: 512, SharedFeedForward: 512,
	},
}

var sweepExcuses = map[string]string{
	"lc-sweep-hunyuan-moe compute_4_layer_offload": "the real file (UD-TQ1_0) has finer types in some layers, the one of this table only TQ1_0",
}

type denseModel struct{ gguftest.Model }

func dense(arch string, layers int, hidden, feedForward, heads, kvHeads, dim, vocabulary uint64) denseModel {
	return denseModel{gguftest.Model{
		Architecture: arch, Layers: layers, Hidden: hidden, FeedForward: feedForward, Heads: heads, KVHeads: kvHeads, KeyDim: dim, ValueDim: dim,
		Vocabulary: vocabulary, Context: 32768, Type: gguftest.Q4_K, DownType: gguftest.Q6_K, // Q4_K_M, in half of the layers
	}}
}

func (d denseModel) with(change func(*gguftest.Model)) gguftest.Model {
	change(&d.Model)
	return d.Model
}

func typed(typ uint32, m gguftest.Model) gguftest.Model {
	m.Type, m.DownType = typ, 0
	return m
}

func mixture(arch string, layers int, hidden, heads, kvHeads, dim, vocabulary, experts, used, width, shared uint64) gguftest.Model {
	return gguftest.Model{
		Architecture: arch, Layers: layers, Hidden: hidden, Heads: heads, KVHeads: kvHeads, KeyDim: dim, ValueDim: dim, Vocabulary: vocabulary,
		Context: 32768, Type: gguftest.Q4_K, DownType: gguftest.Q6_K, Experts: experts, ExpertsUsed: used, ExpertFeedForward: width, SharedFeedForward: shared,
	}
}
