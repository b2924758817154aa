// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package engineargs reads an inference engine's settings from a container's command line and environment: where a
// pod's annotations are silent, what the engine was told is what counts.
//
// This package makes words of a container's command, shells included, and asks the table of engines (package estimator)
// which of them it starts and which flags and variables that one has. It says of each setting that matters for placement
// whether it is a literal, refers to one of Berth's variables (BERTH_…), is absent, or cannot be known
// before the container starts because it comes from a ConfigMap, a Secret or a shell's computation. It never fails:
// what it does not understand it leaves alone or reports as unknown.
package engineargs
