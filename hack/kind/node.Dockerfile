# A node of kind without a registry: Debian with systemd, kind's own files, and the binaries of parts.sh. It does what
# kind's images/base does with downloads.
ARG BASE
FROM ${BASE}
COPY rootfs/ /
# Units that make no sense in a container go; the container runtime's template of a container is made by itself.
RUN chmod 755 /kind /kind/bin /kind/bin/* /usr/local/bin/* \
 && rm -f /lib/systemd/system/multi-user.target.wants/* /etc/systemd/system/*.wants/* \
      /lib/systemd/system/local-fs.target.wants/* /lib/systemd/system/sockets.target.wants/*udev* \
      /lib/systemd/system/sockets.target.wants/*initctl* /lib/systemd/system/basic.target.wants/* \
      /lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service \
 && echo ReadKMsg=no >>/etc/systemd/journald.conf \
 && systemctl enable kubelet.service containerd.service undo-mount-hacks.service \
 && systemctl mask systemd-binfmt.service \
 && mkdir -p /etc/kubernetes/manifests /kind/manifests /opt/cni/bin \
 && cp -L /usr/lib/cni/* /opt/cni/bin/ \
 && ctr oci spec | jq '.hooks.createContainer += [{path: "/kind/bin/mount-product-files.sh"}] | del(.process.rlimits)' \
      >/etc/containerd/cri-base.json
ENV container=docker
STOPSIGNAL SIGRTMIN+3
ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]
