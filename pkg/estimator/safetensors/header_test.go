// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package safetensors

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// file is a header's JSON behind its length.
func file(header string) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)
}

func TestReadHeader(t *testing.T) {
	data := file(`{"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},` +
		`"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"c":{"dtype":"F99","shape":[7],"data_offsets":[16,20]}}`)
	h, err := ReadHeader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	want := &Header{
		Bytes: int64(len(data)) + 20,
		Tensors: []Tensor{
			{Name: "b", DType: "BF16", Shape: []uint64{2, 3}, Bytes: 12},
			{Name: "a", DType: "U8", Shape: []uint64{4}, Bytes: 4},
			{Name: "c", DType: "F99", Shape: []uint64{7}, Bytes: 4}, // a type of the future: by its offsets
		},
	}
	if diff := cmp.Diff(want, h); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
}

func TestHostileHeaders(t *testing.T) {
	tensor := func(fields string) []byte { return file(`{"a":{` + fields + `}}`) }
	tests := []struct {
		name string
		file []byte
		want string
	}{
		{"an empty file", nil, "ends within its first 8 bytes"},
		{"a length of nothing", file(""), "header of 0 bytes"},
		{"a length of 2^63", binary.LittleEndian.AppendUint64(nil, 1<<63), "is not between"},
		{"a length beyond the file", binary.LittleEndian.AppendUint64(nil, 1<<20), "nexpected EOF"},
		{"a header cut off in its middle", file(`{"a":{"dtype":"U8"`), "nexpected EOF"},
		{"no object", file(`[1,2,3]`), "not a JSON object"},
		{"another format", []byte("\x02\x00\x00\x00\x00\x00\x00\x00GG"), "not a JSON object"},
		{"a tensor twice", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`), "there twice"},
		{"overlapping tensors", file(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}`), "overlap"},
		{"offsets that go back", tensor(`"dtype":"U8","shape":[1],"data_offsets":[5,4]`), "ascending"},
		{"one offset", tensor(`"dtype":"U8","shape":[1],"data_offsets":[5]`), "ascending"},
		{"negative offsets", tensor(`"dtype":"U8","shape":[1],"data_offsets":[-2,-1]`), "cannot unmarshal"},
		{"offsets beyond any file", tensor(`"dtype":"F99","shape":[1],"data_offsets":[0,9007199254740992]`), "ascending"},
		{"a shape that overflows", tensor(`"dtype":"F64","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,8]`), "larger than"},
		{"a shape that does not match the offsets", tensor(`"dtype":"F32","shape":[3],"data_offsets":[0,8]`), "8 bytes of data for 12"},
		{"twenty dimensions", tensor(`"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]`), "20 dimensions"},
		{"a name of a million bytes", file(`{"` + strings.Repeat("x", 1<<20) + `":{}}`), "tensor name longer"},
		{"a hundred thousand brackets", file(`{"a":` + strings.Repeat("[", 100_000)), "exceeded max depth"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ReadHeader(bytes.NewReader(tt.file), int64(len(tt.file)))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
			if _, err := ReadHeader(bytes.NewReader(tt.file), -1); err == nil {
				t.Error("without the size: no error")
			}
		})
	}
}

func TestShards(t *testing.T) {
	got, err := Shards([]byte(`{"metadata":{"total_size":9},"weight_map":{"x":"b.safetensors","y":"a.safetensors","z":"b.safetensors"}}`))
	if diff := cmp.Diff([]string{"a.safetensors", "b.safetensors"}, got); diff != "" || err != nil {
		t.Errorf("error %v, shards (-want +got):\n%s", err, diff)
	}
	for name, index := range map[string]string{
		"a path upwards":      `{"weight_map":{"x":"../../etc/passwd"}}`,
		"an absolute path":    `{"weight_map":{"x":"/etc/passwd"}}`,
		"a Windows path":      `{"weight_map":{"x":"C:\\secrets"}}`,
		"a hidden file":       `{"weight_map":{"x":".token"}}`,
		"a number":            `{"weight_map":{"x":7}}`,
		"nothing":             `{"weight_map":{}}`,
		"no object":           `7`,
		"a list":              `{"weight_map":["a"]}`,
		"a thousand and more": manyShards(),
	} {
		if got, err := Shards([]byte(index)); err == nil {
			t.Errorf("%s: no error, shards %q", name, got)
		}
	}
}

func manyShards() string {
	var b strings.Builder
	b.WriteString(`{"weight_map":{"x":"x"`)
	for i := range maxShards + 1 {
		fmt.Fprintf(&b, `,"t%d":"f%d"`, i, i)
	}
	return b.String() + "}}"
}

// FuzzReadHeader reads what may be a header, and what may be an index.
func FuzzReadHeader(f *testing.F) {
	f.Add([]byte(`{"metadata":{"total_size":9},"weight_map":{"x":"model-00001-of-00002.safetensors"}}`))
	f.Add([]byte(`{"__metadata__":{"format":"pt"},"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}}`))
	f.Add([]byte(`{"model.layers.0.mlp.experts.0.up_proj.weight_scale":{"dtype":"F8_E4M3","shape":[],"data_offsets":[0,1]}}`))
	f.Fuzz(func(t *testing.T, header []byte) {
		names, err := Shards(header)
		for _, name := range names {
			if err == nil && strings.ContainsAny(name, "/\\") {
				t.Errorf("%q leads out of the folder", name)
			}
		}
		data := file(string(header))
		h, err := ReadHeader(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		var sum int64
		for _, tensor := range h.Tensors {
			if tensor.Bytes < 0 {
				t.Errorf("tensor %q of %d bytes", tensor.Name, tensor.Bytes)
			}
			sum += tensor.Bytes
		}
		if sum > h.Bytes {
			t.Errorf("tensors of %d bytes in a file of %d", sum, h.Bytes)
		}
	})
}

// TestHostileListsAreNotDecoded is attack 3: a shape of millions of dimensions, and metadata of as many bytes.
func TestHostileListsAreNotDecoded(t *testing.T) {
	ones := strings.Repeat("1,", 4<<20) + "1"
	for name, header := range map[string]string{
		"a shape": `{"a":{"dtype":"F32","shape":[` + ones + `],"data_offsets":[0,4]}}`,
		"offsets": `{"a":{"dtype":"F32","shape":[1],"data_offsets":[` + ones + `]}}`,
	} {
		data := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)
		if _, err := ReadHeader(bytes.NewReader(data), -1); err == nil || !strings.Contains(err.Error(), "at most 512 make sense") {
			t.Errorf("%s: error %v, want that the list is too long", name, err)
		}
	}
}
