// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// State is where a booking is in its life:
//
//	  ┌──────── Unclaim ───────┐
//	  ▼   Claim                │   Claim
//	(none) ───────────────▶ Claimed ◀──┐ (moved, renewed)
//	  │ ▲                    │   ▲ └───┘
//	  │ │ Assume             │   │ Forget, Refute: of a pod that had a claim
//	  ▼ │ Forget      Assume ▼   │
//	  ────────────────────▶ Assumed ──── bind sent, answer lost ───▶ Unknown
//	                           │                                     │    │
//	                           │ Confirm: bound, in the API          │    │ Refute:
//	                           ▼                                     │    │ not bound
//	                       Confirmed ◀────────── Confirm ────────────┘    ▼
//	                           │                                        (none)
//	                           │ Leave: the pod is gone
//	                           ▼
//	                       Draining ──── Settle: its memory is back ───▶ (none)
//
// A pod that is gone, or bound, has no claim any more, however that was learnt, and one that is bound without an
// allocation has no promise and no booking either. Every transition is idempotent, and a late one never undoes a later
// one: Forget from a binding goroutine does not take back what the API already confirmed.
type State uint8

const (
	// Assumed is promised by Reserve; the binding is under way.
	Assumed State = iota + 1
	// Unknown is a binding whose outcome could not be confirmed; it counts until it is.
	Unknown
	// Confirmed is seen in the API.
	Confirmed
	// Draining is gone from the API while its processes may still hold memory.
	Draining
	// Claimed is held for a pod that is nominated to the node and waits for memory there. It counts for pods of its own
	// priority and of lower ones.
	Claimed
)

// Entry is one booking. It is immutable: a transition replaces it.
type Entry struct {
	UID       types.UID
	Namespace string
	Name      string
	Node      string
	Priority  int32
	State     State
	// Allocation is what is booked; nil if the pod's annotation could not be read.
	Allocation *Allocation
	// Claim is how a Claimed entry waits; nil in any other state.
	Claim *Claim
	// replaced is the claim that an Assumed or Unknown entry took the place of, and gives it back to.
	replaced *Entry
	// Company is next to whom it may be.
	Company Company
	// Terms are the pod's own terms as a victim.
	Terms Terms
	// Since is when the entry came into its state, by the monotonic clock.
	Since time.Time
	// Measured is whether, when the pod left, a report still had its processes. Only of Draining entries.
	Measured bool
	// Pod is the pod as the informer last had it; nil before it was seen bound.
	Pod *corev1.Pod
	// startedAt is when the newest container of the pod was seen to start, by the monotonic clock; the zero time if
	// none ever did, and then there is no memory to wait for.
	startedAt time.Time
	// starts counts the starts that were seen, to tell a new one.
	starts int32
	// firstReady is when the pod was first seen Ready, by the kubelet's clock; the zero time if it never was.
	firstReady time.Time
}

// Ledger is what is booked: pod → allocation. It is safe for concurrent use. Lookups take no lock, since a cycle
// makes one for each pod of thousands of nodes.
type Ledger struct {
	clock   clock.PassiveClock
	entries sync.Map // types.UID → *Entry
	// nodes holds the entries of each node. The list of a node stays the same object.
	nodes sync.Map // node name → *nodeList
	// claims holds the Claimed entries likewise, apart: views are remembered without them, since they count by priority.
	claims sync.Map

	// choosy counts the entries whose pods want no replica of their own workload beside them.
	choosy atomic.Int64

	mu sync.Mutex // serialises writers
}

// NewLedger returns an empty ledger.
func NewLedger(c clock.PassiveClock) *Ledger { return &Ledger{clock: c} }

// Get returns the entry of a pod, or nil.
func (l *Ledger) Get(uid types.UID) *Entry {
	if e, ok := l.entries.Load(uid); ok {
		return e.(*Entry)
	}
	return nil
}

// Assume books an allocation for a pod that is about to be bound. Assuming the same again changes nothing; assuming
// another place replaces a promise, and fails if the pod may already be bound.
func (l *Ledger) Assume(pod *corev1.Pod, node string, a *Allocation) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.Get(pod.UID)
	if old != nil && old.State != Assumed && old.State != Claimed {
		return fmt.Errorf("pod %s/%s is already booked on node %s", old.Namespace, old.Name, old.Node)
	}
	e := l.newEntry(pod, node, Assumed, a)
	e.replaced = old.claimed()
	l.put(e)
	return nil
}

