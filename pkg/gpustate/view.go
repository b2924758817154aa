// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"math/bits"
	"slices"
	"sync/atomic"
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
	// GPUResources are the names of further resources that are GPUs, beside those below nvidia.com/.
	GPUResources []string
}

// Query is for whom, and under which assumptions, a node is viewed. The zero Query is nobody's: what everyone sees.
type Query struct {
	// Pod is the pod being scheduled: it is never counted.
	Pod types.UID
	// Runtime is its engine, which decides next to which loading pods it can be placed.
	Runtime berthv1alpha1.Runtime
	// Gone are pods that are assumed to be gone, with the memory that they were measured to hold: victims in a dry
	// run of preemption. Nil = none.
	Gone sets.Set[types.UID]
	// Drained assumes that all memory that is on its way back is back: of pods that are gone or terminating.
	Drained bool
	// Loaded leaves the loader rule out: what would fit once all pods are loaded.
	Loaded bool
	// Company decides next to whom it can be placed; the zero value = next to anybody.
	Company Company
	// Priority is the pod's: claims of pods of at least that priority count.
	Priority int32
	// Generation names the list of pods that the view is made with: lists of one node with the same generation are
	// the same. Zero = it has no name.
	Generation int64
}

// Viewer derives what is free on a node from one snapshot of the reports and the ledger. It is safe for concurrent
// use.
type Viewer struct {
	Snapshot *Snapshot
	Ledger   *Ledger
	Policy   Policy
	// DRA is what resource claims hold. Nil = none.
	DRA *DRA
	// DRAAhead is DRA for the nodes on which it is ahead of what the API told; see DRA.With.
	DRAAhead map[string]*NodeDRA
	// Mix is what nodes are kept fit for. Nil = nothing.
	Mix *Mix
}

// dra returns what is known of a node's DRA, or nil.
func (v *Viewer) dra(node string) *NodeDRA {
	if n, ok := v.DRAAhead[node]; ok {
		return n
	}
	return v.DRA.OnNode(node)
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
	// Foreign is, for each device, the memory in use that no counted pod explains; only if asked for by Explain.
	Foreign []alloc.Bytes
	// fits, derived and ranks are nil unless the view can be recalled; ranks without a mix, too.
	fits    *fits
	derived *atomic.Value
	ranks   *ranks
}

// Charge is what one pod is charged for.
type Charge struct {
	UID             types.UID
	Namespace, Name string
	State           State
	// Booked, Measured and Charged are per device, in the order of the view's devices.
	Booked, Measured, Charged []alloc.Bytes
	// Lost are the devices of the pod's booking that the report does not have.
	Lost []LostDevice
}

// LostDevice is a device that a pod was given and that its node reports no more.
type LostDevice struct {
	UUID string
	// Charged says that the booking counts on the GPU that the device was a part of, or on the instances that it was
	// cut into. Otherwise it counts nowhere: what is not there cannot hold memory, and cannot be given away again.
	Charged bool
}

// View derives the view of a node. pods are those that are assumed to be on it: victims of a dry run are missing
// from it. It does one look-up for each pod, parses nothing that was parsed before, and takes no lock. The devices of
// the view must not be changed: it may be remembered for Recall.
func (v *Viewer) View(node *corev1.Node, pods []*corev1.Pod, q *Query) View {
	report, fresh := v.Snapshot.Report(node.Name, v.Policy.StaleAfter)
	list := v.Ledger.listOf(node.Name)
	entries := list.Load()
	dra := v.dra(node.Name)
	view, timeless := v.derive(node, report, fresh, dra, *entries, pods, q, q.memoKind() == memoDrained)
	if timeless && q.memoKind() >= 0 {
		r := &remembered{
			generation: q.Generation, node: node, fresh: fresh, dra: dra, mix: v.Mix, list: list, entries: entries, view: view,
		}
		r.view.fits, r.view.derived = &r.fits, &r.derived
		if v.Mix != nil {
			r.view.ranks = &ranks{}
		}
		v.remember(q, r)
		view = r.view
	}
	return v.keepApart(v.chargeClaims(view, q), q)
}

// Explain is View with the charges of each pod. What it returns for a query that has all memory back and everyone loaded
// can be recalled.
func (v *Viewer) Explain(node *corev1.Node, pods []*corev1.Pod, q *Query) View {
	if q.memoKind() == memoDrained {
		return v.View(node, pods, q)
	}
	report, fresh := v.Snapshot.Report(node.Name, v.Policy.StaleAfter)
	view, _ := v.derive(node, report, fresh, v.dra(node.Name), v.Ledger.OnNode(node.Name), pods, q, true)
	return v.keepApart(v.chargeClaims(view, q), q)
}

