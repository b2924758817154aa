// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package podcases

import (
	"strings"
	"time"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

const (
	mi = 1 << 20
	gi = 1 << 30
)

// total is the request of a pod that asks for memory alone.
func total(bytes int64) *berthv1alpha1.PodRequest {
	return &berthv1alpha1.PodRequest{TotalMemory: map[int]int64{0: bytes}, Runtime: berthv1alpha1.RuntimeCustom}
}

// perCount is the request of a pod with a total for each of its counts.
func perCount(totals map[int]int64, counts ...int) *berthv1alpha1.PodRequest {
	return &berthv1alpha1.PodRequest{TotalMemory: totals, Runtime: berthv1alpha1.RuntimeCustom, GPUCounts: counts}
}

// counts is the request of a pod that asks for 30Gi on one of the counts.
func counts(n ...int) *berthv1alpha1.PodRequest {
	r := total(30 * gi)
	r.GPUCounts = n
	return r
}

// setting is the request of a pod that asks for 30Gi and says more by change.
func setting(change func(*berthv1alpha1.PodRequest)) *berthv1alpha1.PodRequest {
	r := total(30 * gi)
	change(r)
	return r
}

func memoryCases() []Case {
	memory := func(value, refused string, want *berthv1alpha1.PodRequest) Case {
		return Case{Name: "gpu-memory " + value, Pod: gpuPod("gpu-memory", value), Refused: refused, Want: want}
	}
	return []Case{
		memory("30Gi", "", total(30*gi)),
		memory("30G", "", total(30_000_000_000)),
		memory("1.5Gi", "", total(1536*mi)),
		memory("0.5Gi", "", total(512*mi)),
		memory("30.0Gi", "", total(30*gi)),
		memory("+30Gi", "", total(30*gi)),
		memory("32212254720", "", total(30*gi)),
		memory("3e10", "", total(30_000_000_000)),
		memory("64Mi", "", total(64*mi)),
		memory("67108864", "", total(64*mi)),
		memory("1Pi", "", total(1<<50)),

		memory("30", "did you mean 30Gi?", nil),
		memory("24576", "did you mean 24576Mi?", nil),
		memory("0", "64Mi", nil),
		memory("0Gi", "64Mi", nil),
		memory("00", "64Mi", nil),
		memory("-30Gi", "such as 30Gi", nil),
		memory("67108863", "64Mi", nil),
		memory("63Mi", "did you mean 63Gi?", nil),
		memory("30k", "did you mean 30Gi?", nil),
		memory("100m", "did you mean 100Mi?", nil),
		memory("30000000000000m", "such as 30Gi", nil),
		memory("30GB", "did you mean 30Gi?", nil),
		memory("30GiB", "did you mean 30Gi?", nil),
		memory("30gi", "did you mean 30Gi?", nil),
		memory("30 Gi", "did you mean 30Gi?", nil),
		memory("512MB", "did you mean 512Mi?", nil),
		memory("1tb", "did you mean 1Ti?", nil),
		memory("30.1Gi", "did you mean 30823Mi?", nil),
		memory("NaN", "such as 30Gi", nil),
		memory("Inf", "such as 30Gi", nil),
		memory("", "such as 30Gi", nil),
		memory(" ", "such as 30Gi", nil),
		memory("lots", "such as 30Gi", nil),
		memory("0x40000000", "such as 30Gi", nil),
		memory("1_000Gi", "such as 30Gi", nil),
		memory("1,000Gi", "such as 30Gi", nil),
		memory("30Gi;rm", "such as 30Gi", nil),
		memory("３０Gi", "such as 30Gi", nil),
		memory("30Gi\n", "such as 30Gi", nil),
		memory("3e", "such as 30Gi", nil),
		memory("1.", "such as 30Gi", nil),
		memory("2Pi", "1Pi", nil),
		memory("9E18", "1Pi", nil),
		memory("1e40", "1Pi", nil),
		memory("99999999999999999999Gi", "such as 30Gi", nil),
		memory(strings.Repeat("9", 300), "such as 30Gi", nil),
		memory(strings.Repeat("x\n", 9000), "such as 30Gi", nil),
		memory("3000.5", "did you mean 3000.5Mi?", nil),
		memory("300.5", "did you mean 300.5Gi?", nil),

		memory("1=30Gi,2=34Gi", "", perCount(map[int]int64{1: 30 * gi, 2: 34 * gi}, 1, 2)),
		memory("2=34Gi,1=30Gi", "", perCount(map[int]int64{1: 30 * gi, 2: 34 * gi}, 1, 2)),
		memory("4=100Gi", "", perCount(map[int]int64{4: 100 * gi}, 4)),
		memory("1=30,2=34Gi", "did you mean 30Gi?", nil),
		memory("1=30Gi,2=100m", "did you mean 100Mi?", nil),
		memory("1=30Gi,1=34Gi", "two totals for 1", nil),
		memory("0=30Gi", "1=30Gi,2=34Gi", nil),
		memory("17=30Gi", "1 to 16", nil),
		memory("1=30Gi,", "1=30Gi,2=34Gi", nil),
		memory("1=30Gi, 2=34Gi", "1=30Gi,2=34Gi", nil),
		memory("1=", "1=30Gi,2=34Gi", nil),
		memory("30Gi,2=34Gi", "1=30Gi,2=34Gi", nil),
		memory("1:30Gi", "such as 30Gi", nil),
	}
}

func countCases() []Case {
	count := func(value, refused string, want *berthv1alpha1.PodRequest) Case {
		return Case{
			Name: "gpu-count " + value, Pod: gpuPod("gpu-memory", "30Gi", "gpu-count", value), Refused: refused, Want: want,
		}
	}
	totals := func(memory, value, refused string, want *berthv1alpha1.PodRequest) Case {
		return Case{
			Name: "gpu-count " + value + " beside totals for " + memory, Refused: refused, Want: want,
			Pod: gpuPod("gpu-memory", memory, "gpu-count", value),
		}
	}
	return []Case{
		count("1", "", counts(1)),
		count("16", "", counts(16)),
		count("1,2,4", "", counts(1, 2, 4)),
		count("4,2,1", "", counts(1, 2, 4)),
		count("2-8", "", counts(2, 3, 4, 5, 6, 7, 8)),
		count("2-2", "", counts(2)),
		count("0", "1,2,4", nil),
		count("-1", "1,2,4", nil),
		count("17", "1 to 16", nil),
		count("1,99", "1 to 16", nil),
		count("2-64", "1 to 16", nil),
		count("100", "1,2,4", nil),
		count("1,1", "1 is in the list twice", nil),
		count("8-2", "did you mean 2-8?", nil),
		count("1,2-4", "1,2,4", nil),
		count("1, 2", "1,2,4", nil),
		count("1,", "1,2,4", nil),
		count("1.5", "1,2,4", nil),
		count("two", "1,2,4", nil),
		count("01", "1,2,4", nil),
		count("", "1,2,4", nil),
		count("²", "1,2,4", nil),
		totals("1=30Gi,2=34Gi", "1,2", "", perCount(map[int]int64{1: 30 * gi, 2: 34 * gi}, 1, 2)),
		totals("1=30Gi,2=34Gi", "1-2", "", perCount(map[int]int64{1: 30 * gi, 2: 34 * gi}, 1, 2)),
		totals("1=30Gi,2=34Gi", "1,2,4", "leave it out or write 1,2", nil),
		totals("1=30Gi,2=34Gi", "1", "leave it out or write 1,2", nil),
	}
}

func settingCases() []Case {
	one := func(key, value, refused string, want func(*berthv1alpha1.PodRequest)) Case {
		c := Case{Name: key + " " + value, Pod: gpuPod("gpu-memory", "30Gi", key, value), Refused: refused}
		if want != nil {
			c.Want = setting(want)
		}
		return c
	}
	return []Case{
		one("context-length", "8192", "", func(r *berthv1alpha1.PodRequest) { r.ContextLength = 8192 }),
		one("context-length", "8k", "did you mean 8192?", nil),
		one("context-length", "0", "such as 8192", nil),
		one("context-length", "-1", "such as 8192", nil),
		one("context-length", "8192.5", "such as 8192", nil),
		one("context-length", "99999999999", "such as 8192", nil),
		one("context-length", "auto", "such as 8192", nil),
		one("parallel", "4", "", func(r *berthv1alpha1.PodRequest) { r.Parallel = 4 }),
		one("parallel", "0", "such as 4", nil),
		one("parallel", "100000", "such as 4", nil),
		one("parallel", "four", "such as 4", nil),
		one("kv-cache-type", "q8_0", "", func(r *berthv1alpha1.PodRequest) { r.KVCacheType = "q8_0" }),
		one("kv-cache-type", "fp8_e5m2", "", func(r *berthv1alpha1.PodRequest) { r.KVCacheType = "fp8_e5m2" }),
		one("kv-cache-type", "Q8_0", "did you mean q8_0?", nil),
		one("kv-cache-type", "int3", "f16", nil),
		one("runtime", "vllm", "", func(r *berthv1alpha1.PodRequest) { r.Runtime = berthv1alpha1.RuntimeVLLM }),
		one("runtime", "llama.cpp", "", func(r *berthv1alpha1.PodRequest) { r.Runtime = berthv1alpha1.RuntimeLlamaCpp }),
		one("runtime", "sglang", "", func(r *berthv1alpha1.PodRequest) { r.Runtime = berthv1alpha1.RuntimeSGLang }),
		one("runtime", "tensorrt-llm", "", func(r *berthv1alpha1.PodRequest) { r.Runtime = berthv1alpha1.RuntimeTensorRT }),
		one("runtime", "TensorRT_LLM", "did you mean tensorrt-llm?", nil),
		one("runtime", "ollama", "", func(r *berthv1alpha1.PodRequest) { r.Runtime = berthv1alpha1.RuntimeOllama }),
		one("runtime", "custom", "", func(*berthv1alpha1.PodRequest) {}),
		one("gpu-sharing", "any", "", func(r *berthv1alpha1.PodRequest) { r.Sharing = berthv1alpha1.ShareAny }),
		one("gpu-sharing", "other-workloads", "", func(r *berthv1alpha1.PodRequest) { r.Sharing = berthv1alpha1.ShareOtherWorkloads }),
		one("gpu-sharing", "none", "", func(r *berthv1alpha1.PodRequest) { r.Sharing = berthv1alpha1.ShareNone }),
		one("gpu-sharing", "None", "did you mean none?", nil),
		one("gpu-sharing", "other_workloads", "did you mean other-workloads?", nil),
		one("gpu-sharing", "exclusive", "write one of any, other-workloads, none", nil),
		one("gpu-sharing", "", "write one of any", nil),
		one("on-device-lost", "Evict", "", func(r *berthv1alpha1.PodRequest) { r.OnDeviceLost = berthv1alpha1.ActionEvict }),
		one("on-device-lost", "evict", "did you mean Evict?", nil),
		one("on-device-lost", "Event", "write one of Ignore, Evict", nil),
		one("on-overuse", "Event", "", func(r *berthv1alpha1.PodRequest) { r.OnOveruse = berthv1alpha1.ActionEvent }),
		one("on-overuse", "kill", "write one of Event, Evict", nil),
		one("runtime", "vLLM", "did you mean vllm?", nil),
		one("runtime", "llama-cpp", "did you mean llama.cpp?", nil),
		one("runtime", "LlamaCpp", "did you mean llama.cpp?", nil),
		one("runtime", "tgi", "vllm, ollama, llama.cpp, sglang, tensorrt-llm, custom", nil),
		one("runtime", "", "vllm, ollama, llama.cpp, sglang, tensorrt-llm, custom", nil),
		one("idle-after", "10m", "", func(r *berthv1alpha1.PodRequest) { r.IdleAfter = 10 * time.Minute }),
		one("idle-after", "1h30m", "", func(r *berthv1alpha1.PodRequest) { r.IdleAfter = 90 * time.Minute }),
		one("idle-after", "1.5h", "", func(r *berthv1alpha1.PodRequest) { r.IdleAfter = 90 * time.Minute }),
		one("idle-after", "500ms", "", func(r *berthv1alpha1.PodRequest) { r.IdleAfter = 500 * time.Millisecond }),
		one("idle-after", "8760h", "", func(r *berthv1alpha1.PodRequest) { r.IdleAfter = 8760 * time.Hour }),
		one("idle-after", "10", "did you mean 10m?", nil),
		one("idle-after", "2d", "did you mean 48h?", nil),
		one("idle-after", "0s", "such as 10m", nil),
		one("idle-after", "-5m", "such as 30s", nil),
		one("idle-after", "8761h", "8760h", nil),
		one("idle-after", "99999h99999h", "8760h", nil),
		one("idle-after", "never", "such as 30s", nil),
		one("idle-after", "10 m", "such as 30s", nil),
		one("idle-after", "", "such as 30s", nil),
		one("min-runtime", "5m", "", func(r *berthv1alpha1.PodRequest) { r.MinRuntime = 5 * time.Minute }),
		one("min-runtime", "5", "did you mean 5m?", nil),
		one("min-runtime", "1d", "did you mean 24h?", nil),
		one("min-runtime", "0s", "such as 10m", nil),
	}
}

func modelCases() []Case {
	model := func(uri, refused string) Case {
		c := Case{Name: "model " + uri, Pod: gpuPod("model", uri), Refused: refused}
		if refused == "" {
			c.Want = &berthv1alpha1.PodRequest{Model: uri, Runtime: berthv1alpha1.RuntimeCustom}
		}
		return c
	}
	return []Case{
		model("hf://Qwen/Qwen2.5-7B-Instruct", ""),
		model("hf://org/repo@main", ""),
		model("hf://org/repo/file.gguf", ""),
		model("hf://org/repo/sub/file-00001-of-00003.gguf", ""),
		model("ollama://llama3.1:70b", ""),
		model("ollama://llama3.1", ""),
		model("ollama://library/llama3.1:70b-instruct-q4_K_M", ""),
		model("https://example.test/models/x.gguf", ""),
		model("https://example.test/a@b:1/x.gguf", ""),
		model("http://127.0.0.1:8080/x.gguf", ""),
		model("hf://org/repo@refs/pr/3/sub/x.gguf", ""),
		model("ollama://registry.example.test:5000/team/model:tag", ""),
		model("file:///models/x.gguf", ""),
		model("profile://qwen2.5-7b-1a2b3c4d", ""),
		model("Qwen/Qwen2.5-7B-Instruct", "did you mean hf://Qwen/Qwen2.5-7B-Instruct?"),
		model("llama3.1:70b", "did you mean ollama://llama3.1:70b?"),
		model("hf://repo", "hf://ORG/REPO"),
		model("https://example.test", "hf://ORG/REPO"),
		model("ftp://example.test/x.gguf", "hf://ORG/REPO"),
		model("https://example.test/x.gguf?sig=secret", "neither a ?query nor a #fragment nor a user"),
		model("https://example.test/x.gguf#secret", "neither a ?query nor a #fragment nor a user"),
		model("https://user:secret@example.test/x.gguf", "neither a ?query nor a #fragment nor a user"),
		model("hf://org/repo/x.gguf?secret", "neither a ?query nor a #fragment nor a user"),
		model("user:secret@example.test/x.gguf", "neither a ?query nor a #fragment nor a user"),
		model("file://models/x.gguf", "hf://ORG/REPO"),
		model("s3://bucket/x.gguf", "hf://ORG/REPO"),
		model("profile://Not_A_Name", "hf://ORG/REPO"),
		model("hf://org/モデル", "hf://ORG/REPO"),
		model("hf://org/re po", "hf://ORG/REPO"),
		model("", "hf://ORG/REPO"),
		model("hf://org/"+strings.Repeat("x", 2000), "hf://ORG/REPO"),
		{
			Name: "model and measured memory together",
			Pod:  gpuPod("model", "ollama://llama3.1:70b", "runtime", "ollama", "gpu-memory", "48Gi"),
			Want: &berthv1alpha1.PodRequest{
				TotalMemory: map[int]int64{0: 48 * gi}, Model: "ollama://llama3.1:70b", Runtime: berthv1alpha1.RuntimeOllama,
			},
		},
	}
}
