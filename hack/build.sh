#!/usr/bin/env bash
# Copyright The Berth Authors.
# SPDX-License-Identifier: Apache-2.0
#
# hack/build.sh ARGUMENT... is "go build ARGUMENT...", which says nothing for minutes. It says every ten seconds how many
# packages are compiled, of how many, and how long the rest takes if it goes on like that.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly every=10
compiled=0 all=0 began=$SECONDS

# packages prints how many packages go build would still have to compile.
# shellcheck disable=SC2016 # $WORK is the go command's
packages() { go build -n "$@" 2>&1 | grep -cE '^mkdir -p \$WORK/b[0-9]+/$' || true; }

minutes() { printf '%d:%02d min' $(($1 / 60)) $(($1 % 60)); }

tell() {
  local spent=$((SECONDS - began)) left
  ((compiled)) || return 0
  ((all)) || all=$((compiled + $(packages "$@")))
  if ((compiled >= all)); then
    echo "$compiled packages are compiled in $(minutes $spent); linking"
    return
  fi
  left=$((spent * (all - compiled) / compiled))
  echo "$compiled of $all packages are compiled in $(minutes $spent), about $(minutes $left) left"
}

# go build -v prints the import path of each package that it compiles, and what else there is to say.
watch() {
  local line status told=$SECONDS
  while true; do
    status=0
    IFS= read -r -t "$every" line || status=$?
    case "$status" in
      0) if [[ "$line" =~ ^[^[:space:]#]+$ ]]; then ((++compiled)); else echo "$line"; fi ;;
      1) break ;; # the end
    esac
    if ((SECONDS - told >= every)); then
      tell "$@"
      told=$SECONDS
    fi
  done
}

go build -v "$@" 2>&1 | watch "$@"
