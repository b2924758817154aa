// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fleet sums up what GPUs a cluster has and what becomes of their memory, for metrics. It is pure: from a snapshot of
// the reports and the ledger to numbers. What it says of free memory is what the scheduler sees, by the same view.
//
// Its numbers are derived from the cluster's objects each time, so a new leader has the same at once. Their count is bounded
// by kinds of GPUs, states, reasons and namespaces, never by pods.
package fleet
