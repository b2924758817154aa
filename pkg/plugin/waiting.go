// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// waiting is the pods that were tried, or gated, and are not placed. A pod is listed from the start of its cycle, so
// that a change which arrives while the cycle still looks at the state before it is not lost: Activate is remembered
// for pods in flight.
type waiting struct {
	mu   sync.Mutex
	pods map[types.UID]*waitingPod
}

type waitingPod struct {
	pod *corev1.Pod
	// request is nil while the pod is gated.
	request *gpustate.Request
	// profile is the ModelProfile that a gated pod waits for.
	profile string
}

func newWaiting() *waiting { return &waiting{pods: map[types.UID]*waitingPod{}} }

func (w *waiting) add(p *waitingPod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pods[p.pod.UID] = p
}

func (w *waiting) remove(uid types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.pods, uid)
}

// get returns a waiting pod, or nil.
func (w *waiting) get(uid types.UID) *waitingPod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pods[uid]
}

// all returns the pods that wait for memory.
func (w *waiting) all() []*waitingPod {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*waitingPod
	for _, p := range w.pods {
		if p.request != nil {
			out = append(out, p)
		}
	}
	return out
}

// forProfile returns the pods that are gated until a profile is ready.
func (w *waiting) forProfile(name string) []*waitingPod {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*waitingPod
	for _, p := range w.pods {
		if p.request == nil && p.profile == name {
			out = append(out, p)
		}
	}
	return out
}

// nodeChanged retries the pods that a change of a node can help. The change must have been applied to the tracker.
func (pl *Plugin) nodeChanged(node string) { pl.activateIf(node, pl.canHelp(node)) }

// nodeReshaped retries the waiting pods that a node could ever hold: other devices may help in ways that only a cycle
// finds out, for instance by pods that can be evicted there.
func (pl *Plugin) nodeReshaped(node string) {
	known, err := pl.nodes.Get(node)
	pl.activateIf(node, func(p *waitingPod) bool {
		report, _ := pl.tracker.Store.Report(node, 0)
		return report != nil && (err != nil || pl.canHandOff(p, known)) && alloc.CanEverFit(&alloc.Node{Name: node, Devices: report.Devices}, &p.request.Request)
	})
}

// activateIf retries the waiting pods that a node helps.
func (pl *Plugin) activateIf(node string, helps func(*waitingPod) bool) {
	candidates := pl.waiting.all()
	helped := candidates[:0]
	for _, p := range candidates {
		if pl.waitsFor(p, node) || helps(p) {
			helped = append(helped, p)
		}
	}
	pl.activate(helped)
}

// waitsFor says whether a pod has a plan on a node.
func (pl *Plugin) waitsFor(p *waitingPod, node string) bool {
	plan := pl.plans.get(p.pod.UID)
	return plan != nil && plan.node == node
}

// canHelp says of waiting pods whether they could be placed on a node by what the tracker knows now, and next to what
// plans hold there. It knows nothing of the node's other resources, so it can say yes for nothing, but never no for
// something. The node is looked at once for all pods that see it alike: there may be thousands.
func (pl *Plugin) canHelp(name string) func(*waitingPod) bool {
	node, err := pl.nodes.Get(name)
	if err != nil {
		return func(*waitingPod) bool { return false }
	}
	var viewer *gpustate.Viewer
	views := map[berthv1alpha1.Runtime]gpustate.View{}
	plans := pl.plans.onNode(name)
	return func(p *waitingPod) bool {
		view, ok := views[p.request.Runtime]
		if !ok {
			if viewer == nil {
				viewer = pl.tracker.Viewer()
			}
			view = viewer.View(node, pl.tracker.Ledger.Pods(name), &gpustate.Query{Runtime: p.request.Runtime})
			views[p.request.Runtime] = view
		}
		if view.Reason != "" || !alloc.Fits(&view.Node, &p.request.Request) || !pl.canHandOff(p, node) {
			return false
		}
		if len(plans) == 0 {
			return true
		}
		rest := alloc.Node{Name: name, Devices: slices.Clone(view.Devices)}
		for uid, plan := range plans {
			if uid != p.pod.UID && plan.priority >= corev1helpers.PodPriority(p.pod) {
				book(rest.Devices, plan.devices)
			}
		}
		return alloc.Fits(&rest, &p.request.Request)
	}
}

// book adds shares to what is used of devices.
func book(devices []alloc.Device, shares []alloc.DeviceShare) {
	for _, share := range shares {
		for i := range devices {
			if devices[i].UUID == share.UUID {
				devices[i].Used = devices[i].Used.Plus(share.Memory)
			}
		}
	}
}

// activate puts parked pods at the head of the queue, without backoff.
func (pl *Plugin) activate(pods []*waitingPod) {
	if len(pods) == 0 {
		return
	}
	byKey := make(map[string]*corev1.Pod, len(pods))
	for _, p := range pods {
		byKey[klog.KObj(p.pod).String()] = p.pod
	}
	pl.handle.Activate(klog.FromContext(context.Background()).WithName(Name), byKey)
}
