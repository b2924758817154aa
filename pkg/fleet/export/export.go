// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package export makes metrics of a fleet's numbers when they are scraped.
package export

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"k8s.io/component-base/metrics"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/fleet"
)

// Status is what a scheduler knows of the fleet when it is asked.
type Status struct {
	// Leads says whether it leads. One that does not tells nothing: of several replicas, one counts.
	Leads bool
	// Places says whether it places pods: its books are right, and nothing keeps it from it.
	Places bool
	// Numbers are nil while the books are not right.
	Numbers *fleet.Numbers
}

// Source is who knows.
type Source func() Status

// Collector makes the metrics. It tells nothing until it has a source.
type Collector struct {
	metrics.BaseStableCollector
	source atomic.Pointer[Source]
}

// Serve tells from now on what a source knows. A process registers one collector, whatever it makes schedulers of.
func (c *Collector) Serve(s Source) { c.source.Store(&s) }

func desc(name, help string, labels ...string) *metrics.Desc {
	return metrics.NewDesc(name, help, labels, nil, metrics.ALPHA, "")
}

// amount is a metric that is summed up by model, and by node and model.
type amount struct {
	byModel, byNode *metrics.Desc
	of              func(*fleet.Amounts) float64
}

func amountOf(name, help string, of func(*fleet.Amounts) float64) amount {
	return amount{
		byModel: desc("berth_fleet_gpu_memory_"+name, help+", by GPU model.", "model"),
		byNode:  desc("berth_node_gpu_memory_"+name, help+", by node and GPU model.", "node", "model"),
		of:      of,
	}
}

func bytesOf(name, help string, of func(*fleet.Amounts) alloc.Bytes) amount {
	return amountOf(name+"_bytes", help, func(a *fleet.Amounts) float64 { return float64(of(a).Uint64()) })
}

var (
	amounts = []amount{
		bytesOf("total", "Physical GPU memory", func(a *fleet.Amounts) alloc.Bytes { return a.Total }),
		bytesOf("capacity", "GPU memory that can be booked: without what drivers reserve, and headroom", func(a *fleet.Amounts) alloc.Bytes { return a.Capacity }),
		bytesOf("booked", "GPU memory that bound pods were given", func(a *fleet.Amounts) alloc.Bytes { return a.Booked }),
		bytesOf("measured", "GPU memory in use, whoever uses it", func(a *fleet.Amounts) alloc.Bytes { return a.Measured }),
		bytesOf("foreign", "GPU memory in use by processes of no pod", func(a *fleet.Amounts) alloc.Bytes { return a.Foreign }),
		bytesOf("held", "GPU memory that is kept for pods which wait for more of it", func(a *fleet.Amounts) alloc.Bytes { return a.Held }),
		bytesOf("returning", "GPU memory that is charged for pods which are gone", func(a *fleet.Amounts) alloc.Bytes { return a.Returning }),
		bytesOf("overdue", "GPU memory that pods still hold which have been gone for longer than memoryReturnTimeout", func(a *fleet.Amounts) alloc.Bytes { return a.Overdue }),
		bytesOf("overused", "GPU memory that pods hold beyond what they booked, of pods that exceed it by more than 256Mi on a GPU", func(a *fleet.Amounts) alloc.Bytes { return a.Overused }),
		bytesOf("free", "GPU memory that can be booked now", func(a *fleet.Amounts) alloc.Bytes { return a.Free }),
		bytesOf("largest_free", "GPU memory that can be booked now on the GPU that has most of it", func(a *fleet.Amounts) alloc.Bytes { return a.LargestFree }),
		bytesOf("blocked", "GPU memory that would be free, but for the state of its GPU or node", func(a *fleet.Amounts) alloc.Bytes { return a.Blocked }),
		amountOf("fragmented_bytes", "Free GPU memory in pieces that are too small for the requests known now, in proportion to how many they are too small for",
			func(a *fleet.Amounts) float64 { return a.Fragmented }),
	}

	descDevices = desc("berth_fleet_devices",
		"GPUs and MIG instances by model and state. Only those that are available get pods.", "model", "state")
	descNodes = desc("berth_fleet_nodes",
		"Nodes that have a report of their GPUs, by what becomes of it: only fresh ones get pods.", "state")
	descOverusing = desc("berth_fleet_overusing_pods",
		"Pods that hold more GPU memory than they booked, by more than 256Mi on a GPU.")
	descNamespaceBooked = desc("berth_namespace_gpu_memory_booked_bytes",
		"GPU memory that the bound pods of a namespace were given, by GPU model.", "namespace", "model")
	descNamespaceMeasured = desc("berth_namespace_gpu_memory_measured_bytes",
		"GPU memory that the pods of a namespace hold, by GPU model.", "namespace", "model")
	descPending = desc("berth_pending_pods",
		"Pods that wait for GPU memory, by what they wait for and by age: each counts once, in the last of the ages that it has reached.", "reason", "age")
	descOverbooked = desc("berth_overbooked_devices",
		"GPUs on which more memory is booked than they have.")
	descContested = desc("berth_contested_devices",
		"GPUs that more than one node reports, counted on each of these nodes. They get no pods.")
	descPlaces = desc("berth_scheduler_places_pods",
		"1 while this scheduler leads and places pods, 0 while it leads and does not, because its books are not read yet or admission policies are missing.")
)

