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

# Before reports said which pods share a GPU, what the container runtime takes, and where the GPU is in the machine.
readonly old="${1:-5486c76}"

if ! commit="$(git rev-parse --quiet --verify "$old^{commit}")"; then
  echo "SKIPPED: commit $old is not in this clone; fetch its history (git fetch --unshallow)"
  exit 0
fi

readonly dir="$PWD/bin/mixed" source="$PWD/bin/mixed/$commit"
version="$(go list -m -f '{{.Version}}' k8s.io/kubernetes)"

# build SOURCE FOLDER builds what a lab consists of. The agents are part of berth-lab.
build() {
  mkdir -p "$2"
  go -C "$1" build -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$version" -o "$2/" \
    ./cmd/berth-lab ./cmd/scheduler ./cmd/controller
}

echo "Building the lab of ${commit:0:7}, and that of this checkout"
if [[ ! -e "$source" ]]; then
  mkdir -p "$source.new"
  git archive "$commit" | tar -x -C "$source.new"
  mv "$source.new" "$source"
fi
build "$source" "$dir/old"
build . "$dir/new"

mkdir -p "$dir/old-scheduler" "$dir/old-agents"
cp "$dir/new/"* "$dir/old-scheduler/"
cp "$dir/old/scheduler" "$dir/old-scheduler/"
cp "$dir/old/"* "$dir/old-agents/"
cp "$dir/new/scheduler" "$dir/old-agents/"

for mix in old-scheduler old-agents; do
  echo "== $mix (${commit:0:7})"
  BERTH_MIXED="$mix" BERTH_MIXED_CONFIG="$source/manifests/scheduler/config.yaml" BERTH_BIN_DIR="$dir/$mix" go test -count=1 -timeout 10m -v -run '^TestMixedVersions$' ./test/integration
done
