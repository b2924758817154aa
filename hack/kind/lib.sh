# Copyright The Berth Authors.
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the scripts of this folder have in common: where things are, and what this machine can do. To be sourced.

REPO="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
export REPO
# The cluster's name, and the name of its context: kind-$CLUSTER.
export CLUSTER="${E2E_CLUSTER:-berth-e2e}"
# What takes long to build is kept here, and only made when it is missing. Folders are named after what goes into them:
# the binaries of the tools' module, and Debian's packages.
export CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/berth-e2e"
BIN="$CACHE/bin-$(sha256sum <"$REPO/hack/kind/tools/go.mod" | cut -c 1-8)"
export DEBIAN=bookworm
DEBIAN_DIR="$CACHE/$DEBIAN-$(cat "$REPO"/hack/kind/packages-* | sha256sum | cut -c 1-8)"
export BIN DEBIAN_DIR
# What belongs to one cluster: its kubeconfig, and the folders that its nodes mount.
export CLUSTER_DIR="$REPO/bin/e2e/$CLUSTER"
export KUBECONFIG="$CLUSTER_DIR/kubeconfig"
# Folder of the nodes where runtimes and the driver of the fake GPUs are.
export NODE_DIR=/opt/berth-e2e
# Of the versions in use, those of Kubernetes and etcd are the main module's.
KUBE_VERSION="$(cd "$REPO" && go list -m -f '{{.Version}}' k8s.io/kubernetes)"
KUBE_BIN="$CACHE/kubernetes-$KUBE_VERSION"
export KUBE_VERSION KUBE_BIN

# The older builder does without a plug-in of the client that Debian does not bring.
docker buildx version >/dev/null 2>&1 || export DOCKER_BUILDKIT=0

say() { printf -- '-- %s\n' "$*" >&2; }

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# quietly COMMAND... shows what a command says only if it fails.
quietly() {
  local out
  out="$("$@" 2>&1)" || { printf '%s\n' "$out" >&2; return 1; }
}

docker_works() { docker info >/dev/null 2>&1; }

# bounded succeeds where not even root may have every capability, as in many sandboxes: there, what asks for "all
# capabilities" is refused, which is what privileged containers, and so kind's nodes, ask for.
bounded() {
  local have last
  have="$(awk '/^CapBnd:/ {print $2}' /proc/self/status)"
  last="$(</proc/sys/kernel/cap_last_cap)"
  ((16#$have != (1 << (last + 1)) - 1))
}

# cgroup_v1 succeeds where the machine has the older cgroups, which kubelets by now refuse unless told not to.
cgroup_v1() { [[ ! -e /sys/fs/cgroup/cgroup.controllers ]]; }

# packages NAME lists the packages of a file, without its comments.
packages() { grep -v '^#' "$REPO/hack/kind/packages-$1"; }
