// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
)

// Tracker applies what happens in the cluster to the store and the ledger, and says afterwards which node changed.
// The order matters: a pod that is retried because of a change must find the change applied.
type Tracker struct {
	Store  *Store
	Ledger *Ledger
	Policy Policy
	// DRA is what resource claims hold. Nil = none.
	DRA *DRA
	// Changed is called after a change that may have made room on a node.
	Changed func(node string)
	// Reshaped is called after a change of what a node is: it has more devices, or healthy ones, or its agent is back,
	// or its container runtime takes GPUs in another way.
	Reshaped func(node string)
	// Rivals is called after the report of another node changed which devices of a node are reported twice.
	Rivals func(node string)
}

// NewTracker returns a tracker with an empty store and an empty ledger. headroom is kept free on every device.
func NewTracker(headroom alloc.Bytes, policy Policy, c clock.PassiveClock) *Tracker {
	return &Tracker{
		Store: NewStore(headroom, c), Ledger: NewLedger(c), Policy: policy,
		Changed: func(string) {}, Reshaped: func(string) {}, Rivals: func(string) {},
	}
}

// Viewer returns a viewer of the state as it is now.
func (t *Tracker) Viewer() *Viewer {
	return &Viewer{Snapshot: t.Store.Snapshot(), Ledger: t.Ledger, Policy: t.Policy, DRA: t.DRA}
}

// PodSeen applies a pod that was added or updated. Bound pods without a booking change nothing, and pods that are not
// bound only matter for what they claim: one that ends, or terminates, claims nothing any more.
func (t *Tracker) PodSeen(pod *corev1.Pod) {
	switch {
	case HasEnded(pod):
		t.PodGone(pod)
		return
	case pod.Spec.NodeName == "":
		if pod.DeletionTimestamp != nil {
			t.unclaim(pod.UID)
		}
		return
	}
	before := t.Ledger.Get(pod.UID)
	var a *Allocation
	if before != nil && before.Pod != nil && sameBooking(before.Pod, pod) {
		a = before.Allocation
	} else {
		var err error
		if a, err = BookingOf(pod); a == nil && err == nil {
			if before := t.Ledger.BoundWithout(pod.UID); before != nil { // bound by somebody else
				t.Changed(before.Node)
			}
			return
		}
	}
	t.Ledger.Confirm(pod, a)
	if claim := before.claimed(); claim != nil {
		t.Changed(claim.Node) // what it claimed and did not take is free
	}
	// A pod that became Ready, or turns out not to get its GPUs, ends the wait of those that must not load next to it. It
	// may be so when it is first seen bound, after a watch that broke. One that began to terminate may be worth waiting for.
	terminates := pod.DeletionTimestamp != nil
	mightLoad, wasTerminating, wasUnread := true, false, false
	if before != nil && before.Pod != nil {
		mightLoad = mayLoad(before.Pod)
		wasTerminating, wasUnread = before.Pod.DeletionTimestamp != nil, before.Allocation == nil
	}
	if before != nil && (mayLoad(pod) != mightLoad || terminates && !wasTerminating || wasUnread && a != nil) {
		t.Changed(pod.Spec.NodeName)
	}
}

// unclaim takes back what a pod claims, for others to have.
func (t *Tracker) unclaim(uid types.UID) {
	if claim := t.Ledger.Unclaim(uid); claim != nil {
		t.Changed(claim.Node)
	}
}

func sameBooking(a, b *corev1.Pod) bool {
	return a.Spec.NodeName == b.Spec.NodeName &&
		a.Annotations[berthv1alpha1.AnnotationAllocation] == b.Annotations[berthv1alpha1.AnnotationAllocation]
}

// PodGone applies a pod that was deleted, or has ended. It returns the node that it was on or was promised; empty if
// it was on none.
func (t *Tracker) PodGone(pod *corev1.Pod) (node string) {
	node = pod.Spec.NodeName
	if e := t.Ledger.Get(pod.UID); e != nil {
		node = e.Node
	}
	if node == "" {
		return ""
	}
	report, _ := t.Store.Report(node, 0)
	if e := t.Ledger.Leave(pod.UID, report); e != nil && e.State != Draining {
		t.Changed(node)
	}
	if report == nil {
		t.Ledger.dropNode(node) // perhaps the last pod of a node that is gone
	}
	return node
}

// ReportSeen applies a report; live as in Store.Apply.
func (t *Tracker) ReportSeen(gn *berthv1alpha1.GPUNode, live bool) {
	wasStale := live && t.isStale(gn.Name)
	before, after, concerned := t.Store.Apply(gn, live)
	t.SettleNode(gn.Name)
	t.tellRivals(concerned)
	if before == nil || wasStale || offersMore(before, after) || !maps.EqualFunc(before.handOff, after.handOff, runtimeForms.equal) {
		t.Reshaped(gn.Name)
		return
	}
	t.Changed(gn.Name)
}

// offersMore says whether there is a device that was not there before, is larger, of another model, or can be used
// again.
func offersMore(before, after *Report) bool {
	return slices.ContainsFunc(after.Devices, func(d alloc.Device) bool {
		i := before.indexOf(d.UUID)
		if i < 0 {
			return true
		}
		old := &before.Devices[i]
		return old.Capacity.Less(d.Capacity) || old.Model != d.Model || old.Blocked != "" && d.Blocked == ""
	})
}

// ReportGone applies the deletion of a node's GPUNode. Bookings stay: the pods may well be running.
func (t *Tracker) ReportGone(node string) {
	concerned := t.Store.Remove(node)
	t.SettleNode(node)
	t.Ledger.dropNode(node)
	t.tellRivals(concerned)
}

// ReportUnreadable applies a report that could not be decoded: the node has none until it writes one that can.
func (t *Tracker) ReportUnreadable(node string) {
	concerned := t.Store.RemoveUnreadable(node)
	t.SettleNode(node)
	t.Ledger.dropNode(node)
	t.tellRivals(concerned)
}

func (t *Tracker) tellRivals(nodes []string) {
	for _, node := range nodes {
		t.Rivals(node)
	}
}

// LeaseGone applies the deletion of the Lease of a node's agent.
func (t *Tracker) LeaseGone(node string) { t.Store.dropState(node) }

// LeaseSeen applies the Lease of a node's agent; live as in Store.Renew.
func (t *Tracker) LeaseSeen(node string, renewTime time.Time, live bool) {
	if t.Store.Renew(node, renewTime, live, t.Policy.StaleAfter) && live {
		t.Reshaped(node)
	}
}

func (t *Tracker) isStale(node string) bool {
	r, fresh := t.Store.Report(node, t.Policy.StaleAfter)
	return r != nil && !fresh
}

// SettleNode forgets the draining pods of a node whose memory is back, and returns when to look again for those that
// only time can settle; the zero time = never.
func (t *Tracker) SettleNode(node string) (again time.Time) {
	report, _ := t.Store.Report(node, 0)
	now := t.Store.clock.Now()
	for _, e := range t.Ledger.OnNode(node) {
		switch {
		case e.State != Draining:
		case e.settled(report, now):
			t.Ledger.Settle(e.UID)
		case !e.Measured && (report == nil || !report.hasProcessesOf(e.UID)):
			if at := e.Since.Add(unmeasuredGrace); again.IsZero() || at.Before(again) {
				again = at
			}
		}
	}
	return again
}
