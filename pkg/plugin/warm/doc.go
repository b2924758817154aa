// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package warm knows where a pod would start sooner than elsewhere: on which nodes pods that load the same run, or ran, and on
// which of their GPUs. It never says where a pod fits; what it says raises scores. It is told of pods, keeps it in memory, and
// reads no cluster.
package warm
