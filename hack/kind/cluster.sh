#!/usr/bin/env bash
# Copyright The Berth Authors.
# SPDX-License-Identifier: Apache-2.0
#
# A kind cluster whose workers have fake GPUs: real kubelets, and the real NVIDIA container runtime.
#
#   hack/kind/cluster.sh up               # a control plane and two workers with four GPUs each
#   hack/kind/cluster.sh load IMAGE...    # puts images of the container engine onto the nodes; IMAGE=NAME by a second name
#   hack/kind/cluster.sh down
#
# "up" prints the path of the kubeconfig. E2E_CLUSTER names the cluster (berth-e2e).
set -euo pipefail
# shellcheck source=hack/kind/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly GPUS=4
readonly WORKERS=("$CLUSTER-worker" "$CLUSTER-worker2")
readonly KIND="$BIN/kind"
KUBECTL="$REPO/bin/kubectl"
[[ -x "$KUBECTL" ]] || KUBECTL=kubectl

# The first worker has the container toolkit as packages install it, the second as the GPU operator does by default.
readonly OPERATOR="${WORKERS[1]}" TOOLKIT=/usr/local/nvidia/toolkit

# gpu_files NODE writes the driver and the device specifications that the node mounts.
gpu_files() {
  local dir="$CLUSTER_DIR/nodes/$1"
  "$CLUSTER_DIR/fakegpus" -node "$1" -gpus "$GPUS" -dir "$dir" -mounted "$NODE_DIR/gpus"
  mkdir -p "$dir"/{bin,toolkit/.config/nvidia-container-runtime,conf.d}
  wrapper >"$dir/bin/nvidia-container-runtime"
  wrapper "NVIDIA_CTK_CONFIG_FILE_PATH=$TOOLKIT/.config/nvidia-container-runtime/config.toml" >"$dir/toolkit/nvidia-container-runtime"
  chmod 755 "$dir"/{bin,toolkit}/nvidia-container-runtime
  cp "$REPO/hack/kind/toolkit/operator.toml" "$dir/toolkit/.config/nvidia-container-runtime/config.toml"
  cp "$REPO/hack/kind/toolkit/99-nvidia.toml" "$dir/conf.d/"
}

# wrapper [VARIABLE=VALUE] prints what runs the toolkit's runtime, as its installer writes it: with its configuration, and
# with the state of the fake driver, which it asks for GPUs.
wrapper() {
  printf '#! /bin/sh\n%sBERTH_NVML_STATE=%s \\\n\t%s \\\n\t\t"$@"\n' "${1:+$1 \\
}" "$NODE_DIR/gpus/driver/state" "$NODE_DIR/bin/nvidia-container-runtime"
}

# config prints kind's configuration. What only machines like this one need is left out elsewhere.
config() {
  cat <<Y
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
networking:
  ipFamily: ipv4
  disableDefaultCNI: true # its image is kind's; see networks
containerdConfigPatches:
- |
  imports = ["/etc/containerd/conf.d/*.toml"]
- |
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
    runtime_type = "io.containerd.runc.v2"
    base_runtime_spec = "/etc/containerd/cri-base.json"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
      SystemdCgroup = true
      BinaryName = "/usr/bin/nvidia-container-runtime"
Y
  if bounded; then
    cat <<Y
- |
  [plugins."io.containerd.grpc.v1.cri"]
    restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
    BinaryName = "$NODE_DIR/bin/runc-bounded"
Y
  fi
  cat <<Y
kubeadmConfigPatches:
- |
  kind: InitConfiguration
  # As kind does, and no name service: nothing here looks up names.
  skipPhases: [preflight, addon/coredns]
Y
  if cgroup_v1; then
    printf -- '- |\n  kind: KubeletConfiguration\n  failCgroupV1: false\n'
  fi
  if bounded; then # it may not lower oom_score_adj either
    printf -- '- |\n  kind: KubeletConfiguration\n  featureGates: {KubeletInUserNamespace: true}\n'
  fi
  echo "nodes:"
  node control-plane
  local worker
  for worker in "${WORKERS[@]}"; do
    node worker
    mount "$CLUSTER_DIR/nodes/$worker" "$NODE_DIR/gpus"
    mount "$CLUSTER_DIR/nodes/$worker/cdi" /etc/cdi
    mount "$CLUSTER_DIR/nodes/$worker/driver" /usr/lib/x86_64-linux-gnu/nvidia/current
    if [[ "$worker" == "$OPERATOR" ]]; then
      mount "$CLUSTER_DIR/nodes/$worker/toolkit" "$TOOLKIT"
      mount "$CLUSTER_DIR/nodes/$worker/conf.d" /etc/containerd/conf.d
    else
      mount "$CLUSTER_DIR/nodes/$worker/bin/nvidia-container-runtime" /usr/bin/nvidia-container-runtime
      mount "$REPO/hack/kind/toolkit/packages.toml" /etc/nvidia-container-runtime/config.toml
    fi
  done
}

