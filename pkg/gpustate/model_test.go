// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	testclock "k8s.io/utils/clock/testing"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
)

// cluster is a model of all that surrounds the tracker: the API server, its watches, the scheduler's own cache, the
// bindings under way, and the GPUs of one node with an agent. Everything that is asynchronous in reality is a queue or
// a list here, from which a test takes in the order that it likes.
type cluster struct {
	clock *testclock.FakeClock
	gpus  int
	size  alloc.Bytes // of each GPU

	// pods are the pods of the API server, by UID.
	pods map[types.UID]*bt.Pod
	// processes is what is really in the GPUs' memory, by pod; pods may be gone.
	processes map[types.UID][]alloc.Bytes
	// bindings are requests that were sent and that the API server has not decided.
	bindings []*binding

	// What follows is the scheduler's, and does not survive it.
	tracker *Tracker
	cache   map[types.UID]*corev1.Pod
	// generation counts the changes of cache, over all schedulers.
	generation int64
	node       *corev1.Node
	// watched are the events that the informer has not received, and informed is its store: the pods as it last had
	// them. A watch can break, and lose what is on its way.
	watched  []event
	informed map[types.UID]*corev1.Pod
	// toTracker and toCache are the events that the informer has passed on and the handlers have not run for: each
	// runs in its own time, and misses none.
	toTracker, toCache []event
	reports            []*bt.GPUNode
	cycle              *cycle
	// recovered says that the first cycle of the term has read the bound pods.
	recovered bool
}

type event struct {
	pod  *corev1.Pod
	gone bool
}

// binding is a Binding request. The API server may decide it until its deadline, whether its sender waits or not.
type binding struct {
	pod        *bt.Pod
	allocation *Allocation
	deadline   time.Time
	// abandoned says that the sender gave up waiting: the outcome is in doubt.
	abandoned bool
}

// cycle is a scheduling cycle: what it sees is pinned when it begins.
type cycle struct {
	pod    *bt.Pod
	viewer *Viewer
	listed []*corev1.Pod
	// generation is that of the cache when it was listed.
	generation int64
}

const (
	bindTimeout = 4 * time.Second
	// leaseGap is how long after a scheduler's death the next one begins: longer than bindTimeout.
	leaseGap = 5 * time.Second
)

func newCluster(gpus int, size alloc.Bytes) *cluster {
	c := &cluster{
		clock: testclock.NewFakeClock(epoch), gpus: gpus, size: size,
		node: bt.MakeNode(testNode), pods: map[types.UID]*bt.Pod{}, processes: map[types.UID][]alloc.Bytes{},
	}
	c.startScheduler()
	return c
}

// startScheduler begins with what the API says, as a new process does: its informer lists the pods.
func (c *cluster) startScheduler() {
	c.tracker = NewTracker(alloc.Bytes{}, Policy{LoadTimeout: time.Minute}, c.clock)
	c.cache, c.informed = map[types.UID]*corev1.Pod{}, map[types.UID]*corev1.Pod{}
	c.cycle, c.reports, c.toTracker, c.toCache, c.recovered = nil, nil, nil, nil, false
	c.relist()
	c.tracker.ReportSeen(c.measure().Obj(), false)
}

// recover is what the first cycle of a term does: it waits until the handlers have run for the first list, and books
// what a LIST of now has and they were not told of.
func (c *cluster) recover() error {
	for c.tellTracker() {
	}
	for _, uid := range slices.Sorted(maps.Keys(c.pods)) {
		p := c.pods[uid].Obj()
		if p.Spec.NodeName == "" || c.tracker.Ledger.Get(uid) != nil {
			continue
		}
		a, err := BookingOf(p)
		if err != nil {
			return err
		}
		if a == nil {
			continue
		}
		if err := c.tracker.Ledger.Assume(p, p.Spec.NodeName, a); err != nil {
			return err
		}
		c.tracker.Ledger.MarkUnknown(uid)
	}
	c.recovered = true
	return nil
}

// inform makes the informer receive the next event of its watch.
func (c *cluster) inform() bool {
	if len(c.watched) == 0 {
		return false
	}
	e := c.watched[0]
	c.watched = c.watched[1:]
	c.pass(e)
	return true
}

// relist makes the informer list again, as after a watch that broke: what was on its way is lost, and the difference
// to its store is passed on. A pod is gone as the informer last had it, however much has changed since.
func (c *cluster) relist() {
	c.watched = nil
	for _, uid := range slices.Sorted(maps.Keys(c.informed)) {
		if c.pods[uid] == nil {
			c.pass(event{c.informed[uid], true})
		}
	}
	for _, uid := range slices.Sorted(maps.Keys(c.pods)) {
		c.pass(event{pod: c.pods[uid].Obj()})
	}
}

func (c *cluster) pass(e event) {
	if e.gone {
		delete(c.informed, e.pod.UID)
	} else {
		c.informed[e.pod.UID] = e.pod
	}
	c.toTracker = append(c.toTracker, e)
	c.toCache = append(c.toCache, e)
}

