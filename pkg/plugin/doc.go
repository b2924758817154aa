// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package plugin adapts Berth's planner to the Kubernetes scheduling framework: one file for each extension point,
// each a thin method over packages gpustate and alloc.
//
// What a cycle does to a pod that asks for GPU memory:
//
//	PreEnqueue   waits until its memory is known
//	PreFilter    reads the request once, pins one snapshot of the reports
//	Filter       view of the node it is handed -> does any option fit?
//	PostFilter   nothing fits: wait for memory that is back soon, or evict the cheapest victims
//	Score        fewest GPUs, then by the strategy
//	Reserve      plans on the pinned snapshot and books it
//	Bind         writes node and GPUs in one Binding
//
// A pod that fits nowhere is parked by the framework. Whatever may make room for it (a report, a pod that is gone,
// a timer) is applied to the books first and activates it afterwards, see package wake.
//
// What is behind the extension points has rooms of its own. Each uses rooms further down only, and test/imports has who
// uses whom:
//
//	feed       what informers tell, and whom
//	follow     what a pod claims, from cycle to cycle     recovery   the books of a new term
//	verdicts   why a pod fits nowhere                     faults     what should not be, and who is told
//	preempt    whom to evict or to wait for               wake       who is retried, and when
//	cycle      how the pod of a cycle sees a node         shared     what the rooms work with
//
//	mix        what is asked for, by kind
//
//	claims, parked, needs, requests, resourceclaims, policies, config, timers, words: one thing each
package plugin
