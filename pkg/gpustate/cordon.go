// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"math/bits"

	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
)

// blockCordoned blocks the devices that the node's annotation cordons.
func (v *View) blockCordoned(node *corev1.Node) {
	for on, _ := v.Report.Cordoned(node); on != 0; on &= on - 1 {
		if d := &v.Devices[bits.TrailingZeros64(on)]; d.Blocked == "" {
			d.Blocked = alloc.ReasonCordoned
		}
	}
}

// Cordoned returns which devices of a report its node's annotation cordons, as bits, and the names in it that are none of
// the report's.
func (r *Report) Cordoned(node *corev1.Node) (on uint64, unknown []string) {
	for uuid := range berthv1alpha1.EachCordonedGPU(node) {
		known := false
		for i := range r.Devices {
			if d := &r.Devices[i]; d.UUID == uuid || d.Parent == uuid {
				on, known = on|1<<i, true
			}
		}
		if !known {
			unknown = append(unknown, uuid)
		}
	}
	return on, unknown
}
