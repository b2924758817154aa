#!/usr/bin/env bash
# Copyright The Berth Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Makes everything that a release consists of, in OUT/release: make release VERSION=v0.1.0 IMAGES=registry.example.com/berth
#
#   build/release.sh OUT
#
#   PLATFORMS    of kubectl-berth (six of them)
#   ARCHES       of the images and of the lab (amd64 arm64)
#   DOWNLOADS    where the archives will be, for the manifest of krew
#   BUILT        a folder OS-ARCH with binaries that are there already: they are packed, and others of that platform
#                are not built (make test-release packs what make build has built)
#   BASE_OF_ALL  1: all images have the agent's base, since BUILT's binaries are not linked statically
#
# docs/releasing.md says what is done with it. Nothing is sent anywhere.
set -euo pipefail
out="$(mkdir -p "$1" && cd "$1" && pwd)"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
: "${VERSION:?}" "${IMAGES:?}" "${LDFLAGS:?run it by make release}"
read -ra platforms <<<"${PLATFORMS:-linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64}"
read -ra arches <<<"${ARCHES:-amd64 arm64}"
DOWNLOADS="${DOWNLOADS:-https://github.com/berth-dev/berth/releases/download/$VERSION}"
SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}"
export SOURCE_DATE_EPOCH
REVISION="$(git rev-parse HEAD)"

# What the lab consists of: berth-lab, which has the scheduler and the controller in it, and what it is asked with. The first is
# the image's entry point.
readonly LAB=(berth-lab kubectl-berth)
# What kubectl-berth has of others beside Go modules: modules of its page, with their licences.
readonly PAGE=pkg/ui/page/assets/vendor
readonly RELEASE="$out/release"

say() { printf -- '-- %s\n' "$*" >&2; }

release() { "$PWD/bin/tools/release" "$@"; }

# binaries OS ARCH NAME... builds binaries, or takes those of BUILT.
binaries() {
  local os="$1" arch="$2" name
  shift 2
  if [[ "${BUILT:-}" && "$(basename "$BUILT")" == "$os-$arch" ]]; then
    mkdir -p "$out/$os-$arch"
    for name; do cp "$BUILT/$name" "$out/$os-$arch/"; done
    return
  fi
  say "building $* for $os/$arch"
  GOOS="$os" GOARCH="$arch" build/binaries.sh "$out" "$@"
}

# licenses writes the licenses of all that is linked into the programs of each archive and each image.
licenses() {
  local platform name
  for platform in "${platforms[@]/\//-}"; do
    licenses_of "$platform" kubectl-berth "$(plugin "$platform")"
  done
  for platform in "${arches[@]/#/linux-}"; do
    for name in scheduler controller agent; do
      licenses_of "$platform" "$(image "$name")" "$name"
    done
    licenses_of "$platform" berth-lab "${LAB[@]}"
  done
}

# licenses_of PLATFORM OF PROGRAM...
licenses_of() {
  local file programs=("${@:3}")
  file="$(licenses_file "$1" "$2")"
  mkdir -p "$(dirname "$file")"
  release licenses "${programs[@]/#/$out/$1/}" >"$file"
}

# licenses_file PLATFORM OF prints where they are.
licenses_file() { echo "$out/licenses/$1/$2/LICENSES.txt"; }

# plugin PLATFORM prints what the plugin's program is called.
plugin() {
  if [[ "$1" == windows-* ]]; then echo kubectl-berth.exe; else echo kubectl-berth; fi
}

archives() {
  local platform texts=(LICENSE "$PAGE"/LICENSE-*)
  for platform in "${platforms[@]/\//-}"; do
    set -- "$out/$platform/$(plugin "$platform")" "${texts[@]}" "$(licenses_file "$platform" kubectl-berth)"
    if [[ "$platform" == windows-* ]]; then
      release archive --out "$RELEASE/kubectl-berth-$VERSION-$platform.zip" "$@"
    else
      # kubectl completes by the script beside the plugin.
      release archive --out "$RELEASE/kubectl-berth-$VERSION-$platform.tar.gz" "$@" cmd/kubectl-berth/kubectl_complete-berth
    fi
  done
  for platform in "${arches[@]/#/linux-}"; do
    release archive --out "$RELEASE/berth-lab-$VERSION-$platform.tar.gz" --prefix "berth-lab-$VERSION" \
      "${LAB[@]/#/$out/$platform/}" "${texts[@]}" "$(licenses_file "$platform" berth-lab)"
  done
}

