#!/usr/bin/env bash
# Copyright The Berth Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Makes the base of the agent's image for one architecture, from Debian's packages: the C library, which the driver's
# library needs, and the files by which NVIDIA's toolkit knows where libraries belong. A shell is not there.
#
#   build/base.sh ARCH OUT      # OUT/ARCH/PACKAGE_VERSION_ARCH.tar, a layer of an image each
#
# It asks the mirror that this Debian is set up with, keeps its settings as they are, and needs no root.
set -euo pipefail
arch="$1"
out="$(mkdir -p "$2/$1" && cd "$2/$1" && pwd)"
readonly packages=(base-files libc-bin libc6)

command -v apt-get >/dev/null || { echo "the base is made of Debian's packages by apt-get, which is not here" >&2; exit 1; }
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{state/lists/partial,cache/archives/partial,debs}
touch "$work/status"
apt=(apt-get -qq -o "APT::Architecture=$arch" -o "APT::Architectures=$arch" -o "Dir::State=$work/state"
  -o "Dir::State::status=$work/status" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
"${apt[@]}" update >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
(cd "$work/debs" && "${apt[@]}" download "${packages[@]}")

rm -f "$out"/*.tar
for deb in "$work"/debs/*.deb; do
  name="$(basename "${deb%.deb}")"
  dpkg-deb --fsys-tarfile "$deb" >"$out/$name.tar"
done
