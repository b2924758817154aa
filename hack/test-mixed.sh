#!/usr/bin/env bash
# Copyright The Berth Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Runs the scheduler of an earlier commit with the agents of this checkout, and the other way round, as an upgrade does:
# each has to understand what the other writes. The earlier binaries are built into bin/mixed, from git's history.
#
#   hack/test-mixed.sh [COMMIT]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=hack/mixed.sh
. hack/mixed.sh

# Before reports said which pods share a GPU, what the container runtime takes, and where the GPU is in the machine.
# The agents are part of berth-lab.
build_old "${1:-5486c76}" ./cmd/berth-lab ./cmd/scheduler ./cmd/controller
build_new ./cmd/berth-lab ./cmd/scheduler ./cmd/controller

mkdir -p "$mixed/old-scheduler" "$mixed/old-agents"
cp "$mixed/new/"* "$mixed/old-scheduler/"
cp "$mixed/old/scheduler" "$mixed/old-scheduler/"
cp "$mixed/old/"* "$mixed/old-agents/"
cp "$mixed/new/scheduler" "$mixed/old-agents/"

for mix in old-scheduler old-agents; do
  echo "== $mix (${commit:0:7})"
  BERTH_MIXED="$mix" BERTH_MIXED_CONFIG="$source/manifests/scheduler/config.yaml" BERTH_BIN_DIR="$mixed/$mix" go test -count=1 -timeout 10m -v -run '^TestMixedVersions$' ./test/integration
done
