#!/usr/bin/env bash
# Copyright The Berth Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Builds what nodes are made of from Go modules and Debian packages alone, each part only when it is missing:
#
#   hack/kind/parts.sh PART...   # runc-bounded, kind, kubernetes, containerd, etcd, pause, toolkit, rootfs, small
#
# Kubernetes and etcd are built in the main module's versions, from its list of modules, and with its setting of cgo:
# so most of it is in Go's build cache once the scheduler and the lab are built.
set -euo pipefail
# shellcheck source=hack/kind/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly TOOLS="$REPO/hack/kind/tools"

export GOFLAGS=-buildvcs=false
# As in the Makefile: other flags would be another build of everything that uses cgo.
export CGO_CFLAGS="${CGO_CFLAGS:--O2 -g -Wno-deprecated-declarations}"

# have FILE... succeeds if all files are there.
have() {
  local file
  for file; do [[ -e "$file" ]] || return 1; done
}

# build_tool LDFLAGS PACKAGE... builds packages of the tools' module.
build_tool() {
  local ldflags="$1"
  shift
  mkdir -p "$BIN"
  go build -C "$TOOLS" -ldflags "-s -w $ldflags" -o "$BIN/" "$@"
}

runc-bounded() { # static: it runs on the machine and in nodes
  (cd "$REPO" && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$BIN/runc-bounded" ./hack/kind/runc-bounded)
}

kind() { have "$BIN/kind" || build_tool "" sigs.k8s.io/kind; }

containerd() {
  local m=github.com/containerd/containerd/v2/cmd
  have "$BIN"/{containerd,containerd-shim-runc-v2,ctr} || build_tool "" "$m/containerd" "$m/containerd-shim-runc-v2" "$m/ctr"
}

toolkit() { # it finds the driver's library at run time, so what it calls of that is bound late
  local m=github.com/NVIDIA/nvidia-container-toolkit/cmd
  have "$BIN"/nvidia-{container-runtime,cdi-hook} ||
    build_tool "-extldflags=-Wl,-z,lazy" "$m/nvidia-container-runtime" "$m/nvidia-cdi-hook"
}

kubernetes() {
  local commands=(kubelet kubeadm kubectl kube-apiserver kube-controller-manager kube-scheduler kube-proxy)
  have "${commands[@]/#/$KUBE_BIN/}" && return
  say "building Kubernetes $KUBE_VERSION"
  mkdir -p "$KUBE_BIN"
  # A copy of the module's list, for the few modules that the kubelet and kubeadm need besides.
  cp "$REPO/go.mod" "$KUBE_BIN/go.mod"
  cp "$REPO/go.sum" "$KUBE_BIN/go.sum"
  local version=k8s.io/component-base/version
  (
    cd "$REPO"
    go get -modfile="$KUBE_BIN/go.mod" -tool "${commands[@]/#/k8s.io/kubernetes/cmd/}"
    go build -modfile="$KUBE_BIN/go.mod" -o "$KUBE_BIN/" -ldflags "-s -w -X $version.gitVersion=$KUBE_VERSION \
      -X $version.gitMajor=1 -X $version.gitMinor=$(cut -d. -f2 <<<"$KUBE_VERSION")" "${commands[@]/#/k8s.io/kubernetes/cmd/}"
  )
}

etcd() {
  local version
  version="$(cd "$REPO" && go list -m -f '{{.Version}}' go.etcd.io/etcd/server/v3)"
  have "$BIN/etcd-$version" && return
  mkdir -p "$BIN"
  (cd "$REPO" && go build -ldflags '-s -w' -o "$BIN/etcd-$version" go.etcd.io/etcd/server/v3)
  ln -sf "etcd-$version" "$BIN/etcd"
}

pause() {
  have "$KUBE_BIN/pause" && return
  local source
  source="$(cd "$REPO" && go list -m -f '{{.Dir}}' k8s.io/kubernetes)"
  mkdir -p "$KUBE_BIN"
  gcc -Os -static -o "$KUBE_BIN/pause" "$source/build/pause/linux/pause.c"
}

rootfs() {
  have "$DEBIAN_DIR/rootfs.tar" && return
  if ! command -v debootstrap >/dev/null; then
    [[ $EUID == 0 ]] || fail "debootstrap is needed, to make a node image without a registry"
    quietly apt-get update
    DEBIAN_FRONTEND=noninteractive quietly apt-get install -y --no-install-recommends debootstrap
  fi
  say "installing Debian $DEBIAN for the nodes"
  local root="$DEBIAN_DIR/rootfs"
  rm -rf "$root"
  mkdir -p "$root"
  quietly debootstrap --variant=minbase --include="$(packages node | paste -sd,)" "$DEBIAN" "$root"
  rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}
  tar -C "$root" -cf "$root.tar.new" .
  mv "$root.tar.new" "$root.tar"
  rm -rf "$root"
}

# small takes the few packages of which containers are made out of it.
small() {
  have "$DEBIAN_DIR/small.tar" && return
  rootfs
  local root="$DEBIAN_DIR/small" file
  rm -rf "$root"
  mkdir -p "$root"
  tar -C "$root" -xf "$DEBIAN_DIR/rootfs.tar"
  {
    # Packages list /bin/x where Debian has a link /bin -> usr/bin.
    packages small | xargs chroot "$root" dpkg --listfiles | grep '^/[^.]' | sed -E 's#^/(bin|sbin|lib|lib64)/#/usr/\1/#'
    # What no package lists: those links, and what packages write when they are configured.
    printf '%s\n' /bin /sbin /lib /lib64 /etc/passwd /etc/group /etc/ssl/certs/ca-certificates.crt
  } | sort -u | while read -r file; do
    [[ ! -e "$root$file" && ! -L "$root$file" ]] || echo ".$file"
  done | tar -C "$root" -cf "$root.tar.new" --no-recursion --files-from=-
  mv "$root.tar.new" "$root.tar"
  rm -rf "$root"
}

for part; do
  case "$part" in
    runc-bounded | kind | kubernetes | containerd | etcd | pause | toolkit | rootfs | small) "$part" ;;
    *) fail "no part is called $part" ;;
  esac
done
