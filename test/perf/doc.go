// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package perf measures how many pods per second a whole scheduler places, on a real API server, with the harness by
// which Kubernetes measures its own (test/integration/scheduler_perf). It has benchmarks only; hack/bench.sh runs
// them and compares what is measured in one run.
package perf
