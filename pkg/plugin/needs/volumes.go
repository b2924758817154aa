// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package needs

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/component-helpers/storage/ephemeral"
	"k8s.io/component-helpers/storage/volume"
)

// volumeClaimsOf returns the names of the PersistentVolumeClaims that a pod uses.
func volumeClaimsOf(pod *corev1.Pod) sets.Set[string] {
	names := sets.New[string]()
	for i := range pod.Spec.Volumes {
		switch v := &pod.Spec.Volumes[i]; {
		case v.PersistentVolumeClaim != nil:
			names.Insert(v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			names.Insert(ephemeral.VolumeClaimName(pod, v))
		}
	}
	return names
}

// VolumeClaimChanged says that a PersistentVolumeClaim changed, came (before is nil) or went (after is nil).
func (l *List) VolumeClaimChanged(before, after *corev1.PersistentVolumeClaim) {
	if before == nil || after != nil && before.UID == after.UID && before.Spec.VolumeName == after.Spec.VolumeName &&
		(before.DeletionTimestamp == nil) == (after.DeletionTimestamp == nil) {
		return
	}
	l.judge(func(n *needs, _ string) bool {
		return before.Namespace == n.pod.Namespace && n.volumeClaims.Has(before.Name)
	})
}

// VolumeChanged says that a PersistentVolume changed, came (before is nil) or went (after is nil): that of a pod, or one
// that it could have had.
func (l *List) VolumeChanged(before, after *corev1.PersistentVolume) {
	if before == nil {
		return
	}
	taken, moved := true, true
	if after != nil && before.UID == after.UID {
		taken = after.Spec.ClaimRef != nil
		moved = !equality.Semantic.DeepEqual(before.Spec.NodeAffinity, after.Spec.NodeAffinity) || !maps.Equal(before.Labels, after.Labels)
	}
	owner := before.Spec.ClaimRef
	if owner != nil && !moved || owner == nil && !moved && !taken {
		return
	}
	l.judge(func(n *needs, _ string) bool {
		if owner != nil {
			return owner.Namespace == n.pod.Namespace && n.volumeClaims.Has(owner.Name)
		}
		return l.lacksOne(n, before.Spec.StorageClassName)
	})
}

// ClassChanged says that a StorageClass changed, came (before is nil) or went (after is nil).
func (l *List) ClassChanged(before, after *storagev1.StorageClass) {
	if before == nil || after != nil && before.UID == after.UID && equality.Semantic.DeepEqual(before.AllowedTopologies, after.AllowedTopologies) {
		return
	}
	l.judge(func(n *needs, _ string) bool { return l.lacksOne(n, before.Name) })
}

// CSINodeChanged says that a CSINode changed, came (before is nil) or went (after is nil): what drivers can attach there.
func (l *List) CSINodeChanged(before, after *storagev1.CSINode) {
	if before == nil || after != nil && equality.Semantic.DeepEqual(before.Spec, after.Spec) {
		return
	}
	l.judge(func(n *needs, node string) bool { return node == before.Name && len(n.volumeClaims) > 0 })
}

// CapacityChanged says that a CSIStorageCapacity changed, came (before is nil) or went (after is nil).
func (l *List) CapacityChanged(before, after *storagev1.CSIStorageCapacity) {
	if before == nil || after != nil && !isLess(after.Capacity, before.Capacity) && !isLess(after.MaximumVolumeSize, before.MaximumVolumeSize) {
		return
	}
	topology, err := metav1.LabelSelectorAsSelector(before.NodeTopology)
	if err != nil {
		return
	}
	l.judge(func(n *needs, node string) bool {
		if !l.lacksOne(n, before.StorageClassName) {
			return false
		}
		on, err := l.Nodes.Get(node)
		return err == nil && topology.Matches(labels.Set(on.Labels))
	})
}

func isLess(a, b *resource.Quantity) bool { return b != nil && (a == nil || a.Cmp(*b) < 0) }

// lacksOne says whether a pod has still to get a volume of a class.
func (l *List) lacksOne(n *needs, class string) bool {
	for name := range n.volumeClaims {
		claim, err := l.VolumeClaims.PersistentVolumeClaims(n.pod.Namespace).Get(name)
		if err == nil && claim.Spec.VolumeName == "" && volume.GetPersistentVolumeClaimClass(claim) == class {
			return true
		}
	}
	return false
}
