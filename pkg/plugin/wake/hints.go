// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package wake

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/parked"
)

// Hints names the framework's own events that may make a pod schedulable which Berth rejected, or make
// impossible what a pod waits for. Reports, profiles and timers are not among them: their handlers activate the pods
// that they can help, and a registration would only make the framework watch the same objects a second time. resourceClaims
// says that pods may get GPUs by claims.
func (w *Waker) Hints(resourceClaims bool) []fwk.ClusterEventWithHint {
	const nodeChanges = fwk.Add | fwk.Delete | fwk.UpdateNodeAllocatable | fwk.UpdateNodeLabel | fwk.UpdateNodeTaint
	events := []fwk.ClusterEventWithHint{
		{Event: fwk.ClusterEvent{Resource: fwk.AssignedPod, ActionType: fwk.Delete}, QueueingHintFn: w.afterPodDeleted},
		{Event: fwk.ClusterEvent{Resource: fwk.AssignedPod, ActionType: fwk.Add}, QueueingHintFn: w.afterPodAdded},
		{Event: fwk.ClusterEvent{Resource: fwk.Node, ActionType: nodeChanges}, QueueingHintFn: w.afterNodeChanged},
		{Event: fwk.ClusterEvent{Resource: fwk.Node, ActionType: fwk.UpdateNodeAnnotation}, QueueingHintFn: w.afterNodeAnnotated},
	}
	if resourceClaims {
		for _, r := range []fwk.EventResource{fwk.ResourceClaim, fwk.ResourceSlice, fwk.DeviceClass} {
			events = append(events, fwk.ClusterEventWithHint{
				Event: fwk.ClusterEvent{Resource: r, ActionType: fwk.Add | fwk.Update | fwk.Delete}, QueueingHintFn: w.afterClaimsChanged,
			})
		}
	}
	return events
}

// answer is whom an event helps. A hint is asked for each parked pod, of which there may be thousands, with the queue
// locked: so that is found out once for an event.
type answer struct {
	before, after any // the event's objects
	change        parked.Change
	helped        sets.Set[types.UID]
	// late are pods that were listed after the change, as of the list's turn seen: they were not asked about.
	late sets.Set[types.UID]
	seen uint64
}

// answers keeps the last answer.
type answers struct {
	mu   sync.Mutex
	last *answer
}

// question is what an event may do: make room on a node, and end what pods wait for there.
type question struct {
	room bool
	what parked.What
	// ends says of a claim on the node whether it is over what it waited for, or may have become impossible.
	ends func(*gpustate.Entry) bool
}

// answer returns whom an event of a node helps: the pods for which there is room by what the tracker knows, and those
// that wait on the node and have something to do. They are activated too, for a hint alone would leave them in backoff, and not from here,
// for the queue is locked.
func (w *Waker) answer(before, after any, node string, ask func() question) *answer {
	w.answers.mu.Lock()
	defer w.answers.mu.Unlock()
	if a := w.answers.last; a != nil && a.before == before && a.after == after {
		return a
	}
	q := ask()
	a := &answer{before: before, after: after, change: w.Parked.Now(node, q.what)}
	var helped []*parked.Pod
	if q.room {
		helped = w.helped(a.change)
	}
	for _, e := range w.Tracker.Ledger.ClaimsOn(node) {
		if p := w.Parked.Get(e.UID); p != nil && q.ends(e) {
			helped = append(helped, p)
		}
	}
	if len(helped) > 0 {
		a.helped = sets.New[types.UID]()
		for _, p := range helped {
			a.helped.Insert(p.UID)
		}
		w.Parked.Woken(a.change, helped)
		w.Later(func() { w.Activate(helped) })
	}
	w.answers.last = a
	return a
}

// hint is the answer for one pod. A pod that the list does not have, because it was gated or failed to bind, or has
// since after the answer was found, is retried in any case.
func (w *Waker) hint(a *answer, pod *corev1.Pod) fwk.QueueingHint {
	w.answers.mu.Lock()
	defer w.answers.mu.Unlock()
	if now := w.Parked.Turn(); now != a.seen {
		a.late, a.seen = w.Parked.Since(a.change), now
	}
	if a.helped.Has(pod.UID) || a.late.Has(pod.UID) || w.unlisted.has(pod.UID) {
		return fwk.Queue
	}
	return fwk.QueueSkip
}

