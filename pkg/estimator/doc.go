// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package estimator says how much memory a model needs on each GPU before it runs.
//
// It is pure: Estimate takes a Model (what is loaded: read from a GGUF or safetensors header, or from config.json,
// by the packages below this one) and Settings (how the engine is told to run it) and returns one Option per GPU
// count, each with a vector of devices and the components of every device. Nothing here reads a file, a clock or
// the network, and nothing here knows Kubernetes.
//
// Engine is the table of engines: each has one file (*_engine.go) with all that the rest of Berth asks of it. Formulas that
// do not fit there are beside it (vllm_*.go, llama_*.go).
//
// Units are bytes everywhere, in int64 (so that a Model can be stored in an API object); arithmetic saturates
// (arith.go), because dimensions come from files that strangers wrote. Where a term cannot be exact the estimate
// errs upwards: a booking that is too small is an out-of-memory error in somebody else's process.
//
// docs/estimation.md lists the formulas with their sources and how they compare with measurements.
package estimator
