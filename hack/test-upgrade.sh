#!/usr/bin/env bash
# Copyright The Berth Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Upgrades an earlier commit, with its manifests, programs and pods, to this checkout, and back again, on a lab's control
# plane and part by part, in every order: see TestUpgrade.
#
#   hack/test-upgrade.sh [COMMIT [ORDER]]      ORDER: agent-controller-scheduler, …; default: all six
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=hack/mixed.sh
. hack/mixed.sh

# The lab is the earlier one, with its control plane and what it installs.
build_old "${1:-5486c76}" ./cmd/berth-lab ./cmd/scheduler ./cmd/controller ./cmd/agent
build_new ./cmd/scheduler ./cmd/controller ./cmd/agent

echo "== from ${commit:0:7} to this checkout, and back"
BERTH_UPGRADE="$mixed" BERTH_UPGRADE_SOURCE="$source" BERTH_BIN_DIR="$mixed/old" \
  go test -count=1 -timeout 30m -v -run "^TestUpgrade\$/${2:-}" ./test/integration
