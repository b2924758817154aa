// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gguf reads the header of GGUF files (github.com/ggml-org/ggml, docs/gguf.md) and says what the model is.
//
// Only the header is read, front to back and once, in a few large reads, so that a file behind HTTP range requests
// costs a few MiB however large it is (most of it the tokenizer's strings, which are skipped but have to be walked).
// A file is read as hostile: counts and lengths are capped before anything is allocated for them, sizes are
// computed without overflow, and tensors that overlap or that nothing could hold are an error.
package gguf
