// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package mix knows what the scheduler is asked for, by kind, for the strategy Fragmentation: how many pods of its own, bound or
// pending, ask for so many GPUs, so much memory of each, so much CPU and host memory, on such nodes. A pod is counted as long as it
// is there, so that the same pods give the same mix, after a restart and in a simulation too.
package mix
