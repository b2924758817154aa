// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpumap

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/internal/redact"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// Objects are what a map is made from.
type Objects struct {
	Nodes    []corev1.Node
	Pods     []corev1.Pod
	GPUNodes []berthv1alpha1.GPUNode
	// Unreadable says, by node, why its GPUNode cannot be read; such a one is not among GPUNodes.
	Unreadable map[string]string
	Profiles   []berthv1alpha1.ModelProfile
	// Leases are those of the agents. LeasesUnknown says that they could not be read: then nobody counts as silent.
	Leases        []coordinationv1.Lease
	LeasesUnknown bool
	// Slices and Claims are those of dynamic resource allocation.
	Slices []resourcev1.ResourceSlice
	Claims []resourcev1.ResourceClaim
	// Time is when they were read, by the clock of the API server: Leases tell time by the cluster's clocks, of which
	// the user's machine need not know.
	Time time.Time
	// Notes say what could not be read.
	Notes []string
}

// Settings are the scheduler's arguments that a map depends on: those of BerthArgs of the same names.
type Settings struct {
	Headroom    resource.Quantity `json:"headroom"`
	StaleAfter  metav1.Duration   `json:"staleAfter"`
	LoadTimeout metav1.Duration   `json:"loadTimeout"`
	// DRADrivers and GPUResources say who else owns GPUs.
	DRADrivers   []string `json:"draDrivers"`
	GPUResources []string `json:"gpuResources"`
}

const (
	defaultStaleAfter  = 60 * time.Second
	defaultLoadTimeout = 15 * time.Minute
)

