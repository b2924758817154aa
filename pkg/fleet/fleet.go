// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// Cluster is what the numbers are made from.
type Cluster struct {
	Viewer *gpustate.Viewer
	// Nodes are all nodes; those without a report are left out.
	Nodes []*corev1.Node
	// Pods are all pods that may hold anything.
	Pods []*corev1.Pod
	// Waiting are the pods that wait for GPU memory.
	Waiting []Waiting
	// PerNode asks for the numbers of each node too.
	PerNode bool
	// MemoryReturnTimeout is after how long the memory of a gone pod should be back.
	MemoryReturnTimeout time.Duration
	// Orphans are those of the numbers before, nil if these are the first.
	Orphans Orphans
}

// Orphans says since when processes were seen to hold memory whose pod neither the API nor the ledger has.
type Orphans map[types.UID]time.Time

// Amounts are sums over devices. A GPU that is cut into MIG instances counts by these, and not itself.
type Amounts struct {
	// Devices counts them by state.
	Devices [states]int
	// Total is the physical memory, and Capacity what can be booked of it: without what the driver reserves, and headroom.
	Total, Capacity alloc.Bytes
	// Booked is what pods were given that are bound, or are being bound.
	Booked alloc.Bytes
	// Measured is what is in use, whoever uses it, and Foreign what no known pod does.
	Measured, Foreign alloc.Bytes
	// Held is kept for pods that wait for more of it.
	Held alloc.Bytes
	// Returning is charged for pods that are gone, and Overdue is what is still in use of it after MemoryReturnTimeout.
	Returning, Overdue alloc.Bytes
	// Overused is by how much pods hold more than they booked, those of more than Margin.
	Overused alloc.Bytes
	// Free can be booked, and LargestFree is the most on one device. Blocked would be free, but for the state of the device.
	Free, LargestFree, Blocked alloc.Bytes
	// Fragmented is the part of Free that is in pieces too small for the requests that are known, see requests.
	Fragmented float64
}

// Margin is how much more than booked a pod may hold on a device before it counts as overuse: the default of the
// controller's --overuse-margin, by which it tells owners.
var Margin = alloc.MiB(256)

// Used is what the pods of a namespace have of the GPUs of one model.
type Used struct{ Booked, Measured alloc.Bytes }

// Numbers are what there is to say about a fleet.
type Numbers struct {
	// Models are by the name of the device.
	Models map[string]*Amounts
	// PerNode is nil unless it was asked for.
	PerNode    map[NodeModel]*Amounts
	Namespaces map[NamespaceModel]Used
	// Reports counts nodes by what becomes of their report.
	Reports [reportStates]int
	// Overbooked and Contested count devices, see Tracker.Overbooked and Snapshot.Contested.
	Overbooked, Contested int
	// Overusing counts pods that hold more than Margin beyond what they booked on a device.
	Overusing int
	// Pending counts the pods that wait, by reason and by the last of Ages that they have passed.
	Pending [reasons][ages]int
	Orphans Orphans
}

// NodeModel and NamespaceModel are what numbers are kept by.
type (
	NodeModel      struct{ Node, Model string }
	NamespaceModel struct{ Namespace, Model string }
)

// Measure makes the numbers. It takes no lock that a scheduling cycle needs.
func Measure(c *Cluster) *Numbers {
	s := &sums{
		Numbers: &Numbers{Models: map[string]*Amounts{}, Namespaces: map[NamespaceModel]Used{}, Orphans: Orphans{}},
		cluster: c, names: namesOf(c), pods: podsByNode(c),
	}
	if c.PerNode {
		s.PerNode = map[NodeModel]*Amounts{}
	}
	for _, node := range c.Nodes {
		s.addNode(node)
	}
	now := c.Viewer.Snapshot.Now()
	for i := range c.Waiting {
		w := &c.Waiting[i]
		s.Pending[w.Reason][ageOf(now.Sub(w.Created))]++
		s.requests.add(w.Devices, w.Share)
	}
	s.addFragments()
	return s.Numbers
}

// podsByNode returns the pods that may hold GPU memory, of the nodes that have a report.
func podsByNode(c *Cluster) map[string][]*corev1.Pod {
	pods := make(map[string][]*corev1.Pod, len(c.Nodes))
	for _, node := range c.Nodes {
		if report, _ := c.Viewer.Snapshot.Report(node.Name, 0); report != nil {
			pods[node.Name] = nil
		}
	}
	for _, pod := range c.Pods {
		if on, ok := pods[pod.Spec.NodeName]; ok && !gpustate.HasEnded(pod) {
			pods[pod.Spec.NodeName] = append(on, pod)
		}
	}
	return pods
}
