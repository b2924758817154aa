#!/usr/bin/env bash
# Copyright The Berth Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Writes a bill of materials (CycloneDX 1.6, JSON) beside each binary of DIR/OS-ARCH, from what the linker put into
# it: every module that it is made of, by version and checksum, and the Go release. It needs no network.
#
#   build/sbom.sh DIR [scheduler] [controller] [agent] [berth-lab] [kubectl-berth]
set -euo pipefail
dir="$(cd "$1" && pwd)"
shift
(($#)) || set -- scheduler controller agent
: "${VERSION:?}"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# GOOS and GOARCH name what is looked at: the tool runs here.
env -u GOARCH -u GOOS go build -C hack/tools -o "$PWD/bin/tools/" github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod
for name; do
  binary="$dir/${GOOS:-linux}-${GOARCH:-$(go env GOARCH)}/$name"
  # Without a time and a random number the same binary has the same bill.
  bin/tools/cyclonedx-gomod bin -json -std -noserial -notimestamp -version "$VERSION" -output "$binary.cdx.json" "$binary"
  echo "$binary.cdx.json"
done