// afterPodDeleted retries pods for which the deleted one made room. The tracker's handler may have been ahead of the
// scheduler's own cache; this comes after it.
func (w *Waker) afterPodDeleted(_ klog.Logger, pod *corev1.Pod, oldObj, newObj any) (fwk.QueueingHint, error) {
	gone, ok := oldObj.(*corev1.Pod)
	if !ok {
		return fwk.Queue, nil
	}
	// A nominated pod may have held memory where it was nominated to.
	node := cmp.Or(gone.Spec.NodeName, gone.Status.NominatedNodeName)
	return w.hint(w.answer(oldObj, newObj, node, func() question {
		// Whoever evicted it is kept out of the queue until it is gone, see PreEnqueue.
		isVictim := func(v *corev1.Pod) bool { return v.UID == gone.UID }
		return question{room: true, ends: func(e *gpustate.Entry) bool {
			return slices.ContainsFunc(e.Claim.Victims, isVictim)
		}}
	}), pod), nil
}

// afterPodAdded retries pods that wait on the node of a new pod: it may have taken what they need beside GPU memory.
func (w *Waker) afterPodAdded(_ klog.Logger, pod *corev1.Pod, oldObj, newObj any) (fwk.QueueingHint, error) {
	added, ok := newObj.(*corev1.Pod)
	if !ok {
		return fwk.Queue, nil
	}
	a := w.answer(oldObj, newObj, added.Spec.NodeName, func() question {
		// A pod of this scheduler left to nominated pods of its own priority and above what they need.
		return question{ends: func(e *gpustate.Entry) bool {
			return !w.IsOurs(added) || corev1helpers.PodPriority(added) > e.Priority
		}}
	})
	if a.helped.Has(pod.UID) {
		return fwk.Queue, nil
	}
	return fwk.QueueSkip, nil
}

// afterNodeChanged retries pods that could be placed on the node by what the tracker knows, and those that wait on it:
// it may be cordoned, tainted or gone.
func (w *Waker) afterNodeChanged(_ klog.Logger, pod *corev1.Pod, oldObj, newObj any) (fwk.QueueingHint, error) {
	node, ok := cmp.Or(newObj, oldObj).(*corev1.Node)
	if !ok {
		return fwk.Queue, nil
	}
	return w.hint(w.answer(oldObj, newObj, node.Name, func() question {
		q := question{room: newObj != nil, ends: anyClaim}
		if old, ok := oldObj.(*corev1.Node); !ok || !maps.Equal(withOurKeys(old.Labels), withOurKeys(node.Labels)) ||
			berthv1alpha1.DriverGoes(old.Labels) != berthv1alpha1.DriverGoes(node.Labels) {
			q.what = parked.Reshaped // it comes, or is handed over
		}
		return q
	}), pod), nil
}

// afterClaimsChanged retries a pod that would have got a GPU by a resource claim: it may be another claim, class or device
// by now.
func (w *Waker) afterClaimsChanged(_ klog.Logger, pod *corev1.Pod, _, _ any) (fwk.QueueingHint, error) {
	if w.claimants.has(pod.UID) {
		return fwk.Queue, nil
	}
	return fwk.QueueSkip, nil
}

func anyClaim(*gpustate.Entry) bool { return true }

// afterNodeAnnotated retries a pod if an admin says in another way how GPUs are handed over on the node, and one that
// other cordons of its GPUs help, or keep from what it waits for. Other annotations come and go often, and help nobody.
func (w *Waker) afterNodeAnnotated(_ klog.Logger, pod *corev1.Pod, oldObj, newObj any) (fwk.QueueingHint, error) {
	before, ok1 := oldObj.(*corev1.Node)
	after, ok2 := newObj.(*corev1.Node)
	differs := func(key string) bool { return !ok1 || !ok2 || before.Annotations[key] != after.Annotations[key] }
	switch {
	case differs(berthv1alpha1.AnnotationHandOff):
		return fwk.Queue, nil
	case differs(berthv1alpha1.AnnotationCordonedGPUs):
		return w.hint(w.answer(oldObj, newObj, after.Name, func() question {
			return question{room: true, what: parked.Reshaped, ends: anyClaim}
		}), pod), nil
	}
	return fwk.QueueSkip, nil
}

// withOurKeys returns those of some annotations or labels that are Berth's.
func withOurKeys(m map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range m {
		if strings.HasPrefix(k, berthv1alpha1.GroupName+"/") {
			out[k] = v
		}
	}
	return out
}
