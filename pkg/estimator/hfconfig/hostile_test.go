// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package hfconfig

import (
	"context"
	"errors"
	"fmt"
	"runtime/metrics"
	"strings"
	"testing"
)

// allocated returns how many bytes of heap do allocates, what is collected meanwhile included.
func allocated(do func()) uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	do()
	metrics.Read(sample)
	return sample[0].Value.Uint64() - before
}

const hostileDims = `"architectures":["Qwen3ForCausalLM"],"hidden_size":1024,"num_hidden_layers":1000,"num_attention_heads":8,"intermediate_size":2048,"vocab_size":1000`

// list writes n entries as elements of a JSON list.
func list(n int, entry func(i int) string) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q", entry(i))
	}
	return b.String()
}

// TestHostileConfigIsRefusedBeforeWork is attack 3: one config.json whose patterns, once compiled, take gigabytes.
func TestHostileConfigIsRefusedBeforeWork(t *testing.T) {
	ignore := func(entries string) string {
		return `{` + hostileDims + `,"quantization_config":{"quant_method":"compressed-tensors","ignore":[` + entries + `]}}`
	}
	tests := []struct{ name, config, want string }{
		{"100,000 expressions", ignore(list(100_000, func(i int) string { return fmt.Sprintf("re:^layers.%d", i) })), "more than 2048 patterns"},
		{"100,000 globs", ignore(list(100_000, func(i int) string { return fmt.Sprintf("*layers.%d.*", i) })), "more than 2048 patterns"},
		{"one expression of a megabyte", ignore(list(1, func(int) string { return "re:" + strings.Repeat("a?", 1<<19) })), "more than 512"},
		{"expressions that repeat what they repeat", ignore(list(2000, func(int) string { return "re:a{900}b{900}c{900}d{900}e{900}" })), "larger than"},
		{"expressions of all letters", ignore(list(2000, func(int) string { return `re:(?i)` + strings.Repeat(`\pL`, 150) })), "larger than"},
		{"targets of groups", `{` + hostileDims + `,"quantization_config":{"config_groups":{"g":{"weights":{"num_bits":4},"targets":[` +
			list(100_000, func(int) string { return "re:^layers.1" }) + `]}}}}`, "more than 2048 patterns"},
		{"a million values", `{` + hostileDims + `,"x":[` + strings.Repeat("1,", 1_000_000) + `1]}`, "values in a configuration"},
		{"a million keys", `{` + hostileDims + strings.Repeat(`,"a":[]`, 1_000_000) + `}`, "values in a configuration"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			data := []byte(tt.config)
			var err error
			bytes := allocated(func() { _, err = Parse(t.Context(), data, nil) })
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
			if bytes > 64<<20 {
				t.Errorf("%d MiB allocated for a file of %d KiB, want at most 64", bytes>>20, len(data)>>10)
			}
		})
	}
}

func TestParseGivesUpWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, config := range map[string]string{
		"many layers": `{` + hostileDims + `}`,
		"a pattern":   `{` + hostileDims + `,"quantization_config":{"ignore":["re:.*"]}}`,
	} {
		if _, err := Parse(ctx, []byte(config), nil); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: error %v, want that of the context", name, err)
		}
	}
}
