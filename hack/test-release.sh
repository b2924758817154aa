#!/usr/bin/env bash
# Copyright The Berth Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Uses each artifact of a release from where users get it (test/release): make test-release
#
#   hack/test-release.sh [DIST]
#
# Without DIST, the folder that make release wrote to, it makes a release of this machine's binaries that make build has
# built, and of one more platform, which is compiled: others would take minutes each.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
: "${VERSION:?run it by make test-release}"

if (($#)); then
  dist="$1"
else
  dist=bin/release
  arch="$(go env GOARCH)"
  built="$dist/built/linux-$arch"
  rm -rf "$dist/built"
  mkdir -p "$built"
  cp bin/{scheduler,controller,agent,kubectl-berth,berth-lab} "$built/"
  # What is no release has no version that charts and krew take.
  export VERSION=v0.0.1-test IMAGES=registry.example.com/berth
  BUILT="$built" BASE_OF_ALL=1 ARCHES="$arch" PLATFORMS="${PLATFORMS:-linux/$arch windows/amd64}" build/release.sh "$dist"
fi
BERTH_RELEASE="$(cd "$dist" && pwd)" BERTH_RELEASE_VERSION="$VERSION" go test -C test/release -count=1 -v -timeout 20m ./...
