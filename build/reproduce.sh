#!/usr/bin/env bash
# Copyright The Berth Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Builds the binaries of DIR once more, from a copy of the source in another folder and with an empty build cache, and
# compares them byte by byte. All of them take some ten minutes; name some to compare only those:
#
#   build/reproduce.sh DIR [scheduler] [controller] [agent]
set -euo pipefail
dir="$(cd "$1" && pwd)"
shift
(($#)) || set -- scheduler controller agent
cd "$(dirname "${BASH_SOURCE[0]}")/.."

elsewhere="$(mktemp -d)"
trap 'rm -rf "$elsewhere"' EXIT
mkdir "$elsewhere/source"
git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- -c | tar -xC "$elsewhere/source"
GOCACHE="$elsewhere/cache" "$elsewhere/source/build/binaries.sh" "$elsewhere/out" "$@"

arch="${GOARCH:-$(go env GOARCH)}"
for name; do
  cmp "$dir/linux-$arch/$name" "$elsewhere/out/linux-$arch/$name"
  echo "$name: both builds are $(sha256sum <"$dir/linux-$arch/$name" | cut -c 1-64)"
done
