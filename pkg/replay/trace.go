// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"github.com/berth-dev/berth/pkg/replay/fgd"
)

const (
	// PodsPerNode is how many pods a node takes.
	PodsPerNode = 1001
	// typicalPercent is how many percent of the pods the typical ones are.
	typicalPercent = 95
)

// Node is a node of a trace.
type Node struct {
	Name string
	// CPU is in milli, Memory in MiB.
	CPU, Memory int64
	GPUs        int
	// Model is the model of its GPUs.
	Model string
}

// Pod is a pod of a trace.
type Pod struct {
	Name string
	// Memory is what it asks for of the host, in MiB.
	Memory int64
	// Request is what else it asks for.
	fgd.Request
	// Created and Deleted are in seconds since the trace began; only where Trace.HasTimes.
	Created, Deleted int64
}

// Total is how many milli of GPUs the pod asks for in all.
func (p *Pod) Total() int64 { return int64(p.GPUs) * int64(p.Milli) }

// Trace is a cluster and the pods that arrive there.
type Trace struct {
	Nodes []Node
	Pods  []Pod
	// HasTimes says that all pods have the times when they were created and deleted.
	HasTimes bool
}

// Capacity is how many milli the GPUs of nodes have.
func Capacity(nodes []Node) (sum int64) {
	for i := range nodes {
		sum += int64(nodes[i].GPUs) * fgd.Whole
	}
	return sum
}

// Typical returns the typical pods of a trace.
func (t *Trace) Typical() fgd.Typical {
	requests := make([]fgd.Request, len(t.Pods))
	for i := range t.Pods {
		requests[i] = t.Pods[i].Request
	}
	return fgd.TypicalOf(requests, typicalPercent)
}
