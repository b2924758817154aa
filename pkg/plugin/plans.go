// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
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
	madeAt  time.Time
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
	// evictedIdle are the controllers that lost a pod to an idle eviction, and when: such a controller's pods cannot
	// themselves evict idle pods for a while, or two Deployments would evict each other in turns.
	evictedIdle map[types.UID]time.Time
}

// rotationGuard is how long a controller that lost a pod to an idle eviction cannot use one.
const rotationGuard = time.Hour

func newPlans() *plans {
	return &plans{
		byPod: map[types.UID]*plan{}, givenUp: map[types.UID]map[string]time.Time{}, evictedIdle: map[types.UID]time.Time{},
	}
}

// get returns the plan of a pod, or nil.
func (p *plans) get(uid types.UID) *plan {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.byPod[uid]
}

func (p *plans) set(uid types.UID, next *plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.byPod[uid] = next
}

// drop forgets all about a pod: it is gone.
func (p *plans) drop(uid types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.byPod, uid)
	delete(p.givenUp, uid)
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

// bound forgets the plan of a pod that is bound, and measures how long its victims took to make room.
func (p *plans) bound(uid types.UID, m *pluginMetrics, now time.Time) {
	p.mu.Lock()
	done := p.byPod[uid]
	delete(p.byPod, uid)
	delete(p.givenUp, uid)
	p.mu.Unlock()
	if done != nil && len(done.victims) > 0 {
		m.evictionToBind.Observe(now.Sub(done.madeAt).Seconds())
	}
}

// victims are the pods that the plans of other pods wait for.
func (p *plans) victimsOfOthers(uid types.UID) map[types.UID]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[types.UID]bool{}
	for owner, plan := range p.byPod {
		if owner == uid {
			continue
		}
		for _, v := range plan.victims {
			out[v.UID] = true
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
		if plan != nil && plan.node == ni.Node().Name {
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
		node: ni.Node().Name, devices: best.Devices, madeAt: now, deadline: now.Add(pl.args.MemoryReturnTimeout.Duration),
	}
	pl.plans.set(pod.UID, adopted)
	return adopted
}
