// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gguf

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/estimator/gguftest"
)

func read(t testing.TB, header []byte) *estimator.Model {
	t.Helper()
	h, err := ReadHeader(bytes.NewReader(header), int64(len(header)))
	if err != nil {
		t.Fatal(err)
	}
	m, err := h.Model()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestDenseModel(t *testing.T) {
	m := read(t, small.Write())
	// Q8_0 is 34 bytes per 32 elements. A layer: q 256×256, k and v 256×128, output 256×256, three of 256×512, and
	// two float32 norms of 256.
	const matrices = 2*256*256 + 2*256*128 + 3*256*512
	const layer = matrices/32*34 + 2*256*4
	want := &estimator.Model{
		Format: estimator.FormatGGUF, Architecture: "llama", Quantization: "Q8_0", WeightsSource: estimator.WeightsFromTensors,
		Parameters: 2*(matrices+512) + 2*256*1000 + 256, FileSize: m.FileSize, ContextLength: 2048, VocabularySize: 1000, HiddenSize: 256, FeedForward: 512,
		Heads: 4, KVHeads: 2, LayerCount: 2, LayerWeights: []int64{layer, layer},
		Layers:    []estimator.LayerKind{{Kind: estimator.LayerAttention, Count: 2, Heads: 4, KVHeads: 2, KeyDim: 64, ValueDim: 64}},
		Embedding: 256 * 1000 / 32 * 34, Output: 256 * 1000 / 32 * 34, OtherWeights: 256 * 4,
		MirroredWeights: 2 * 2 * 256 * 4, LargestMatrix: 256 * 512 / 32 * 34, // norms; one of the feed-forward layer
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("model (-want +got):\n%s", diff)
	}
	if m.FileSize < 2*layer+2*m.Embedding {
		t.Errorf("file of %d bytes is smaller than its tensors", m.FileSize)
	}
}

// kindsOf returns the kind of each layer, one letter each.
func kindsOf(m *estimator.Model) string {
	var b strings.Builder
	for i := range int(m.LayerCount) {
		b.WriteByte(m.KindOf(i).Kind[0])
	}
	return b.String()
}

func TestLayerKinds(t *testing.T) {
	base := small
	base.Layers = 8
	with := func(change func(*gguftest.Model)) []byte {
		m := base
		change(&m)
		return m.Write()
	}
	tests := []struct {
		name  string
		file  []byte
		kinds string // a attention, s sliding window or stateless, l latent, r recurrent
	}{
		{"gemma2 alternates, windowed first", with(func(m *gguftest.Model) { m.Architecture, m.Window = "gemma2", 512 }), "sasasasa"},
		{"gemma3 has five windowed for one full", with(func(m *gguftest.Model) { m.Architecture, m.Window = "gemma3", 512 }), "sssssass"},
		{"cohere2moe begins with a full layer", with(func(m *gguftest.Model) { m.Architecture, m.Window = "cohere2moe", 512 }), "asssasss"},
		{"phi3 is run without its window", with(func(m *gguftest.Model) { m.Architecture, m.Window = "phi3", 512 }), "aaaaaaaa"},
		{"a list in the file wins", with(func(m *gguftest.Model) {
			m.Architecture, m.Window = "gemma4", 512
			m.Extra = []gguftest.KV{{Key: "gemma4.attention.sliding_window_pattern", Value: []bool{true, false, false, true, true, true, true, false}}}
		}), "saassssa"},
		{"a period in the file wins", with(func(m *gguftest.Model) {
			m.Architecture, m.Window = "gemma2", 512
			m.Extra = []gguftest.KV{{Key: "gemma2.attention.sliding_window_pattern", Value: uint32(4)}}
		}), "sssasssa"},
		{"the last layers of gemma4 share caches", with(func(m *gguftest.Model) {
			m.Architecture = "gemma4"
			m.Extra = []gguftest.KV{{Key: "gemma4.attention.shared_kv_layers", Value: uint32(3)}}
		}), "aaaaasss"},
		{"hybrids attend every fourth layer", with(func(m *gguftest.Model) {
			m.Architecture, m.FullAttentionInterval, m.Inner, m.State, m.Groups, m.ConvKernel = "qwen35", 4, 256, 64, 2, 4
		}), "rrrarrra"},
		{"MLA in its own layout is latent", with(func(m *gguftest.Model) {
			m.Architecture, m.LatentRank, m.RopeDim, m.KeyDim, m.KVHeads = "deepseek2", 64, 32, 96, 1
		}), "llllllll"},
		{"MLA in the layout before that is attention of all heads", with(func(m *gguftest.Model) {
			m.Architecture, m.LatentRank, m.RopeDim, m.KeyDim, m.KVHeads, m.PlainLatent = "deepseek2", 64, 32, 96, 4, true
		}), "aaaaaaaa"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := kindsOf(read(t, tt.file)); got != tt.kinds {
				t.Errorf("layers %s, want %s", got, tt.kinds)
			}
		})
	}
}

