// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"iter"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
)

// Policy is what an admin set about which reports and which pods to believe.
type Policy struct {
	// StaleAfter is how long a node's agent may be silent; zero = for ever.
	StaleAfter time.Duration
	// LoadTimeout bounds how long a pod counts as loading.
	LoadTimeout time.Duration
}

// Query is for whom, and under which assumptions, a node is viewed. The zero Query is nobody's: what everyone sees.
type Query struct {
	// Pod is the pod being scheduled: it is never counted.
	Pod types.UID
	// Runtime is its engine, which decides next to which loading pods it can be placed.
	Runtime berthv1alpha1.Runtime
	// Removed are pods that are assumed to be gone, with the memory that they were measured to hold: victims in a dry
	// run of preemption. Nil = none.
	Removed sets.Set[types.UID]
	// Returned assumes that all memory that is on its way back is back: of pods that are gone or terminating.
	Returned bool
	// IgnoreLoading leaves the loader rule out: what would fit once all pods are loaded.
	IgnoreLoading bool
	// Held is memory that is held on the node for nominated pods.
	Held []Hold
}

// Hold is the memory that the plan of a nominated pod holds on one node.
type Hold struct {
	Pod     types.UID
	Devices []alloc.DeviceShare
}

// Viewer derives what is free on a node from one snapshot of the reports and the ledger. It is safe for concurrent
// use.
type Viewer struct {
	Snapshot *Snapshot
	Ledger   *Ledger
	Policy   Policy
}

// View is what a node looks like to a query. Reason is empty if the node can be planned on.
type View struct {
	alloc.Node
	// Reason says why nothing can be placed on the node, whatever is free.
	Reason alloc.Reason
	// Report is what the view was derived from; nil if there is none.
	Report *Report
	// Charges are who is charged for what: one entry for each pod that counts, only if asked for by Explain.
	Charges []Charge
	// Nobody is, for each device, the memory in use that no counted pod explains; only if asked for by Explain.
	Nobody []alloc.Bytes
}

// Charge is what one pod is charged for.
type Charge struct {
	UID             types.UID
	Namespace, Name string
	State           State
	// Booked, Measured and Charged are per device, in the order of the view's devices.
	Booked, Measured, Charged []alloc.Bytes
}

// View derives the view of a node. pods are those that are assumed to be on it: victims of a dry run are missing
// from it. It does one look-up for each pod, parses nothing that was parsed before, and takes no lock.
func (v *Viewer) View(node *corev1.Node, pods iter.Seq[*corev1.Pod], q *Query) View {
	return v.view(node, pods, q, false)
}

// Explain is View with the charges of each pod.
func (v *Viewer) Explain(node *corev1.Node, pods iter.Seq[*corev1.Pod], q *Query) View {
	return v.view(node, pods, q, true)
}

func (v *Viewer) view(node *corev1.Node, pods iter.Seq[*corev1.Pod], q *Query, explain bool) View {
	report, fresh := v.Snapshot.Report(node.Name, v.Policy.StaleAfter)
	view := View{Report: report, Reason: nodeReason(node, report, fresh)}
	view.Name = node.Name
	if report == nil {
		return view
	}
	view.Devices = slices.Clone(report.Devices)
	c := counter{
		viewer: v, query: q, view: &view, report: report, explain: explain,
		// What counted pods, and those assumed to be gone, are measured to hold; the rest of what is measured is nobody's.
		attributed:   make([]alloc.Bytes, len(view.Devices)),
		devicePlugin: advertisesGPUs(node),
	}
	unsettled := v.Ledger.Unsettled(node.Name)
	var seen sets.Set[types.UID]
	if len(unsettled) > 0 || q.Returned {
		seen = make(sets.Set[types.UID], 8)
	}
	for pod := range pods {
		if seen != nil {
			seen.Insert(pod.UID)
		}
		if !q.Removed.Has(pod.UID) {
			c.countPod(pod)
		}
	}
	for _, e := range unsettled {
		if !seen.Has(e.UID) && !q.Removed.Has(e.UID) {
			seen.Insert(e.UID)
			c.countUnsettled(e)
		}
	}
	for uid := range q.Removed {
		c.giveBack(uid)
	}
	if q.Returned {
		for uid := range report.pods {
			if !seen.Has(uid) && !q.Removed.Has(uid) {
				c.giveBack(uid) // its pod is gone, and only its processes are left
			}
		}
	}
	for i := range view.Devices {
		nobody := report.measured[i].Minus(c.attributed[i])
		view.Devices[i].Used = view.Devices[i].Used.Plus(nobody)
		if explain {
			view.Nobody = append(view.Nobody, nobody)
		}
	}
	for i := range q.Held {
		c.hold(&q.Held[i])
	}
	return view
}

