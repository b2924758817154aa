// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/cli/gpumap"
	"github.com/berth-dev/berth/pkg/cli/whatif"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/planner"
)

// APIVersion and Kind are those of the JSON form. Fields are added to it, and never change or go within a version.
const (
	APIVersion = "cli.berth.dev/v1alpha1"
	Kind       = "Plan"
)

// Answer is how many nodes there are to be. Memory is in bytes, CPU in thousandths of one.
type Answer struct {
	metav1.TypeMeta `json:",inline"`
	// Enough says whether there is a number of nodes that is enough; Nodes is that, and Shapes are how many of each.
	Enough bool         `json:"enough"`
	Nodes  int          `json:"nodes"`
	Shapes []ShapeNodes `json:"shapes"`
	// Price is that of all nodes; absent if the shapes have none.
	Price *float64 `json:"price,omitempty"`
	// AtLeast are numbers of nodes that nothing better than is enough. Proven says that they are Shapes: no fewer nodes, or
	// none cheaper, are enough, however pods are placed.
	AtLeast []ShapeNodes `json:"atLeast"`
	Proven  bool         `json:"proven"`
	// Binds are the resources of which one node fewer has too little, and OneFewer what would happen then.
	Binds    []string `json:"binds,omitempty"`
	OneFewer string   `json:"oneFewer,omitempty"`
	// AtOnce is what would happen if all pods were created at once; absent if they would go where Pods says. They go there if
	// each is created once the one before it is Ready.
	AtOnce string `json:"atOnce,omitempty"`
	// Pods are where all pods go; without a plan, those that go nowhere.
	Pods  []whatif.Pod `json:"pods"`
	Notes []string     `json:"notes,omitempty"`

	survive int
	spare   float64
	why     string
	nodes   *gpumap.Map
}

// ShapeNodes are the nodes of a shape.
type ShapeNodes struct {
	Shape string `json:"shape"`
	Nodes int    `json:"nodes"`
	// What follows is about nodes that pods were placed on. GPUs is how many they have, and GPUsUsed those that have a pod.
	GPUs     int `json:"gpus,omitempty"`
	GPUsUsed int `json:"gpusUsed,omitempty"`
	// GPUMemory is what can be booked of them, and Booked what is.
	GPUMemory int64 `json:"gpuMemory,omitempty"`
	Booked    int64 `json:"booked,omitempty"`
	// Usable is what is free on GPUs that one more of these pods could go on, and InPieces what is free on others.
	Usable   int64 `json:"usable,omitempty"`
	InPieces int64 `json:"inPieces,omitempty"`
	// CPU and Memory are what the nodes have beside GPUs, absent if it is not limited; CPURequested and MemoryRequested what
	// pods ask for.
	CPU             int64 `json:"cpu,omitempty"`
	CPURequested    int64 `json:"cpuRequested,omitempty"`
	Memory          int64 `json:"memory,omitempty"`
	MemoryRequested int64 `json:"memoryRequested,omitempty"`
}

// room is what there is on the nodes of a shape.
type room struct {
	capacity, booked, usable, free alloc.Bytes
	used                           int
	cpu, memory                    int64
}

// rooms adds up what there is on the nodes of each shape.
func (a *asking) rooms(p *placement) []room {
	rooms := make([]room, len(a.Shapes))
	classOf := map[string]*planner.Class{}
	for i, name := range a.sized.names {
		classOf[name] = &a.sized.Classes[i]
	}
	at := 0
	for s, n := range p.counts {
		shape := &a.sized.Problem.Shapes[s]
		for range n {
			a.onNode(&rooms[s], p, p.nodes[at].Name, &planner.Left{
				Shape: s, GPUs: slices.Repeat([]alloc.Bytes{shape.Memory}, shape.GPUs), CPU: shape.CPU, HostMemory: shape.HostMemory, Pods: shape.Pods,
			}, classOf)
			at++
		}
	}
	return rooms
}

// onNode adds what there is on a node to its shape's. left is the node while it is empty.
func (a *asking) onNode(r *room, p *placement, node string, left *planner.Left, classOf map[string]*planner.Class) {
	for i := range left.GPUs {
		r.capacity = r.capacity.Plus(left.GPUs[i])
	}
	full := slices.Clone(left.GPUs)
	for _, pod := range p.bound {
		if pod.Spec.NodeName != node {
			continue
		}
		c := classOf[workloadOf(pod)]
		left.CPU, left.HostMemory, left.Pods = left.CPU-c.CPU, left.HostMemory-c.HostMemory, left.Pods-1
		r.cpu, r.memory = r.cpu+c.CPU, r.memory+c.HostMemory
		booking, err := gpustate.BookingOf(pod)
		if err != nil || booking == nil {
			continue
		}
		for _, d := range booking.Devices {
			var gpu int
			if _, err := fmt.Sscanf(strings.TrimPrefix(d.UUID, "GPU-"+node+"-"), "%d", &gpu); err == nil && gpu < len(left.GPUs) {
				left.GPUs[gpu] = left.GPUs[gpu].Minus(d.Memory)
				r.booked = r.booked.Plus(d.Memory)
			}
		}
	}
	for i, free := range left.GPUs {
		r.free = r.free.Plus(free)
		if free != full[i] {
			r.used++
		}
	}
	r.usable = r.usable.Plus(a.sized.Usable(left))
}

