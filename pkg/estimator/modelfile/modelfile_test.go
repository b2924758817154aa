// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelfile_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/estimator/gguftest"
	"github.com/berth-dev/berth/pkg/estimator/modelfile"
)

const config = `{"architectures":["Qwen3MoeForCausalLM"],"hidden_size":64,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,` +
	`"head_dim":16,"intermediate_size":128,"moe_intermediate_size":32,"num_experts":4,"num_experts_per_tok":2,"vocab_size":256,"num_nextn_predict_layers":1}`

// write writes files into a new folder.
func write(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// shard is a safetensors header of BF16 tensors, name and number of elements in turn. The data are not there.
func shard(t *testing.T, tensors ...any) []byte {
	t.Helper()
	header := map[string]any{}
	offset := 0
	for i := 0; i < len(tensors); i += 2 {
		n := tensors[i+1].(int)
		header[tensors[i].(string)] = map[string]any{"dtype": "BF16", "shape": []int{n / 2, 2}, "data_offsets": []int{offset, offset + 2*n}}
		offset += 2 * n
	}
	data, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(data))), data...)
}

// TestSafetensorsWeightsReplaceComputedOnes: each tensor goes where tensor parallelism puts it.
func TestSafetensorsWeightsReplaceComputedOnes(t *testing.T) {
	first := shard(t,
		"model.embed_tokens.weight", 1000,
		"model.layers.0.self_attn.q_proj.weight", 100, "model.layers.0.self_attn.k_proj.weight", 10, "model.layers.0.self_attn.v_proj.weight", 10,
		"model.layers.0.mlp.gate.weight", 4, "model.layers.0.mlp.experts.0.up_proj.weight", 40, "model.layers.0.input_layernorm.weight", 2,
	)
	second := shard(t,
		"model.layers.1.self_attn.q_proj.weight", 102, "model.layers.1.mlp.experts.3.down_proj.weight", 44,
		"model.layers.2.self_attn.q_proj.weight", 60, // the prediction layer
		"model.norm.weight", 8, "lm_head.weight", 500, "model.visual.blocks.0.attn.qkv.weight", 70,
	)
	dir := write(t, map[string][]byte{
		"config.json": []byte(config), "model-00001-of-00002.safetensors": first, "model-00002-of-00002.safetensors": second,
		"model.safetensors.index.json": []byte(`{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}`),
	})
	m, err := modelfile.ReadPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []estimator.PlacedWeights{{Sharded: 200, KV: 40, Experts: 80, Replicated: 12}, {Sharded: 204, Experts: 88}}
	got := []estimator.PlacedWeights{m.KindOf(0).Weights, m.KindOf(1).Weights}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("layers (-want +got):\n%s", diff)
	}
	if m.Embedding != 2000 || m.Output != 1000 || m.OtherWeights != 16 || m.Vision.Sharded != 140 || m.Draft.Weights.Sharded != 120 {
		t.Errorf("embedding %d, output %d, other %d, vision %+v, draft %+v", m.Embedding, m.Output, m.OtherWeights, m.Vision, m.Draft)
	}
	if m.WeightsSource != estimator.WeightsFromTensors || m.FileSize != int64(len(first)+len(second)+2*(1166+784)) {
		t.Errorf("source %s, size %d", m.WeightsSource, m.FileSize)
	}
}

func TestReadPath(t *testing.T) {
	spec := gguftest.Model{Architecture: "llama", Layers: 1, Hidden: 64, FeedForward: 64, Heads: 1, KVHeads: 1, KeyDim: 64, ValueDim: 64, Vocabulary: 64, Type: gguftest.Q8_0}
	header := spec.Write()
	hfQuant := []byte(`{"quantization":{"quant_algo":"FP8"}}`)
	dir := write(t, map[string][]byte{
		"a.gguf": header, "blob": header, "x_config.json": []byte(config), "x_hf_quant_config.json": hfQuant, "notes.txt": []byte("hello"),
	})
	onlyConfig := write(t, map[string][]byte{"config.json": []byte(config), "hf_quant_config.json": hfQuant})
	oneModel := write(t, map[string][]byte{"m-00001-of-00001.gguf": header, "mmproj-m.gguf": header})
	missingShard := write(t, map[string][]byte{"config.json": []byte(config), "model.safetensors.index.json": []byte(`{"weight_map":{"a":"b.safetensors"}}`)})
	empty := t.TempDir()
	tests := []struct {
		name, path string
		want       string // the quantization that was read
		err        string
	}{
		{"a GGUF file", filepath.Join(dir, "a.gguf"), "Q8_0", ""},
		{"a GGUF file by its content", filepath.Join(dir, "blob"), "Q8_0", ""},
		{"a configuration with a prefix and its quantization config", filepath.Join(dir, "x_config.json"), "FP8", ""},
		{"a folder with a configuration alone", onlyConfig, "FP8", ""},
		{"a folder with one GGUF model and its projector", oneModel, "Q8_0", ""},
		{"neither", filepath.Join(dir, "notes.txt"), "", "neither a GGUF file"},
		{"nothing", filepath.Join(dir, "absent"), "", "no such file"},
		{"an empty folder", empty, "", "neither a config.json nor a GGUF file"},
		{"a shard that is missing", missingShard, "", "b.safetensors"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := modelfile.ReadPath(tt.path)
			switch {
			case tt.err != "":
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want one with %q", err, tt.err)
				}
			case err != nil:
				t.Error(err)
			case m.Quantization != tt.want:
				t.Errorf("quantization %s, want %s", m.Quantization, tt.want)
			}
		})
	}
}

func TestDirLeadsNowhereElse(t *testing.T) {
	dir := modelfile.Dir(write(t, map[string][]byte{"a": nil}))
	for _, name := range []string{"../a", "/etc/passwd", "..", ""} {
		if f, err := dir.Open(name); err == nil {
			t.Errorf("opened %q: %v", name, f)
		}
	}
	if _, err := dir.Open("b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: error %v", err)
	}
	if err := os.Mkdir(filepath.Join(string(dir), "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := dir.Open("d"); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a folder: error %v", err)
	}
}

// TestSplitGGUF reads all files of a model whichever is named.
func TestSplitGGUF(t *testing.T) {
	spec := gguftest.Model{Architecture: "llama", Layers: 1, Hidden: 64, FeedForward: 64, Heads: 1, KVHeads: 1, KeyDim: 64, ValueDim: 64, Vocabulary: 64, Type: gguftest.Q8_0}
	second := gguftest.Header(nil, []gguftest.Tensor{{Name: "rope_freqs.weight", Dims: []uint64{32}, Type: gguftest.F32}})
	dir := write(t, map[string][]byte{"m-00001-of-00002.gguf": spec.Write(), "m-00002-of-00002.gguf": second})
	for i := 1; i <= 2; i++ {
		m, err := modelfile.ReadPath(filepath.Join(dir, fmt.Sprintf("m-%05d-of-00002.gguf", i)))
		if err != nil {
			t.Fatal(err)
		}
		if m.OtherWeights != 64*4+32*4 {
			t.Errorf("file %d: other weights %d, want those of both files", i, m.OtherWeights)
		}
	}
}
