// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/klog/v2"

	"github.com/berth-dev/berth/internal/eventnote"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/history"
)

// Reasons of the Events that the plugin writes.
const (
	eventAllocated     = "GPUMemoryAllocated"
	eventEvicting      = "EvictingForGPUMemory"
	eventEvicted       = "EvictedForGPUMemory"
	eventWaiting       = "WaitingForGPUMemory"
	eventMemoryNotBack = "GPUMemoryNotReturned"
	eventClaimDropped  = "GPUMemoryClaimDropped"
	eventOverbooked    = "GPUMemoryOverbooked"
	eventLost          = "GPULost"
	eventUnreadable    = "GPUNodeUnreadable" // of a GPUNode
	eventContested     = "GPUReportedTwice"  // of a Node
	eventUnallocated   = "BoundWithoutGPUMemory"
	// The next two are of the scheduler's Lease.
	eventPoliciesMissing = "AdmissionPoliciesMissing"
	eventPoliciesInForce = "AdmissionPoliciesInForce"
	// The next two are of pods on a node whose driver is to be replaced.
	eventEvictedForDriver = "EvictedForDriverUpgrade"
	eventHoldsUpDriver    = "HoldsUpDriverUpgrade"
	actionAllocate        = "Allocating"
	actionEvict           = "Evicting"
	actionWait            = "Waiting"
	actionReadRequest     = "ReadingRequest"
	actionWatch           = "Watching"
	actionReadReport      = "ReadingReport"
	actionCheckPolicies   = "CheckingPolicies"
)

// decisionMessage tells the pod's owner what was chosen and what else would have been possible.
func decisionMessage(r *gpustate.Request, options []alloc.Allocation, n *alloc.Node) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Booked %s", describe(&options[0], n))
	if all := r.On(n).Options(); len(all) > 1 {
		fmt.Fprintf(&b, "; of %d options", len(all))
		for i := range all {
			o := &all[i]
			fits := "does not fit"
			if i == options[0].Option {
				fits = "chosen"
			} else {
				for j := range options {
					if options[j].Option == i {
						fits = "fits too"
					}
				}
			}
			fmt.Fprintf(&b, "%s %s of %s: %s", separator(i), plural(len(o.Shares), "GPU"), o.Shares[0], fits)
		}
	}
	return b.String()
}

func separator(i int) string {
	if i == 0 {
		return ":"
	}
	return ","
}

// describe names the devices of an allocation as people know them: "30Gi on GPU 3 (GPU-1f…)".
func describe(a *alloc.Allocation, n *alloc.Node) string {
	parts := make([]string, len(a.Devices))
	for i, share := range a.Devices {
		index := -1
		for j := range n.Devices {
			if n.Devices[j].UUID == share.UUID {
				index = n.Devices[j].Index
			}
		}
		parts[i] = fmt.Sprintf("%s on GPU %d (%s)", share.Memory, index, share.UUID)
	}
	return strings.Join(parts, ", ") + " of node " + n.Name
}

// logDecision writes the structured record of a placement.
func (pl *Plugin) logDecision(ctx context.Context, pod *corev1.Pod, r *gpustate.Request, options []alloc.Allocation, view *gpustate.View) {
	pl.history.Booked(ctx, pod, &history.Booking{
		Node: view.Name, Devices: options[0].Devices, TensorParallelSize: options[0].TensorParallelSize,
		Viable: len(options), Options: len(r.Options()),
	})
	if v := klog.FromContext(ctx).V(5); v.Enabled() {
		v.Info("Verdicts", "pod", klog.KObj(pod), "node", view.Name, "verdicts", alloc.Explain(&view.Node, r.On(&view.Node)))
	}
}

// event writes an Event on a pod.
func (pl *Plugin) event(pod *corev1.Pod, related runtime.Object, eventType, reason, action, note string) {
	pl.handle.EventRecorder().Eventf(pod, related, eventType, reason, action, "%s", eventnote.Fit(note))
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
