#!/usr/bin/env bash
# Copyright The Berth Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Brings what the page of kubectl berth ui uses of others, from npm, into pkg/ui/page/assets/vendor, with the licences. Each
# package is of a fixed version, and its file must have the hash that npm published for it. The page finds modules by address,
# not by name, so that is what the one import between them is changed to.
#
#   hack/vendor-page.sh            bring them
#   hack/vendor-page.sh --verify   say whether those that are there are these
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

vendor=pkg/ui/page/assets/vendor
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# unpack NAME VERSION INTEGRITY brings a package to $work/NAME.
unpack() {
  local file got
  file="$work/$(cd "$work" && npm pack --silent "$1@$2")"
  got="sha512-$(node -p 'crypto.createHash("sha512").update(fs.readFileSync(process.argv[1])).digest("base64")' "$file")"
  [[ "$got" == "$3" ]] || { echo "$1@$2 has the hash $got, not $3" >&2; exit 1; }
  mkdir -p "$work/$1"
  tar -xzf "$file" -C "$work/$1" --strip-components=1
}

# module TEXT FROM TO writes a module under a line that says what it is, without the reference to a map that is not here.
module() { { echo "// $1"; sed -e 's|from"preact"|from"./preact.js"|' -e '/^\/\/# sourceMappingURL=/d' "$2"; } >"$3"; }

unpack preact 11.2.0 sha512-/HfHI/7N84e6GrWBJ3J280z3mLaRJiDcSvj/A+y/4AbLnND/1UlGHe1sR6oYuTGwId0nP7dqDU9OnLxMPZ7xBg==
unpack htm 3.1.1 sha512-983Vyg8NwUE7JkZ6NmOqpCZ+sh1bKv2iYTlUkzlWmA5JD2acKoxd4KVxbMmxX/85mtfdnDmTFoNKcg5DGAvxNQ==

mkdir "$work/out"
module "Preact 11.2.0, MIT: see LICENSE-preact" "$work/preact/dist/preact.mjs" "$work/out/preact.js"
module "Preact 11.2.0, MIT: see LICENSE-preact" "$work/preact/hooks/dist/hooks.mjs" "$work/out/hooks.js"
module "htm 3.1.1, Apache-2.0: see LICENSE-htm" "$work/htm/dist/htm.mjs" "$work/out/htm.js"
cp "$work/preact/LICENSE" "$work/out/LICENSE-preact"
cp "$work/htm/LICENSE" "$work/out/LICENSE-htm"

if [[ "${1:-}" == --verify ]]; then
  diff -r "$work/out" "$vendor"
  echo "$vendor is what npm has"
else
  mkdir -p "$vendor"
  cp "$work"/out/* "$vendor"
fi
