// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package parked knows the pods that were tried, or gated, and are not placed: what each asks for, on which nodes
// somebody else than Berth refused it, and in which order they are to be tried again. It says which of them a change of
// one node helps.
//
// A pod's time on the list:
//
//	                 PreFilter                     no node fits
//	(none) ─────────────────────────▶ in a cycle ───────────────▶ parked ──┐
//	   │                               │  ▲  │                     │       │ a change helps it:
//	   │ PreEnqueue: gated             │  └──┼──── next cycle ─────┘       ▼
//	   ▼                               │     │                           woken ──▶ next cycle
//	 gated ── profile is ready ──▶     │     └── gone ──▶ (none)
//	                                   └──────── reserved ──▶ (none)
//
// A pod that was woken for room on a node and did not take it passes the wake on: the node is looked at once more for
// the others, so that no room is left to nobody.
package parked
