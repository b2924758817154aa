// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package usage says who uses the GPUs of a cluster: what is booked, measured and idle, added up by namespace, model, owner,
// node pool or label; and which bookings are far from what was measured. It is pure.
package usage

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-dev/berth/pkg/cli/gpumap"
	"github.com/berth-dev/berth/pkg/gpustate"
)

const (
	// APIVersion and Kind are those of the JSON form. Fields are added to it, and never change or go within a version.
	APIVersion = "cli.berth.dev/v1alpha1"
	Kind       = "Usage"
	// TotalName is the name of the row of all. Neither a namespace nor a label has parentheses.
	TotalName = "(total)"
)

// Objects are what usage is made from.
type Objects struct {
	gpumap.Objects
	// Owners are the owner references of what owns pods (ReplicaSets, Jobs, …), by its UID.
	Owners map[types.UID][]metav1.OwnerReference
}

// Usage is who uses what. All memory is in bytes.
type Usage struct {
	metav1.TypeMeta `json:",inline"`
	// Time is when the objects were read, by the clock of the API server.
	Time metav1.Time `json:"time"`
	// By is what the rows are groups of, and Rows the groups, the one with the largest booking first.
	By    string `json:"by"`
	Rows  []Row  `json:"rows"`
	Total Row    `json:"total"`
	// Others is in use on the GPUs by processes of none of the pods that are counted; absent if there is no report.
	Others *int64 `json:"others,omitempty"`
	// RightSizing are the bookings that are far from what was measured, the farthest first, and NotSized the pods of which
	// nothing can be said, with the reason.
	RightSizing []Advice  `json:"rightSizing"`
	NotSized    []Unsized `json:"notSized"`
	// Notes say what could not be read, and what that means for the rest.
	Notes []string `json:"notes,omitempty"`
}

// Row is what a group of pods uses.
type Row struct {
	Name string `json:"name"`
	// Pods is how many there are, and GPUs on how many GPUs they book or hold memory: a GPU that two groups share counts in
	// both, and once in the total.
	Pods int `json:"pods"`
	GPUs int `json:"gpus"`
	// Booked is what was promised to them. A GPU that the device plugin gave away counts as booked whole, in equal parts where
	// several pods share it.
	Booked int64 `json:"booked"`
	// Measured is what their processes hold, without those of UnmeasuredPods, of whose GPUs there is no report.
	Measured       int64 `json:"measured"`
	UnmeasuredPods int   `json:"unmeasuredPods"`
	// Idle is what of Booked is of pods that were measured to compute nothing now. A pod whose activity is not measured is
	// not idle.
	Idle int64 `json:"idle"`
	// Capacity is what can be booked on the GPUs, those of the node pool or all; absent where it is not known, and for
	// groups of pods, which own no GPUs.
	Capacity *int64 `json:"capacity,omitempty"`
}

// holding is what one pod has of one GPU.
type holding struct {
	pod              *pod
	node, uuid       string
	booked, measured int64
	unmeasured       bool
}

// pod is a pod that has something of a GPU.
type pod struct {
	namespace, name string
	// object is nil if the pod was not read; then only its name is known.
	object *corev1.Pod
	idle   bool
	node   string
}

// Build adds up who uses what, on the named nodes or on all if none is named.
func Build(o *Objects, s gpumap.Settings, by By, nodes ...string) (*Usage, error) {
	m, err := gpumap.Build(&o.Objects, s, nodes...)
	if err != nil {
		return nil, err
	}
	b := newBuilder(o, m, nodes)
	u := &Usage{
		TypeMeta: metav1.TypeMeta{APIVersion: APIVersion, Kind: Kind}, Time: m.Time,
		By: by.String(), Notes: slices.Clone(m.Notes),
	}
	if len(o.GPUNodes) > 0 {
		u.Others = &b.others
	}
	g := grouper{objects: o, by: by, nodes: b.nodes}
	u.Rows, u.Total = b.rows(&g)
	u.RightSizing, u.NotSized = b.rightSizing(o)
	u.Notes = append(append(u.Notes, b.notes...), g.notes(len(b.holdings) > 0)...)
	return u, nil
}

