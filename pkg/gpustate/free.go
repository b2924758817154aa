// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"math/bits"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/estimator"
)

// counter adds up what the pods of a node are charged for.
type counter struct {
	viewer *Viewer
	query  *Query
	view   *View
	report *Report
	// attributed is what counted pods, and those assumed to be gone, are measured to hold on each device; the rest
	// of what is measured is foreign.
	attributed [alloc.MaxDevices]alloc.Bytes
	// entries are the ledger's of the node, and listed says of which of the first ones the caller's list has the pod.
	entries []*Entry
	listed  [128]bool
	// next is where the entry of the next pod is likely to be: both lists are in the order in which pods came.
	next         int
	devicePlugin bool
	// heard is when the node's agent last said that what it reports of the device plugin's pods is true; zero = never.
	heard   time.Time
	explain bool
	// timeless is whether nothing was decided by what time it is.
	timeless bool
}

// entryOf returns the booking of a pod on the caller's list; nil if it has none.
func (c *counter) entryOf(pod *corev1.Pod) *Entry {
	if len(pod.Annotations) == 0 {
		return nil // neither a request nor an allocation
	}
	for range c.entries {
		if c.next >= len(c.entries) {
			c.next = 0
		}
		i := c.next
		c.next++
		if e := c.entries[i]; e.UID == pod.UID {
			if i < len(c.listed) {
				c.listed[i] = true
			}
			return e
		}
	}
	if e := c.viewer.Ledger.Get(pod.UID); e != nil && e.State != Claimed {
		return e // of another node, or of this one since a moment ago
	}
	if pod.Spec.NodeName == "" {
		return nil // nominated: charged on the devices that it claims, see chargeClaims
	}
	return fromAnnotation(pod)
}

// countPod charges a pod that is on the node by the caller's list; e is its booking, or nil.
func (c *counter) countPod(pod *corev1.Pod, e *Entry) {
	if pod.UID == c.query.Pod {
		return
	}
	if c.devicePlugin && !c.report.assigned[ReportedUID(pod)] {
		c.blockWhileUnreported(pod)
	}
	switch {
	case c.query.Drained && (pod.DeletionTimestamp != nil || e.comesBack()):
		c.giveBack(pod.UID)
	case e == nil:
		c.count(ReportedUID(pod), nil, pod, nil)
	default:
		c.countEntry(e, pod)
	}
}

// countUnlisted charges the bookings whose pod is not on the caller's list: those that are assumed or in doubt; those
// that the API confirmed and the caller did not hear of yet; and those of pods that are gone while their memory is
// still held.
func (c *counter) countUnlisted(pods []*corev1.Pod) {
	for i, e := range c.entries {
		switch {
		case c.isListed(i, pods) || e.UID == c.query.Pod || c.query.Gone.Has(e.UID):
		case c.query.Drained && e.comesBack():
			c.giveBack(e.UID)
		case e.State == Draining && e.settled(c.report, c.viewer.Snapshot.now):
			c.timeless = false
		default:
			c.countEntry(e, nil)
		}
	}
}

// isListed says whether the caller's list has the pod of entry i.
func (c *counter) isListed(i int, pods []*corev1.Pod) bool {
	if i < len(c.listed) {
		return c.listed[i]
	}
	return slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return p.UID == c.entries[i].UID })
}

// countEntry charges a booking; pod is nil if it is not on the caller's list.
func (c *counter) countEntry(e *Entry, pod *corev1.Pod) {
	c.timeless = c.timeless && e.State != Draining
	c.count(e.UID, e.Allocation, pod, e)
	if e.Allocation == nil {
		c.block(ReasonUnknownAllocation)
		return
	}
	if e.State != Draining {
		c.blockWhileLoading(e)
	}
}

// comesBack says whether the memory of a booking is on its way back: its pod is gone, or terminates. A nil entry
// has none.
func (e *Entry) comesBack() bool {
	return e != nil && (e.State == Draining || e.Pod != nil && e.Pod.DeletionTimestamp != nil)
}

// count charges max(booked, measured) on each device: what is measured everywhere, and on the booked devices what is
// missing to the booking.
func (c *counter) count(uid types.UID, a *Allocation, pod *corev1.Pod, e *Entry) {
	use := c.report.pods[uid]
	if use == nil && a == nil {
		return
	}
	devices := c.view.Devices
	if use != nil {
		for i, measured := range use.onDevice {
			devices[i].Used = devices[i].Used.Plus(measured)
			c.attributed[i] = c.attributed[i].Plus(measured)
			if !e.comesBack() && (pod == nil || pod.DeletionTimestamp == nil) {
				devices[i].Unused = devices[i].Unused.Minus(measured)
			}
		}
	}
	if a != nil {
		for j := range a.Devices {
			for on := c.report.placesOf(a.Devices[j].UUID, a.parentOf(j)); on != 0; on &= on - 1 {
				i := bits.TrailingZeros64(on)
				booked := a.bookedOn(j, &devices[i])
				if use != nil {
					booked = booked.Minus(use.onDevice[i])
				}
				devices[i].Used = devices[i].Used.Plus(booked)
			}
		}
	}
	if c.explain {
		c.explainCharge(uid, use, a, pod, e)
	}
}

// giveBack takes a pod's measured memory for free: nobody is charged for it.
func (c *counter) giveBack(uid types.UID) {
	if use := c.report.pods[uid]; use != nil {
		for i, measured := range use.onDevice {
			c.attributed[i] = c.attributed[i].Plus(measured)
		}
	}
}

