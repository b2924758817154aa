// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package parked

import "k8s.io/apimachinery/pkg/types"

// What says what happened on a node, as far as it decides what room there may be for pods that wait.
type What uint8

const (
	// MemoryFreed: there may be more free memory than before.
	MemoryFreed What = iota
	// Reshaped: there may be more room than before in any way, also by waiting or by evicting others: the node has other
	// devices, its agent is back, or pods may be evicted that could not be before.
	Reshaped
)

// Change is a change of a node. It helps pods that were listed before it, each once: one that was tried since has seen
// it.
type Change struct {
	Node string
	What What
	// By is the pod whose own cycle made the change, if one did: it knows.
	By   types.UID
	turn uint64
}

// Now returns a change that happens now.
func (l *List) Now(node string, what What) Change {
	return Change{Node: node, What: what, turn: l.turn.Load()}
}

// Concerns says whether a pod was listed before the change, and did not make it.
func (c Change) Concerns(p *Pod) bool { return p.turn <= c.turn && p.UID != c.By }
