// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package engineargs reads an inference engine's settings from a container's command line and environment: where a
// pod's annotations are silent, what the engine was told is what counts.
//
// It says of each setting that matters for placement whether it is a literal, refers to one of Berth's variables
// (BERTH_TENSOR_PARALLEL_SIZE, BERTH_GPU_MEMORY_UTILIZATION, BERTH_TENSOR_SPLIT), is absent, or cannot be known
// before the container starts because it comes from a ConfigMap, a Secret or a shell's computation. It never fails:
// what it does not understand it leaves alone or reports as unknown.
package engineargs