// giveBackOrphans takes for free what is held by processes whose pod is neither on the caller's list nor booked: it is
// gone, and only its processes are left.
func (c *counter) giveBackOrphans(pods []*corev1.Pod) {
	unexplained := false
	for i, measured := range c.report.measured {
		unexplained = unexplained || c.attributed[i].Less(measured)
	}
	if !unexplained {
		return
	}
	known := make(map[types.UID]bool, len(c.entries))
	for _, pod := range pods {
		known[ReportedUID(pod)] = true
	}
	for _, e := range c.entries {
		known[e.UID] = true
	}
	for uid := range c.report.pods {
		if !known[uid] && !c.query.Gone.Has(uid) {
			c.giveBack(uid)
		}
	}
}

// countForeign charges the memory in use that no counted pod explains.
func (c *counter) countForeign() {
	for i := range c.view.Devices {
		d := &c.view.Devices[i]
		foreign := c.report.measured[i].Minus(c.attributed[i])
		d.Used, d.Unused, d.Foreign = d.Used.Plus(foreign), d.Unused.Minus(foreign), foreign
		if c.explain {
			c.view.Foreign = append(c.view.Foreign, foreign)
		}
	}
}

// blockWhileUnreported blocks the node while a pod may hold GPUs of the device plugin that no report tells of. It could
// be any of them.
func (c *counter) blockWhileUnreported(pod *corev1.Pod) {
	now := c.viewer.Snapshot.now
	until := c.viewer.Policy.UnreportedUntil(pod, c.heard, now)
	switch {
	case until.IsZero() || c.report.assigned[types.UID(pod.Namespace+"/"+pod.Name)]: // whose UID the agent did not know
	case c.report.AssignmentsUnknown:
		c.block(ReasonUnreportedDevicePod)
	case now.Before(until):
		c.timeless = false
		c.block(ReasonUnreportedDevicePod)
	}
}

func (c *counter) block(r alloc.Reason) {
	if c.view.Reason == "" {
		c.view.Reason = r
	}
}

// blockWhileLoading applies the loader rule: an engine that measures free memory while it starts mis-measures
// when anything else allocates on the same device meanwhile. So while a pod loads, no other is placed on its devices
// if either of the two measures.
//
// MIG instances of one GPU are devices of their own: each has its memory to itself, and its engine sees no other. Only
// where a GPU was cut, or put together again, under the pod does it count on more than its own device, as its booking does.
//
// What the ledger last heard of the pod decides, not the caller's list: whoever waits for a pod to be Ready is woken
// when the ledger heard of it, and must not then be sent away by a list that is behind.
func (c *counter) blockWhileLoading(e *Entry) {
	if c.query.Loaded || !mismeasures(c.query.Runtime, e.Allocation.Runtime) || !c.isLoading(e) {
		return
	}
	for on := c.report.DevicesOf(e.Allocation); on != 0; on &= on - 1 {
		if d := &c.view.Devices[bits.TrailingZeros64(on)]; d.Blocked == "" {
			d.Blocked = alloc.ReasonLoading
		}
	}
}

func (c *counter) isLoading(e *Entry) bool {
	if e.Pod == nil {
		return true // not in the API as bound yet
	}
	until, loading := LoadingUntil(e.Pod, c.viewer.Policy.LoadTimeout)
	c.timeless = c.timeless && !loading
	return loading && (until.IsZero() || c.viewer.Snapshot.now.Before(until))
}

// mismeasures says whether two pods must not load on one device at a time. A query for nobody sees no loaders.
func mismeasures(newcomer, loader berthv1alpha1.Runtime) bool {
	return newcomer != "" && (measuresFreeMemory(newcomer) || measuresFreeMemory(loader))
}

func measuresFreeMemory(r berthv1alpha1.Runtime) bool {
	return estimator.EngineOf(r).MeasuresFreeMemory
}

// explainCharge writes down what count charges.
func (c *counter) explainCharge(uid types.UID, use *podUse, a *Allocation, pod *corev1.Pod, e *Entry) {
	n := len(c.view.Devices)
	amounts := make([]alloc.Bytes, 3*n)
	charge := Charge{UID: uid, Booked: amounts[:n:n], Measured: amounts[n : 2*n : 2*n], Charged: amounts[2*n:]}
	switch {
	case pod != nil:
		charge.Namespace, charge.Name = pod.Namespace, pod.Name
	case e != nil:
		charge.Namespace, charge.Name = e.Namespace, e.Name
	}
	if e != nil {
		charge.State = e.State
	}
	if use != nil {
		copy(charge.Measured, use.onDevice)
	}
	if a != nil {
		charge.Lost = c.report.Lost(a)
		for j := range a.Devices {
			for on := c.report.placesOf(a.Devices[j].UUID, a.parentOf(j)); on != 0; on &= on - 1 {
				i := bits.TrailingZeros64(on)
				charge.Booked[i] = charge.Booked[i].Plus(a.bookedOn(j, &c.view.Devices[i]))
			}
		}
	}
	for i := range charge.Charged {
		charge.Charged[i] = charge.Booked[i].Max(charge.Measured[i])
	}
	c.view.Charges = append(c.view.Charges, charge)
}

// bookedOn returns what is booked on the allocation's device j, which is d.
func (a *Allocation) bookedOn(j int, d *alloc.Device) alloc.Bytes {
	if a.Whole {
		return d.Total
	}
	return a.Devices[j].Memory
}

// fromAnnotation reads the booking of a pod that the ledger does not know (yet, or no more: the caller's list may be
// older than the ledger, so nothing is written back). Nil = the pod books nothing.
func fromAnnotation(pod *corev1.Pod) *Entry {
	a, err := BookingOf(pod)
	if a == nil && err == nil {
		return nil
	}
	return &Entry{
		UID: pod.UID, Namespace: pod.Namespace, Name: pod.Name, Node: pod.Spec.NodeName, State: Confirmed, Allocation: a,
		Pod: pod,
	}
}