node() {
  printf -- '- role: %s\n  extraMounts:\n' "$1"
  mount "$BIN" "$NODE_DIR/bin"
}

mount() { printf '  - {hostPath: "%s", containerPath: "%s", readOnly: true}\n' "$1" "$2"; }

# of_nodes PATH prints each node's name and one field of it.
of_nodes() { "$KUBECTL" get nodes -o jsonpath="{range .items[*]}{.metadata.name}{' '}{$1}{'\n'}{end}"; }

# networks gives each node a bridge-less network for its pods, and the ways to those of the other nodes.
networks() {
  local node cidr address peer
  while read -r node cidr; do
    address="$("$KUBECTL" get node "$node" -o jsonpath="{.status.addresses[?(@.type=='InternalIP')].address}")"
    docker exec -i "$node" sh -c 'mkdir -p /etc/cni/net.d && cat >/etc/cni/net.d/10-ptp.conflist' <<J
{"cniVersion": "0.4.0", "name": "ptp", "plugins": [
  {"type": "ptp", "ipMasq": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$cidr"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
J
    while read -r peer _; do
      [[ "$peer" == "$node" ]] || docker exec "$peer" ip route replace "$cidr" via "$address"
    done < <(of_nodes .spec.podCIDR)
  done < <(of_nodes .spec.podCIDR)
}

# device_nodes makes files where a driver would have made the GPUs'. They are /dev/null, and never opened.
device_nodes() {
  local worker
  for worker in "${WORKERS[@]}"; do
    docker exec "$worker" bash -ec '
      for name in ctl $(seq 0 $(($1 - 1))); do [[ -e /dev/nvidia$name ]] || mknod -m 666 "/dev/nvidia$name" c 1 3; done' \
      -- "$GPUS"
  done
}

runtime_class() {
  "$KUBECTL" apply -f - >/dev/null <<<'{"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
    "metadata": {"name": "nvidia"}, "handler": "nvidia"}'
}

up() {
  "$REPO/hack/kind/docker.sh"
  "$REPO/hack/kind/parts.sh" runc-bounded kind toolkit
  local image worker
  image="$("$REPO/hack/kind/image.sh" node)"
  down
  mkdir -p "$CLUSTER_DIR"
  (cd "$REPO" && go build -o "$CLUSTER_DIR/fakegpus" ./hack/kind/fakegpus)
  for worker in "${WORKERS[@]}"; do
    gpu_files "$worker"
  done
  config >"$CLUSTER_DIR/kind.yaml"
  say "creating cluster $CLUSTER of $image"
  "$KIND" create cluster --name "$CLUSTER" --image "$image" --config "$CLUSTER_DIR/kind.yaml" \
    --kubeconfig "$KUBECONFIG" --retain >&2
  networks
  device_nodes
  runtime_class
  "$KUBECTL" wait --for=condition=Ready nodes --all --timeout=180s >&2
  echo "$KUBECONFIG"
}

# load IMAGE[=NAME]... puts images onto all nodes at once; those with a NAME are known there by that too.
load() {
  local archive node image waiting=()
  archive="$(mktemp)"
  docker save -o "$archive" "${@%%=*}"
  for node in $("$KIND" get nodes --name "$CLUSTER"); do
    (
      quietly docker exec -i "$node" ctr -n k8s.io images import - <"$archive"
      for image; do
        [[ "$image" != *=* ]] || quietly docker exec "$node" ctr -n k8s.io images tag --force "${image%%=*}" "${image#*=}"
      done
    ) &
    waiting+=($!)
  done
  for node in "${waiting[@]}"; do wait "$node"; done
  rm -f "$archive"
}

down() {
  [[ ! -x "$KIND" ]] || "$KIND" delete cluster --name "$CLUSTER" --kubeconfig "$KUBECONFIG" >&2
  rm -rf "$CLUSTER_DIR"
}

case "${1:-}" in
  up | down) "$1" ;;
  load) "$@" ;;
  *) fail "usage: hack/kind/cluster.sh up | load IMAGE... | down" ;;
esac
