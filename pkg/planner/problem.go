// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package planner

import "github.com/berth-dev/berth/pkg/alloc"

// Shape is a kind of node.
type Shape struct {
	// GPUs is how many a node has, all alike, and Memory what can be booked of each.
	GPUs   int
	Memory alloc.Bytes
	// CPU, in thousandths of one, HostMemory, in bytes, and Pods are what a node has beside GPUs; zero = not limited.
	CPU, HostMemory, Pods int64
	// Price is that of one node, in any unit; zero = not known.
	Price float64
}

// Option is one way to run a pod: on a number of GPUs, with as much on each.
type Option struct {
	GPUs  int
	Share alloc.Bytes
}

// Class is pods that are alike.
type Class struct {
	Pods int
	// Options are, for each shape, how a pod can run on a node of it; none = it cannot.
	Options [][]Option
	// CPU and HostMemory are what each takes of its node, in the units of Shape.
	CPU, HostMemory int64
	// Apart says that no two of the pods go on one node.
	Apart bool
}

// Problem is what is to be planned.
type Problem struct {
	Shapes  []Shape
	Classes []Class
	// Lost is how many nodes can be lost, whichever, with room for all pods on the others.
	Lost int
	// Spare is the fraction of the GPU memory of each shape that stays free, at least 0 and less than 1.
	Spare float64
}

// runs says whether pods of a class run on nodes of a shape.
func (c *Class) runs(shape int) bool { return len(c.Options[shape]) > 0 }

// pods counts all pods.
func (p *Problem) pods() (n int) {
	for i := range p.Classes {
		n += p.Classes[i].Pods
	}
	return n
}

// total adds up numbers.
func total(counts []int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}
