// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
)

const (
	// assignmentsInterval is how often the kubelet is asked which devices its device manager gave away.
	assignmentsInterval = 5 * time.Second
	// assignmentsTrusted is for how long the kubelet's last answer stands. It is short, because the scheduler takes a
	// pod that has run for some seconds, and that no report names, for one that holds nothing.
	assignmentsTrusted = assignmentsInterval + 2*time.Second
	// maxAssigned bounds the pods that are told of one device.
	maxAssigned = 256
)

// Why the report does not know who holds devices through the kubelet.
const (
	assignmentsNotAsked    = "the agent does not ask the kubelet: --pod-resources-socket is empty"
	assignmentsNotAnswered = "the kubelet does not answer on its PodResources socket"
)

// assignments asks the kubelet now and then; when it does not answer, its last answer stands, and after a while it is
// said that it is not known any more.
func (a *Agent) assignments(ctx context.Context) (assigned map[string][]types.UID, unknown string) {
	if a.opts.Assignments == nil {
		return nil, assignmentsNotAsked
	}
	now := a.opts.Clock.Now()
	since := now.Sub(a.assignedAt)
	if a.assignedAt.IsZero() || since < 0 || since >= assignmentsInterval {
		a.assignedAt = now
		a.ask(ctx, now)
	}
	if a.answeredAt.IsZero() || now.Sub(a.answeredAt) > assignmentsTrusted {
		return a.assigned, assignmentsNotAnswered
	}
	return a.assigned, ""
}

// ask asks the kubelet which devices it gave away.
func (a *Agent) ask(ctx context.Context, now time.Time) {
	pods, err := a.opts.Assignments.Assigned(ctx)
	if err != nil {
		a.counters.assignmentErrors.Add(1)
		klog.FromContext(ctx).V(2).Info("Kubelet not asked for its devices", "err", err)
		return
	}
	a.answeredAt = now
	a.assigned = make(map[string][]types.UID, len(pods))
	if len(pods) == 0 {
		return
	}
	uids := uidsByName(a.names(ctx))
	for device, names := range pods {
		for _, name := range names {
			known := uids[name]
			if len(known) == 0 {
				// The device is taken, by whomever. The scheduler knows the pod by this too.
				known = []types.UID{types.UID(name.String())}
			}
			a.assigned[device] = append(a.assigned[device], known...)
		}
	}
}

// names returns the names of the node's pods by UID, as far as they are known.
func (a *Agent) names(ctx context.Context) map[types.UID]types.NamespacedName {
	if a.opts.Names == nil {
		return nil
	}
	names, err := a.opts.Names.Names()
	if err != nil {
		klog.FromContext(ctx).V(2).Info("Names of pods not known", "err", err)
	}
	return names
}

// uidsByName returns the UIDs of the pods of each name, in their order. There are several while the kubelet keeps the logs
// of a pod that was deleted and made again: which of them holds a device is then not known, and all of them are told.
func uidsByName(names map[types.UID]types.NamespacedName) map[types.NamespacedName][]types.UID {
	uids := make(map[types.NamespacedName][]types.UID, len(names))
	for _, uid := range slices.Sorted(maps.Keys(names)) {
		uids[names[uid]] = append(uids[names[uid]], uid)
	}
	return uids
}

// assignedPods returns the pods that hold d through the kubelet, each once.
func (o *owners) assignedPods(d *Device) (out []types.UID) {
	for _, name := range kubeletNames(d) {
		for _, uid := range o.assigned[name] {
			if !slices.Contains(out, uid) && len(out) < maxAssigned {
				out = append(out, uid)
			}
		}
	}
	return out
}

// kubeletNames returns what the kubelet may call a device: see Assignments.
func kubeletNames(d *Device) []string {
	names := []string{d.UUID}
	if d.Parent != "" {
		return names
	}
	names = append(names, strconv.Itoa(d.Index), shortBusID(d.PCIBusID))
	if d.Minor != nil {
		minor := strconv.Itoa(*d.Minor)
		names = append(names, "gpu-"+minor, "nvidia"+minor)
	}
	return names
}

// shortBusID returns a PCI address with four digits of the domain, as device plugins write it; the driver writes eight.
func shortBusID(address string) string { return strings.ToLower(strings.TrimPrefix(address, "0000")) }

// unmatched says which of the given devices is none of the node's, if any: whose GPU is whose is then not known. A UUID
// that is not there is known to be gone, what claims hold is known from the claims, and what has another's PCI address is
// no GPU.
func (o *owners) unmatched(devices []Device) string {
	known := map[string]bool{}
	for i := range devices {
		for _, name := range kubeletNames(&devices[i]) {
			known[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.assigned)) {
		of := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
		if !known[name] && !of("GPU-") && !of("MIG-") && !of("gpu-") && !strings.Contains(name, ":") {
			return fmt.Sprintf("the kubelet gave device %q to pods, and which GPU that is is not known", name)
		}
	}
	return ""
}
