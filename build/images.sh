#!/usr/bin/env bash
# Copyright The Berth Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Packs the binaries of DIR/linux-ARCH into images of the local container engine:
#
#   build/images.sh DIR        # IMAGES/berth-scheduler:VERSION, …/berth-controller:VERSION, …/berth-agent:VERSION
#
# BASE and AGENT_BASE replace the bases that build/Dockerfile names. With BuildKit the files and the image are dated
# by the commit, so that an image is as reproducible as its base.
set -euo pipefail
dir="$(cd "$1" && pwd)"
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
: "${IMAGES:=berth-dev}" "${VERSION:?}" "${COMMIT:?}"
arch="${GOARCH:-$(go env GOARCH)}"

# The older builder does without a plug-in of the client.
docker buildx version >/dev/null 2>&1 || export DOCKER_BUILDKIT=0
SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git -C "$here" log -1 --format=%ct 2>/dev/null || echo 0)}"
export SOURCE_DATE_EPOCH

arguments=(--build-arg "TARGETARCH=$arch")
[[ -z "${BASE:-}" ]] || arguments+=(--build-arg "BASE=$BASE")
[[ -z "${AGENT_BASE:-}" ]] || arguments+=(--build-arg "AGENT_BASE=$AGENT_BASE")
[[ "${DOCKER_BUILDKIT:-}" == 0 ]] || arguments+=(--platform "linux/$arch" --build-arg SOURCE_DATE_EPOCH)

for name in scheduler controller agent; do
  image="$IMAGES/berth-$name:$VERSION"
  # What a build says matters only if it fails.
  out="$(docker build -q -f "$here/Dockerfile" --target "$name" "${arguments[@]}" -t "$image" \
    --label org.opencontainers.image.title="berth-$name" \
    --label org.opencontainers.image.source=https://github.com/berth-dev/berth \
    --label org.opencontainers.image.licenses=Apache-2.0 \
    --label org.opencontainers.image.version="$VERSION" \
    --label org.opencontainers.image.revision="$COMMIT" "$dir" 2>&1)" || { printf '%s\n' "$out" >&2; exit 1; }
  echo "$image"
done
