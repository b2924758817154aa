// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package preempt finds room for a pod that fits nowhere: a node on which it only has to wait, or the pods whose eviction
// costs least, over all nodes. It tries both with the framework's own filters, and evicts by the framework's own
// machinery. What the pod claims meanwhile is not its business.
package preempt
