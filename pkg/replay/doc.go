// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package replay replays traces of GPU clusters: which share of the GPUs strategies allocate while pods arrive one after the
// other. It is pure: who places the pods is handed in. What is measured, and how, is as in the evaluation of "Beware of
// Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent" (Weng et al., USENIX ATC 2023), so that
// its figures can be compared; so are the strategies FGD, BestFit and Random, which Berth does not ship.
//
// A GPU has 1000 milli, whatever its memory. A pod asks for some milli of each of a number of GPUs.
package replay
