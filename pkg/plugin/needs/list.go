// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package needs

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/utils/clock"
)

const (
	// delay is how long after a change pods are judged again: the scheduler's own caches learn of it by other handlers. They
	// may be late, so the pods are judged once more after a pause.
	delay = 100 * time.Millisecond
	// pause is between two looks at a pod: a hundred neighbours that leave one by one are no reason for a hundred cycles.
	pause = 2 * time.Second
)

// List is the pods that wait on a node. It is safe for concurrent use.
type List struct {
	Clock        clock.PassiveClock
	Nodes        corelisters.NodeLister
	VolumeClaims corelisters.PersistentVolumeClaimLister
	// WaitsOn returns the node on which a pod waits; "" for one that waits on none any more.
	WaitsOn func(types.UID) string
	// Judge has a pod judged again at a moment.
	Judge func(types.UID, time.Time)

	mu   sync.Mutex
	pods map[types.UID]*needs
}

// Add lists a pod that waits on a node. It is forgotten some time after it does not any more.
func (l *List) Add(pod *corev1.Pod) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old := l.pods[pod.UID]; old != nil {
		old.pod = pod // what it needs never changes
		return
	}
	if l.pods == nil {
		l.pods = map[types.UID]*needs{}
	}
	l.pods[pod.UID] = needsOf(pod)
}

// judge has those judged again that a change may concern, each with the node on which it waits.
func (l *List) judge(concerns func(n *needs, node string) bool) {
	now := l.Clock.Now()
	due := map[types.UID]time.Time{}
	l.mu.Lock()
	for uid, n := range l.pods {
		node := l.WaitsOn(uid)
		if node == "" {
			delete(l.pods, uid)
			continue
		}
		if !concerns(n, node) {
			continue
		}
		at := now.Add(delay)
		if !n.due.Before(at) {
			continue // the last look that is due will do
		}
		if next := n.due.Add(pause); next.After(at) {
			at = next
		}
		due[uid], n.due = at, at.Add(pause)
	}
	l.mu.Unlock()
	for uid, at := range due {
		l.Judge(uid, at)
		l.Judge(uid, at.Add(pause))
	}
}
