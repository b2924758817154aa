// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gguf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/estimator/gguftest"
)

// small is a model of a few tensors.
var small = gguftest.Model{
	Architecture: "llama", Layers: 2, Hidden: 256, FeedForward: 512, Heads: 4, KVHeads: 2, KeyDim: 64, ValueDim: 64, Vocabulary: 1000,
	Context: 2048, Type: gguftest.Q8_0,
}

// raw builds a header by hand: what no writer would write.
func raw(version uint32, tensors, keys uint64, rest ...any) []byte {
	out := []byte("GGUF")
	out = binary.LittleEndian.AppendUint32(out, version)
	out = binary.LittleEndian.AppendUint64(out, tensors)
	out = binary.LittleEndian.AppendUint64(out, keys)
	for _, r := range rest {
		switch v := r.(type) {
		case string:
			out = binary.LittleEndian.AppendUint64(out, uint64(len(v)))
			out = append(out, v...)
		case uint32:
			out = binary.LittleEndian.AppendUint32(out, v)
		case uint64:
			out = binary.LittleEndian.AppendUint64(out, v)
		case []byte:
			out = append(out, v...)
		}
	}
	return out
}

// tensor is one entry of the table: name, dimensions, type, offset.
func tensor(name string, typ uint32, offset uint64, dims ...uint64) []byte {
	var out []byte
	out = binary.LittleEndian.AppendUint64(out, uint64(len(name)))
	out = append(out, name...)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(dims)))
	for _, d := range dims {
		out = binary.LittleEndian.AppendUint64(out, d)
	}
	out = binary.LittleEndian.AppendUint32(out, typ)
	return binary.LittleEndian.AppendUint64(out, offset)
}

func TestHostileFiles(t *testing.T) {
	const huge = 1 << 62
	tests := []struct {
		name string
		file []byte
		want string // in the error
	}{
		{"an empty file", nil, "not a GGUF file"},
		{"another format", []byte("PK\x03\x04 a zip archive"), "not a GGUF file"},
		{"only the magic", []byte("GGUF"), "ends within its header"},
		{"a big-endian file", raw(3<<24, 0, 0), "big-endian"},
		{"a version of the future", raw(99, 0, 0), "version 99"},
		{"a huge number of tensors", raw(3, huge, 0), "tensors are more than"},
		{"a huge number of keys", raw(3, 0, huge), "metadata keys are more than"},
		{"a key of huge length", raw(3, 0, 1, uint64(huge)), "bytes of a string are more than"},
		{"a string value of huge length", raw(3, 0, 1, "a", uint32(typeString), uint64(huge)), "bytes of a string are more than"},
		{"a string value that ends beyond the file", raw(3, 1, 1, "a", uint32(typeString), uint64(1<<20)), "ends within its header"},
		{"an array of huge length", raw(3, 0, 1, "a", uint32(typeArray), uint32(typeUint32), uint64(huge)), "array elements are more than"},
		{"an array that ends beyond the file", raw(3, 1, 1, "a", uint32(typeArray), uint32(typeUint64), uint64(1<<20)), "ends within its header"},
		{"arrays in arrays", raw(3, 0, 1, "a", uint32(typeArray), uint32(typeArray), uint64(1)), "array of type 9"},
		{"a value of unknown type", raw(3, 0, 1, "a", uint32(77)), "value of type 77"},
		{"a key twice", raw(3, 0, 2, "a", typeUint32, uint32(1), "a", typeUint32, uint32(1)), "there twice"},
		{"an alignment of zero", raw(3, 0, 1, "general.alignment", typeUint32, uint32(0)), "alignment 0"},
		{"a tensor without dimensions", raw(3, 1, 0, tensor("t", 0, 0)), "0 dimensions"},
		{"a tensor of a hundred dimensions", raw(3, 1, 0, tensor("t", 0, 0, make([]uint64, 100)...)), "100 dimensions"},
		{"a dimension of zero", raw(3, 1, 0, tensor("t", 0, 0, 4, 0)), "dimension of 0"},
		{"dimensions whose product overflows", raw(3, 1, 0, tensor("t", 0, 0, 1<<40, 1<<40)), "larger than"},
		{"rows that are no whole blocks", raw(3, 1, 0, tensor("t", 12, 0, 100, 2)), "not a multiple"},
		{"an unaligned tensor", raw(3, 1, 0, tensor("t", 0, 7, 4)), "not a multiple of the alignment"},
		{"a tensor beyond any file", raw(3, 1, 0, tensor("t", 0, 1<<50, 4)), "beyond any file"},
		{"overlapping tensors", raw(3, 2, 0, tensor("a", 0, 0, 1024), tensor("b", 0, 32, 1024)), "overlap"},
		{"a tensor that lies within itself twice", raw(3, 2, 0, tensor("a", 0, 0, 8), tensor("a", 0, 32, 8)), "there twice"},
		{"a name of huge length", raw(3, 1, 0, uint64(huge)), "bytes of a string are more than"},
		{"a header cut off in its middle", small.Write()[:300], "ends within its header"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ReadHeader(bytes.NewReader(tt.file), int64(len(tt.file)))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("with the size: error %v, want one with %q", err, tt.want)
			}
			// A server need not say how long a file is.
			if _, err := ReadHeader(bytes.NewReader(tt.file), -1); err == nil {
				t.Error("without the size: no error")
			}
		})
	}
}

