// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// plan is where a pod that fits nowhere yet will go: the node that it is nominated to, the devices that are held for
// it there, and the victims that it waits for, if any.
type plan struct {
	node    string
	devices []alloc.DeviceShare
	victims []*corev1.Pod
	// priority is the pod's.
	priority int32
	// lost says that the place went to a pod of higher priority. Nothing is held for the plan any more, but nobody else is
	// evicted before its victims are gone.
	lost   bool
	madeAt time.Time
	// deadline is when the plan is given up, if the memory is not back by then.
	deadline time.Time
}

// plans are the plans of pods, by pod. They survive a nomination that the framework cleared, and the pods that they
// wait for. After a restart they are made again, see held and waitPlan.
type plans struct {
	mu    sync.Mutex
	byPod map[types.UID]*plan
	// givenUp are the nodes on which a pod has waited in vain, and until when it does not wait there again.
	givenUp map[types.UID]map[string]time.Time
	// going are the pods that were deleted to make room, until they are gone: the informer may tell later that they
	// terminate, and nobody else must be evicted meanwhile.
	going promisedPods
	// evictedIdle are the controllers that lost a pod to an idle eviction, and when: such a controller's pods cannot
	// themselves evict idle pods for a while, or two Deployments would evict each other in turns.
	evictedIdle map[types.UID]time.Time
}

// rotationGuard is how long a controller that lost a pod to an idle eviction cannot use one.
const rotationGuard = time.Hour

func newPlans() *plans {
	return &plans{
		byPod: map[types.UID]*plan{}, givenUp: map[types.UID]map[string]time.Time{}, going: promisedPods{},
		evictedIdle: map[types.UID]time.Time{},
	}
}

// get returns the plan of a pod, or nil.
func (p *plans) get(uid types.UID) *plan {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.byPod[uid]
}

// set returns the plan that the new one takes the place of, or nil.
func (p *plans) set(uid types.UID, next *plan) (before *plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before = p.byPod[uid]
	p.byPod[uid] = next
	return before
}

// drop forgets all about a pod, which is bound or gone, and returns its plan, or nil.
func (p *plans) drop(pod *corev1.Pod) (before *plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before = p.byPod[pod.UID]
	delete(p.byPod, pod.UID)
	delete(p.givenUp, pod.UID)
	p.going.remove(pod)
	return before
}

// setGoing notes that a pod was deleted to make room; drop ends it.
func (p *plans) setGoing(pod *corev1.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.going.add(pod)
}

// isGoing says whether a pod was deleted to make room.
func (p *plans) isGoing(pod *corev1.Pod) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.going[pod.Spec.NodeName].Has(pod.UID)
}

// promisedPods are pods whose memory comes back without anybody else being evicted, by node.
type promisedPods map[string]sets.Set[types.UID]

func (p promisedPods) add(pod *corev1.Pod) {
	if p[pod.Spec.NodeName] == nil {
		p[pod.Spec.NodeName] = sets.New[types.UID]()
	}
	p[pod.Spec.NodeName].Insert(pod.UID)
}

func (p promisedPods) remove(pod *corev1.Pod) {
	if on := p[pod.Spec.NodeName]; on.Has(pod.UID) {
		if on.Delete(pod.UID); len(on) == 0 {
			delete(p, pod.Spec.NodeName)
		}
	}
}

// onNode returns the plans that hold anything on a node, by pod; nil if there are none.
func (p *plans) onNode(node string) (found map[types.UID]*plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for uid, held := range p.byPod {
		if held.node == node && !held.lost {
			if found == nil {
				found = map[types.UID]*plan{}
			}
			found[uid] = held
		}
	}
	return found
}

// giveUp drops a pod's plan; if it waited in vain, it does not wait on that node again until a moment.
func (p *plans) giveUp(uid types.UID, node string, until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.byPod, uid)
	if until.IsZero() {
		return
	}
	if p.givenUp[uid] == nil {
		p.givenUp[uid] = map[string]time.Time{}
	}
	p.givenUp[uid][node] = until
}

// hasGivenUp says whether a pod has waited in vain on a node.
func (p *plans) hasGivenUp(uid types.UID, node string, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return now.Before(p.givenUp[uid][node])
}

// promised returns the pods whose memory comes back without an eviction for this pod: the victims of other pods' plans,
// and all that were deleted to make room.
func (p *plans) promised(uid types.UID) promisedPods {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := promisedPods{}
	for node, pods := range p.going {
		out[node] = pods.Clone()
	}
	for owner, plan := range p.byPod {
		if owner == uid {
			continue
		}
		for _, v := range plan.victims {
			out.add(v)
		}
	}
	return out
}

