// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	berthtesting "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/test/integration/harness"
)

// books follows what the API server says of pods, event by event, and checks after each that no GPU is overbooked. It
// also is the agents of all nodes: it reports what bound pods hold, and that it is free some time after they are gone.
type books struct {
	lab *harness.Lab
	t   *testing.T

	mu    sync.Mutex
	nodes map[string]*bookedNode
	// pods are those that were ever bound, by name.
	pods  map[string]*bookedPod
	ready map[string]bool
}

type bookedPod struct {
	stormPod
	uid   types.UID
	class string
}

// bookedNode is what is booked on a node: a pod is on it from its Binding until its memory is reported free.
type bookedNode struct {
	pods map[types.UID]stormPod
	// reporting orders the reports of the node; stored is the last one, and measured who is in it.
	reporting sync.Mutex
	stored    *berthv1alpha1.GPUNode
	measured  map[types.UID]stormPod
}

func newBooks(t *testing.T, lab *harness.Lab) *books {
	return &books{lab: lab, t: t, nodes: map[string]*bookedNode{}, pods: map[string]*bookedPod{}, ready: map[string]bool{}}
}

// addNode reports a node's GPUs, with nobody on them.
func (b *books) addNode(ctx context.Context, name string) error {
	n := &bookedNode{
		pods: map[types.UID]stormPod{}, measured: map[types.UID]stormPod{},
		stored: &berthv1alpha1.GPUNode{ObjectMeta: metav1.ObjectMeta{Name: name}},
	}
	b.mu.Lock()
	b.nodes[name] = n
	b.mu.Unlock()
	if err := b.lab.Client.Create(ctx, n.stored); err != nil {
		return err
	}
	return b.report(ctx, name, func(*bookedNode) {})
}

// report changes who is measured on a node, and reports it.
func (b *books) report(ctx context.Context, name string, change func(*bookedNode)) error {
	b.mu.Lock()
	n := b.nodes[name]
	b.mu.Unlock()
	n.reporting.Lock()
	defer n.reporting.Unlock()
	b.mu.Lock()
	change(n)
	b.mu.Unlock()
	g := berthtesting.MakeGPUNode(name)
	for i := range stormGPUs {
		g.GPU(stormUUID(name, i), stormTotal)
		for uid, pod := range n.measured {
			if share := pod.shares[i]; share > 0 {
				g.Active(uid, resource.NewQuantity(share, resource.BinarySI).String())
			}
		}
	}
	n.stored.Status = g.Obj().Status
	if err := b.lab.Client.Status().Update(ctx, n.stored); err != nil {
		return fmt.Errorf("report of node %s: %w", name, err)
	}
	return nil
}

// reportBooked reports that all pods of a node hold what they booked.
func (b *books) reportBooked(ctx context.Context, name string) error {
	return b.report(ctx, name, func(n *bookedNode) {
		for uid, pod := range n.pods {
			n.measured[uid] = pod
		}
	})
}

func stormUUID(node string, gpu int) string { return fmt.Sprintf("GPU-%s-%d", node, gpu) }

// watch follows the pods until the test ends.
func (b *books) watch() {
	b.t.Helper()
	ctx := b.t.Context()
	pods := b.lab.Clientset.CoreV1().Pods(berthtesting.Namespace)
	list, err := pods.List(ctx, metav1.ListOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	// The server ends a watch that reads too slowly; this one goes on where it ended, and misses nothing.
	w, err := watchtools.NewRetryWatcherWithContext(ctx, list.ResourceVersion, &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return pods.Watch(ctx, options)
		},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(w.Stop)
	go func() {
		for e := range w.ResultChan() {
			pod, ok := e.Object.(*corev1.Pod)
			if !ok {
				b.t.Errorf("the watch of pods says: %v", e.Object)
				return
			}
			b.see(ctx, e.Type, pod)
		}
		if ctx.Err() == nil {
			b.t.Error("the watch of pods ended")
		}
	}()
}

// see books a pod that is bound, and gives back the memory of one that is gone, in time.
func (b *books) see(ctx context.Context, event watch.EventType, pod *corev1.Pod) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			b.ready[pod.Name] = true
		}
	}
	node := pod.Spec.NodeName
	if node == "" {
		return
	}
	n := b.nodes[node]
	if event == watch.Deleted {
		uid := pod.UID
		time.AfterFunc(stormLinger, func() {
			// The books first: the scheduler may act on the report before this test knows that it is written.
			if err := b.report(ctx, node, func(n *bookedNode) { delete(n.pods, uid); delete(n.measured, uid) }); err != nil && ctx.Err() == nil {
				b.t.Error(err)
			}
		})
		return
	}
	if b.pods[pod.Name] != nil {
		return // an update of one that is booked
	}
	booked := stormPod{node: node}
	a, err := gpustate.BookingOf(pod)
	if err != nil || a == nil {
		b.t.Errorf("pod %s is bound without an allocation: %v", pod.Name, err)
		return
	}
	for _, d := range a.Devices {
		for i := range stormGPUs {
			if d.UUID == stormUUID(node, i) {
				booked.shares[i] = int64(d.Memory.Uint64())
			}
		}
	}
	b.pods[pod.Name] = &bookedPod{booked, pod.UID, pod.Spec.PriorityClassName}
	n.pods[pod.UID] = booked
	var sum stormShares
	for _, p := range n.pods {
		sum.add(&p.shares, 1)
	}
	for i, booked := range sum {
		if booked > stormCapacity {
			b.t.Errorf("pod %s overbooks %s: %d of %d bytes", pod.Name, stormUUID(node, i), booked, int64(stormCapacity))
		}
	}
}

// boundOf counts the pods of a priority class that were ever bound.
func (b *books) boundOf(class string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.pods {
		if p.class == class {
			n++
		}
	}
	return n
}

// booked counts the pods that are bound, or gone while their processes linger.
func (b *books) booked() (count int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.nodes {
		count += len(n.pods)
	}
	return count
}

func (b *books) readyCount() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.ready)
}

// everBound returns the pods of a priority class that were ever bound, and where, by name.
func (b *books) everBound(class string) map[string]stormPod {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := map[string]stormPod{}
	for name, p := range b.pods {
		if p.class == class {
			out[name] = p.stormPod
		}
	}
	return out
}

// model returns what is booked now, for the solver.
func (b *books) model() stormModel {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := stormModel{}
	for name, n := range b.nodes {
		model := &stormNode{name: name}
		for i := range model.free {
			model.free[i] = stormCapacity
		}
		for _, p := range b.pods {
			if _, ok := n.pods[p.uid]; ok {
				model.free.add(&p.shares, -1)
				if p.class == "low" {
					model.low = append(model.low, p.shares)
				}
			}
		}
		m[name] = model
	}
	return m
}