func TestPredictionLayersAreTheDraft(t *testing.T) {
	spec := small
	spec.NextN = 1
	m := read(t, spec.Write())
	const projection = 512 * 256 / 32 * 34
	if m.LayerCount != 2 || m.Draft == nil || m.Draft.Layers != 1 || m.Draft.Weights.Sharded != m.LayerWeights[0]+projection {
		t.Errorf("%d layers and draft %+v, want 2 and one of the weights of a layer and a projection", m.LayerCount, m.Draft)
	}
	// A hybrid whose file leaves them out: eight blocks make two whole periods.
	spec.NextN, spec.Layers, spec.FullAttentionInterval, spec.Inner, spec.State, spec.Groups, spec.ConvKernel = 0, 8, 4, 256, 64, 2, 4
	spec.Architecture = "qwen35"
	spec.Extra = []gguftest.KV{{Key: "qwen35.nextn_predict_layers", Value: uint32(1)}}
	if m := read(t, spec.Write()); m.LayerCount != 8 || m.Draft != nil {
		t.Errorf("%d layers and draft %+v, want 8 and none", m.LayerCount, m.Draft)
	}
}

func TestUnknownArchitectureIsMarked(t *testing.T) {
	spec := small
	spec.Architecture = "of-next-year"
	if m := read(t, spec.Write()); !m.UnknownArchitecture || kindsOf(m) != "aa" {
		t.Errorf("unknown %v with layers %s, want full attention marked as unknown", m.UnknownArchitecture, kindsOf(m))
	}
}

// countingReader counts what is read of a file.
type countingReader struct {
	r     *bytes.Reader
	bytes int64
	last  int64
	back  bool
}

func (c *countingReader) ReadAt(p []byte, off int64) (int, error) {
	if off < c.last {
		c.back = true
	}
	c.last = off
	n, err := c.r.ReadAt(p, off)
	c.bytes += int64(n)
	return n, err
}

func TestHeaderOf70BIsReadOnceAndBelow16MiB(t *testing.T) {
	// Llama 3's vocabulary: 128,256 tokens and 280,147 merges, with their types.
	tokens, merges := make([]string, 128_256), make([]string, 280_147)
	for i := range tokens {
		tokens[i] = fmt.Sprintf("token-%05d", i)
	}
	for i := range merges {
		merges[i] = fmt.Sprintf("merge %06d", i)
	}
	spec := gguftest.Model{
		Architecture: "llama", Layers: 80, Hidden: 8192, FeedForward: 28672, Heads: 64, KVHeads: 8, KeyDim: 128, ValueDim: 128, Vocabulary: 128256,
		Context: 131072, Type: gguftest.Q4_K, Tokens: tokens,
		Extra: []gguftest.KV{{Key: "tokenizer.ggml.merges", Value: merges}, {Key: "tokenizer.ggml.token_type", Value: make([]uint32, 128_256)}},
	}
	header := spec.Write()
	// The data follow: their first bytes stand for 40 GB.
	file := append(header, make([]byte, 32<<20)...)
	c := &countingReader{r: bytes.NewReader(file)}
	h, err := ReadHeader(c, 40<<30)
	if err != nil {
		t.Fatal(err)
	}
	m, err := h.Model()
	if err != nil {
		t.Fatal(err)
	}
	if c.bytes > 16<<20 || c.back {
		t.Errorf("read %d bytes of a header of %d (again: %v), want less than 16 MiB once", c.bytes, len(header), c.back)
	}
	if size, _ := json.Marshal(m); len(size) > 8<<10 {
		t.Errorf("the model takes %d bytes as JSON", len(size))
	}
	if m.FileSize < 39e9 || m.FileSize > 41e9 {
		t.Errorf("file of %d bytes, want about 40 GB", m.FileSize)
	}
}