// lostIdle notes that a controller lost a pod to an idle eviction; mayEvictIdle says whether a controller's pods may
// use one.
func (p *plans) lostIdle(victim *corev1.Pod, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for uid, at := range p.evictedIdle {
		if now.Sub(at) >= rotationGuard {
			delete(p.evictedIdle, uid)
		}
	}
	p.evictedIdle[controllerOf(victim)] = now
}

func (p *plans) mayEvictIdle(preemptor *corev1.Pod, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.evictedIdle[controllerOf(preemptor)]
	return !ok || now.Sub(at) >= rotationGuard
}

// controllerOf returns the UID of what manages a pod, or the pod's own.
func controllerOf(pod *corev1.Pod) types.UID {
	for i := range pod.OwnerReferences {
		if o := &pod.OwnerReferences[i]; o.Controller != nil && *o.Controller {
			return o.UID
		}
	}
	return pod.UID
}

// held returns what is held on a node for nominated pods of equal or higher priority than the pod of the cycle. The
// framework adds nominated pods only around Filter, and knows nothing of devices.
func (pl *Plugin) held(s *cycleState, ni fwk.NodeInfo) []gpustate.Hold {
	nominated := pl.handle.NominatedPodsForNode(ni.Node().Name)
	var holds []gpustate.Hold
	for _, pi := range nominated {
		pod := pi.GetPod()
		if pod.UID == s.uid || corev1helpers.PodPriority(pod) < s.priority {
			continue
		}
		plan := pl.plans.get(pod.UID)
		if plan == nil {
			plan = pl.adopt(s, pod, ni)
		}
		if plan != nil && !plan.lost && plan.node == ni.Node().Name {
			holds = append(holds, gpustate.Hold{Pod: pod.UID, Devices: plan.devices})
		}
	}
	return holds
}

// adopt makes a plan for a pod that was nominated to a node before this process knew it (by the scheduler before a
// restart): where it fits once the memory that is on its way back is back. Nil if it asks for no memory or cannot fit.
func (pl *Plugin) adopt(s *cycleState, pod *corev1.Pod, ni fwk.NodeInfo) *plan {
	r := pl.resolve(pod)
	if r.request == nil {
		return nil
	}
	q := gpustate.Query{Pod: pod.UID, Runtime: r.request.Runtime, Returned: true, IgnoreLoading: true}
	view := s.viewer.View(ni.Node(), podsOf(ni), &q)
	best, ok := alloc.Best(&view.Node, &r.request.Request, pl.args.Strategy)
	if view.Reason != "" || !ok {
		return nil
	}
	now := pl.clock.Now()
	adopted := &plan{
		node: ni.Node().Name, devices: best.Devices, priority: corev1helpers.PodPriority(pod), madeAt: now,
		deadline: now.Add(pl.args.MemoryReturnTimeout.Duration),
	}
	if !pl.setPlan(pod, adopted) {
		return nil
	}
	return adopted
}

// setPlan gives a pod a plan, and retries it when the plan's time is over; what its last plan held is free for others.
// False if the pod is gone.
func (pl *Plugin) setPlan(pod *corev1.Pod, next *plan) bool {
	before := pl.plans.set(pod.UID, next)
	if got, err := pl.evictor.evaluator.PodLister.Pods(pod.Namespace).Get(pod.Name); err != nil || got.UID != pod.UID {
		pl.dropPlan(pod) // nobody else would: that it is gone may have been told before
		return false
	}
	if before != nil && !before.lost && (before.node != next.node || next.lost) {
		pl.nodeChanged(before.node)
	}
	pl.retryAt("plan/", pod.UID, next.deadline)
	return true
}

// dropPlan forgets the plan of a pod that is bound or gone, and lets others have what it held. It returns the plan.
func (pl *Plugin) dropPlan(pod *corev1.Pod) *plan {
	before := pl.plans.drop(pod)
	if before != nil {
		pl.nodeChanged(before.node)
	}
	return before
}

// planBound ends the plan of a pod that is bound, and measures how long its victims took to make room.
func (pl *Plugin) planBound(pod *corev1.Pod) {
	if done := pl.dropPlan(pod); done != nil && len(done.victims) > 0 {
		pl.metrics.evictionToBind.Observe(pl.clock.Now().Sub(done.madeAt).Seconds())
	}
}

// retryAt retries a waiting pod at a moment.
func (pl *Plugin) retryAt(why string, uid types.UID, at time.Time) {
	pl.timers.at(why+string(uid), at, func() {
		if p := pl.waiting.get(uid); p != nil {
			pl.activate([]*waitingPod{p})
		}
	})
}
