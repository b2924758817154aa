// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// sums adds up the numbers, node by node.
type sums struct {
	*Numbers
	cluster *Cluster
	// names has the name under which a model counts.
	names map[string]string
	pods  map[string][]*corev1.Pod
	// requests are those that are known, and pieces is what is free.
	requests requests
	pieces   pieces
}

// maxModels is how many models of GPUs are told apart. Names come from nodes' reports, and whoever has the token of a node
// can write any.
const maxModels = 64

// other is the name under which all models count that have the least memory, when there are too many.
const other = "other"

// namesOf returns under which name each model counts.
func namesOf(c *Cluster) map[string]string {
	total := map[string]alloc.Bytes{}
	for _, node := range c.Nodes {
		if report, _ := c.Viewer.Snapshot.Report(node.Name, 0); report != nil {
			for i := range report.Devices {
				d := &report.Devices[i]
				total[d.Model] = total[d.Model].Plus(d.Total)
			}
		}
	}
	names := make(map[string]string, len(total))
	models := make([]string, 0, len(total))
	for model := range total {
		models = append(models, model)
		names[model] = cmp.Or(model, "unknown")
	}
	if len(models) <= maxModels {
		return names
	}
	slices.SortFunc(models, func(a, b string) int { return cmp.Or(total[b].Compare(total[a]), strings.Compare(a, b)) })
	for _, model := range models[maxModels:] {
		names[model] = other
	}
	return names
}

// anybody sees what nobody's request is let in for: all that is held is.
var anybody = gpustate.Query{Priority: math.MinInt32}

func (s *sums) addNode(node *corev1.Node) {
	v := s.cluster.Viewer
	report, fresh := v.Snapshot.Report(node.Name, v.Policy.StaleAfter)
	if report == nil {
		if v.Snapshot.IsUnreadable(node.Name) {
			s.Reports[Unreadable]++
		}
		return
	}
	switch {
	case berthv1alpha1.DriverGoes(node.Labels):
		s.Reports[Upgrading]++
	case fresh:
		s.Reports[Fresh]++
	default:
		s.Reports[Silent]++
	}
	s.Overbooked += report.Overbooked(v.Ledger.OnNode(node.Name))
	s.Contested += len(v.Snapshot.Contested(node.Name, v.Policy.StaleAfter))

	view := v.Explain(node, s.pods[node.Name], &anybody)
	n := nodeSums{sums: s, node: node.Name, view: &view}
	for i := range view.Devices {
		n.states[i] = stateOf(node, &view, i, fresh)
		n.addDevice(i)
	}
	for i := range view.Charges {
		n.addCharge(&view.Charges[i])
	}
	n.addOrphans()
	n.addClaims()
}

// nodeSums adds up one node.
type nodeSums struct {
	*sums
	node   string
	view   *gpustate.View
	states [alloc.MaxDevices]State
}

// each calls f for all amounts that a device counts in; for none if its instances count in its place.
func (n *nodeSums) each(device int, f func(*Amounts)) {
	if n.states[device] != Cut {
		n.eachOf(n.view.Devices[device].Model, f)
	}
}

func (n *nodeSums) eachOf(model string, f func(*Amounts)) {
	name := n.names[model]
	a := n.Models[name]
	if a == nil {
		a = &Amounts{}
		n.Models[name] = a
	}
	f(a)
	if n.PerNode == nil {
		return
	}
	key := NodeModel{n.node, name}
	if a = n.PerNode[key]; a == nil {
		a = &Amounts{}
		n.PerNode[key] = a
	}
	f(a)
}

