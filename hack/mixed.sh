#!/usr/bin/env bash
# Copyright The Berth Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Sourced by the tests of two versions together: builds programs of an earlier commit, from git's history, into
# bin/mixed/old, and of this checkout into bin/mixed/new.
#
#   build_old COMMIT PACKAGE...     sets commit, source (the earlier tree) and mixed (bin/mixed)
#   build_new PACKAGE...

# The NVML library has functions that older ones lack: they are looked for when they are called.
ldflags="-s -w -extldflags=-Wl,-z,lazy"
ldflags+=" -X k8s.io/component-base/version.gitVersion=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)"

build_old() {
  if ! commit="$(git rev-parse --quiet --verify "$1^{commit}")"; then
    echo "SKIPPED: commit $1 is not in this clone; fetch its history (git fetch --unshallow)"
    exit 0
  fi
  shift
  mixed="$PWD/bin/mixed" source="$PWD/bin/mixed/$commit"
  echo "Building ${commit:0:7}"
  if [[ ! -e "$source" ]]; then
    mkdir -p "$source.new"
    git archive "$commit" | tar -x -C "$source.new"
    mv "$source.new" "$source"
  fi
  mkdir -p "$mixed/old"
  go -C "$source" build -ldflags "$ldflags" -o "$mixed/old/" "$@"
}

build_new() {
  echo "Building this checkout"
  mkdir -p "$mixed/new"
  go build -ldflags "$ldflags" -o "$mixed/new/" "$@"
}
