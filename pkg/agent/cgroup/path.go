// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cgroup finds the pods of processes by the names that kubelets and container runtimes give to cgroups.
package cgroup

import (
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// PodUID returns the UID of the pod that a process belongs to, by the content of its /proc/<pid>/cgroup (v1 or v2);
// false if it belongs to none. What it knows, with U the pod's UID and C the container's:
//
//	cgroupfs   /kubepods[/burstable|/besteffort]/podU/C
//	systemd    /kubepods.slice[/…]/kubepods[-burstable|-besteffort]-podU.slice/{cri-containerd,crio,docker}-C.scope
//	mixed      /system.slice/containerd.service/kubepods-burstable-podU.slice:cri-containerd:C
//
// In systemd's names the dashes of U are underscores. Ahead of any of these there may be the cgroups that the kubelet
// itself runs in ("kubelet.slice/kubelet-…" on kind). Seen from a cgroup namespace (an unprivileged container under
// cgroup v2), the path starts at the reader's own cgroup: "/../../kubepods-podU.slice/…", "/../podU/C".
//
// The outermost match counts: what is inside of a pod's cgroup can be named by the pod.
func PodUID(procCgroup string) (types.UID, bool) {
	for line := range strings.Lines(procCgroup) {
		// hierarchy-ID:controller-list:path
		if _, rest, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ":"); ok {
			if _, path, ok := strings.Cut(rest, ":"); ok {
				if uid, ok := podOfPath(path); ok {
					return uid, true
				}
			}
		}
	}
	return "", false
}

func podOfPath(path string) (types.UID, bool) {
	// A sibling's path, seen from a cgroup namespace, may begin below the cgroup called kubepods.
	below := strings.HasPrefix(path, "/../")
	for component := range strings.SplitSeq(path, "/") {
		name, _, _ := strings.Cut(component, ":")
		name = strings.TrimSuffix(name, ".slice")
		switch {
		case strings.Contains(name, "kubepods"):
			if i := strings.LastIndex(name, "-pod"); i >= 0 {
				if uid, ok := validUID(strings.ReplaceAll(name[i+len("-pod"):], "_", "-")); ok {
					return uid, true
				}
			}
			below = true
		case below && strings.HasPrefix(name, "pod"):
			if uid, ok := validUID(name[len("pod"):]); ok {
				return uid, true
			}
		}
	}
	return "", false
}

// validUID takes the two forms of a pod's UID: a UUID, and, for static pods, the hash of their manifest.
func validUID(s string) (types.UID, bool) {
	const uuidLength, hashLength = 36, 32
	if len(s) != uuidLength && len(s) != hashLength {
		return "", false
	}
	for i, c := range []byte(s) {
		dash := len(s) == uuidLength && (i == 8 || i == 13 || i == 18 || i == 23)
		hex := '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
		if dash && c != '-' || !dash && !hex {
			return "", false
		}
	}
	return types.UID(s), true
}
