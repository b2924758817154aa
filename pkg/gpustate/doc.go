// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gpustate is the only bridge between Kubernetes objects and the pure planner of package alloc.
//
//	pod ──ParseRequest──▶ Request ─────────────┐
//	GPUNode ──Store──▶ Report (what NVML says)  ├─▶ View ──▶ alloc.Node ──▶ alloc.Plan, evict.Find
//	pod ──Ledger──▶ Entry (what is booked) ─────┘
//	alloc.Allocation ──EncodeAllocation──▶ annotations of the Binding
//
// Usage is derived on every call from what is reported and what is booked; nothing is accumulated, so nothing can
// drift. Where the two disagree the larger counts: the package errs towards "not free".
package gpustate