func nodeReason(node *corev1.Node, report *Report, fresh bool) alloc.Reason {
	switch {
	case report == nil:
		return ReasonNoReport
	case advertisesGPUs(node) && node.Labels[berthv1alpha1.LabelDevicePlugin] != berthv1alpha1.DevicePluginShared:
		return ReasonDevicePlugin
	case !fresh:
		return ReasonStaleReport
	}
	return ""
}

func advertisesGPUs(node *corev1.Node) bool {
	q, ok := node.Status.Allocatable[berthv1alpha1.ResourceNVIDIAGPU]
	return ok && !q.IsZero()
}

// counter adds up what the pods of a node are charged for.
type counter struct {
	viewer       *Viewer
	query        *Query
	view         *View
	report       *Report
	attributed   []alloc.Bytes
	devicePlugin bool
	explain      bool
}

// countPod charges a pod that is on the node by the caller's list.
func (c *counter) countPod(pod *corev1.Pod) {
	if pod.UID == c.query.Pod {
		return
	}
	if c.devicePlugin && !c.report.assigned[pod.UID] && !HasEnded(pod) && requestsWholeGPU(pod) {
		c.block(ReasonUnreportedDevicePod)
	}
	e := c.viewer.Ledger.Get(pod.UID)
	if e == nil {
		if pod.Spec.NodeName == "" {
			return // nominated: charged on the devices that its plan holds, see Query.Held
		}
		e = fromAnnotation(pod)
	}
	if e == nil {
		c.count(pod.UID, nil, pod, nil)
		return
	}
	if c.query.Returned && pod.DeletionTimestamp != nil {
		c.giveBack(pod.UID)
		return
	}
	c.count(pod.UID, e.Allocation, pod, e)
	if e.Allocation == nil {
		c.block(ReasonUnknownAllocation)
		return
	}
	c.blockWhileLoading(pod, e)
}

// countUnsettled charges a booking whose pod is on no list: assumed, in doubt, or gone with its memory still held.
func (c *counter) countUnsettled(e *Entry) {
	switch {
	case e.UID == c.query.Pod:
		return
	case e.State == Leaving && c.query.Returned:
		c.giveBack(e.UID)
		return
	case e.State == Leaving && e.settled(c.report, c.viewer.Snapshot.now):
		return
	}
	c.count(e.UID, e.Allocation, nil, e)
	if e.Allocation == nil {
		c.block(ReasonUnknownAllocation)
	} else if e.State != Leaving {
		c.blockDevices(e)
	}
}

// count charges max(booked, measured) on each device.
func (c *counter) count(uid types.UID, a *Allocation, pod *corev1.Pod, e *Entry) {
	use := c.report.pods[uid]
	if use == nil && a == nil {
		return
	}
	var charge *Charge
	if c.explain {
		charge = c.newCharge(uid, pod, e)
	}
	for i := range c.view.Devices {
		d := &c.view.Devices[i]
		var booked, measured alloc.Bytes
		if use != nil {
			measured = use.onDevice[i]
			c.attributed[i] = c.attributed[i].Plus(measured)
		}
		if a != nil {
			booked = a.on(d)
		}
		charged := booked.Max(measured)
		d.Used = d.Used.Plus(charged)
		if charge != nil {
			charge.Booked[i], charge.Measured[i], charge.Charged[i] = booked, measured, charged
		}
	}
}

