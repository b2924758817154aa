// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
)

func requestOf(pod *corev1.Pod) (*Request, *alloc.Unresolved, error) {
	parsed, err := berthv1alpha1.ParsePodRequest(pod)
	if err != nil {
		return nil, nil, err
	}
	return NewRequest(pod, parsed, nil, Sizing{})
}

// TestNoSequenceOfEventsOverbooksAGPU: whatever order events arrive in, however late, twice or after a relist, and
// whatever becomes of bindings and schedulers, the bookings of a GPU never exceed it; and once everything has been
// told, what the tracker has booked is what the API says, no more and no less.
func TestNoSequenceOfEventsOverbooksAGPU(t *testing.T) {
	repeats := 10 // of rapid's own number of checks: some mistakes take thousands of sequences to show
	if testing.Short() {
		repeats = 1
	}
	for range repeats {
		rapid.Check(t, checkRandomSequence)
	}
}

func checkRandomSequence(t *rapid.T) {
	c := newCluster(rapid.IntRange(1, 3).Draw(t, "gpus"), alloc.GiB(10))
	created := 0
	podOf := func(t *rapid.T, accept func(*bt.Pod) bool) *bt.Pod {
		of := slices.DeleteFunc(slices.Sorted(maps.Keys(c.pods)), func(uid types.UID) bool { return !accept(c.pods[uid]) })
		if len(of) == 0 {
			t.Skip("no such pod")
		}
		return c.pods[rapid.SampledFrom(of).Draw(t, "pod")]
	}
	bound := func(p *bt.Pod) bool { return p.Spec.NodeName != "" }
	bindingOf := func(t *rapid.T, abandoned bool) *binding {
		var of []*binding
		for _, b := range c.bindings {
			if b.abandoned == abandoned {
				of = append(of, b)
			}
		}
		if len(of) == 0 {
			t.Skip("no such binding")
		}
		return of[rapid.IntRange(0, len(of)-1).Draw(t, "binding")]
	}
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Repeat(map[string]func(*rapid.T){
		"create": func(t *rapid.T) {
			created++
			p := bt.MakePod(fmt.Sprintf("p%d", created)).Memory(fmt.Sprintf("%dGi", rapid.IntRange(2, 10).Draw(t, "memory"))).
				GPUCount(rapid.SampledFrom([]string{"1", "1,2", "2"}).Draw(t, "count"))
			c.pods[p.ObjectMeta.UID] = p
			c.watched = append(c.watched, event{pod: p.Obj()})
		},
		"begin cycle": func(t *rapid.T) {
			if c.cycle != nil {
				t.Skip("a cycle is running")
			}
			check(c.beginCycle(podOf(t, func(p *bt.Pod) bool {
				uid := p.ObjectMeta.UID
				return c.informed[uid] != nil && !bound(p) && c.tracker.Ledger.Get(uid) == nil
			})))
		},
		"end cycle": func(t *rapid.T) {
			if c.cycle == nil {
				t.Skip("no cycle is running")
			}
			check(c.endCycle())
		},
		"bind": func(t *rapid.T) {
			b := bindingOf(t, false)
			ok, err := c.apply(b)
			check(err)
			if !ok {
				c.unreserve(b) // 404 or 409
			}
		},
		"bind without an allocation, as somebody else": func(t *rapid.T) {
			c.bindWithout(podOf(t, func(p *bt.Pod) bool { return !bound(p) }))
		},
		"refuse to bind": func(t *rapid.T) {
			b := bindingOf(t, false)
			c.bindings = slices.DeleteFunc(c.bindings, func(o *binding) bool { return o == b })
			c.unreserve(b)
		},
		"lose the answer to a binding": func(t *rapid.T) {
			b := bindingOf(t, false)
			b.abandoned = true
			if rapid.Bool().Draw(t, "applied") {
				_, err := c.apply(b)
				check(err)
			}
			for rapid.Bool().Draw(t, "told meanwhile") && (c.inform() || c.tellTracker()) {
			}
			c.tracker.Ledger.MarkUnknown(b.pod.ObjectMeta.UID)
			c.unreserve(b)
		},
		"apply an abandoned binding": func(t *rapid.T) {
			_, err := c.apply(bindingOf(t, true))
			check(err)
		},
		"find out about bindings in doubt": func(t *rapid.T) {
			c.expire(t)
			c.findOut()
		},
		"start": func(t *rapid.T) {
			p := podOf(t, func(p *bt.Pod) bool { return bound(p) && !LacksAllocation(p.Obj()) })
			c.run(t, p)
		},
		"delete": func(t *rapid.T) {
			p := podOf(t, func(*bt.Pod) bool { return true })
			delete(c.pods, p.ObjectMeta.UID)
			c.watched = append(c.watched, event{p.Obj(), true})
		},
		"exit": func(t *rapid.T) {
			for _, uid := range slices.Sorted(maps.Keys(c.processes)) {
				if c.pods[uid] == nil {
					delete(c.processes, uid)
					return
				}
			}
			t.Skip("no process without a pod")
		},
		"measure": func(*rapid.T) { c.reports = append(c.reports, c.measure()) },
		"report": func(t *rapid.T) {
			if len(c.reports) == 0 {
				t.Skip("no report")
			}
			c.tracker.ReportSeen(c.reports[0].Obj(), true)
			c.reports = c.reports[1:]
		},
		"inform": func(t *rapid.T) {
			if !c.inform() {
				t.Skip("nothing to inform of")
			}
		},
		"break the watch": func(*rapid.T) { c.relist() },
		"tell the tracker": func(t *rapid.T) {
			if !c.tellTracker() {
				t.Skip("nothing to tell")
			}
		},
		"tell the tracker twice": func(t *rapid.T) {
			if len(c.toTracker) == 0 {
				t.Skip("nothing to tell")
			}
			c.toTracker = append(slices.Clone(c.toTracker[:1]), c.toTracker...)
			c.tellTracker()
		},
		"tell the cache": func(t *rapid.T) {
			if !c.tellCache() {
				t.Skip("nothing to tell")
			}
		},
		"wait": func(t *rapid.T) {
			c.clock.Step(time.Duration(rapid.IntRange(1, 3000).Draw(t, "ms")) * time.Millisecond)
			c.expire(t)
			c.tracker.SettleNode(testNode)
		},
		"restart the scheduler": func(t *rapid.T) {
			for len(c.bindings) > 0 { // decided, one way or the other, before the next leader
				if rapid.Bool().Draw(t, "applied") {
					_, err := c.apply(c.bindings[0])
					check(err)
				} else {
					c.bindings = c.bindings[1:]
				}
			}
			c.clock.Step(leaseGap)
			c.startScheduler()
		},
		"": func(t *rapid.T) {
			promised, err := c.promised()
			check(err)
			for i, b := range promised {
				if c.size.Less(b) {
					t.Fatalf("%s has %s booked of %s", bt.GPU(i), b, c.size)
				}
			}
		},
	})
	c.settle(t)
}

