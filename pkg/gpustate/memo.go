// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// memo remembers the last view of each node together with what it was derived from: from one cycle to the next, few
// nodes of thousands change. A view is used again only if each of its inputs is the very same object, so nothing has
// to be told to the memo, and nothing in it can be out of date.
type memo struct{ views sync.Map } // memoKey → *remembered

// memoKey says for whom a view is: apart from its own bookings, a pod matters only by how it gets on with loaders.
type memoKey struct {
	node          string
	vllm, nobody  bool
	ignoreLoading bool
}

type remembered struct {
	generation int64
	node       *corev1.Node
	report     *Report
	fresh      bool
	entries    []*Entry
	view       View
}

// isMemorable says whether a view for the query depends on nothing but the inputs that the memo knows.
func (q *Query) isMemorable(entries []*Entry) bool {
	return q.Generation != 0 && len(q.Removed) == 0 && !q.Returned &&
		!slices.ContainsFunc(entries, func(e *Entry) bool { return e.UID == q.Pod })
}

func (q *Query) memoKey(node string) memoKey {
	return memoKey{node, q.Runtime == berthv1alpha1.RuntimeVLLM, q.Runtime == "", q.IgnoreLoading}
}

// recall returns the view that was derived from the same inputs, or nil. Its devices must not be changed.
func (m *memo) recall(node *corev1.Node, report *Report, fresh bool, entries []*Entry, q *Query) *View {
	v, ok := m.views.Load(q.memoKey(node.Name))
	if !ok {
		return nil
	}
	r := v.(*remembered)
	if r.generation != q.Generation || r.node != node || r.report != report || r.fresh != fresh || !same(r.entries, entries) {
		return nil
	}
	return &r.view
}

// remember keeps a view in the place of the last one.
func (m *memo) remember(node *corev1.Node, report *Report, fresh bool, entries []*Entry, q *Query, view View) {
	m.views.Store(q.memoKey(node.Name), &remembered{q.Generation, node, report, fresh, entries, view})
}

// forget drops the views of a node that has no report any more.
func (m *memo) forget(node string) {
	m.views.Range(func(k, _ any) bool {
		if k.(memoKey).node == node {
			m.views.Delete(k)
		}
		return true
	})
}

// same says whether two slices of the ledger are one: they are copied on write.
func same(a, b []*Entry) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
