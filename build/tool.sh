#!/usr/bin/env bash
# Copyright The Berth Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Builds tools of releases into bin/tools, in the versions that go.mod of their modules has, and prints the folder:
#
#   build/tool.sh NAME...     # actionlint, helm, kubectl-krew, release, sign, validate-krew-manifest
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for name; do
  case "$name" in
    actionlint) module=build/tools package=github.com/rhysd/actionlint/cmd/actionlint ;;
    helm) module=charts package=helm.sh/helm/v3/cmd/helm ;;
    kubectl-krew) module=build/tools package=sigs.k8s.io/krew/cmd/krew ;;
    release) module=build/release package=. ;;
    sign) module=build/sign package=. ;;
    validate-krew-manifest) module=build/tools package=sigs.k8s.io/krew/cmd/validate-krew-manifest ;;
    *) echo "no tool is called $name" >&2; exit 1 ;;
  esac
  go build -C "$module" -ldflags '-s -w' -o "$PWD/bin/tools/$name" "$package"
done
echo "$PWD/bin/tools"
