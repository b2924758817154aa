// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package usage

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/duration"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/cli/gpumap"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// node counts what pods have of the GPUs of a node, of which the agent reported gn.
func (b *builder) node(n *gpumap.Node, gn *berthv1alpha1.GPUNode) {
	if n.Reason == string(gpustate.ReasonStaleReport) && n.LastHeard != nil {
		b.notes = append(b.notes, fmt.Sprintf("The agent on node %s was last heard of %s ago: what is measured there is from then",
			n.Name, duration.HumanDuration(b.m.Time.Sub(n.LastHeard.Time))))
	}
	reported := map[string]*berthv1alpha1.GPUDevice{}
	for i := range gn.Status.Devices {
		reported[gn.Status.Devices[i].UUID] = &gn.Status.Devices[i]
	}
	claimed := 0
	for i := range n.Devices {
		d := &n.Devices[i]
		b.others += d.Foreign + d.Leaving
		holders := reported[d.UUID].Assigned()
		if d.State == gpumap.StateAssigned && len(holders) == 0 {
			claimed++
		}
		b.device(n.Name, d, holders)
	}
	if claimed > 0 {
		b.notes = append(b.notes, fmt.Sprintf("On node %s, resource claims hold %d GPUs or parts of GPUs, or they go with a GPU that is held whole: they count as booked by nobody", n.Name, claimed))
	}
}

// device counts what pods have of a GPU; holders are those that hold it whole through the device plugin.
func (b *builder) device(node string, d *gpumap.Device, holders []types.UID) {
	before := len(b.holdings)
	of := func(p *pod) *holding {
		for i := before; i < len(b.holdings); i++ {
			if b.holdings[i].pod == p {
				return &b.holdings[i]
			}
		}
		b.holdings = append(b.holdings, holding{pod: p, node: node, uuid: d.UUID})
		return &b.holdings[len(b.holdings)-1]
	}
	for _, id := range holders {
		if p := b.podOf(string(id)); p != nil {
			of(p).booked += d.Capacity / int64(len(holders))
		}
	}
	for i := range d.Pods {
		share := &d.Pods[i]
		p := b.pods[share.UID]
		if p == nil {
			p = &pod{namespace: share.Namespace, name: share.Name, node: node}
			b.pods[share.UID] = p
		}
		p.idle = p.idle || share.IdleSince != nil
		h := of(p)
		h.booked += share.Booked
		h.measured += share.Measured
	}
}

// podOf returns the pod that a report names by its UID, or by namespace/name where the agent did not know the UID; nil if
// it was not read.
func (b *builder) podOf(id string) *pod {
	if p := b.pods[types.UID(id)]; p != nil {
		return p
	}
	namespace, name, _ := strings.Cut(id, "/")
	return b.byName[types.NamespacedName{Namespace: namespace, Name: name}]
}
