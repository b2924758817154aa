// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// remembered is the last view of a node together with what it was derived from: from one cycle to the next, few nodes
// of thousands change. A view is used again only if each of its inputs is the very same object, so nothing has to be
// told to forget it, and it cannot be out of date.
type remembered struct {
	generation int64
	node       *corev1.Node
	fresh      bool
	dra        *NodeDRA
	mix        *Mix
	// list is the ledger's list of the node, and entries what it pointed to.
	list    *nodeList
	entries *[]*Entry
	view    View
	fits    fits
	derived atomic.Value
}

// Derived returns what SetDerived was last told, or nil.
func (v *View) Derived() any {
	if v.derived == nil {
		return nil
	}
	return v.derived.Load()
}

// SetDerived keeps what was found out from the view apart from what is held on it, always of one type, while the view can
// be recalled.
func (v *View) SetDerived(found any) {
	if v.derived != nil {
		v.derived.Store(found)
	}
}

// Fit is how a request fits on a view: whether it does, and the score of its best allocation, 0 to 100; else why not, by
// a number below 128 of the caller's.
type Fit struct {
	Fits  bool
	Score int64
	Why   uint8
}

// fits remembers what was found out for the last few kinds of requests on a view. Each word is the number of what is
// asked for, above 8 bits: one that says that it fits, seven of the score, or of why not.
type fits [4]atomic.Uint64

// Fit returns what RememberFit was told for what is asked for under a number.
func (v *View) Fit(number uint64) (Fit, bool) {
	if v.fits == nil || number == 0 {
		return Fit{}, false
	}
	word := v.fits[number%uint64(len(v.fits))].Load()
	f := Fit{Fits: word&(1<<7) != 0}
	if rest := word & (1<<7 - 1); f.Fits {
		f.Score = int64(rest)
	} else {
		f.Why = uint8(rest)
	}
	return f, word>>8 == number
}

// RememberFit keeps what was found out for all requests that ask for the same, while the view can be recalled. The
// number, greater than zero, must never stand for anything else.
func (v *View) RememberFit(number uint64, f Fit) {
	if v.fits == nil || number == 0 {
		return
	}
	word := number<<8 | uint64(f.Why)
	if f.Fits {
		word = number<<8 | uint64(f.Score) | 1<<7
	}
	v.fits[number%uint64(len(v.fits))].Store(word)
}

// The kinds of queries that see a node differently.
const (
	// memoLoaded sees everyone loaded.
	memoLoaded = iota
	// memoAnybody is for no pod, memoMeasuring for one that mis-measures next to any that loads, and memoOther for the others.
	memoAnybody
	memoMeasuring
	memoOther
	// memoDrained sees all memory back that is on its way, and everyone loaded. Its views are explained.
	memoDrained
	memoKinds
)

// memoKind says which kind q is: apart from its own bookings, a pod matters to a view only by how it gets on with
// pods that load. It is negative for queries whose views depend on more than is compared.
func (q *Query) memoKind() int {
	switch {
	case q.Generation == 0 || len(q.Gone) > 0 || q.Drained && !q.Loaded:
		return -1
	case q.Drained:
		return memoDrained
	case q.Loaded:
		return memoLoaded
	case q.Runtime == "":
		return memoAnybody
	case measuresFreeMemory(q.Runtime):
		return memoMeasuring
	}
	return memoOther
}

// Recall returns the view of a node as View would derive it, if View did so before with a list of pods of the same
// generation, and nothing else has changed since. It does not need the list.
func (v *Viewer) Recall(node *corev1.Node, q *Query) (View, bool) {
	kind := q.memoKind()
	slot := v.Snapshot.slot(node.Name)
	if kind < 0 || slot == nil {
		return View{}, false
	}
	r := slot.memos[kind].Load()
	if r == nil || r.generation != q.Generation || r.node != node || r.dra != v.dra(node.Name) || r.mix != v.Mix || r.entries != r.list.Load() ||
		r.fresh == slot.state.stale(v.Snapshot.sinceStart, v.Policy.StaleAfter) || v.isBooked(q.Pod) {
		return View{}, false
	}
	return v.keepApart(v.chargeClaims(r.view, q), q), true
}

// isBooked says whether a pod has a booking, which it does not see. Claims are not part of what is remembered.
func (v *Viewer) isBooked(uid types.UID) bool {
	e := v.Ledger.Get(uid)
	return e != nil && e.State != Claimed
}

// remember keeps a view in the place of the last one of its kind, which must not be negative.
func (v *Viewer) remember(q *Query, r *remembered) {
	// A pod that is booked already sees the node without itself.
	if slot := v.Snapshot.slot(r.node.Name); slot != nil && !v.isBooked(q.Pod) {
		slot.memos[q.memoKind()].Store(r)
	}
}