// giveBack takes a pod's measured memory for free: nobody is charged for it.
func (c *counter) giveBack(uid types.UID) {
	if use := c.report.pods[uid]; use != nil {
		for i := range c.attributed {
			c.attributed[i] = c.attributed[i].Plus(use.onDevice[i])
		}
	}
}

// hold charges what the plan of a nominated pod holds.
func (c *counter) hold(h *Hold) {
	if h.Pod == c.query.Pod {
		return
	}
	for _, share := range h.Devices {
		if i := c.report.indexOf(share.UUID); i >= 0 {
			d := &c.view.Devices[i]
			d.Used = d.Used.Plus(share.Memory)
		}
	}
}

func (c *counter) block(r alloc.Reason) {
	if c.view.Reason == "" {
		c.view.Reason = r
	}
}

// blockWhileLoading applies the loader rule: an engine that measures free memory while it starts (vLLM) mis-measures
// when anything else allocates on the same device meanwhile. So while a pod loads, no other is placed on its devices
// if either of the two is a vLLM.
func (c *counter) blockWhileLoading(pod *corev1.Pod, e *Entry) {
	if c.query.IgnoreLoading || !mismeasures(c.query.Runtime, e.Allocation.Runtime) {
		return
	}
	until, loading := LoadingUntil(pod, c.viewer.Policy.LoadTimeout)
	if loading && (until.IsZero() || c.viewer.Snapshot.now.Before(until)) {
		c.blockDevices(e)
	}
}

func (c *counter) blockDevices(e *Entry) {
	if c.query.IgnoreLoading || !mismeasures(c.query.Runtime, e.Allocation.Runtime) {
		return
	}
	for _, share := range e.Allocation.Devices {
		if i := c.report.indexOf(share.UUID); i >= 0 && c.view.Devices[i].Blocked == "" {
			c.view.Devices[i].Blocked = alloc.ReasonLoading
		}
	}
}

// mismeasures says whether two pods must not load on one device at a time. A query for nobody sees no loaders.
func mismeasures(newcomer, loader berthv1alpha1.Runtime) bool {
	return newcomer != "" && (newcomer == berthv1alpha1.RuntimeVLLM || loader == berthv1alpha1.RuntimeVLLM)
}

func (c *counter) newCharge(uid types.UID, pod *corev1.Pod, e *Entry) *Charge {
	n := len(c.view.Devices)
	charge := Charge{
		UID: uid, Booked: make([]alloc.Bytes, n), Measured: make([]alloc.Bytes, n), Charged: make([]alloc.Bytes, n),
	}
	switch {
	case pod != nil:
		charge.Namespace, charge.Name = pod.Namespace, pod.Name
	case e != nil:
		charge.Namespace, charge.Name = e.Namespace, e.Name
	}
	if e != nil {
		charge.State = e.State
	}
	c.view.Charges = append(c.view.Charges, charge)
	return &c.view.Charges[len(c.view.Charges)-1]
}

// on returns what is booked on a device.
func (a *Allocation) on(d *alloc.Device) alloc.Bytes {
	for i := range a.Devices {
		if a.Devices[i].UUID == d.UUID {
			if a.Whole {
				return d.Total
			}
			return a.Devices[i].Memory
		}
	}
	return alloc.Bytes{}
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
	}
}

// requestsWholeGPU says whether a pod asks the kubelet's device manager for GPUs.
func requestsWholeGPU(pod *corev1.Pod) bool {
	asks := func(containers []corev1.Container) bool {
		return slices.ContainsFunc(containers, func(c corev1.Container) bool {
			q, ok := c.Resources.Limits[berthv1alpha1.ResourceNVIDIAGPU]
			return ok && !q.IsZero()
		})
	}
	return asks(pod.Spec.Containers) || asks(pod.Spec.InitContainers)
}