// builder finds out what each pod has of each GPU.
type builder struct {
	m        *gpumap.Map
	pods     map[types.UID]*pod
	byName   map[types.NamespacedName]*pod
	nodes    map[string]*corev1.Node
	holdings []holding
	others   int64
	notes    []string
}

func newBuilder(o *Objects, m *gpumap.Map, nodes []string) *builder {
	b := &builder{m: m, pods: map[types.UID]*pod{}, byName: map[types.NamespacedName]*pod{}, nodes: map[string]*corev1.Node{}}
	for i := range o.Pods {
		object := &o.Pods[i]
		p := &pod{namespace: object.Namespace, name: object.Name, object: object, node: object.Spec.NodeName}
		b.pods[object.UID], b.byName[types.NamespacedName{Namespace: object.Namespace, Name: object.Name}] = p, p
	}
	for i := range o.Nodes {
		b.nodes[o.Nodes[i].Name] = &o.Nodes[i]
	}
	reported := map[string]bool{}
	for i := range o.GPUNodes {
		gn := &o.GPUNodes[i]
		reported[gn.Name] = true
		at := slices.IndexFunc(m.Nodes, func(n gpumap.Node) bool { return n.Name == gn.Name })
		if at >= 0 {
			b.node(&m.Nodes[at], gn)
		}
	}
	for i := range o.Pods {
		p := &o.Pods[i]
		asked := len(nodes) == 0 || slices.Contains(nodes, p.Spec.NodeName)
		if p.Spec.NodeName != "" && !reported[p.Spec.NodeName] && asked && !gpustate.HasEnded(p) {
			b.unreported(b.pods[p.UID])
		}
	}
	return b
}

// unreported counts what a pod was promised on a node of which there is no report.
func (b *builder) unreported(p *pod) {
	a, err := gpustate.BookingOf(p.object)
	if err != nil {
		b.notes = append(b.notes, fmt.Sprintf("What pod %s/%s books is not known: %s", p.namespace, p.name, err))
	}
	if err != nil || a == nil {
		return
	}
	for _, share := range a.Devices {
		b.holdings = append(b.holdings, holding{pod: p, node: p.node, uuid: share.UUID, booked: share.Memory.Int64(), unmeasured: true})
	}
}

// rows adds up the groups.
func (b *builder) rows(g *grouper) ([]Row, Row) {
	sums := map[string]*sum{}
	total := newSum(TotalName)
	of := func(name string) *sum {
		if sums[name] == nil {
			sums[name] = newSum(name)
		}
		return sums[name]
	}
	for i := range b.holdings {
		h := &b.holdings[i]
		of(g.groupOf(h.pod)).add(h)
		total.add(h)
	}
	for i := range b.m.Nodes {
		n := &b.m.Nodes[i]
		for j := range n.Devices {
			total.capacity(n.Devices[j].Capacity)
			if g.by.isNodePool() {
				of(g.poolOf(n.Name)).capacity(n.Devices[j].Capacity)
			}
		}
	}
	rows := make([]Row, 0, len(sums))
	for _, s := range sums {
		rows = append(rows, s.row())
	}
	slices.SortFunc(rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(b.Booked, a.Booked), cmp.Compare(b.Measured, a.Measured), cmp.Compare(a.Name, b.Name))
	})
	return rows, total.row()
}

// sum adds up holdings.
type sum struct {
	Row
	pods, unmeasured map[*pod]bool
	gpus             map[[2]string]bool
}

func newSum(name string) *sum {
	return &sum{Row: Row{Name: name}, pods: map[*pod]bool{}, unmeasured: map[*pod]bool{}, gpus: map[[2]string]bool{}}
}

func (s *sum) add(h *holding) {
	s.pods[h.pod], s.gpus[[2]string{h.node, h.uuid}] = true, true
	s.Booked += h.booked
	s.Measured += h.measured
	if h.unmeasured {
		s.unmeasured[h.pod] = true
	}
	if h.pod.idle {
		s.Idle += h.booked
	}
}

func (s *sum) capacity(bytes int64) {
	if s.Capacity == nil {
		s.Capacity = new(int64)
	}
	*s.Capacity += bytes
}

func (s *sum) row() Row {
	s.Pods, s.GPUs, s.UnmeasuredPods = len(s.pods), len(s.gpus), len(s.unmeasured)
	return s.Row
}
