// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/client-go/tools/cache"
	fwk "k8s.io/kube-scheduler/framework"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// handOff returns how the pod can be told its GPUs, or the reason why it cannot on any node. It is looked up anew in
// each cycle: a RuntimeClass comes and goes without a change of the pod.
func (pl *Plugin) handOff(pod *corev1.Pod, r *gpustate.Request) (gpustate.HandOff, alloc.Reason) {
	h := r.HandOff
	name := pod.Spec.RuntimeClassName
	if name == nil || *name == "" {
		return h, ""
	}
	class, err := pl.classes.Get(*name)
	if err != nil {
		return h, gpustate.ReasonNoRuntimeClass // the only error of a lister
	}
	h.Handler = class.Handler
	return h, ""
}

// formOn returns the form in which a node is told the pod's GPUs, or the reason why there is none; neither if the node
// has no report, which is for its view to say.
func (s *cycleState) formOn(ni fwk.NodeInfo) (berthv1alpha1.DeviceForm, alloc.Reason) {
	report, _ := s.viewer.Snapshot.Report(ni.Node().Name, 0)
	if report == nil {
		return "", ""
	}
	return s.handOff.FormOn(ni.Node(), report)
}

// canHandOff says whether a node could tell a waiting pod its GPUs, by what is known now.
func (pl *Plugin) canHandOff(p *waitingPod, node *corev1.Node) bool {
	report, _ := pl.tracker.Store.Report(node.Name, 0)
	if report == nil {
		return false
	}
	h, reason := pl.handOff(p.pod, p.request)
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
	pl.activate(slices.DeleteFunc(pl.waiting.all(), func(p *waitingPod) bool {
		name := p.pod.Spec.RuntimeClassName
		return name == nil || *name != class.Name
	}))
}

// cacheDelay is how long the scheduler's own handler of an event is given to bring it into its cache.
const cacheDelay = time.Second

// nodeSeen retries the waiting pods that other runtime handlers of a node help: now, and once more when the scheduler's
// own cache, whose nodes Filter is handed, has surely heard of it too.
func (pl *Plugin) nodeSeen(old, node *corev1.Node) {
	if sameHandlers(old, node) {
		return
	}
	name := node.Name
	pl.nodeReshaped(name)
	pl.timers.at("handlers/"+name, pl.clock.Now().Add(cacheDelay), func() { pl.nodeReshaped(name) })
}

func sameHandlers(a, b *corev1.Node) bool {
	return slices.EqualFunc(a.Status.RuntimeHandlers, b.Status.RuntimeHandlers,
		func(a, b corev1.NodeRuntimeHandler) bool { return a.Name == b.Name })
}

// explainHandOff says, for people, what is in the way on the first node whose container runtime takes no GPUs; empty if
// there is none.
func (pl *Plugin) explainHandOff(s *cycleState, m fwk.NodeToStatusReader) string {
	nodes, err := m.NodesForStatusCode(pl.handle.SnapshotSharedLister().NodeInfos(), fwk.UnschedulableAndUnresolvable)
	if err != nil {
		return ""
	}
	nodes = nodes[:min(len(nodes), maxExplained)]
	slices.SortFunc(nodes, func(a, b fwk.NodeInfo) int { return strings.Compare(a.Node().Name, b.Node().Name) })
	for _, ni := range nodes {
		if _, reason := s.formOn(ni); reason != gpustate.ReasonNoHandOff {
			continue
		}
		report, _ := s.viewer.Snapshot.Report(ni.Node().Name, 0)
		if note := report.HandOffNote(s.handOff.Handler); note != "" {
			return "on node " + ni.Node().Name + ": " + note
		}
	}
	return ""
}