func TestHostileModels(t *testing.T) {
	header := func(values []gguftest.KV, tensors ...gguftest.Tensor) []byte { return gguftest.Header(values, tensors) }
	one := gguftest.Tensor{Name: "token_embd.weight", Dims: []uint64{32, 32}, Type: gguftest.F32}
	tests := []struct {
		name string
		file []byte
		want string
	}{
		{"no architecture", header(nil, one), "general.architecture is missing"},
		{"a long architecture", header([]gguftest.KV{{Key: "general.architecture", Value: strings.Repeat("x", 100)}}, one), "longer than"},
		{"no layers", header([]gguftest.KV{{Key: "general.architecture", Value: "llama"}}, one), "block_count is missing"},
		{
			"a million layers",
			header([]gguftest.KV{{Key: "general.architecture", Value: "llama"}, {Key: "llama.block_count", Value: uint32(1e6)}}, one),
			"layers are more than",
		},
		{
			"no tensors",
			header([]gguftest.KV{{Key: "general.architecture", Value: "llama"}, {Key: "llama.block_count", Value: uint32(1)}}),
			"no tensors",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, err := ReadHeader(bytes.NewReader(tt.file), int64(len(tt.file)))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := h.Model(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// failingReader fails at an offset, as a connection may.
type failingReader struct {
	data  []byte
	at    int64
	cause error
}

func (r *failingReader) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > r.at {
		return 0, r.cause
	}
	return bytes.NewReader(r.data).ReadAt(p, off)
}

func TestReadErrorsAreReported(t *testing.T) {
	cause := errors.New("connection reset")
	_, err := ReadHeader(&failingReader{data: small.Write(), at: 100, cause: cause}, -1)
	if !errors.Is(err, cause) {
		t.Errorf("error %v, want %v", err, cause)
	}
	if _, err := ReadHeader(bytes.NewReader(nil), -1); !errors.Is(err, ErrNotGGUF) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error %v, want ErrNotGGUF and ErrUnexpectedEOF", err)
	}
}

// FuzzReadHeader looks for panics, unbounded memory and models that do not hold together.
func FuzzReadHeader(f *testing.F) {
	f.Add(small.Write())
	hybrid := gguftest.Model{
		Architecture: "qwen35", Layers: 4, Hidden: 256, FeedForward: 512, Heads: 4, KVHeads: 2, KeyDim: 64, ValueDim: 64, Vocabulary: 1000,
		Context: 2048, Type: gguftest.Q4_K, FullAttentionInterval: 4, Inner: 256, State: 64, Groups: 2, ConvKernel: 4, NextN: 1,
	}
	f.Add(hybrid.Write())
	latent := gguftest.Model{
		Architecture: "deepseek2", Layers: 2, Hidden: 256, FeedForward: 512, Heads: 4, KVHeads: 1, KeyDim: 96, ValueDim: 64, Vocabulary: 1000,
		Context: 2048, Type: gguftest.Q8_0, LatentRank: 64, RopeDim: 32, IndexerDim: 64, Experts: 4, ExpertsUsed: 2, ExpertFeedForward: 64,
		Tokens: []string{"a", "b"},
		Extra:  []gguftest.KV{{Key: "deepseek2.attention.sliding_window_pattern", Value: []bool{true, false}}},
	}
	f.Add(latent.Write())
	f.Add(raw(1, 0, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := ReadHeader(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		m, err := h.Model()
		if err != nil {
			return
		}
		if err := estimator.ValidateModel(m); err != nil && m.Parameters > 0 && m.FileSize == 0 {
			t.Errorf("a model that was read is not valid: %v", err)
		}
		for i := range int(m.LayerCount) {
			if m.KindOf(i).Count < 1 {
				t.Errorf("layer %d is of an empty kind", i)
			}
		}
	})
}

// TestHostileArraysAreNotAllKept is attack 3: thousands of arrays of bytes, each element of which is kept in eight.
func TestHostileArraysAreNotAllKept(t *testing.T) {
	var file []byte
	file = append(file, "GGUF\x03\x00\x00\x00"...)
	file = binary.LittleEndian.AppendUint64(file, 0)
	const keys = 1 << 12
	file = binary.LittleEndian.AppendUint64(file, keys)
	for i := range keys {
		key := fmt.Sprintf("k%d", i)
		file = append(binary.LittleEndian.AppendUint64(file, uint64(len(key))), key...)
		file = binary.LittleEndian.AppendUint32(file, typeArray)
		file = binary.LittleEndian.AppendUint32(file, typeUint8)
		file = append(binary.LittleEndian.AppendUint64(file, maxArrayKept), make([]byte, maxArrayKept)...)
	}
	_, err := ReadHeader(bytes.NewReader(file), int64(len(file)))
	if err == nil || !strings.Contains(err.Error(), "the values take more than") {
		t.Errorf("error %v, want that the values take too much", err)
	}
}
