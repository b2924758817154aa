#!/usr/bin/env bash
# Copyright The Berth Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Regenerates what follows from the code: of api/ and pkg/model the deep copies and the CRDs in manifests/crd; of these, of the
# scheduler's arguments and of the programs' flags the pages of docs/reference. Run it after each change there; with --verify it
# only fails when the checked-in files are not what it would make. (The flags of agent, controller and lab are not among that:
# their own tests compare them, see internal/flagsdoc.)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bin="$PWD/bin/controller-gen"
out="$(mktemp -d)"
trap 'rm -rf "$out"' EXIT

# reference FOLDER writes the pages from the CRDs that are checked in.
reference() {
  go build -o bin/reference ./hack/reference
  bin/reference "$1"
}

(cd hack/tools && go build -o "$bin" sigs.k8s.io/controller-tools/cmd/controller-gen)
"$bin" paths=./pkg/model object:headerFile=hack/boilerplate.go.txt output:object:dir="$out/model"
gofmt -s -w "$out/model" # takes the empty list of imports out
"$bin" paths=./api/... \
  object:headerFile=hack/boilerplate.go.txt output:object:dir="$out/api" \
  crd output:crd:dir="$out/crd"

if [[ "${1:-}" == "--verify" ]]; then
  diff -u api/v1alpha1/zz_generated.deepcopy.go "$out/api/zz_generated.deepcopy.go"
  diff -u pkg/model/zz_generated.deepcopy.go "$out/model/zz_generated.deepcopy.go"
  for f in "$out"/crd/*.yaml; do
    diff -u "manifests/crd/$(basename "$f")" "$f"
  done
  reference "$out/reference"
  for f in "$out"/reference/*.md; do
    diff -u "docs/reference/$(basename "$f")" "$f"
  done
  exit
fi
mkdir -p manifests/crd
cp "$out/api/zz_generated.deepcopy.go" api/v1alpha1/
cp "$out/model/zz_generated.deepcopy.go" pkg/model/
cp "$out"/crd/*.yaml manifests/crd/
reference docs/reference
BERTH_UPDATE_REFERENCE=1 go test -count=1 -run '^TestTheReferenceHasTheFlags$' ./cmd/agent ./cmd/berth-lab ./internal/program/controller
