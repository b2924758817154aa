#!/usr/bin/env bash
# Copyright The Berth Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Prints the name of an image, which it pulls where there is a registry, and else makes of what parts.sh builds:
#
#   hack/kind/image.sh node     # for kind's nodes
#   hack/kind/image.sh base     # a small Debian, for containers
set -euo pipefail
# shellcheck source=hack/kind/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly PUBLISHED="kindest/node:$KUBE_VERSION" PUBLISHED_BASE=debian:12-slim
# Debian with what nodes need, and with what a container needs.
readonly NODE_BASE="berth-e2e/node-base:${DEBIAN_DIR##*-}" BASE="berth-e2e/debian:${DEBIAN_DIR##*-}"
# A node image is of one Kubernetes and of one state of what makes it.
NODE="berth-e2e/node:$KUBE_VERSION-$(cat "$REPO"/hack/kind/{image.sh,parts.sh,packages-node,node.Dockerfile,component.Dockerfile,tools/go.mod} |
  sha256sum | cut -c 1-8)"
readonly NODE

exists() { docker image inspect "$1" >/dev/null 2>&1; }

pulled() { exists "$1" || docker pull -q "$1" >/dev/null 2>&1; }

# import PART IMAGE makes an image of a file system.
import() {
  exists "$2" && return
  "$REPO/hack/kind/parts.sh" "$1" >&2
  docker import -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' "$DEBIAN_DIR/$1.tar" "$2" >/dev/null
}

# component IMAGE BASE FILE packs one binary.
component() {
  local dir
  dir="$(mktemp -d)"
  cp "$3" "$dir/"
  quietly docker build -q -f "$REPO/hack/kind/component.Dockerfile" --build-arg "BASE=$2" \
    --build-arg "NAME=$(basename "$3")" -t "$1" "$dir"
  rm -rf "$dir"
}

# control_plane makes the images that kubeadm will ask for, and prints their names.
control_plane() {
  local name image bin="$KUBE_BIN"
  local list
  list="$("$bin/kubeadm" config images list --kubernetes-version "$KUBE_VERSION")"
  # Those of kubeadm's list, but for the name service, which nothing here needs.
  while read -r image; do
    name="$(basename "${image%:*}")"
    case "$name" in
      kube-proxy) component "$image" "$NODE_BASE" "$bin/kube-proxy" ;;
      kube-*) component "$image" "$BASE" "$bin/$name" ;;
      etcd) component "$image" "$BASE" "$BIN/etcd" ;;
      pause) sandbox "$image" "$bin/pause" ;;
      *) continue ;;
    esac
    echo "$image"
  done <<<"$list"
  # kind's configuration of containerd names a sandbox of its own choice.
  image="$(sed -nE 's/ *sandbox_image = "(.*)"/\1/p' "$(kind_files)/etc/containerd/config.toml")"
  sandbox "$image" "$bin/pause"
  echo "$image"
}

# sandbox IMAGE FILE packs the process that holds a pod's namespaces; it has nothing around it.
sandbox() {
  local dir
  dir="$(mktemp -d)"
  cp "$2" "$dir/pause"
  printf 'FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause"]\n' >"$dir/Dockerfile"
  quietly docker build -q -t "$1" "$dir"
  rm -rf "$dir"
}

kind_files() { (cd "$REPO/hack/kind/tools" && go list -m -f '{{.Dir}}/images/base/files' sigs.k8s.io/kind); }

# unbaked IMAGE makes the node image without the control plane's images.
unbaked() {
  local context root bin="$KUBE_BIN"
  context="$(mktemp -d)"
  root="$context/rootfs"
  mkdir -p "$root/usr/bin" "$root/usr/local/bin"
  cp -rL "$(kind_files)"/. "$root/"
  chmod -R u+w "$root"
  echo "$KUBE_VERSION" >"$root/kind/version"
  cp "$BIN"/{containerd,containerd-shim-runc-v2,ctr} "$root/usr/local/bin/"
  cp "$bin"/{kubelet,kubeadm,kubectl} "$root/usr/bin/"
  quietly docker build -q -f "$REPO/hack/kind/node.Dockerfile" --build-arg "BASE=$NODE_BASE" -t "$1" "$context"
  rm -rf "$context"
}

# bake FROM TO puts images into the container runtime of a node image.
bake() {
  local from="$1" to="$2" container archive
  archive="$(mktemp)"
  shift 2
  container="$(docker run -d --privileged --entrypoint sleep "$from" 3600)"
  docker save -o "$archive" "$@"
  # shellcheck disable=SC2016 # the variables are those of the shell in the container
  quietly docker exec -i "$container" bash -ec '
    containerd >/tmp/containerd.log 2>&1 &
    for _ in $(seq 50); do ctr version >/dev/null 2>&1 && break; sleep 0.2; done
    ctr -n k8s.io images import --all-platforms --no-unpack -
    kill $! && wait $! || true
    rm /tmp/containerd.log' <"$archive"
  rm "$archive"
  docker commit -c 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]' -c 'CMD []' "$container" "$to" >/dev/null
  docker rm -f "$container" >/dev/null
}

make_node() {
  say "making the node image $NODE"
  # Compilers and Debian's mirror are waited for at the same time.
  "$REPO/hack/kind/parts.sh" small >&2 &
  "$REPO/hack/kind/parts.sh" runc-bounded kind kubernetes containerd etcd pause >&2
  wait $!
  import rootfs "$NODE_BASE"
  import small "$BASE"
  local images
  mapfile -t images < <(control_plane)
  ((${#images[@]} == 7)) || fail "the control plane's images are ${images[*]}"
  unbaked "$NODE-unbaked"
  bake "$NODE-unbaked" "$NODE" "${images[@]}"
}

# An image of our own was made because none could be pulled, so it is not tried again.
case "${1:-}" in
  node)
    if exists "$NODE"; then
      echo "$NODE"
    elif pulled "$PUBLISHED"; then
      echo "$PUBLISHED"
    else
      make_node
      echo "$NODE"
    fi
    ;;
  base)
    if ! exists "$BASE" && pulled "$PUBLISHED_BASE"; then
      echo "$PUBLISHED_BASE"
    else
      import small "$BASE"
      echo "$BASE"
    fi
    ;;
  *) fail "usage: hack/kind/image.sh node | base" ;;
esac