// Confirm books what the API says that a bound pod was given, whatever was promised: the API is the truth. An
// allocation of nil is one that could not be read. It returns the entry before it, if any.
func (l *Ledger) Confirm(pod *corev1.Pod, a *Allocation) (before *Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before = l.Get(pod.UID)
	if before != nil && before.State == Draining {
		return before // a late update of a pod that is gone
	}
	e := l.newEntry(pod, pod.Spec.NodeName, Confirmed, a)
	e.Pod, e.starts = pod, starts(pod)
	if at, ready := readySince(pod); ready {
		e.firstReady = at
	}
	if before != nil && !before.firstReady.IsZero() {
		e.firstReady = before.firstReady // readiness that was lost, and comes back, starts nothing anew
	}
	switch {
	case before != nil && before.State == Confirmed:
		e.Since, e.startedAt = before.Since, before.startedAt
		if e.starts > before.starts {
			e.startedAt = l.clock.Now()
		}
	case e.starts > 0:
		// Found running: the kubelet's clock is believed once, and never into the future.
		e.startedAt = l.clock.Now()
		if age := e.startedAt.Sub(lastStart(pod)); age > 0 {
			e.startedAt = e.startedAt.Add(-age)
		}
	}
	l.put(e)
	return before
}

// BoundWithout takes back whatever a pod is promised, claims or has booked that the API shows bound without an
// allocation: a pod is bound once, so no Binding of ours can have an effect any more. It returns what was taken back, if
// anything.
func (l *Ledger) BoundWithout(uid types.UID) (before *Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before = l.Get(uid)
	if before == nil || before.State == Draining {
		return nil
	}
	l.delete(before)
	return before
}

// MarkUnknown says that a binding of an assumed pod was sent and its outcome could not be confirmed.
func (l *Ledger) MarkUnknown(uid types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old := l.Get(uid); old != nil && old.State == Assumed {
		e := *old
		e.State, e.Since = Unknown, l.clock.Now()
		l.put(&e)
	}
}

// Forget takes back a promise that was not kept. What may be bound stays: only Assumed entries go.
func (l *Ledger) Forget(uid types.UID) { l.drop(uid, Assumed) }

// Refute takes back a promise whose binding was found, after its deadline, not to have happened.
func (l *Ledger) Refute(uid types.UID) { l.drop(uid, Unknown) }

// Leave says that a pod is gone from the API, or has ended; r is the newest report of its node, or nil. Its booking
// stays, Draining, while its processes may still hold memory, and goes at once where they cannot. Leaving again
// changes nothing. It returns the entry that the pod had.
func (l *Ledger) Leave(uid types.UID, r *Report) (before *Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before = l.Get(uid)
	switch {
	case before == nil || before.State == Draining:
		return before
	case before.State == Claimed:
		l.delete(before)
		return before
	}
	e := *before
	e.replaced = nil
	e.State, e.Since, e.Measured = Draining, l.clock.Now(), r != nil && r.hasProcessesOf(uid)
	if e.settled(r, e.Since) {
		l.delete(before)
	} else {
		l.put(&e)
	}
	return before
}

// How long a pod that was never measured may hold memory after it is gone: one that started less than startGrace
// before may have been about to allocate, so its booking stays until a report that was received at least
// reportDelay after lacks it, or for unmeasuredGrace.
const (
	startGrace      = 2 * time.Second
	reportDelay     = time.Second
	unmeasuredGrace = 5 * time.Second
)

// settled says whether the memory of a draining pod is back, as far as the newest report of its node can tell.
func (e *Entry) settled(r *Report, now time.Time) bool {
	switch {
	case r == nil:
		return true
	case r.hasProcessesOf(e.UID):
		return false // even of a pod that nobody saw start: the driver did
	case e.Measured:
		// It held memory when it left. The report of a cycle's snapshot can be older than that.
		return r.receivedAt.After(e.Since)
	case e.startedAt.IsZero() || e.Since.Sub(e.startedAt) >= startGrace:
		return true
	}
	return r.receivedAt.Sub(e.Since) >= reportDelay || now.Sub(e.Since) >= unmeasuredGrace
}

// Settle forgets a draining pod whose memory is back.
func (l *Ledger) Settle(uid types.UID) { l.drop(uid, Draining) }

// OnNode returns the bookings of a node, without claims. The slice must not be changed.
func (l *Ledger) OnNode(node string) []*Entry { return *l.listOf(node).Load() }

// Nodes returns the names of the nodes that have, or had, bookings.
func (l *Ledger) Nodes() (names []string) {
	l.nodes.Range(func(name, _ any) bool {
		names = append(names, name.(string))
		return true
	})
	return names
}

