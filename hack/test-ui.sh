#!/usr/bin/env bash
# Copyright The Berth Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Looks at the page of kubectl berth ui in a real browser (test/ui): make test-ui
#
#   hack/test-ui.sh [GO TEST FLAGS]       for instance -run TestViews
#   UPDATE=1 hack/test-ui.sh -run Views   writes the docs' pictures
#   hack/test-ui.sh --prepare             only brings what it needs, and says whether it can
#
# It needs Chromium, and axe-core from npm. On Debian, root gets what is missing; CHROMIUM names another browser of its kind.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { echo "$*" >&2; exit 1; }

browser() {
  local name
  for name in "${CHROMIUM:-chromium}" chromium-browser google-chrome; do
    command -v "$name" && return
  done
  return 1
}

missing=()
browser >/dev/null || missing+=(chromium fonts-noto-core)
command -v npm >/dev/null || missing+=(npm)
if ((${#missing[@]})); then
  if ! command -v apt-get >/dev/null || ((EUID != 0)); then
    fail "install ${missing[*]}, or run this as root on Debian; CHROMIUM=PATH names a browser"
  fi
  echo "installing ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
CHROMIUM="$(browser)" || fail "there is no Chromium: install it, and name it by CHROMIUM=PATH"
export CHROMIUM
"$CHROMIUM" --version 2>/dev/null || fail "$CHROMIUM does not run (Ubuntu's package of that name needs snap): name another by CHROMIUM=PATH"

# What npm wrote down is compared with the hashes of package-lock.json.
[[ test/ui/node_modules/.package-lock.json -nt test/ui/package-lock.json ]] || npm --prefix test/ui ci --silent --ignore-scripts
[[ "${1-}" != --prepare ]] || exit 0
hack/vendor-page.sh --verify

exec go test -C test/ui -count=1 -timeout 15m "$@" ./...
