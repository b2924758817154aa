// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gguf

import "strings"

// window is how an architecture interleaves sliding-window layers where the file does not list them.
type window struct {
	// period: one layer of each period attends to everything, the last one or (fullFirst) the first; 0 means that
	// every layer is windowed.
	period    int64
	fullFirst bool
	// size is the window of architectures that do not write it.
	size int64
}

// windows are the layouts of llama.cpp's models (src/models/*.cpp, set_swa_pattern).
var windows = map[string]window{
	"afmoe": {period: 4}, "cohere2": {period: 4}, "cohere2moe": {period: 4, fullFirst: true}, "dflash": {},
	"exaone-moe": {period: 4, size: 128}, "gemma-embedding": {period: 6}, "gemma2": {period: 2, size: 4096}, "gemma3": {period: 6},
	"gemma3n": {period: 5}, "gemma4": {period: 6}, "gpt-oss": {period: 2}, "gptoss": {period: 2}, "laguna": {period: 4, fullFirst: true},
	"llama4": {period: 4, size: 8192}, "mellum": {period: 4}, "modern-bert": {period: 3, fullFirst: true}, "muse-glimmer": {period: 4},
	"olmo2": {period: 4}, "plamo3": {period: 8}, "smallthinker": {period: 4, fullFirst: true, size: 4096},
}

// nextnFiltered are architectures whose main cache leaves out the prediction blocks (llama-model.cpp, create_memory,
// the layer filters). In all others an unused prediction block has a row of it like any other.
var nextnFiltered = asSet("step35 hy-v3 glm-dsa mimo2 deepseek32 qwen35 qwen35moe qwen3next")

// cacheless are architectures for which create_memory (llama-model.cpp) makes no cache, headless those without an
// output layer over the vocabulary.
var (
	cacheless = asSet(`bert nomic-bert nomic-bert-moe neo-bert jina-bert-v2 jina-bert-v3 modern-bert eurobert gemma-embedding
	wavtokenizer-dec dream llada llada-moe rnd1`)
	headless = asSet("bert nomic-bert nomic-bert-moe neo-bert jina-bert-v2 jina-bert-v3 modern-bert eurobert t5encoder")
)

// known are the architectures that llama.cpp's loader knows (llama-arch.cpp) and whose caches this package derives.
var known = asSet(`afmoe apertus arcee arctic arwkv7 baichuan bailingmoe bailingmoe2 bailingmoe3 bert bitnet bloom chameleon
	chatglm codeshell cogvlm cohere2 cohere2moe command-r dbrx deci deepseek deepseek2 deepseek2-ocr deepseek3 deepseek32 deepseek4 dflash dots1 dream eagle3
	ernie4_5 ernie4_5-moe eurobert exaone exaone-moe exaone4 falcon falcon-h1 gemma gemma-embedding gemma2 gemma3 gemma3n gemma4 glm-dsa
	glm4 glm4moe gpt-oss gptoss gpt2 gptj gptneox granite granitehybrid granitemoe grok grovemoe hunyuan-dense hunyuan-moe
	hunyuan-vl hy-v3 internlm2 jais jais2 jamba jina-bert-v2 jina-bert-v3 kimi-linear kimi-k3 laguna lfm2 lfm2moe llada llada-moe llama llama-embed llama4
	maincoder mamba mamba2 megrez-moe mellum mimo2 minicpm minicpm3 minimax-m2 minimax-m3 mistral3 mistral4 modern-bert mpt muse-glimmer nanbeige nemotron nemotron_h
	nemotron_h_moe neo-bert nomic-bert nomic-bert-moe olmo olmo2 olmoe openelm orion paddleocr pangu-embedded phi2 phi3 phimoe plamo plamo2
	plamo3 plm qwen qwen2 qwen2moe qwen2vl qwen3 qwen35 qwen35moe qwen3moe qwen3next qwen3vl qwen3vlmoe refact rnd1 rwkv6 rwkv6qwen2
	rwkv7 seed_oss smallthinker smollm3 solar stablelm starcoder starcoder2 step35 t5 t5encoder talkie wavtokenizer-dec xverse`)

func asSet(words string) map[string]bool {
	set := map[string]bool{}
	for _, w := range strings.Fields(words) {
		set[w] = true
	}
	return set
}

// projectorPatches are the patches of the square image for which llama.cpp reserves a tower of dynamic resolution
// (tools/mtmd/clip.cpp, set_warmup_n_tokens): 46 × 46 merged patches of 2 × 2, 16 × 16 of Pixtral. The other towers
// take the image size that they declare.
var projectorPatches = map[string]int64{
	"qwen2vl_merger": 8464, "qwen2.5vl_merger": 8464, "qwen3vl_merger": 8464, "pixtral": 256,
}
