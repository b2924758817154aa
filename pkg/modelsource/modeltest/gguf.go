// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package modeltest makes model files for tests: headers as converters write them, without the weights.
package modeltest

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Llama describes a dense model of the Llama family, in Q8_0.
type Llama struct {
	Layers, Hidden, FeedForward, Heads, KVHeads, Context int
	// Tokens and Merges are the sizes of the tokenizer's tables, which make up most of a header.
	Tokens, Merges int
}

// Llama70B is the shape of Llama 3.3 70B Instruct.
var Llama70B = Llama{Layers: 80, Hidden: 8192, FeedForward: 28672, Heads: 64, KVHeads: 8, Context: 131072, Tokens: 128256, Merges: 280147}

// Tiny is the smallest model that makes sense.
var Tiny = Llama{Layers: 2, Hidden: 256, FeedForward: 512, Heads: 8, KVHeads: 4, Context: 4096, Tokens: 512, Merges: 100}

// The types of GGUF metadata values and tensors that are written (docs/gguf.md of ggml).
const (
	typeUint32 = 4
	typeString = 8
	typeArray  = 9
	tensorQ8   = 8
	alignment  = 32
)

// GGUF returns the model's file. Its weights are zeros.
func (m Llama) GGUF() File {
	w := &writer{}
	tensors, data := m.tensors()
	w.raw([]byte("GGUF"))
	w.u32(3)
	w.u64(uint64(len(tensors)))
	w.u64(10)
	w.text("general.architecture", "llama")
	w.number("llama.block_count", m.Layers)
	w.number("llama.context_length", m.Context)
	w.number("llama.embedding_length", m.Hidden)
	w.number("llama.feed_forward_length", m.FeedForward)
	w.number("llama.attention.head_count", m.Heads)
	w.number("llama.attention.head_count_kv", m.KVHeads)
	w.text("tokenizer.ggml.model", "gpt2")
	w.strings("tokenizer.ggml.tokens", m.Tokens, "token%d")
	w.strings("tokenizer.ggml.merges", m.Merges, "merge %d")
	offset := uint64(0)
	for _, t := range tensors {
		w.str(t.name)
		w.u32(uint32(len(t.dims)))
		elements := uint64(1)
		for _, d := range t.dims {
			w.u64(d)
			elements *= d
		}
		w.u32(tensorQ8)
		w.u64(offset)
		offset += padded(elements / 32 * 34)
	}
	for w.Len()%alignment != 0 {
		w.raw([]byte{0})
	}
	return File{Head: w.Bytes(), Size: int64(w.Len()) + int64(data)}
}

type tensor struct {
	name string
	dims []uint64
}

// tensors lists the tensors and the bytes that they take together.
func (m Llama) tensors() (list []tensor, data uint64) {
	add := func(name string, dims ...int) {
		t := tensor{name: name}
		elements := uint64(1)
		for _, d := range dims {
			t.dims = append(t.dims, uint64(d))
			elements *= uint64(d)
		}
		data += padded(elements / 32 * 34)
		list = append(list, t)
	}
	kv := m.Hidden / m.Heads * m.KVHeads
	add("token_embd.weight", m.Hidden, m.Tokens)
	for i := range m.Layers {
		block := fmt.Sprintf("blk.%d.", i)
		add(block+"attn_norm.weight", m.Hidden)
		add(block+"attn_q.weight", m.Hidden, m.Hidden)
		add(block+"attn_k.weight", m.Hidden, kv)
		add(block+"attn_v.weight", m.Hidden, kv)
		add(block+"attn_output.weight", m.Hidden, m.Hidden)
		add(block+"ffn_norm.weight", m.Hidden)
		add(block+"ffn_gate.weight", m.Hidden, m.FeedForward)
		add(block+"ffn_up.weight", m.Hidden, m.FeedForward)
		add(block+"ffn_down.weight", m.FeedForward, m.Hidden)
	}
	add("output_norm.weight", m.Hidden)
	add("output.weight", m.Hidden, m.Tokens)
	return list, data
}

func padded(n uint64) uint64 { return (n + alignment - 1) / alignment * alignment }

// writer writes little-endian GGUF values. Writing to a buffer does not fail.
type writer struct{ bytes.Buffer }

func (w *writer) raw(b []byte)                 { w.Write(b) }
func (w *writer) u32(n uint32)                 { w.raw(binary.LittleEndian.AppendUint32(nil, n)) }
func (w *writer) u64(n uint64)                 { w.raw(binary.LittleEndian.AppendUint64(nil, n)) }
func (w *writer) str(s string)                 { w.u64(uint64(len(s))); w.WriteString(s) }
func (w *writer) number(key string, value int) { w.str(key); w.u32(typeUint32); w.u32(uint32(value)) }
func (w *writer) text(key, value string)       { w.str(key); w.u32(typeString); w.str(value) }

func (w *writer) strings(key string, n int, format string) {
	w.str(key)
	w.u32(typeArray)
	w.u32(typeString)
	w.u64(uint64(n))
	for i := range n {
		w.str(fmt.Sprintf(format, i))
	}
}
