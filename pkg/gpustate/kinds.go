// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"sync/atomic"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/estimator"
)

// What an engine needs, and takes, depends on the GPU: defaults follow its memory, and CUDA's own memory its model. So a
// request is sized for each kind of GPU that it meets.

// sizes is a request on one kind of GPU.
type sizes struct {
	request alloc.Request
	// layerSplits has, for each option, the layers per device in the engine's order, where the model is known.
	layerSplits [][]int64
	// corrections has, for each option, what is booked on each device beyond the estimate; nil if the model is not known.
	corrections []alloc.Bytes
	// before has, by number of GPUs, what the process holds on each before it looks at what is free.
	before map[int]alloc.Bytes
	notes  []Note
}

// kinds are the sizes of a request by kind of GPU, each found out when it is first asked for.
type kinds struct {
	// general is the size on GPUs of which nothing is known.
	general *sizes
	// size finds out the size on a kind of GPU; nil if it is the same on all. sizing stands for what it goes by.
	size   func(estimator.DeviceInfo) (*sizes, error)
	sizing string
	known  atomic.Pointer[[]sizedKind]
}

type sizedKind struct {
	kind estimator.DeviceInfo
	*sizes
}

// maxKinds bounds how many kinds are kept: a node can report another one each time.
const maxKinds = 64

// fitsNowhere is a request where the engine cannot load the model.
var fitsNowhere = &sizes{}

// On returns what the pod asks for of the GPUs of a node: of their kind if they are alike, else of GPUs of which nothing
// is known. It is safe for concurrent use, and the same whenever it is asked.
func (r *Request) On(n *alloc.Node) *alloc.Request { return &r.sizedOn(n).request }

// Sizing stands for what else than the options decides what On returns: requests with the same options and the same
// sizing are the same on every node.
func (r *Request) Sizing() string { return r.sizing }

func (k *kinds) sizedOn(n *alloc.Node) *sizes {
	kind := kindOf(n)
	if k.size == nil || kind.Total == 0 {
		return k.general
	}
	for {
		known := k.known.Load()
		if known != nil {
			for _, s := range *known {
				if s.kind == kind {
					return s.sizes
				}
			}
		}
		found, err := k.size(kind)
		if err != nil {
			found = fitsNowhere
		}
		longer := []sizedKind{{kind, found}}
		if known != nil && len(*known) < maxKinds {
			longer = append(longer, *known...)
		}
		if k.known.CompareAndSwap(known, &longer) {
			return found
		}
	}
}

// kindOf returns the kind of a node's GPUs, the zero value if they are not alike.
func kindOf(n *alloc.Node) estimator.DeviceInfo {
	if len(n.Devices) == 0 {
		return estimator.DeviceInfo{}
	}
	first := &n.Devices[0]
	for i := 1; i < len(n.Devices); i++ {
		if d := &n.Devices[i]; d.Total != first.Total || d.Model != first.Model {
			return estimator.DeviceInfo{}
		}
	}
	return estimator.DeviceInfo{Total: first.Total.Int64(), Name: first.Model}
}
