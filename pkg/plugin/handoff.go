// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/client-go/tools/cache"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/cycle"
	"github.com/berth-dev/berth/pkg/plugin/parked"
)

// canHandOff says whether a node could tell a waiting pod its GPUs, by what is known now.
func (pl *Plugin) canHandOff(p *parked.Pod, node *corev1.Node) bool {
	report, _ := pl.tracker.Store.Report(node.Name, 0)
	if report == nil {
		return false
	}
	h, reason := pl.requests.HandOff(p.Pod, p.Request)
	if reason == "" {
		_, reason = h.FormOn(node, report)
	}
	return reason == ""
}

// watchHandOff retries waiting pods when a RuntimeClass comes, or a node gets other runtime handlers. Of neither does
// the framework have an event.
func (pl *Plugin) watchHandOff() error {
	factory := pl.handle.SharedInformerFactory()
	if err := pl.handleEvents(factory.Node().V1().RuntimeClasses().Informer(), cache.ResourceEventHandlerDetailedFuncs{
		AddFunc:    func(obj any, _ bool) { pl.classSeen(obj.(*nodev1.RuntimeClass)) },
		UpdateFunc: func(_, obj any) { pl.classSeen(obj.(*nodev1.RuntimeClass)) },
	}); err != nil {
		return err
	}
	return pl.handleEvents(factory.Core().V1().Nodes().Informer(), cache.ResourceEventHandlerDetailedFuncs{
		UpdateFunc: func(old, obj any) { pl.nodeSeen(old.(*corev1.Node), obj.(*corev1.Node)) },
	})
}

// classSeen retries the waiting pods that name the class.
func (pl *Plugin) classSeen(class *nodev1.RuntimeClass) {
	pl.activate(slices.DeleteFunc(pl.parked.All(), func(p *parked.Pod) bool {
		name := p.Spec.RuntimeClassName
		return name == nil || *name != class.Name
	}))
}

// cacheDelay is how long the scheduler's own handler of an event is given to bring it into its cache.
const cacheDelay = time.Second

// nodeSeen retries the waiting pods that other runtime handlers of a node help: now, and once more when the scheduler's
// own cache, whose nodes Filter is handed, has surely heard of it too.
func (pl *Plugin) nodeSeen(old, node *corev1.Node) {
	pl.cordonSeen(old, node)
	if sameHandlers(old, node) {
		return
	}
	name := node.Name
	pl.nodeReshaped(name)
	pl.world.Timers.At("handlers/"+name, pl.clock.Now().Add(cacheDelay), func() { pl.nodeReshaped(name) })
}

func sameHandlers(a, b *corev1.Node) bool {
	return slices.EqualFunc(a.Status.RuntimeHandlers, b.Status.RuntimeHandlers,
		func(a, b corev1.NodeRuntimeHandler) bool { return a.Name == b.Name })
}

// explainHandOff says, for people, what is in the way on the first node whose container runtime takes no GPUs; empty if
// there is none.
func (pl *Plugin) explainHandOff(s *cycle.State, m fwk.NodeToStatusReader) string {
	for _, ni := range pl.toExplain(m, fwk.UnschedulableAndUnresolvable) {
		if _, reason := s.FormOn(ni); reason != gpustate.ReasonNoHandOff {
			continue
		}
		report, _ := s.Viewer.Snapshot.Report(ni.Node().Name, 0)
		if note := report.HandOffNote(s.HandOff.Handler); note != "" {
			return "on node " + ni.Node().Name + ": " + note
		}
	}
	return ""
}
