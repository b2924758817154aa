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
//	Score        fewest GPUs, tightest fit
//	Reserve      plans on the pinned snapshot and books it
//	Bind         writes node and GPUs in one Binding
//
// A pod that fits nowhere is parked by the framework. Whatever may make room for it (a report, a pod that is gone,
// a timer) is applied to the books first and activates it afterwards, see wake.go.
//
// What is behind the extension points has rooms of its own: preempt finds whom to evict or to wait for, cycle is how
// the pod of a cycle sees a node, claims is what there is to know beside the claims in the ledger, parked has the pods
// that wait, requests reads what pods ask for, and resourceclaims what they get by claims of DRA.
package plugin
