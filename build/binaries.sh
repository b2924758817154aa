#!/usr/bin/env bash
# Copyright The Berth Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Builds binaries of a release for one platform into OUT/OS-ARCH:
#
#   build/binaries.sh OUT [scheduler] [controller] [agent] [kubectl-berth] [berth-lab]
#
# The same source, Go and C compiler give the same bytes, wherever the source and Go's caches are (build/reproduce.sh
# shows it). LDFLAGS says what the binaries tell of their version, TAGS what is left out of them. GOOS and
# GOARCH name another platform; all but kubectl-berth run on Linux only. The agent needs a C compiler for it in CC; those of
# Debian are found by themselves.
set -euo pipefail
out="$(mkdir -p "$1" && cd "$1" && pwd)"
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[[ -n "${LDFLAGS:-}" ]] || { echo "run it by make (make dist), which sets LDFLAGS" >&2; exit 1; }
GOARCH="${GOARCH:-$(go env GOARCH)}"
GOOS="${GOOS:-linux}"
export GOARCH GOOS GOFLAGS="-trimpath -buildvcs=false -mod=readonly -tags=${TAGS:-}"
# What is set on this machine must not matter.
unset GOAMD64 GOARM64 GOEXPERIMENT CGO_CPPFLAGS CGO_LDFLAGS
export CGO_CFLAGS="-O2 -g0 -Wno-deprecated-declarations"

# compiler prints the C compiler for GOARCH: CC, this machine's own, or the one of Debian's gcc-aarch64-linux-gnu and
# gcc-x86-64-linux-gnu.
compiler() {
  local cc="${CC:-gcc}"
  if [[ -z "${CC:-}" && "$GOARCH" != "$(go env GOHOSTARCH)" ]]; then
    case "$GOARCH" in
      arm64) cc=aarch64-linux-gnu-gcc ;;
      amd64) cc=x86_64-linux-gnu-gcc ;;
    esac
    command -v "$cc" >/dev/null || {
      echo "the agent for $GOARCH needs a C compiler: install gcc-${cc%-gcc} (on Debian), or name one in CC" >&2
      return 1
    }
  fi
  echo "$cc"
}

(($#)) || set -- scheduler controller agent
for name; do
  case "$name" in
    # The driver's library is found at run time, so what is called of it is bound late. The linker's build ID would be
    # of paths of this machine.
    agent)
      cc="$(compiler)"
      CC="$cc" CGO_ENABLED=1 go build -ldflags "$LDFLAGS -buildid= -extldflags '-Wl,-z,lazy -Wl,--build-id=none'" \
        -o "$out/$GOOS-$GOARCH/" ./cmd/agent ;;
    *) CGO_ENABLED=0 go build -ldflags "$LDFLAGS -buildid=" -o "$out/$GOOS-$GOARCH/" "./cmd/$name" ;;
  esac
done
