#!/usr/bin/env bash
# Copyright The Berth Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Runs the benchmarks, from the planner outwards; docs/performance.md says what they are. Arguments go to go test:
#
#   hack/bench.sh -benchtime 2s -count 6
#   BENCH=short hack/bench.sh     # the planner and the view alone
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# bench NAME ARGUMENTS... prints a heading and runs benchmarks without tests.
bench() {
  echo "== $1"
  shift
  go test -run '^$' -benchmem "$@"
}

bench "planner, eviction and validation, pure" -bench . "$@" ./pkg/alloc
bench "view and request" -bench . "$@" ./pkg/gpustate
if [[ "${BENCH:-}" == short ]]; then
  exit
fi
bench "extension points" -bench . "$@" ./pkg/plugin
# Whole schedulers on a real API server: one run of each workload, so -benchtime and -count do not apply.
if [[ -d test/perf ]]; then
  echo "== scheduler throughput"
  go test -run '^$' -bench . -benchtime 1ns -timeout 3h ./test/perf
fi
