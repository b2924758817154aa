// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package needs

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"
	fwk "k8s.io/kube-scheduler/framework"
)

// needs is what a pod needs, read once.
type needs struct {
	pod                    *corev1.Pod
	affinity, antiAffinity []fwk.AffinityTerm
	spread                 []spread
	// volumeClaims are the names of its PersistentVolumeClaims.
	volumeClaims sets.Set[string]
	// due is when it is looked at for the last time, or was.
	due time.Time
}

// spread is a topology spread constraint that must hold.
type spread struct {
	topologyKey string
	selector    labels.Selector
}

func needsOf(pod *corev1.Pod) *needs {
	n := &needs{
		pod: pod, volumeClaims: volumeClaimsOf(pod),
		affinity:     termsOf(pod, fwk.GetPodAffinityTerms(pod.Spec.Affinity)),
		antiAffinity: termsOf(pod, fwk.GetPodAntiAffinityTerms(pod.Spec.Affinity)),
	}
	for i := range pod.Spec.TopologySpreadConstraints {
		c := &pod.Spec.TopologySpreadConstraints[i]
		selector, err := metav1.LabelSelectorAsSelector(c.LabelSelector)
		if err == nil && c.WhenUnsatisfiable == corev1.DoNotSchedule {
			n.spread = append(n.spread, spread{c.TopologyKey, selector})
		}
	}
	return n
}

// termsOf reads terms, none if one cannot be read: then the framework refuses the pod everywhere.
func termsOf(pod *corev1.Pod, terms []corev1.PodAffinityTerm) []fwk.AffinityTerm {
	out, _ := fwk.GetAffinityTerms(pod, terms)
	return out
}

// PodChanged says that a pod changed, came (before is nil) or went (after is nil).
func (l *List) PodChanged(before, after *corev1.Pod) {
	if before != nil && after != nil && before.UID != after.UID { // made again between two events
		l.PodChanged(before, nil)
		l.PodChanged(nil, after)
		return
	}
	before, after = onANode(before), onANode(after)
	if before != nil && after != nil && maps.Equal(before.Labels, after.Labels) &&
		(before.DeletionTimestamp == nil) == (after.DeletionTimestamp == nil) || before == nil && after == nil {
		return // most changes
	}
	var keepsOff []fwk.AffinityTerm
	if before == nil {
		keepsOff = termsOf(after, fwk.GetPodAntiAffinityTerms(after.Spec.Affinity))
	}
	l.judge(func(n *needs, _ string) bool {
		return n.countsOtherwise(before, after) || slices.ContainsFunc(keepsOff, func(t fwk.AffinityTerm) bool { return selects(&t, n.pod) })
	})
}

// onANode returns a pod if it is a neighbour to anybody, else nil.
func onANode(pod *corev1.Pod) *corev1.Pod {
	if pod == nil || pod.Spec.NodeName == "" {
		return nil
	}
	return pod
}

// countsOtherwise says whether a neighbour counts for the pod as it is now, and did not as it was, or the other way round.
// Who comes matters to affinity too: it may be the first of those whom a pod has to join.
func (n *needs) countsOtherwise(before, after *corev1.Pod) bool {
	return slices.ContainsFunc(n.affinity, func(t fwk.AffinityTerm) bool { return selects(&t, before) != selects(&t, after) }) ||
		slices.ContainsFunc(n.antiAffinity, func(t fwk.AffinityTerm) bool { return !selects(&t, before) && selects(&t, after) }) ||
		slices.ContainsFunc(n.spread, func(s spread) bool { return n.isSpread(s, before) != n.isSpread(s, after) })
}

// selects says whether a term may mean a pod. Which namespaces a selector of namespaces means is not looked up.
func selects(t *fwk.AffinityTerm, pod *corev1.Pod) bool {
	if pod == nil {
		return false
	}
	_, ofNamespaces := t.NamespaceSelector.Requirements()
	return (ofNamespaces || t.Namespaces.Has(pod.Namespace)) && t.Selector.Matches(labels.Set(pod.Labels))
}

// isSpread says whether a pod counts for a constraint: one that terminates does not.
func (n *needs) isSpread(s spread, pod *corev1.Pod) bool {
	return pod != nil && pod.DeletionTimestamp == nil && pod.Namespace == n.pod.Namespace && s.selector.Matches(labels.Set(pod.Labels))
}

// NodeChanged says that a node changed, came (before is nil) or went (after is nil): with its topology, and its pods.
func (l *List) NodeChanged(before, after *corev1.Node) {
	if before != nil && after != nil && maps.Equal(before.Labels, after.Labels) {
		return
	}
	moved := func(topologyKey string) bool {
		return before == nil || after == nil || before.Labels[topologyKey] != after.Labels[topologyKey]
	}
	l.judge(func(n *needs, _ string) bool {
		inTopology := func(t fwk.AffinityTerm) bool { return moved(t.TopologyKey) }
		return slices.ContainsFunc(n.affinity, inTopology) || slices.ContainsFunc(n.antiAffinity, inTopology) ||
			slices.ContainsFunc(n.spread, func(s spread) bool { return moved(s.topologyKey) })
	})
}