// tellTracker runs the plugin's handler once.
func (c *cluster) tellTracker() bool {
	if len(c.toTracker) == 0 {
		return false
	}
	if e := c.toTracker[0]; e.gone {
		c.tracker.PodGone(e.pod)
	} else {
		c.tracker.PodSeen(e.pod)
	}
	c.toTracker = c.toTracker[1:]
	return true
}

// tellCache runs the handler of the scheduler's own cache once.
func (c *cluster) tellCache() bool {
	if len(c.toCache) == 0 {
		return false
	}
	c.generation++
	if e := c.toCache[0]; e.gone {
		delete(c.cache, e.pod.UID)
	} else if e.pod.Spec.NodeName != "" {
		c.cache[e.pod.UID] = e.pod
	}
	c.toCache = c.toCache[1:]
	return true
}

// measure is what the agent reports now.
func (c *cluster) measure() *bt.GPUNode {
	g := bt.MakeGPUNodeOf(testNode, c.gpus, c.size.String())
	for _, uid := range slices.Sorted(maps.Keys(c.processes)) {
		for i, memory := range c.processes[uid] {
			if !memory.IsZero() {
				g.At(bt.GPU(i)).Process(uid, fmt.Sprint(memory.Uint64()))
			}
		}
	}
	return g
}

// beginCycle pins what a cycle sees. Cycles run one at a time.
func (c *cluster) beginCycle(pod *bt.Pod) error {
	if !c.recovered {
		if err := c.recover(); err != nil {
			return err
		}
	}
	c.cycle = &cycle{pod: pod, viewer: c.tracker.Viewer(), generation: c.generation}
	for _, uid := range slices.Sorted(maps.Keys(c.cache)) {
		c.cycle.listed = append(c.cycle.listed, c.cache[uid])
	}
	return nil
}

// endCycle plans, books and sends a Binding, if the pod fits.
func (c *cluster) endCycle() error {
	cy := c.cycle
	c.cycle = nil
	request, _, err := requestOf(cy.pod.Obj())
	if err != nil {
		return err
	}
	q := Query{Pod: cy.pod.ObjectMeta.UID, Runtime: request.Runtime, Generation: cy.generation}
	v, ok := cy.viewer.Recall(c.node, &q)
	if !ok {
		v = cy.viewer.View(c.node, cy.listed, &q)
	}
	best, ok := alloc.Best(&v.Node, &request.Request, alloc.MostAllocated)
	if v.Reason != "" || !ok {
		return nil
	}
	if err := alloc.Validate(&v.Node, best.Devices); err != nil {
		return err
	}
	a := request.Allocation(&best, &v.Node)
	if err := c.tracker.Ledger.Assume(cy.pod.Obj(), testNode, a); err != nil {
		return err
	}
	c.generation++
	assumed := cy.pod.Obj()
	assumed.Spec.NodeName = testNode
	c.cache[cy.pod.ObjectMeta.UID] = assumed
	c.bindings = append(c.bindings, &binding{pod: cy.pod, allocation: a, deadline: c.clock.Now().Add(bindTimeout)})
	return nil
}

// apply is the API server deciding a Binding: it binds the pod if it is there and not bound.
func (c *cluster) apply(b *binding) (bound bool, err error) {
	c.bindings = slices.DeleteFunc(c.bindings, func(o *binding) bool { return o == b })
	p := c.pods[b.pod.ObjectMeta.UID]
	if p == nil || p.Spec.NodeName != "" {
		return false, nil
	}
	encoded, err := EncodeAllocation(b.allocation)
	if err != nil {
		return false, err
	}
	p.Bound(testNode, c.clock.Now()).Allocation(encoded)
	c.watched = append(c.watched, event{pod: p.Obj()})
	return true, nil
}

// bindWithout is somebody else's Binding, that the API server accepts.
func (c *cluster) bindWithout(p *bt.Pod) {
	p.Node(testNode)
	c.watched = append(c.watched, event{pod: p.Obj()})
}

// unreserve is what the scheduler does when a Binding failed: its cache and the plugin forget the pod.
func (c *cluster) unreserve(b *binding) {
	c.generation++
	delete(c.cache, b.pod.ObjectMeta.UID)
	c.tracker.Ledger.Forget(b.pod.ObjectMeta.UID)
}

// promised is what is booked on each GPU, or may come to be: by bound pods, and by Bindings that are not decided.
func (c *cluster) promised() ([]alloc.Bytes, error) {
	out := make([]alloc.Bytes, c.gpus)
	add := func(a *Allocation) {
		if a == nil {
			return
		}
		for _, d := range a.Devices {
			for i := range out {
				if d.UUID == bt.GPU(i) {
					out[i] = out[i].Plus(d.Memory)
				}
			}
		}
	}
	for _, p := range c.pods {
		if p.Spec.NodeName == "" {
			continue
		}
		a, err := BookingOf(p.Obj())
		if err != nil {
			return nil, err
		}
		add(a)
	}
	for _, b := range c.bindings {
		if c.pods[b.pod.ObjectMeta.UID] != nil && b.pod.Spec.NodeName == "" {
			add(b.allocation)
		}
	}
	return out, nil
}
