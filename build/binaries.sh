#!/usr/bin/env bash
# Copyright The Berth Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Builds the binaries of a release for one architecture into OUT/linux-ARCH:
#
#   build/binaries.sh OUT [scheduler] [controller] [agent]
#
# The same source, Go and C compiler give the same bytes, wherever the source and Go's caches are (build/reproduce.sh
# shows it). LDFLAGS says what the binaries tell of their version. GOARCH names another architecture; the agent needs a
# C compiler for it in CC.
set -euo pipefail
out="$(mkdir -p "$1" && cd "$1" && pwd)"
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[[ -n "${LDFLAGS:-}" ]] || { echo "run it by make (make dist), which sets LDFLAGS" >&2; exit 1; }
GOARCH="${GOARCH:-$(go env GOARCH)}"
export GOARCH GOOS=linux GOFLAGS="-trimpath -buildvcs=false -mod=readonly"
# What is set on this machine must not matter.
unset GOAMD64 GOARM64 GOEXPERIMENT CGO_CPPFLAGS CGO_LDFLAGS
export CGO_CFLAGS="-O2 -g0 -Wno-deprecated-declarations"

(($#)) || set -- scheduler controller agent
for name; do
  case "$name" in
    # The driver's library is found at run time, so what is called of it is bound late. The linker's build ID would be
    # of paths of this machine.
    agent) CGO_ENABLED=1 go build -ldflags "$LDFLAGS -buildid= -extldflags '-Wl,-z,lazy -Wl,--build-id=none'" \
      -o "$out/linux-$GOARCH/" ./cmd/agent ;;
    *) CGO_ENABLED=0 go build -ldflags "$LDFLAGS -buildid=" -o "$out/linux-$GOARCH/" "./cmd/$name" ;;
  esac
done