// expire drops the abandoned bindings whose deadline is over: the API server applies none later.
func (c *cluster) expire(*rapid.T) {
	c.bindings = slices.DeleteFunc(c.bindings, func(b *binding) bool { return b.abandoned && c.clock.Now().After(b.deadline) })
}

// findOut reads the pods whose bindings are in doubt, after their deadline, and takes back what did not happen.
func (c *cluster) findOut() {
	for _, e := range c.tracker.Ledger.OnNode(testNode) {
		undecided := slices.ContainsFunc(c.bindings, func(b *binding) bool { return b.pod.ObjectMeta.UID == e.UID })
		if p := c.pods[e.UID]; e.State == Unknown && !undecided && (p == nil || p.Spec.NodeName == "" || LacksAllocation(p.Obj())) {
			c.tracker.Ledger.Refute(e.UID)
		}
	}
}

// run starts a pod's container, which takes some of what it was promised; the API hears of it sooner or later.
func (c *cluster) run(t *rapid.T, p *bt.Pod) {
	a, err := BookingOf(p.Obj())
	if err != nil {
		t.Fatal(err)
	}
	held := make([]alloc.Bytes, c.gpus)
	for _, d := range a.Devices {
		for i := range held {
			if d.UUID == bt.GPU(i) {
				held[i] = d.Memory.DividedUp(uint64(rapid.IntRange(1, 3).Draw(t, "part")))
			}
		}
	}
	c.processes[p.ObjectMeta.UID] = held
	p.Started(c.clock.Now())
	if rapid.Bool().Draw(t, "ready") {
		p.Ready(c.clock.Now())
	}
	c.watched = append(c.watched, event{pod: p.Obj()})
}

// settle lets everything happen that is under way, and checks that the books are then what the API says.
func (c *cluster) settle(t *rapid.T) {
	for _, b := range slices.Clone(c.bindings) {
		if !b.abandoned {
			c.bindings = slices.DeleteFunc(c.bindings, func(o *binding) bool { return o == b })
			c.unreserve(b)
		}
	}
	c.clock.Step(bindTimeout + time.Second)
	c.expire(t)
	c.findOut()
	for c.inform() || c.tellTracker() || c.tellCache() {
	}
	for uid := range c.processes {
		if c.pods[uid] == nil {
			delete(c.processes, uid)
		}
	}
	c.clock.Step(2 * time.Second)
	c.tracker.ReportSeen(c.measure().Obj(), true)

	booked, err := c.promised()
	if err != nil {
		t.Fatal(err)
	}
	var listed []*corev1.Pod
	bound := 0
	for uid, p := range c.pods {
		e := c.tracker.Ledger.Get(uid)
		isBooked := p.Spec.NodeName != "" && !LacksAllocation(p.Obj())
		if isBooked != (e != nil && e.State == Confirmed) {
			t.Fatalf("pod %s on node %q is booked as %v", uid, p.Spec.NodeName, e)
		}
		if isBooked {
			bound++
		}
		if p.Spec.NodeName != "" {
			listed = append(listed, p.Obj())
		}
	}
	if entries := c.tracker.Ledger.OnNode(testNode); len(entries) != bound {
		for _, e := range entries {
			t.Logf("booked: %+v", *e)
		}
		t.Fatalf("%d bookings of %d bound pods", len(entries), bound)
	}
	v := c.tracker.Viewer().View(bt.MakeNode(testNode), listed, &Query{})
	for i := range v.Devices {
		if got := v.Devices[i].Free(); got != c.size.Minus(booked[i]) {
			t.Fatalf("%s has %s free with %s of %s booked", v.Devices[i].UUID, got, booked[i], c.size)
		}
	}
}