func TestHybridOfAHundredLayersIsSmall(t *testing.T) {
	spec := gguftest.Model{
		Architecture: "qwen35moe", Layers: 100, Hidden: 4096, Heads: 32, KVHeads: 4, KeyDim: 256, ValueDim: 256, Vocabulary: 248320,
		Context: 262144, Type: gguftest.Q4_K, FullAttentionInterval: 4, Inner: 8192, State: 128, Groups: 16, ConvKernel: 4,
		Experts: 512, ExpertsUsed: 10, ExpertFeedForward: 1024, SharedFeedForward: 1024,
	}
	if size, _ := json.Marshal(read(t, spec.Write())); len(size) > 8<<10 {
		t.Errorf("the model takes %d bytes as JSON", len(size))
	}
}

// file is an estimator.File in memory.
type file struct{ *bytes.Reader }

func (file) Close() error { return nil }

func TestSplitFiles(t *testing.T) {
	whole := small.Write()
	first := gguftest.Model{Architecture: "llama", Layers: 2, Hidden: 256, FeedForward: 512, Heads: 4, KVHeads: 2, KeyDim: 64, ValueDim: 64, Vocabulary: 1000, Context: 2048, Type: gguftest.Q8_0}
	first.Extra = []gguftest.KV{{Key: "split.count", Value: uint32(2)}}
	rest := gguftest.Header([]gguftest.KV{{Key: "split.no", Value: uint32(1)}}, []gguftest.Tensor{{Name: "rope_freqs.weight", Dims: []uint64{64}, Type: gguftest.F32}})
	files := map[string][]byte{
		"m-00001-of-00002.gguf": first.Write(), "m-00002-of-00002.gguf": rest,
		"one.gguf": first.Write(), "whole.gguf": whole,
	}
	open := func(name string) (estimator.File, error) {
		data, ok := files[name]
		if !ok {
			return nil, fs.ErrNotExist
		}
		return file{bytes.NewReader(data)}, nil
	}
	wholeModel, err := Read("whole.gguf", open)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Read("m-00002-of-00002.gguf", open)
	if err != nil {
		t.Fatal(err)
	}
	if m.OtherWeights != wholeModel.OtherWeights+256 {
		t.Errorf("other weights %d, want those of both files: %d", m.OtherWeights, wholeModel.OtherWeights+256)
	}
	if _, err := Read("one.gguf", open); err == nil || !strings.Contains(err.Error(), "one of 2") {
		t.Errorf("a part under another name: error %v", err)
	}
	for _, name := range []string{"m-00003-of-00002.gguf", "m-00001-of-99999.gguf", "m-00000-of-00000.gguf"} {
		if _, err := Read(name, open); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestProjector(t *testing.T) {
	header := gguftest.Header([]gguftest.KV{
		{Key: "general.architecture", Value: "clip"}, {Key: "clip.vision.embedding_length", Value: uint32(1152)},
		{Key: "clip.vision.feed_forward_length", Value: uint32(4304)}, {Key: "clip.vision.attention.head_count", Value: uint32(16)},
		{Key: "clip.vision.block_count", Value: uint32(27)}, {Key: "clip.vision.image_size", Value: uint32(896)},
		{Key: "clip.vision.patch_size", Value: uint32(14)}, {Key: "clip.projector_type", Value: "gemma3"},
	}, []gguftest.Tensor{{Name: "v.blk.0.attn_q.weight", Dims: []uint64{1152, 1152}, Type: gguftest.F16}})
	want := &estimator.Vision{Replicated: 1152 * 1152 * 2, Projector: "gemma3", HiddenSize: 1152, FeedForward: 4304, Heads: 16, Layers: 27, MaxPatches: 4096}
	if diff := cmp.Diff(want, read(t, header).Vision); diff != "" {
		t.Errorf("tower (-want +got):\n%s", diff)
	}
}
