#!/usr/bin/env bash
# Copyright The Berth Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Makes sure that a container engine runs. Where one answers, nothing is done. Else, and only if told so by
# E2E_INSTALL_DOCKER=1 (as CI does) and run by root, Debian's packages are installed and the engine is started.
set -euo pipefail
# shellcheck source=hack/kind/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly LOG=/var/log/dockerd-e2e.log
readonly RUNTIME=/usr/local/bin/runc-bounded

install_packages() {
  local missing=()
  command -v dockerd >/dev/null || missing+=(docker.io containerd runc iptables iproute2)
  command -v docker >/dev/null || missing+=(docker.io)
  ((${#missing[@]})) || return 0
  say "installing ${missing[*]}"
  quietly apt-get update
  DEBIAN_FRONTEND=noninteractive quietly apt-get install -y --no-install-recommends "${missing[@]}"
}

start() {
  local arguments=()
  if bounded; then
    say "this machine lacks capabilities: containers are started without them"
    "$REPO/hack/kind/parts.sh" runc-bounded
    install -m 0755 "$BIN/runc-bounded" "$RUNTIME"
    arguments=(--add-runtime "bounded=$RUNTIME" --default-runtime bounded)
  fi
  say "starting dockerd; its log is $LOG"
  setsid dockerd "${arguments[@]}" >"$LOG" 2>&1 </dev/null &
  for _ in $(seq 120); do
    docker_works && return
    sleep 0.5
  done
  tail -n 20 "$LOG" >&2
  fail "dockerd does not answer"
}

docker_works && exit
[[ "${E2E_INSTALL_DOCKER:-}" == 1 && $EUID == 0 ]] ||
  fail "no container engine answers: start docker, or have it installed by root with E2E_INSTALL_DOCKER=1"
install_packages
docker_works || start # where systemd runs, the package has started it
