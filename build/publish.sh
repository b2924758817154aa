#!/usr/bin/env bash
# Copyright The Berth Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Pushes the images and the chart of a release to a registry, and signs all of it with a key of cosign's:
#
#   COSIGN_KEY=cosign.key COSIGN_PASSWORD=… build/publish.sh OUT registry.example.com/berth
#
# Each image gets its bill of materials and its provenance as signed attestations, and SHA256SUMS a signature beside it,
# with the public key.
# Nothing is told to a public log: whoever verifies needs the key, and no other network than the registry. PLAIN_HTTP=1
# is for a registry on this machine.
set -euo pipefail
out="$(cd "$1" && pwd)"
to="$2"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
: "${VERSION:?}" "${COSIGN_KEY:?the file with the private key}" "${COSIGN_PASSWORD?what the key is encrypted with}"
export COSIGN_PASSWORD

build/tool.sh helm release sign >/dev/null
readonly tools="$PWD/bin/tools"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

"$tools/release" provenance --version "$VERSION" --revision "$(git rev-parse HEAD)" \
  --builder "${BUILDER:-https://github.com/berth-dev/berth/blob/main/build/release.sh}" >"$work/provenance.json"

"$tools/release" push --version "$VERSION" --layout "$out/images" --to "$to" >"$work/pushed"
while read -r arch image; do
  "$tools/sign" image "$COSIGN_KEY" "$image"
  if [[ "$arch" == index ]]; then
    "$tools/sign" attest "$COSIGN_KEY" "$image" slsaprovenance1 "$work/provenance.json"
    echo "$image"
  else
    name="$(basename "${image%@*}")"
    "$tools/sign" attest "$COSIGN_KEY" "$image" cyclonedx "$out/release/$name-linux-$arch.cdx.json"
  fi
done <"$work/pushed"

"$tools/helm" push ${PLAIN_HTTP:+--plain-http} "$out/release/berth-${VERSION#v}.tgz" "oci://$to/charts" 2>&1 | tee "$work/chart" >&2
chart="$to/charts/berth@$(sed -n 's/^Digest: //p' "$work/chart")"
"$tools/sign" image "$COSIGN_KEY" "$chart"
"$tools/release" metadata --to "$to/charts/berth" charts/artifacthub-repo.yml
echo "$chart"

"$tools/sign" blob "$COSIGN_KEY" "$out/release/SHA256SUMS" "$out/release/SHA256SUMS.sigstore.json"
"$tools/sign" public "$COSIGN_KEY" >"$out/release/cosign.pub"