// dropNode forgets a node that is gone, once nothing is booked or claimed on it.
func (l *Ledger) dropNode(node string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, lists := range []*sync.Map{&l.nodes, &l.claims} {
		if list, ok := lists.Load(node); ok && len(*list.(*nodeList).Load()) == 0 {
			lists.Delete(node)
		}
	}
}

// nodeList points to the entries of one node. They are copied on write, so the pointer is another after each change.
type nodeList = atomic.Pointer[[]*Entry]

func (l *Ledger) listOf(node string) *nodeList { return listIn(&l.nodes, node) }

// listWith returns the list that an entry belongs to.
func (l *Ledger) listWith(e *Entry) *nodeList {
	if e.State == Claimed {
		return listIn(&l.claims, e.Node)
	}
	return l.listOf(e.Node)
}

func listIn(lists *sync.Map, node string) *nodeList {
	if list, ok := lists.Load(node); ok {
		return list.(*nodeList)
	}
	list := &nodeList{}
	list.Store(&[]*Entry{})
	actual, _ := lists.LoadOrStore(node, list)
	return actual.(*nodeList)
}

// Pods returns the bound pods of a node that have a booking, for a view that is made without a NodeInfo.
func (l *Ledger) Pods(node string) []*corev1.Pod {
	entries := l.OnNode(node)
	pods := make([]*corev1.Pod, 0, len(entries))
	for _, e := range entries {
		if e.State == Confirmed {
			pods = append(pods, e.Pod)
		}
	}
	return pods
}

func (l *Ledger) newEntry(pod *corev1.Pod, node string, s State, a *Allocation) *Entry {
	return &Entry{
		UID: pod.UID, Namespace: pod.Namespace, Name: pod.Name, Node: node, Priority: priorityOf(pod),
		State: s, Allocation: a, Since: l.clock.Now(), Terms: termsOf(pod, l.Get(pod.UID)),
		Company: companyOf(pod),
	}
}

func (l *Ledger) drop(uid types.UID, in State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.Get(uid)
	switch {
	case e == nil || e.State != in:
	case e.replaced != nil:
		l.put(e.replaced)
	default:
		l.delete(e)
	}
}

func (l *Ledger) put(e *Entry) {
	old := l.Get(e.UID)
	l.choosy.Add(e.isChoosy() - old.isChoosy()) // before anybody can see it
	if old != nil && (old.Node != e.Node || (old.State == Claimed) != (e.State == Claimed)) {
		l.unlist(old)
	}
	l.entries.Store(e.UID, e)
	l.list(e)
}

func (l *Ledger) delete(e *Entry) {
	l.choosy.Add(-e.isChoosy())
	l.entries.Delete(e.UID)
	l.unlist(e)
}

// isChoosy is 1 for an entry that counts in choosy, else 0.
func (e *Entry) isChoosy() int64 {
	if e != nil && e.Company.Sharing == berthv1alpha1.ShareOtherWorkloads {
		return 1
	}
	return 0
}

func (l *Ledger) list(e *Entry) {
	list := l.listWith(e)
	old := *list.Load()
	entries := make([]*Entry, len(old), len(old)+1)
	copy(entries, old)
	if i := indexOf(entries, e.UID); i >= 0 {
		entries[i] = e
	} else {
		entries = append(entries, e)
	}
	list.Store(&entries)
}

func (l *Ledger) unlist(e *Entry) {
	list := l.listWith(e)
	old := *list.Load()
	if i := indexOf(old, e.UID); i >= 0 {
		entries := slices.Delete(slices.Clone(old), i, i+1)
		list.Store(&entries)
	}
}

func indexOf(entries []*Entry, uid types.UID) int {
	return slices.IndexFunc(entries, func(e *Entry) bool { return e.UID == uid })
}

// BookingOf returns what a pod was given, by its annotation: nil, nil for a pod that has none. That is so of a bound pod
// with a request too, however it got to its node: its containers see no GPU, so it counts as a pod without a request
// does, by what it is measured to hold. An error is an allocation that cannot be read.
func BookingOf(pod *corev1.Pod) (*Allocation, error) {
	s, ok := pod.Annotations[berthv1alpha1.AnnotationAllocation]
	if !ok {
		return nil, nil
	}
	return DecodeAllocation(s)
}

// LacksAllocation says whether a pod asks for GPU memory and is bound without any: somebody else bound it, or its node's
// kubelet made it of a file.
func LacksAllocation(pod *corev1.Pod) bool {
	if pod.Spec.NodeName == "" {
		return false
	}
	_, allocated := pod.Annotations[berthv1alpha1.AnnotationAllocation]
	return !allocated && berthv1alpha1.AsksForGPUMemory(pod)
}
