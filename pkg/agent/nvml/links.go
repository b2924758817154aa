// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"slices"
	"strings"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// linksInterval is the time between two looks at how GPUs are connected, which changes only when a link breaks.
const linksInterval = time.Minute

// linkCache is how the GPUs of the node are connected. All pairs are asked for, so it is not done each time.
type linkCache struct {
	at    time.Time
	gpus  string
	links map[string][]berthv1alpha1.GPULink
}

func (c *linkCache) of(uuid string) []berthv1alpha1.GPULink { return c.links[uuid] }

// refresh reads the links between gpus if they are others than before, or the last look is long ago.
func (c *linkCache) refresh(r *Reader, gpus []handle) {
	uuids := make([]string, len(gpus))
	for i, h := range gpus {
		uuids[i] = h.uuid
	}
	slices.Sort(uuids)
	key := strings.Join(uuids, ",")
	now := r.now()
	if age := now.Sub(c.at); key == c.gpus && 0 <= age && age < linksInterval {
		return
	}
	c.at, c.gpus = now, key
	c.links = map[string][]berthv1alpha1.GPULink{}
	for _, a := range gpus {
		for _, b := range gpus {
			if a.uuid == b.uuid {
				continue
			}
			if t, ok := r.linkBetween(a, b); ok {
				c.links[a.uuid] = append(c.links[a.uuid], berthv1alpha1.GPULink{Peer: b.uuid, Type: t})
			}
		}
		slices.SortFunc(c.links[a.uuid], func(x, y berthv1alpha1.GPULink) int { return strings.Compare(x.Peer, y.Peer) })
	}
}

// linkBetween returns the fast connection of two GPUs: NVLink, directly or through NVSwitches, or else a PCIe switch
// that both are behind, without the CPU in between.
func (r *Reader) linkBetween(a, b handle) (berthv1alpha1.LinkType, bool) {
	status, ret := call(r, func() (nvml.GpuP2PStatus, nvml.Return) {
		return a.GetP2PStatus(b.Device, nvml.P2P_CAPS_INDEX_NVLINK)
	}, "nvmlDeviceGetP2PStatus")
	if ret == nvml.SUCCESS && status == nvml.P2P_STATUS_OK {
		return berthv1alpha1.LinkNVLink, true
	}
	level, ret := call(r, func() (nvml.GpuTopologyLevel, nvml.Return) {
		return a.GetTopologyCommonAncestor(b.Device)
	}, "nvmlDeviceGetTopologyCommonAncestor")
	if ret == nvml.SUCCESS && level <= nvml.TOPOLOGY_MULTIPLE {
		return berthv1alpha1.LinkPCIe, true
	}
	return "", false
}
