// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"math/bits"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
)

// Company is what decides next to whom a pod may be.
type Company struct {
	// Workload is whose replica it is, by namespace and name; empty if it is nobody's.
	Workload string
	// Sharing is whom it wants beside it.
	Sharing berthv1alpha1.GPUSharing
}

// companyOf returns a pod's.
func companyOf(pod *corev1.Pod) Company {
	c := Company{Sharing: berthv1alpha1.SharingOf(pod)}
	if workload := WorkloadOf(pod); workload != "" {
		c.Workload = pod.Namespace + "/" + workload
	}
	return c
}

// avoids says whether two pods must not be on one GPU, for being replicas of one workload of which either minds that.
func (c *Company) avoids(o *Company) bool {
	return c.Workload != "" && c.Workload == o.Workload && (c.Sharing == berthv1alpha1.ShareOtherWorkloads || o.Sharing == berthv1alpha1.ShareOtherWorkloads)
}

const (
	// labelRolloutHash is to Argo's Rollouts what the hash of their template is to Deployments, and labelLeaderWorkerSet names
	// the set whose StatefulSets a pod is of.
	labelRolloutHash     = "rollouts-pod-template-hash"
	labelLeaderWorkerSet = "leaderworkerset.sigs.k8s.io/name"
)

// WorkloadOf names the workload of a pod within its namespace: the Deployment, Rollout or LeaderWorkerSet behind its
// controller, as its labels tell, else its controller; empty if it has none.
func WorkloadOf(pod *corev1.Pod) string {
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return ""
	}
	switch owner.Kind {
	case "ReplicaSet":
		for _, top := range []struct{ kind, label string }{{"Deployment", appsv1.DefaultDeploymentUniqueLabelKey}, {"Rollout", labelRolloutHash}} {
			if hash := pod.Labels[top.label]; hash != "" {
				if name, ok := strings.CutSuffix(owner.Name, "-"+hash); ok {
					return top.kind + "/" + name
				}
			}
		}
	case "StatefulSet":
		if set := pod.Labels[labelLeaderWorkerSet]; set != "" {
			return "LeaderWorkerSet/" + set
		}
	}
	return owner.Kind + "/" + owner.Name
}

// SameWorkload says whether two pods are replicas of one workload, over the revisions of a Deployment too.
func SameWorkload(a, b *corev1.Pod) bool {
	workload := WorkloadOf(a)
	return a.Namespace == b.Namespace && workload != "" && workload == WorkloadOf(b)
}

// KeepsApart says whether the workload of a pod can decide where it may be: because it minds, or anybody booked does.
func (l *Ledger) KeepsApart(c *Company) bool {
	return c.Sharing == berthv1alpha1.ShareOtherWorkloads || l.choosy.Load() > 0
}

// Avoids says whether anybody is booked on a node, or waits for it, next to whom a pod may not be.
func (l *Ledger) Avoids(node string, c *Company) bool {
	avoided := func(e *Entry) bool { return c.avoids(&e.Company) }
	return l.KeepsApart(c) && (slices.ContainsFunc(l.OnNode(node), avoided) || slices.ContainsFunc(l.ClaimsOn(node), avoided))
}

// keepApart blocks the devices that hold, or are claimed for, a replica that the pod of a query must not be next to. It is no
// part of what is remembered of a view, which is for pods of many workloads.
func (v *Viewer) keepApart(view View, q *Query) View {
	if q.Company.Workload == "" || view.Report == nil || !v.Ledger.KeepsApart(&q.Company) {
		return view
	}
	var on uint64
	for _, e := range v.Ledger.OnNode(view.Name) {
		// Of a pod that is gone only memory is left.
		if e.State != Draining && e.Allocation != nil && !(q.Drained && e.comesBack()) {
			on |= v.avoidedFor(view.Report, e, q)
		}
	}
	for _, e := range v.Ledger.ClaimsOn(view.Name) {
		if e.countsFor(q.Priority, v.Snapshot.now) {
			on |= v.avoidedFor(view.Report, e, q)
		}
	}
	if on == 0 {
		return view
	}
	view.Devices, view.fits, view.derived = slices.Clone(view.Devices), nil, nil
	for ; on != 0; on &= on - 1 {
		if d := &view.Devices[bits.TrailingZeros64(on)]; d.Blocked == "" {
			d.Blocked = alloc.ReasonSameWorkload
		}
	}
	return view
}

// avoidedFor returns the devices of an entry that the pod of a query must not be on.
func (v *Viewer) avoidedFor(report *Report, e *Entry, q *Query) uint64 {
	if e.UID == q.Pod || q.Gone.Has(e.UID) || !q.Company.avoids(&e.Company) {
		return 0
	}
	return report.DevicesOf(e.Allocation)
}
