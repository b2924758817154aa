// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modeltest

import (
	"encoding/binary"
	"fmt"
	"strings"
)

const hostileShape = `"architectures":["Qwen3ForCausalLM"],"hidden_size":64,"num_hidden_layers":2,"num_attention_heads":4,"intermediate_size":128,"vocab_size":256`

// Hostile returns files that cost as much as the readers let them, by folder and name: one or two shards whose headers are
// as long as may be, and configurations of 8 MiB full of layers, of patterns and of values.
func Hostile() map[string]map[string]File {
	shard := File{Head: hostileHeader(), Size: 1 << 30}
	config := func(before, part, after string) File {
		before = `{` + hostileShape + before
		n := (8<<20 - len(before) - len(after) - 16) / len(part)
		return Content(before + strings.Repeat(part, n) + after)
	}
	return map[string]map[string]File{
		"shards": {"config.json": Content(`{` + hostileShape + `}`), "model.safetensors": shard},
		"two-shards": {
			"config.json":                      Content(`{` + hostileShape + `}`),
			"model-00001-of-00002.safetensors": shard, "model-00002-of-00002.safetensors": shard,
			"model.safetensors.index.json": Content(`{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}`),
		},
		"keys": {
			"model.safetensors": shard,
			"config.json": config(`,"quantization_config":{"quantized_layers":{"a":{}`,
				`,"model.layers.1.mlp.experts.127.gate_proj.abcdefghijkl":{"quant_algo":"NVFP4"}`, `}}}`),
		},
		"patterns": {
			"model.safetensors": shard,
			"config.json": config(`,"quantization_config":{"ignore":["a"`,
				`,"re:.*layers.(1|2).*self_attn[a-z]{20}.model.layers.1.mlp.experts"`, `]}}`),
		},
		"values": {"model.safetensors": shard, "config.json": config(`,"x":[0`, `,1`, `]}`)},
	}
}

// hostileHeader is the largest header of safetensors that is read: more tensors are refused, and more bytes too.
func hostileHeader() []byte {
	var b strings.Builder
	b.WriteString(`{"__metadata__":{}`)
	for i := 0; i < 1<<18 && b.Len() <= 31<<20; i++ {
		fmt.Fprintf(&b, `,"model.layers.%d.self_attn.q_proj.weight":{"dtype":"F32","shape":[1],"data_offsets":[%d,%d]}`, i, 4*i, 4*i+4)
	}
	b.WriteString("}")
	return append(binary.LittleEndian.AppendUint64(nil, uint64(b.Len())), b.String()...)
}
