// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gguftest writes GGUF headers for tests: real ones, of models of any size, without the tensor data.
package gguftest

import (
	"encoding/binary"
	"fmt"
	"math"
)

// KV is one metadata value: a uint32, uint64, int32, float32, bool, string, []uint32, []bool or []string.
type KV struct {
	Key   string
	Value any
}

// Tensor is one entry of the tensor table. Type is a ggml_type.
type Tensor struct {
	Name string
	Dims []uint64
	Type uint32
}

// The ggml types that tests use.
const (
	F32  uint32 = 0
	F16  uint32 = 1
	Q8_0 uint32 = 8  //nolint:revive // the name it has everywhere
	Q4_K uint32 = 12 //nolint:revive
	Q6_K uint32 = 14 //nolint:revive
	Q3_K uint32 = 11 //nolint:revive
	// The smallest types.
	IQ1_S uint32 = 19 //nolint:revive
	IQ1_M uint32 = 29 //nolint:revive
	TQ1_0 uint32 = 34 //nolint:revive
	MXFP4 uint32 = 39
)

// blocks are the elements and bytes of a block of each type above.
var blocks = map[uint32][2]uint64{
	F32: {1, 4}, F16: {1, 2}, Q8_0: {32, 34}, Q4_K: {256, 144}, Q6_K: {256, 210},
	IQ1_S: {256, 50}, IQ1_M: {256, 56}, TQ1_0: {256, 54}, MXFP4: {32, 17}, Q3_K: {256, 110},
}

const alignment = 32

// Bytes returns the size of a tensor in the file.
func (t Tensor) Bytes() uint64 {
	elements := uint64(1)
	for _, d := range t.Dims {
		elements *= d
	}
	b := blocks[t.Type]
	return (elements + b[0] - 1) / b[0] * b[1]
}

// Header returns a GGUF version 3 header with these values and tensors, padded to where the data begin. It panics on
// a value of another type than KV names, which is a mistake in a test.
func Header(values []KV, tensors []Tensor) []byte {
	out := []byte("GGUF")
	out = binary.LittleEndian.AppendUint32(out, 3)
	out = binary.LittleEndian.AppendUint64(out, uint64(len(tensors)))
	out = binary.LittleEndian.AppendUint64(out, uint64(len(values)))
	for _, kv := range values {
		out = appendString(out, kv.Key)
		out = appendValue(out, kv.Value)
	}
	var offset uint64
	for _, t := range tensors {
		out = appendString(out, t.Name)
		out = binary.LittleEndian.AppendUint32(out, uint32(len(t.Dims)))
		for _, d := range t.Dims {
			out = binary.LittleEndian.AppendUint64(out, d)
		}
		out = binary.LittleEndian.AppendUint32(out, t.Type)
		out = binary.LittleEndian.AppendUint64(out, offset)
		offset += (t.Bytes() + alignment - 1) / alignment * alignment
	}
	for len(out)%alignment != 0 {
		out = append(out, 0)
	}
	return out
}

func appendString(out []byte, s string) []byte {
	out = binary.LittleEndian.AppendUint64(out, uint64(len(s)))
	return append(out, s...)
}

func appendValue(out []byte, value any) []byte {
	u32 := binary.LittleEndian.AppendUint32
	switch v := value.(type) {
	case uint32:
		return u32(u32(out, 4), v)
	case int32:
		return u32(u32(out, 5), uint32(v))
	case float32:
		return u32(u32(out, 6), math.Float32bits(v))
	case bool:
		return append(u32(out, 7), oneIf(v))
	case string:
		return appendString(u32(out, 8), v)
	case uint64:
		return binary.LittleEndian.AppendUint64(u32(out, 10), v)
	case []uint32:
		out = binary.LittleEndian.AppendUint64(u32(u32(out, 9), 4), uint64(len(v)))
		for _, n := range v {
			out = u32(out, n)
		}
		return out
	case []bool:
		out = binary.LittleEndian.AppendUint64(u32(u32(out, 9), 7), uint64(len(v)))
		for _, b := range v {
			out = append(out, oneIf(b))
		}
		return out
	case []string:
		out = binary.LittleEndian.AppendUint64(u32(u32(out, 9), 8), uint64(len(v)))
		for _, s := range v {
			out = appendString(out, s)
		}
		return out
	}
	panic(fmt.Sprintf("gguftest: a metadata value of type %T", value))
}

func oneIf(b bool) byte {
	if b {
		return 1
	}
	return 0
}
