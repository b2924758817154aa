#!/usr/bin/env bash
# Copyright The Berth Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Runs the core scenarios, with the binaries and manifests of this checkout, on real kube-apiservers of older versions,
# which it builds into bin/skew: placement, gating, preemption, restarts of the scheduler, plain pods, admission.
#
#   hack/test-skew.sh [1.36 | 1.35]...   (default: all)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

(($#)) || set -- 1.36 1.35
readonly scenarios='^(TestBareLab|TestSimulatedNodes|TestPlacement|TestPreemption|TestModelsThatAreLookedUp|TestMissingPoliciesStopPlacing)$'

# build VERSION builds kube-apiserver from the module of that version. Clients are told v0.0.0 without the flags.
build() {
  local full flags
  full="$(go -C "test/skew/v$1" list -m -f '{{.Version}}' k8s.io/kubernetes)"
  flags="-s -w"
  flags+=" -X k8s.io/component-base/version.gitVersion=$full"
  flags+=" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=${1#1.}"
  echo "Building kube-apiserver $full into bin/skew/; the first time takes some ten minutes"
  go -C "test/skew/v$1" build -ldflags "$flags" -o "$PWD/bin/skew/kube-apiserver-$1" k8s.io/kubernetes/cmd/kube-apiserver
}

for version in "$@"; do
  build "$version"
  export BERTH_KUBE_APISERVER="$PWD/bin/skew/kube-apiserver-$version"
  echo "== core scenarios on $("$BERTH_KUBE_APISERVER" --version)"
  go test -count=1 -timeout 20m -run "$scenarios" ./test/integration
  # Mutating policies are v1 from 1.36 on. In 1.35 they are v1beta1 and off, as in the scenarios above; here they are on.
  args=
  if [[ "$version" == 1.35 ]]; then
    args="--runtime-config=admissionregistration.k8s.io/v1beta1=true --feature-gates=MutatingAdmissionPolicy=true"
  fi
  BERTH_KUBE_APISERVER_ARGS="$args" go test -count=1 -timeout 10m ./manifests
done
