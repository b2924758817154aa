// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package hfconfig reads config.json (and the quantization configs beside it) of a Hugging Face model and says
// what the model is: its layers, what each of them caches, and how many bytes its weights take.
//
// Weights are computed module by module from the dimensions of the architecture, each with the type that the
// quantization config gives to that module by name: checkpoints mix types within one layer (a 4-bit checkpoint
// with attention in BF16 is three times larger there than its family name says). Where the safetensors headers
// are at hand, package safetensors replaces the computed bytes by exact ones.
//
// Everything is read as hostile: sizes are capped, and a configuration that makes no sense is an error.
package hfconfig
