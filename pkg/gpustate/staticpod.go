// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// hashLength is that of the hash of a manifest, which no UID of the apiserver's has.
const hashLength = 32

// ReportedUID returns the UID by which reports name a pod: that in the names of its cgroups and of its logs' folder. It is
// the pod's own but for static pods, whose kubelet calls them by the hash of their manifest: what the API has of them is
// a mirror, with a UID of its own and the hash in an annotation (the kubelet's pkg/kubelet/config, applyDefaults). Since
// anybody can write annotations, only what cannot be the UID of another pod of the API is believed.
func ReportedUID(pod *corev1.Pod) types.UID {
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; !mirror {
		return pod.UID
	}
	hash := pod.Annotations["kubernetes.io/config.hash"]
	if len(hash) != hashLength {
		return pod.UID
	}
	for _, c := range []byte(hash) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return pod.UID
		}
	}
	return types.UID(hash)
}