// Build derives the map of the named nodes, of all nodes with GPUs if none is named. It fails on a name that no node
// has.
func Build(o *Objects, s Settings, names ...string) (*Map, error) {
	b := newBuilder(o, s)
	m := &Map{
		TypeMeta: metav1.TypeMeta{APIVersion: APIVersion, Kind: Kind},
		Time:     metav1.NewTime(o.Time), Nodes: []Node{}, PendingPods: []PendingPod{}, Notes: o.Notes,
	}
	for _, name := range names {
		if !slices.ContainsFunc(o.Nodes, func(n corev1.Node) bool { return n.Name == name }) {
			return nil, fmt.Errorf("there is no node %q", name)
		}
	}
	for i := range o.Nodes {
		node := &o.Nodes[i]
		if len(names) > 0 && !slices.Contains(names, node.Name) || len(names) == 0 && !b.hasGPUs(node) {
			continue
		}
		m.Nodes = append(m.Nodes, b.node(node))
	}
	for i := range o.Pods {
		if isPending(&o.Pods[i]) {
			m.PendingPods = append(m.PendingPods, b.pending(&o.Pods[i]))
		}
	}
	slices.SortFunc(m.Nodes, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(m.PendingPods, func(a, b PendingPod) int {
		return cmp.Or(a.Since.Compare(b.Since.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return m, nil
}

// builder holds the objects by what they are looked up by, and the scheduler's view of them.
type builder struct {
	settings Settings
	now      time.Time
	viewer   *gpustate.Viewer
	policy   *gpustate.Policy
	reports  map[string]*berthv1alpha1.GPUNode
	renewed  map[string]time.Time
	profiles map[string]*berthv1alpha1.ModelProfile
	// pods are those of each node that have not ended, which is what the scheduler counts.
	pods map[string][]*corev1.Pod
	byID map[types.UID]*corev1.Pod
	// unreadable is Objects.Unreadable.
	unreadable map[string]string
}

func newBuilder(o *Objects, s Settings) *builder {
	b := &builder{
		settings: s, now: o.Time,
		reports: map[string]*berthv1alpha1.GPUNode{}, renewed: map[string]time.Time{},
		profiles: map[string]*berthv1alpha1.ModelProfile{},
		pods:     map[string][]*corev1.Pod{}, byID: map[types.UID]*corev1.Pod{},
	}
	tracker := NewTracker(o, s)
	for i := range o.GPUNodes {
		b.reports[o.GPUNodes[i].Name] = &o.GPUNodes[i]
	}
	for i := range o.Leases {
		if l := &o.Leases[i]; l.Spec.RenewTime != nil {
			b.renewed[l.Name] = renewedAt(l, o.Time)
		}
	}
	for i := range o.Pods {
		if pod := &o.Pods[i]; isOnNode(pod) {
			b.pods[pod.Spec.NodeName] = append(b.pods[pod.Spec.NodeName], pod)
			b.byID[pod.UID], b.byID[gpustate.ReportedUID(pod)] = pod, pod
		}
	}
	for i := range o.Profiles {
		b.profiles[o.Profiles[i].Name] = &o.Profiles[i]
	}
	b.viewer, b.policy, b.unreadable = tracker.Viewer(), &tracker.Policy, o.Unreadable
	return b
}

// hasGPUs says whether a node has GPUs, reported or advertised.
func (b *builder) hasGPUs(node *corev1.Node) bool {
	return b.reports[node.Name] != nil || b.unreadable[node.Name] != "" || b.policy.AdvertisesGPUs(node) || b.viewer.DRA.OnNode(node.Name) != nil
}

func (b *builder) node(node *corev1.Node) Node {
	view := b.viewer.Explain(node, b.pods[node.Name], &gpustate.Query{})
	n := Node{Name: node.Name, Reason: string(view.Reason), Pool: NodePool(node), Devices: []Device{}}
	if renewed, ok := b.renewed[node.Name]; ok {
		n.LastHeard = &metav1.Time{Time: renewed}
	}
	reported := map[string]*berthv1alpha1.GPUDevice{}
	if report := b.reports[node.Name]; report != nil {
		n.DriverVersion = report.Status.DriverVersion
		for i := range report.Status.Devices {
			reported[report.Status.Devices[i].UUID] = &report.Status.Devices[i]
		}
	}
	for i := range view.Devices {
		n.Devices = append(n.Devices, b.device(&view, i, reported[view.Devices[i].UUID]))
	}
	slices.SortStableFunc(n.Devices, func(a, b Device) int { return cmp.Compare(a.Index, b.Index) })
	n.Problems = append(nodeProblems(node), b.podProblems(node.Name, reported, view.Charges)...)
	if view.Report != nil {
		if _, unknown := view.Report.Cordoned(node); len(unknown) > 0 {
			n.Problems = append(n.Problems, fmt.Sprintf("its annotation %s names what it does not report: %s",
				berthv1alpha1.AnnotationCordonedGPUs, strings.Join(unknown, ", ")))
		}
	}
	if problem := b.unreadable[node.Name]; problem != "" {
		n.Problems = append(n.Problems, "its report cannot be read: "+problem)
	}
	if report := b.reports[node.Name]; report != nil {
		n.Problems = append(n.Problems, gpustate.HandOffProblems(node, report.Status.HandOff)...)
	}
	return n
}

// nodeProblems are what keeps any pod away from a node.
func nodeProblems(node *corev1.Node) []string {
	var problems []string
	if node.Spec.Unschedulable {
		problems = append(problems, "the node is cordoned")
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue {
			problems = append(problems, "the node is not Ready: "+c.Message)
		}
	}
	return problems
}

// podProblems name the pods of a node that were given nothing, or what cannot be read, or devices that are not shown.
func (b *builder) podProblems(node string, reported map[string]*berthv1alpha1.GPUDevice, charges []gpustate.Charge) []string {
	var problems []string
	for _, pod := range b.pods[node] {
		a, err := gpustate.BookingOf(pod)
		switch {
		case gpustate.LacksAllocation(pod):
			problems = append(problems, fmt.Sprintf("pod %s/%s asks for GPU memory and was bound without any: delete it, so that it is placed anew",
				pod.Namespace, pod.Name))
		case err != nil:
			problems = append(problems, fmt.Sprintf("what pod %s/%s may use is not known: %s", pod.Namespace, pod.Name, err))
		case a != nil:
			for _, share := range a.Devices {
				if reported[share.UUID] == nil {
					problems = append(problems, fmt.Sprintf("pod %s/%s was given %s, which is not reported%s",
						pod.Namespace, pod.Name, share.UUID, whereCharged(charges, pod.UID, share.UUID)))
				}
			}
		}
	}
	return problems
}

// whereCharged says where the booking on a device that is not reported counts, if anywhere.
func whereCharged(charges []gpustate.Charge, pod types.UID, uuid string) string {
	for i := range charges {
		for _, d := range charges[i].Lost {
			if charges[i].UID == pod && d.UUID == uuid && d.Charged {
				return ": it stays booked on what is left of the GPU"
			}
		}
	}
	return ""
}

// device reads device i of a view, of which the agent reported r.
func (b *builder) device(view *gpustate.View, i int, r *berthv1alpha1.GPUDevice) Device {
	d := &view.Devices[i]
	out := Device{
		UUID: d.UUID, Index: d.Index, Model: d.Model, ComputeCapability: r.ComputeCapability, State: StateReady,
		Total: d.Total.Int64(), Capacity: d.Capacity.Int64(), Free: d.Free().Int64(), Pods: []PodShare{},
	}
	switch d.Blocked {
	case alloc.ReasonUnhealthy:
		out.State, out.Reason = StateUnhealthy, r.Reason
	case alloc.ReasonAssigned:
		out.State, out.Reason = StateAssigned, "held whole by "+b.holders(r)
	case alloc.ReasonResourceClaimed:
		out.State, out.Reason = StateAssigned, "held by a resource claim"
	case alloc.ReasonContested:
		out.State, out.Reason = StateContested, "reported by "+strings.Join(b.rivals(view.Name, d.UUID), ", ")+" too"
	case alloc.ReasonCordoned:
		out.State, out.Reason = StateCordoned, "by the node's annotation "+berthv1alpha1.AnnotationCordonedGPUs
	}
	booked, measured := alloc.Bytes{}, view.Foreign[i]
	counted := map[types.UID]bool{}
	for j := range view.Charges {
		c := &view.Charges[j]
		counted[c.UID] = true
		if c.Charged[i].IsZero() {
			continue
		}
		booked, measured = booked.Plus(c.Booked[i]), measured.Plus(c.Measured[i])
		out.Pods = append(out.Pods, b.share(view.Report, c, i))
	}
	// What no pod is charged for is held by processes of pods that are gone, as far as the agent can attribute it.
	var gone alloc.Bytes
	for _, p := range r.Processes {
		if p.PodUID != "" && !counted[p.PodUID] {
			gone = gone.Plus(alloc.BytesOfInt64(p.Memory.Value()))
		}
	}
	gone = gone.Min(view.Foreign[i])
	out.Leaving, out.Foreign = gone.Int64(), view.Foreign[i].Minus(gone).Int64()
	out.Booked, out.Measured = booked.Int64(), measured.Int64()
	slices.SortFunc(out.Pods, func(a, b PodShare) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
	})
	return out
}

func (b *builder) share(report *gpustate.Report, c *gpustate.Charge, i int) PodShare {
	p := PodShare{
		Namespace: c.Namespace, Name: c.Name, UID: c.UID,
		Booked: c.Booked[i].Int64(), Measured: c.Measured[i].Int64(), Charged: c.Charged[i].Int64(),
	}
	pod := b.byID[c.UID]
	if pod != nil {
		p.Model = redact.URI(pod.Annotations[berthv1alpha1.AnnotationModel])
	}
	if pod != nil && !c.Booked[i].IsZero() {
		p.Whole = berthv1alpha1.SharingOf(pod) == berthv1alpha1.ShareNone
		until, loading := gpustate.LoadingUntil(pod, b.settings.LoadTimeout.Duration)
		p.Loading = loading && (until.IsZero() || b.now.Before(until))
	}
	if idle, ok := report.IdleSince(c.UID); ok {
		p.IdleSince = &metav1.Time{Time: idle}
	}
	return p
}

// rivals names the other nodes that report a device.
func (b *builder) rivals(node, uuid string) []string {
	for _, d := range b.viewer.Snapshot.Contested(node, b.policy.StaleAfter) {
		if d.UUID == uuid {
			return d.Nodes
		}
	}
	return nil
}

// holders names the pods that hold a device, or the GPU that it is a part of.
func (b *builder) holders(d *berthv1alpha1.GPUDevice) string {
	var names []string
	for _, pod := range d.Assigned() {
		names = append(names, b.nameOf(pod))
	}
	if len(names) == 0 {
		return "whoever holds " + d.Parent
	}
	return strings.Join(names, ", ")
}

// nameOf names a pod for people.
func (b *builder) nameOf(uid types.UID) string {
	if pod := b.byID[uid]; pod != nil {
		return "pod " + pod.Namespace + "/" + pod.Name
	}
	return "a pod that is gone"
}