// planned fills in a plan.
func (a *Answer) planned(q *asking, found *planner.Plan) error {
	a.Enough, a.Proven, a.Nodes = true, found.Proven, total(found.Counts)
	a.survive, a.spare = q.Survive, q.Spare
	a.Pods = q.enough.pods
	if f := q.enough.atOnce; f != nil {
		a.AtOnce = f.text()
	}
	for s, r := range q.rooms(q.enough) {
		shape, n := &q.Shapes[s], found.Counts[s]
		if n == 0 {
			continue
		}
		a.Shapes = append(a.Shapes, ShapeNodes{
			Shape: shape.Name, Nodes: n, GPUs: n * shape.GPUs, GPUsUsed: r.used, GPUMemory: r.capacity.Int64(), Booked: r.booked.Int64(),
			Usable: r.usable.Int64(), InPieces: r.free.Minus(r.usable).Int64(),
			CPU: shape.CPU.MilliValue() * int64(n), CPURequested: r.cpu, Memory: shape.Memory.Value() * int64(n), MemoryRequested: r.memory,
		})
	}
	for s, n := range found.Bound {
		if n > 0 {
			a.AtLeast = append(a.AtLeast, ShapeNodes{Shape: q.Shapes[s].Name, Nodes: n})
		}
	}
	if price := q.sized.Price(found.Counts); price > 0 {
		a.Price = &price
	}
	var err error
	a.nodes, err = q.enough.gpus(q.Profiles)
	return err
}

// gpus is the map of the nodes. Of nodes that are alike the first one is drawn.
func (p *placement) gpus(profiles []*berthv1alpha1.ModelProfile) (*gpumap.Map, error) {
	o := &gpumap.Objects{Time: at, LeasesUnknown: true}
	for _, node := range p.nodes {
		o.Nodes = append(o.Nodes, *node)
	}
	for _, r := range p.reports {
		o.GPUNodes = append(o.GPUNodes, berthv1alpha1.GPUNode{ObjectMeta: r.ObjectMeta, Status: *r.Status})
	}
	for _, pod := range p.bound {
		o.Pods = append(o.Pods, *pod)
	}
	for _, profile := range profiles {
		o.Profiles = append(o.Profiles, *profile)
	}
	m, err := gpumap.Build(o, gpumap.DefaultSettings())
	if err != nil {
		return nil, err
	}
	alike, first, more := p.alike(), map[string]string{}, map[string]int{}
	m.Nodes = slices.DeleteFunc(m.Nodes, func(n gpumap.Node) bool {
		if of, ok := first[alike[n.Name]]; ok {
			more[of]++
			return true
		}
		first[alike[n.Name]] = n.Name
		return false
	})
	for i := range m.Nodes {
		if n := more[m.Nodes[i].Name]; n > 0 {
			m.Nodes[i].Name += fmt.Sprintf(" and %d alike", n)
		}
	}
	return m, nil
}

// fewer says what would happen with one node fewer.
func (a *Answer) fewer(q *asking, counts []int, f *failure) {
	on := nodesText(q.Shapes, counts)
	switch {
	case total(counts) == 0:
	case total(counts) <= q.Survive:
		a.OneFewer = fmt.Sprintf("With %s, none would be left if %d were lost", on, q.Survive)
	case f != nil:
		a.Binds, a.OneFewer = f.binds(), "With "+on+", "+f.text()
	}
}

// failed says that no number of nodes was found to be enough.
func (a *Answer) failed(q *asking, f *failure, err error) {
	a.why = err.Error()
	if f == nil {
		return
	}
	a.Pods = f.waiting
	a.why += ". With " + nodesText(q.Shapes, f.counts) + ", " + f.text()
}

// impossible says which pods would wait on any number of nodes.
func (a *Answer) impossible(p *placement) {
	a.Pods = p.waiting
	w := &p.waiting[0]
	a.why = fmt.Sprintf("no number of nodes of these shapes is enough. %s/%s would wait even if it were alone:\n  %s", w.Namespace, w.Name.Name, sentence(w.Pending))
}

// text says why a number of nodes is not enough.
func (f *failure) text() string {
	if f.spare != "" {
		return "only " + f.spare
	}
	text := ""
	if len(f.lost) > 0 {
		text = "once " + strings.Join(f.lost, " and ") + " are lost, "
		if len(f.lost) == 1 {
			text = "once " + f.lost[0] + " is lost, "
		}
	}
	w := &f.waiting[0]
	verb := "pods stay"
	if len(f.waiting) == 1 {
		verb = "pod stays"
	}
	text += fmt.Sprintf("%d %s pending. %s/%s: ", len(f.waiting), verb, w.Namespace, w.Name.Name)
	if w.Node != "" {
		return text + "it would evict " + w.Victims[0].Namespace + "/" + w.Victims[0].Name
	}
	return text + sentence(withoutNearest(w.Pending))
}

// withoutNearest leaves out the nearest miss, which names each GPU of a node.
func withoutNearest(pending string) string {
	before, _, _ := strings.Cut(pending, " nearest on node ")
	return before
}

// sentence is what the scheduler says, without its full stop.
func sentence(text string) string {
	return strings.TrimRight(strings.ReplaceAll(text, "\n", "\n  "), ".")
}

// binding are the resources, with what the scheduler says of a node that has too little.
var binding = []struct{ resource, says string }{
	{"GPU memory", string(gpustate.ReasonInsufficientMemory)},
	{"CPU", "Insufficient " + string(corev1.ResourceCPU)},
	{"host memory", "Insufficient " + string(corev1.ResourceMemory)},
	{"pods that a node takes", "Too many pods"},
	{"nodes to keep pods apart on", "anti-affinity"},
	{"nodes to spread pods over", "topology spread"},
}

// binds are the resources of which there is too little.
func (f *failure) binds() (resources []string) {
	if f.spare != "" {
		return []string{"spare GPU memory"}
	}
	for _, b := range binding {
		if slices.ContainsFunc(f.waiting, func(p whatif.Pod) bool {
			return strings.Contains(p.Pending, b.says) || p.Node != "" && b.resource == "GPU memory"
		}) {
			resources = append(resources, b.resource)
		}
	}
	return resources
}
