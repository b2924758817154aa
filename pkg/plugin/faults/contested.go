// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/berth-dev/berth/internal/eventnote"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/words"
)

const (
	// ContestedDelay is how long after a report it is looked which GPUs are contested: one that is moved may be in two
	// reports for a moment, and a node that changes its report all the time wakes pods on others this often at most.
	ContestedDelay = 2 * time.Second
	// ContestedAgain is how often it is looked again while reports share a GPU: no event tells that an agent is silent.
	ContestedAgain = 10 * time.Second
	// contestedTellAgain is how soon a node is told of further GPUs.
	contestedTellAgain = time.Minute
)

// contested is what is known of GPUs that several nodes report, see gpustate.Contested.
type contested struct {
	mu    sync.Mutex
	nodes map[string]*contestedNode
}

type contestedNode struct {
	// now are the UUIDs of its contested devices; told, with the nodes that report them too, of whom an Event told last.
	now    []string
	told   []string
	toldAt time.Time
}

// WatchContested looks which GPUs of a node others report too, once reports have settled.
func (w *Watcher) WatchContested(node string) {
	if w.contested.has(node) || w.Tracker.Store.HasRivals(node) {
		w.Timers.At("contested/"+node, w.Clock.Now().Add(ContestedDelay), func() { w.judgeContested(node) })
	}
}

// judgeContested tells of the GPUs of a node that have become contested, and retries the pods that wait for one that is
// not any more. Views need none of this: they are derived from the reports.
func (w *Watcher) judgeContested(node string) {
	devices := w.Tracker.Store.Snapshot().Contested(node, w.Tracker.Policy.StaleAfter)
	now := w.Clock.Now()
	tell, cleared := w.contested.set(node, devices, now)
	if tell {
		w.tellContested(node, devices)
	}
	if cleared {
		w.Wake.NodeReshaped(node)
	}
	if w.contested.has(node) || w.Tracker.Store.HasRivals(node) {
		w.Timers.At("contested/"+node, now.Add(ContestedAgain), func() { w.judgeContested(node) })
	}
}

// tellContested writes an Event on the node that names all nodes in question: which of them lies, an admin has to find out.
func (w *Watcher) tellContested(node string, devices []gpustate.Contested) {
	var parts []string
	for _, d := range devices {
		parts = append(parts, fmt.Sprintf("GPU %d (%s) by %s", d.Index, d.UUID, strings.Join(append([]string{node}, d.Nodes...), " and ")))
	}
	klog.Background().Info("GPUs are reported by several nodes, and count on none of them", "node", node, "devices", devices)
	object, err := w.Nodes.Get(node)
	if err != nil {
		return // it is gone, or its GPUNode was there first: the other nodes are told
	}
	w.Handle.EventRecorder().Eventf(object, nil, corev1.EventTypeWarning, words.EventContested, words.ActionReadReport, "%s", eventnote.Fit(
		"Reported by several nodes, so no pod gets it until only one does: "+strings.Join(parts, "; ")+
			". If it was not moved, the agent or the token of one of these nodes says what is not so"))
}

// set notes the contested devices of a node. It says whether to tell of them, and whether any is not contested any more.
func (c *contested) set(node string, devices []gpustate.Contested, now time.Time) (tell, cleared bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.nodes[node]
	if n == nil {
		n = &contestedNode{}
	}
	var uuids, told []string
	for _, d := range devices {
		uuids = append(uuids, d.UUID)
		told = append(told, d.UUID+" "+strings.Join(d.Nodes, " "))
	}
	isNew := slices.ContainsFunc(told, func(s string) bool { return !slices.Contains(n.told, s) })
	cleared = slices.ContainsFunc(n.now, func(s string) bool { return !slices.Contains(uuids, s) })
	n.now = uuids
	recently := !n.toldAt.IsZero() && now.Sub(n.toldAt) < contestedTellAgain
	if !recently {
		tell, n.told = isNew, told
	}
	if tell {
		n.toldAt = now
	}
	switch {
	case len(uuids) == 0 && !recently:
		delete(c.nodes, node)
	case c.nodes == nil:
		c.nodes = map[string]*contestedNode{node: n}
	default:
		c.nodes[node] = n
	}
	return tell, cleared
}

// has says whether anything is known of a node.
func (c *contested) has(node string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[node] != nil
}