# bills writes what the plugin and each image consist of: the modules of its programs, those of the page, and the packages below.
bills() {
  local platform os arch name
  for platform in "${platforms[@]}" "${arches[@]/#/linux/}"; do
    os="${platform%/*}" arch="${platform#*/}" name=kubectl-berth
    [[ ! -e "$RELEASE/kubectl-berth-$os-$arch.cdx.json" ]] || continue # the lab's image has one of this platform too
    [[ "$os" != windows ]] || name+=.exe
    GOOS="$os" GOARCH="$arch" build/sbom.sh "$out" "$name" >/dev/null
    release vendored --bill "$out/$os-$arch/$name.cdx.json" --dir "$PAGE" >"$RELEASE/kubectl-berth-$os-$arch.cdx.json"
    rm "$out/$os-$arch/$name.cdx.json"
  done
  for arch in "${arches[@]}"; do
    GOARCH="$arch" build/sbom.sh "$out" scheduler controller agent berth-lab >/dev/null
    for name in scheduler controller agent berth-lab; do
      mv "$out/linux-$arch/$name.cdx.json" "$RELEASE/$(image "$name")-linux-$arch.cdx.json"
    done
    amend "$RELEASE/berth-agent-linux-$arch.cdx.json" packages \
      --distribution "$(sed -n "s/^ID=//p" /etc/os-release)" "$out/base/$arch"/*.tar
    amend "$RELEASE/berth-lab-linux-$arch.cdx.json" join "$RELEASE/kubectl-berth-linux-$arch.cdx.json"
  done
}

# amend BILL COMMAND ARGUMENT... adds to a bill.
amend() {
  local bill="$1" command="$2"
  shift 2
  release "$command" --bill "$bill" "$@" >"$out/bill.json"
  mv "$out/bill.json" "$bill"
}

# image NAME prints what the image of a program is called.
image() { echo "berth-${1#berth-}"; }

images() {
  local name programs base texts
  rm -rf "$out/images"
  for name in scheduler controller agent berth-lab; do
    programs=("$name") base=() texts=(LICENSE)
    [[ "$name" != berth-lab ]] || programs=("${LAB[@]}") texts+=("$PAGE"/LICENSE-*)
    texts+=("$(licenses_file "linux-{arch}" "$(image "$name")")")
    [[ "$name" != agent && -z "${BASE_OF_ALL:-}" ]] || base=(--base "$out/base")
    release image --name "$(image "$name")" --version "$VERSION" --revision "$REVISION" --arch "$(IFS=, && echo "${arches[*]}")" \
      --binaries "$out" --layout "$out/images" "${texts[@]/#/--doc=}" "${base[@]}" "${programs[@]}"
  done
}

build/tool.sh helm release >/dev/null
rm -rf "$RELEASE"
mkdir -p "$RELEASE"
for arch in "${arches[@]}"; do
  binaries linux "$arch" scheduler controller agent berth-lab kubectl-berth
  say "making the base of the agent's image for $arch"
  build/base.sh "$arch" "$out/base"
done
for platform in "${platforms[@]}"; do
  [[ " ${arches[*]/#/linux/} " == *" $platform "* ]] || binaries "${platform%/*}" "${platform#*/}" kubectl-berth
done
say "packing"
rm -rf "$out/licenses"
licenses
archives
bills
images
rm -rf "$out/chart"
# It tells of each link that it follows.
bin/tools/helm package charts/berth --destination "$out/chart" >"$out/log" 2>&1 || { cat "$out/log" >&2; exit 1; }
release chart --package "$out"/chart/berth-*.tgz --changelog CHANGELOG.md --version "$VERSION" --images "$IMAGES" --out "$RELEASE"
release krew --version "$VERSION" --dir "$RELEASE" --downloads "$DOWNLOADS" >"$out/berth.yaml"
mv "$out/berth.yaml" "$RELEASE/berth.yaml"
(
  cd "$RELEASE"
  # Who builds is the machine that says so by BUILDER: a workflow, or a person's.
  release_files=(*)
  "$OLDPWD/bin/tools/release" provenance --version "$VERSION" --revision "$REVISION" \
    --builder "${BUILDER:-https://github.com/berth-dev/berth/blob/main/build/release.sh}" "${release_files[@]}" >"$out/statement.json"
  mv "$out/statement.json" provenance.intoto.json
  sha256sum -- * >"$out/sums"
  mv "$out/sums" SHA256SUMS
)
say "made $RELEASE and the images in $out/images"