func (n *nodeSums) addDevice(i int) {
	d, state := &n.view.Devices[i], n.states[i]
	n.eachOf(d.Model, func(a *Amounts) { a.Devices[state]++ })
	left := d.Capacity.Minus(d.Used)
	n.each(i, func(a *Amounts) {
		a.Total, a.Capacity = a.Total.Plus(d.Total), a.Capacity.Plus(d.Capacity)
		a.Measured, a.Foreign = a.Measured.Plus(n.view.Foreign[i]), a.Foreign.Plus(n.view.Foreign[i])
		switch {
		case state == Available:
			a.Free, a.LargestFree = a.Free.Plus(left), a.LargestFree.Max(left)
		default:
			a.Blocked = a.Blocked.Plus(left)
		}
	})
	if state == Available {
		n.pieces.add(n, d, left)
	}
}

func (n *nodeSums) addCharge(c *gpustate.Charge) {
	gone := c.State == gpustate.Draining
	overdue := gone && n.isOverdue(c.UID)
	overuses := false
	devices, smallest := 0, alloc.Bytes{}
	for i := range n.view.Devices {
		booked, measured := c.Booked[i], c.Measured[i]
		if booked.IsZero() && measured.IsZero() {
			continue
		}
		var beyond alloc.Bytes
		if limit := booked.Plus(Margin); !gone && !booked.IsZero() && limit.Less(measured) {
			beyond, overuses = measured.Minus(booked), true
		}
		n.each(i, func(a *Amounts) {
			a.Measured = a.Measured.Plus(measured)
			if gone {
				a.Returning = a.Returning.Plus(c.Charged[i])
			} else {
				a.Booked, a.Overused = a.Booked.Plus(booked), a.Overused.Plus(beyond)
			}
			if overdue {
				a.Overdue = a.Overdue.Plus(measured)
			}
		})
		if gone || n.states[i] == Cut {
			continue
		}
		if !booked.IsZero() {
			if devices++; devices == 1 || booked.Less(smallest) {
				smallest = booked
			}
		}
		key := NamespaceModel{c.Namespace, n.names[n.view.Devices[i].Model]}
		used := n.Namespaces[key]
		n.Namespaces[key] = Used{used.Booked.Plus(booked), used.Measured.Plus(measured)}
	}
	if overuses {
		n.Overusing++
	}
	n.requests.add(devices, smallest)
}

// isOverdue says whether the memory of a pod that is gone should be back.
func (n *nodeSums) isOverdue(uid types.UID) bool {
	e := n.cluster.Viewer.Ledger.Get(uid)
	return e != nil && n.cluster.Viewer.Snapshot.Now().Sub(e.Since) > n.cluster.MemoryReturnTimeout
}

// addOrphans tells what processes hold whose pod is gone from the API and from the ledger, apart from what is nobody's: a
// scheduler that was started after they had left knows of them by reports alone.
func (n *nodeSums) addOrphans() {
	if !slices.ContainsFunc(n.view.Foreign, func(b alloc.Bytes) bool { return !b.IsZero() }) {
		return
	}
	now := n.cluster.Viewer.Snapshot.Now()
	n.view.Report.EachPod(func(uid types.UID, onDevice []alloc.Bytes) {
		if slices.ContainsFunc(n.view.Charges, func(c gpustate.Charge) bool { return c.UID == uid }) {
			return
		}
		since, known := n.cluster.Orphans[uid]
		if !known {
			since = now
		}
		n.Orphans[uid] = since
		for i, measured := range onDevice {
			n.each(i, func(a *Amounts) {
				a.Foreign, a.Returning = a.Foreign.Minus(measured), a.Returning.Plus(measured)
				if now.Sub(since) > n.cluster.MemoryReturnTimeout {
					a.Overdue = a.Overdue.Plus(measured)
				}
			})
		}
	})
}

func (n *nodeSums) addClaims() {
	now := n.cluster.Viewer.Snapshot.Now()
	for _, e := range n.cluster.Viewer.Ledger.ClaimsOn(n.node) {
		if now.Before(e.Claim.HoldsFrom) {
			continue
		}
		for _, share := range e.Allocation.Devices {
			if i := n.view.Position(share.UUID); i >= 0 {
				n.each(i, func(a *Amounts) { a.Held = a.Held.Plus(share.Memory) })
			}
		}
	}
}
