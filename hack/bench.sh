#!/usr/bin/env bash
# Copyright The Berth Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Runs the benchmarks, from the planner outwards; docs/performance.md says what they are. Arguments go to go test:
#
#   hack/bench.sh -benchtime 2s -count 6
#   BENCH=short hack/bench.sh                 # the planner and the view, and whether a whole scheduler still runs
#   BENCH=throughput ROUNDS=5 hack/bench.sh   # whole schedulers alone, in five rounds
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# bench NAME ARGUMENTS... prints a heading and runs benchmarks without tests.
bench() {
  echo "== $1"
  shift
  go test -run '^$' -benchmem "$@"
}

# throughput measures whole schedulers on a real API server, and prints the ratios of the medians. A machine is not
# equally fast all the time, so the workloads take turns, each in a process of its own.
throughput() {
  local rounds="${ROUNDS:-3}" dir workload size
  echo "== scheduler throughput, $rounds rounds"
  dir="$(mktemp -d)"
  # shellcheck disable=SC2064 # dir is local
  trap "rm -rf '$dir'" EXIT
  go test -c -o "$dir/perf.test" ./test/perf
  for _ in $(seq "$rounds"); do
    for size in 500nodes 5000nodes; do
      for workload in PlainWithoutBerth PlainWithBerth ExtendedResource GPUMemory; do
        measure "$dir" "BenchmarkPerfScheduling/$workload/$size"
      done
    done
    for workload in ExtendedResource GPUMemory; do
      measure "$dir" "BenchmarkPerfScheduling/$workload/full_500nodes"
    done
  done
  measure "$dir" BenchmarkPerfSchedulingDRA/ConsumableCapacity/full_500nodes
  ratios "$dir/throughput"
}

# smoke runs one small workload: whether the harness still gets pods placed, not how fast.
smoke() {
  local dir
  echo "== a whole scheduler, briefly"
  dir="$(mktemp -d)"
  # shellcheck disable=SC2064 # dir is local
  trap "rm -rf '$dir'" EXIT
  go test -c -o "$dir/perf.test" ./test/perf
  workload "$dir" BenchmarkPerfScheduling/GPUMemory/50nodes -perf-scheduling-label-filter quick >/dev/null
}

# workload DIR WORKLOAD [FLAG...] runs one workload, which ends once all of its pods are placed, and prints its figures.
workload() {
  local dir="$1" workload="$2"
  shift 2
  # Anchored, part by part: 500nodes is a part of full_500nodes. The harness passes where nothing matches.
  (cd test/perf && "$dir/perf.test" -test.run '^$' -test.bench "^${workload//\//\$/^}\$" -test.benchtime 1ns -test.timeout 1h "$@" 2>"$dir/log") |
    grep '^Benchmark' || { tail -n 50 "$dir/log" >&2 && return 1; }
}

# measure DIR WORKLOAD runs one workload and notes its pods per second.
measure() {
  local output rate
  output="$(workload "$1" "$2")"
  rate="$(sed -nE 's|^Benchmark.*[[:space:]]([0-9.]+) SchedulingThroughput/Average.*|\1|p' <<<"$output")"
  [[ -n "$rate" ]] || { echo "$2 printed no throughput" >&2 && return 1; }
  printf '%-60s %8s pods/s\n' "$2" "$rate"
  echo "${2#*/} $rate" >>"$1/throughput"
}

# ratios FILE prints the ratios that docs/performance.md quotes, from lines of a workload and its pods per second.
ratios() {
  sort -k1,1 -k2,2n "$1" | awk '
    { n[$1]++; rate[$1, n[$1]] = $2 }
    function median(w) { return (rate[w, int((n[w] + 1) / 2)] + rate[w, int(n[w] / 2) + 1]) / 2 }
    function ratio(what, a, b) { printf "%-60s %8.2f\n", what, median(a) / median(b) }
    END {
      print "-- ratios of the medians"
      ratio("plain pods, with Berth / without, 500 nodes", "PlainWithBerth/500nodes", "PlainWithoutBerth/500nodes")
      ratio("plain pods, with Berth / without, 5000 nodes", "PlainWithBerth/5000nodes", "PlainWithoutBerth/5000nodes")
      ratio("GPU memory / extended resource, 500 nodes", "GPUMemory/500nodes", "ExtendedResource/500nodes")
      ratio("GPU memory / extended resource, 5000 nodes", "GPUMemory/5000nodes", "ExtendedResource/5000nodes")
      ratio("GPU memory, 500 nodes / DRA consumable capacity", "GPUMemory/500nodes", "ConsumableCapacity/full_500nodes")
      ratio("the same on full nodes, one pod in for one out", "GPUMemory/full_500nodes", "ConsumableCapacity/full_500nodes")
      ratio("extended resource / DRA, likewise", "ExtendedResource/full_500nodes", "ConsumableCapacity/full_500nodes")
    }'
}

if [[ "${BENCH:-}" != throughput ]]; then
  bench "planner, eviction and validation, pure" -bench . "$@" ./pkg/alloc ./pkg/evict
  bench "view and request" -bench . "$@" ./pkg/gpustate
fi
if [[ -z "${BENCH:-}" ]]; then
  bench "extension points" -bench . "$@" ./pkg/plugin
fi
if [[ "${BENCH:-}" == short ]]; then
  smoke
else
  throughput
fi
