// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"math/bits"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/berth-dev/berth/pkg/alloc"
)

// Mix is what a cluster is asked for, and where that may be. It never changes.
type Mix struct {
	kinds *alloc.Mix
	// where has the nodes of those kinds that may not be on all.
	where []placedKind
}

type placedKind struct {
	kind  int
	nodes nodeaffinity.RequiredNodeAffinity
}

// NewMix returns the mix of some kinds; nil if there are none. where has the affinity of each kind, nil = all nodes.
func NewMix(kinds []alloc.Kind, where []*nodeaffinity.RequiredNodeAffinity) *Mix {
	m := &Mix{kinds: alloc.NewMix(kinds)}
	if m.kinds == nil {
		return nil
	}
	for i := range m.kinds.Len() {
		if where[i] != nil {
			m.where = append(m.where, placedKind{i, *where[i]})
		}
	}
	return m
}

// on returns what a node is kept fit for, without what of its host is free; nil without a mix.
func (m *Mix) on(node *corev1.Node) *alloc.Outlook {
	if m == nil {
		return nil
	}
	kinds := ^uint64(0) >> (alloc.MaxKinds - m.kinds.Len())
	for i := range m.where {
		if w := &m.where[i]; kinds&(1<<w.kind) != 0 {
			if ok, err := w.nodes.Match(node); !ok || err != nil {
				kinds &^= 1 << w.kind
			}
		}
	}
	return &alloc.Outlook{Mix: m.kinds, Kinds: kinds}
}

// Ranked is what a pod asks for that was given a rank on a view: the number of its request, 0 for none, and what it takes of the host.
type Ranked struct {
	Shape uint64
	Needs alloc.Host
}

// ranks remembers how good the best place on a view is for the last few pods.
type ranks [16]atomic.Pointer[rank]

type rank struct {
	of   Ranked
	rank int64
}

func (r *ranks) slot(of Ranked) *atomic.Pointer[rank] {
	h := of.Shape ^ bits.RotateLeft64(of.Needs.CPU, 20) ^ bits.RotateLeft64(of.Needs.Memory.Uint64(), 40)
	return &r[h*0x9E3779B97F4A7C15>>60] // Fibonacci hashing
}

// Rank returns what RememberRank was told.
func (v *View) Rank(of Ranked) (int64, bool) {
	if v.ranks == nil {
		return 0, false
	}
	r := v.ranks.slot(of).Load()
	if r == nil || r.of != of {
		return 0, false
	}
	return r.rank, true
}

// RememberRank keeps what was found out for all pods that ask for the same, while the view can be recalled.
func (v *View) RememberRank(of Ranked, is int64) {
	if v.ranks != nil {
		v.ranks.slot(of).Store(&rank{of, is})
	}
}
