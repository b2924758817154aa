// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package needs knows what pods that wait on a node need beside that node: neighbours, since pod affinity, anti-affinity
// and topology spread count the pods of a whole zone, and volumes, which may be reachable from some nodes only. When one of
// these changes, nothing happens on the node itself. So the pods that it may concern are judged again: some too many, for
// the selectors and topologies are not weighed against each other here, but none too few.
//
// It is asked by the handlers of informers, never under the lock of the scheduler's queue.
package needs
