// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package wake

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-dev/berth/pkg/plugin/needs"
)

// newNeeds makes the list of what those that wait on a node need beside it.
func (w *Waker) newNeeds() *needs.List {
	core := w.Handle.SharedInformerFactory().Core().V1()
	return &needs.List{
		Clock: w.Clock, Nodes: w.Nodes, VolumeClaims: core.PersistentVolumeClaims().Lister(),
		WaitsOn: func(uid types.UID) string {
			if e := w.Tracker.Ledger.ClaimOf(uid); e != nil {
				return e.Node
			}
			return ""
		},
		Judge: func(uid types.UID, at time.Time) {
			w.RetryAt(fmt.Sprintf("needs/%d/", at.UnixNano()), uid, at) // two moments, two timers
		},
	}
}
