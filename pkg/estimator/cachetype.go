// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

import (
	"slices"
	"strings"
)

// cacheTypeTable is 1024 times the bytes of one element of a KV cache. Block types of ggml hold 32 elements and a
// scale (ggml-common.h: block_q8_0 34 bytes, q5_1 24, q5_0 22, q4_1 20, q4_0 and iq4_nl 18).
var cacheTypeTable = map[string]int64{
	"f32": 4096, "float32": 4096, "float": 4096,
	"f16": 2048, "fp16": 2048, "float16": 2048, "half": 2048,
	"bf16": 2048, "bfloat16": 2048,
	"q8_0": 1088, "q5_1": 768, "q5_0": 704, "q4_1": 640, "q4_0": 576, "iq4_nl": 576,
	"fp8": 1024, "fp8_e4m3": 1024, "fp8_e5m2": 1024, "fp8_inc": 1024, "fp8_ds_mla": 1024, "int8": 1024,
}

// cacheBytes1024 returns 1024 times the bytes of one element of a named cache type.
func cacheBytes1024(name string) (int64, bool) {
	if name == "auto" {
		return 2048, true
	}
	b, ok := cacheTypeTable[strings.ToLower(name)]
	return b, ok
}

// cacheTypes returns the known names, in order.
func cacheTypes() []string {
	names := make([]string, 0, len(cacheTypeTable)+1)
	for n := range cacheTypeTable {
		names = append(names, n)
	}
	slices.Sort(names)
	return append(names, "auto")
}

// isBlockType says whether a cache type is one of ggml's block types, which attention kernels unpack first.
func isBlockType(name string) bool {
	n := strings.ToLower(name)
	return strings.HasPrefix(n, "q") || strings.HasPrefix(n, "iq")
}
