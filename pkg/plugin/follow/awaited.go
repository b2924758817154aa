// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package follow

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/cycle"
	"github.com/berth-dev/berth/pkg/plugin/shared"
)

// awaited tells, for people, what keeps the pod of the cycle from devices of a node now, as far as that is known; and
// whether it is memory that is in use.
func (f *Follower) awaited(s *cycle.State, ni fwk.NodeInfo, devices []alloc.DeviceShare) (what string, inMemory bool) {
	now := s.Assume(false)
	now.Loaded = false
	q := now.Query()
	view := s.Viewer.Explain(ni.Node(), cycle.PodsOf(ni), &q)
	if shared.IsSilent(view.Reason) {
		return "its agent has been silent, so nothing is known of it", true
	}
	claimed := func(uuid string) bool {
		return slices.ContainsFunc(devices, func(share alloc.DeviceShare) bool { return share.UUID == uuid })
	}
	going := map[types.UID]bool{}
	comingBack := f.Claims.ComingBackOn(ni.Node().Name, "")
	for _, pi := range ni.GetPods() {
		pod := pi.GetPod()
		going[pod.UID] = pod.DeletionTimestamp != nil || comingBack.Has(pod.UID)
	}
	var parts []string
	for i := range view.Devices {
		d := &view.Devices[i]
		if !claimed(d.UUID) {
			continue
		}
		gpu := fmt.Sprintf("GPU %d (%s)", d.Index, d.UUID)
		for j := range view.Charges {
			c := &view.Charges[j]
			switch {
			case c.Charged[i].IsZero():
			case c.State == gpustate.Draining:
				parts = append(parts, fmt.Sprintf("processes of the gone pod %s/%s still hold %s on %s", c.Namespace, c.Name, c.Charged[i], gpu))
			case going[c.UID]:
				parts = append(parts, fmt.Sprintf("pod %s/%s is still terminating and holds %s on %s", c.Namespace, c.Name, c.Charged[i], gpu))
			}
		}
		if !view.Foreign[i].IsZero() {
			parts = append(parts, fmt.Sprintf("processes of no known pod hold %s on %s", view.Foreign[i], gpu))
		}
	}
	inMemory = len(parts) > 0
	on := view.Report.DevicesOf(&gpustate.Allocation{Devices: devices})
	for _, e := range f.Tracker.Ledger.OnNode(ni.Node().Name) {
		if e.UID != s.UID && e.KeepsOff(s.Request.Runtime, f.Args.LoadTimeout.Duration, s.Viewer.Snapshot.Now()) &&
			view.Report.DevicesOf(e.Allocation)&on != 0 {
			parts = append(parts, fmt.Sprintf("pod %s/%s is still loading", e.Namespace, e.Name))
		}
	}
	if len(parts) == 0 {
		return "what it waited for is over, and it does not fit yet", false
	}
	return strings.Join(parts, "; "), inMemory
}