// derive makes a view without what nominated pods claim. timeless says that the same inputs would give the same
// view at any other time.
func (v *Viewer) derive(node *corev1.Node, report *Report, fresh bool, dra *NodeDRA, entries []*Entry, pods []*corev1.Pod, q *Query, explain bool) (view View, timeless bool) {
	view = View{Report: report, Reason: v.nodeReason(node, report, fresh, dra)}
	view.Name, view.Outlook = node.Name, v.Mix.on(node)
	if report == nil {
		return view, true
	}
	view.Devices = slices.Clone(report.Devices)
	c := counter{
		viewer: v, query: q, view: &view, report: report, explain: explain,
		entries: entries, devicePlugin: v.Policy.AdvertisesGPUs(node), timeless: true,
	}
	if c.devicePlugin && !report.AssignmentsUnknown {
		c.heard = v.Snapshot.heard(node.Name)
	}
	if dra != nil {
		view.blockResourceClaimed(dra)
	}
	if fresh && report.rivals != nil {
		view.blockContested(v.Snapshot, v.Policy.StaleAfter)
		c.timeless = false // a rival may fall silent
	}
	view.blockCordoned(node)
	if explain {
		view.Charges = make([]Charge, 0, len(pods))
	}
	for _, pod := range pods {
		if e := c.entryOf(pod); !q.Gone.Has(pod.UID) {
			c.countPod(pod, e)
		}
	}
	c.countUnlisted(pods)
	for uid := range q.Gone {
		c.giveBack(uid)
	}
	if q.Drained {
		c.giveBackOrphans(pods)
	}
	c.countForeign()
	return view, c.timeless
}

// chargeClaims charges what nominated pods claim.
func (v *Viewer) chargeClaims(view View, q *Query) View {
	claims := v.Ledger.ClaimsOn(view.Name)
	if len(claims) == 0 || view.Report == nil {
		return view
	}
	own := false // whether the devices are a copy
	for _, e := range claims {
		if e.UID == q.Pod || q.Gone.Has(e.UID) || !e.countsFor(q.Priority, v.Snapshot.now) {
			continue
		}
		if !own {
			view.Devices, view.fits, view.ranks, own = slices.Clone(view.Devices), nil, nil, true
		}
		for _, share := range e.Allocation.Devices {
			// An instance that is gone holds nothing: the report that lacks it wakes the pod, which claims another device.
			for on := view.Report.placesOf(share.UUID, ""); on != 0; on &= on - 1 {
				i := bits.TrailingZeros64(on)
				memory := share.Memory
				if e.Company.Sharing == berthv1alpha1.ShareNone {
					memory = view.Devices[i].Capacity // as it will book
				}
				view.Devices[i].Used = view.Devices[i].Used.Plus(memory)
			}
		}
	}
	return view
}

func (v *Viewer) nodeReason(node *corev1.Node, report *Report, fresh bool, dra *NodeDRA) alloc.Reason {
	switch {
	case report == nil && v.Snapshot.unreadable[node.Name]:
		return ReasonUnreadableReport
	case report == nil:
		return ReasonNoReport
	case berthv1alpha1.DriverGoes(node.Labels): // before what follows from it: the agent is sent away too
		return ReasonDriverUpgrade
	case v.Policy.AdvertisesGPUs(node) && node.Labels[berthv1alpha1.LabelDevicePlugin] != berthv1alpha1.DevicePluginShared:
		return ReasonDevicePlugin
	case dra.published() && node.Labels[berthv1alpha1.LabelDRA] != berthv1alpha1.DRAShared:
		return ReasonDRA
	case dra != nil && dra.unknown:
		return ReasonUnknownResourceClaim
	case !fresh:
		return ReasonStaleReport
	}
	return ""
}

// blockResourceClaimed blocks the devices that resource claims hold.
func (v *View) blockResourceClaimed(dra *NodeDRA) {
	if len(dra.held) == 0 {
		return
	}
	for i := range v.Devices {
		if d := &v.Devices[i]; dra.holdsDevice(d.UUID, d.Parent, v.Report.pci[i]) {
			d.Blocked = alloc.ReasonResourceClaimed
		}
	}
}
