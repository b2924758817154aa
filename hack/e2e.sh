#!/usr/bin/env bash
# Copyright The Berth Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Runs the end-to-end tests on a kind cluster of their own: make e2e. Arguments go to go test, for example -run and
# -failfast. docs/e2e.md says what is tested, and what the machine needs.
#
#   E2E_KEEP=1             keep the cluster afterwards
#   E2E_REUSE=1            use the cluster that was kept; only Berth's images are new
#   E2E_ARTIFACTS=DIR      where logs, events and objects are kept (bin/e2e/artifacts)
#   E2E_INSTALL_DOCKER=1   as root, install and start docker if there is none
set -euo pipefail
# shellcheck source=hack/kind/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/kind/lib.sh"
: "${VERSION:?run it by make e2e}"

E2E_ARTIFACTS="${E2E_ARTIFACTS:-$REPO/bin/e2e/artifacts}"
export E2E_ARTIFACTS
# No registry has it: the images are on the nodes.
export IMAGES=e2e.test/berth

# images packs what make build has built, which is what releases are built of, by other flags.
images() {
  local stage base arch
  arch="$(go env GOARCH)"
  stage="$REPO/bin/e2e/images"
  base="$("$REPO/hack/kind/image.sh" base)"
  mkdir -p "$stage/linux-$arch"
  cp "$REPO"/bin/{scheduler,controller,agent} "$stage/linux-$arch/"
  # They are not linked statically.
  BASE="$base" AGENT_BASE="$base" "$REPO/build/images.sh" "$stage" >&2
  # The small Debian is also what the tests' own containers are of.
  docker tag "$base" "$IMAGES/debian:12"
  "$REPO/hack/kind/cluster.sh" load "$IMAGES/debian:12=docker.io/library/debian:12-slim" \
    "$IMAGES"/berth-{scheduler,controller,agent}:"$VERSION"
}

finish() {
  local status=$?
  if ((status != 0)); then
    tail -n 20 "$E2E_ARTIFACTS"/logs/* >&2 || true
    say "all of the logs, and events and objects, are in $E2E_ARTIFACTS"
  fi
  if [[ "${E2E_KEEP:-}${E2E_REUSE:-}" ]]; then
    say "the cluster is kept: export KUBECONFIG=$KUBECONFIG"
  else
    "$REPO/hack/kind/cluster.sh" down || true
  fi
  exit "$status"
}

rm -rf "$E2E_ARTIFACTS"/{logs,install,TestBerth*}
mkdir -p "$E2E_ARTIFACTS"
trap finish EXIT
[[ "${E2E_REUSE:-}" && -e "$KUBECONFIG" ]] || "$REPO/hack/kind/cluster.sh" up >/dev/null
images
say "running the tests"
cd "$REPO"
PATH="$REPO/bin:$PATH" E2E_CLUSTER="$CLUSTER" E2E_NODES="$CLUSTER_DIR/nodes" E2E_IMAGES="$IMAGES" E2E_VERSION="$VERSION" \
  go test -count=1 -v -timeout 25m ./test/e2e "$@"