// DescribeWithStability implements metrics.StableCollector.
func (c *Collector) DescribeWithStability(ch chan<- *metrics.Desc) {
	for _, a := range amounts {
		ch <- a.byModel
		ch <- a.byNode
	}
	for _, d := range []*metrics.Desc{
		descDevices, descNodes, descOverusing, descNamespaceBooked, descNamespaceMeasured, descPending, descOverbooked, descContested, descPlaces,
	} {
		ch <- d
	}
}

// CollectWithStability implements metrics.StableCollector.
func (c *Collector) CollectWithStability(ch chan<- metrics.Metric) {
	source := c.source.Load()
	if source == nil {
		return
	}
	s := (*source)()
	if !s.Leads {
		return
	}
	gauge := func(d *metrics.Desc, v float64, labels ...string) {
		ch <- metrics.NewLazyConstMetric(d, metrics.GaugeValue, v, labels...)
	}
	places := 0.0
	if s.Places {
		places = 1
	}
	gauge(descPlaces, places)
	if s.Numbers != nil {
		collect(s.Numbers, gauge)
	}
}

func collect(n *fleet.Numbers, gauge func(d *metrics.Desc, v float64, labels ...string)) {
	for _, model := range slices.Sorted(maps.Keys(n.Models)) {
		m := n.Models[model]
		for _, a := range amounts {
			gauge(a.byModel, a.of(m), model)
		}
		for state, devices := range m.Devices {
			gauge(descDevices, float64(devices), model, fleet.State(state).String())
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(n.PerNode), func(a, b fleet.NodeModel) int {
		return cmp.Or(strings.Compare(a.Node, b.Node), strings.Compare(a.Model, b.Model))
	}) {
		for _, a := range amounts {
			gauge(a.byNode, a.of(n.PerNode[key]), key.Node, key.Model)
		}
	}
	for key, used := range n.Namespaces {
		gauge(descNamespaceBooked, float64(used.Booked.Uint64()), key.Namespace, key.Model)
		gauge(descNamespaceMeasured, float64(used.Measured.Uint64()), key.Namespace, key.Model)
	}
	for state, nodes := range n.Reports {
		gauge(descNodes, float64(nodes), fleet.ReportState(state).String())
	}
	for reason, byAge := range n.Pending {
		for age, pods := range byAge {
			gauge(descPending, float64(pods), fleet.Reason(reason).String(), fleet.AgeName(age))
		}
	}
	gauge(descOverusing, float64(n.Overusing))
	gauge(descOverbooked, float64(n.Overbooked))
	gauge(descContested, float64(n.Contested))
}
