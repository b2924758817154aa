// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package planner

// A dual feasible function f maps sizes to weights so that what fits into one bin never weighs more than the bin: if Σ x ≤ C
// then Σ f(x) ≤ f(C). So all pods weigh no more than all bins, whatever weights are chosen; weights under which they would
// exclude a number of nodes. These are the functions of Fekete and Schepers, "New classes of fast lower bounds for bin packing
// problems" (Mathematical Programming 91, 2001), in whole numbers.

// weights is one such function for bins of each size; all is what the bin itself weighs, nil if it is what its size does.
type weights struct {
	of  func(x, bin int64) int64
	all func(bin int64) int64
}

func (w weights) bin(bin int64) int64 {
	if w.all != nil {
		return w.all(bin)
	}
	return w.of(bin, bin)
}

// asItIs is the size itself.
var asItIs = weights{of: func(x, _ int64) int64 { return x }}

// countFrom counts what is at least as large as something, of which so many are in a bin, whatever else is.
func countFrom(t int64) weights {
	return weights{
		of: func(x, _ int64) int64 {
			if x >= t {
				return 1
			}
			return 0
		},
		all: func(bin int64) int64 { return bin / t },
	}
}

// inParts counts the parts of 1/(k+1) of the bin that are in x, for a bin of k: of what is larger than half of the bin,
// for one, there is only one in it.
func inParts(k int64) weights {
	return weights{of: func(x, bin int64) int64 {
		if (k+1)*x%bin == 0 {
			return k * x
		}
		return (k + 1) * x / bin * bin
	}}
}

// withoutSmall takes what is smaller than e for nothing, and what leaves less than that for all of the bin.
func withoutSmall(e int64) weights {
	return weights{of: func(x, bin int64) int64 {
		switch e := min(e, bin/2); {
		case x > bin-e:
			return bin
		case x < e:
			return 0
		}
		return x
	}}
}

// maxParts is up to how many parts bins are looked at in.
const maxParts = 8

func families(sizes []int64) []weights {
	out := []weights{asItIs}
	for k := int64(1); k <= maxParts; k++ {
		out = append(out, inParts(k))
	}
	for _, x := range sizes {
		out = append(out, withoutSmall(x))
		if x > 0 {
			out = append(out, countFrom(x))
		}
	}
	return out
}

// mib rounds down, and mibUp up: pods that are taken for smaller, and GPUs for larger, exclude less.
func mib(n uint64) int64   { return int64(n >> 20) }
func mibUp(n uint64) int64 { return int64((n + 1<<20 - 1) >> 20) }

// Bounds says whether numbers of nodes can be excluded, because some necessary condition for a placement of all pods on
// them does not hold.
func (p *Problem) Bounds(counts []int) (excluded bool) {
	for i := range p.Classes {
		if c := &p.Classes[i]; c.Apart && c.Pods > p.nodesFor(c, counts) {
			return true
		}
	}
	// All kinds of nodes; and each set of them, for the pods that run on no other.
	for set := 1; set < 1<<len(p.Shapes); set++ {
		if p.tooLittle(counts, set) {
			return true
		}
	}
	return false
}

func (p *Problem) nodesFor(c *Class, counts []int) (n int) {
	for s := range p.Shapes {
		if c.runs(s) {
			n += counts[s]
		}
	}
	return n
}

// tooLittle says whether the pods that run only on a set of shapes weigh more than its nodes.
func (p *Problem) tooLittle(counts []int, set int) bool {
	gpuSizes, gpuCounts, cpus, memories := p.sizes()
	exceeds := func(f weights, pod func(c *Class, s int, f weights) int64, node func(s *Shape, f weights) int64) bool {
		return p.weigh(counts, set, func(c *Class, s int) int64 { return pod(c, s, f) }, func(s *Shape) int64 { return node(s, f) })
	}
	for _, f := range families(gpuSizes) {
		if exceeds(f, p.onGPUs, func(s *Shape, f weights) int64 {
			return f.bin(mibUp(s.Memory.Uint64())) * int64(s.GPUs)
		}) {
			return true
		}
	}
	for _, f := range families(gpuCounts) {
		if exceeds(f, p.wholeGPUs, func(s *Shape, f weights) int64 { return f.bin(int64(s.GPUs)) }) {
			return true
		}
	}
	for _, host := range []struct {
		sizes []int64
		need  func(*Class) int64
		room  func(*Shape) int64
	}{
		{cpus, func(c *Class) int64 { return c.CPU }, func(s *Shape) int64 { return s.CPU }},
		{memories, func(c *Class) int64 { return mib(uint64(c.HostMemory)) }, func(s *Shape) int64 { return mibUp(uint64(s.HostMemory)) }},
		{nil, func(*Class) int64 { return 1 }, func(s *Shape) int64 { return s.Pods }},
	} {
		// What is not limited weighs nothing, nor does what goes there.
		pod := func(c *Class, s int, f weights) int64 {
			if room := host.room(&p.Shapes[s]); room > 0 {
				return f.of(min(host.need(c), room), room)
			}
			return 0
		}
		node := func(s *Shape, f weights) int64 {
			if room := host.room(s); room > 0 {
				return f.bin(room)
			}
			return 0
		}
		for _, f := range families(host.sizes) {
			if exceeds(f, pod, node) {
				return true
			}
		}
	}
	return false
}

// weigh compares the pods of which each runs on shapes of a set only, each where it weighs least, with the nodes.
func (p *Problem) weigh(counts []int, set int, pod func(c *Class, shape int) int64, node func(*Shape) int64) (exceeds bool) {
	var pods, nodes int64
	for s := range p.Shapes {
		if set&(1<<s) != 0 {
			nodes += node(&p.Shapes[s]) * int64(counts[s])
		}
	}
	for i := range p.Classes {
		c := &p.Classes[i]
		least := int64(-1)
		for s := range p.Shapes {
			if !c.runs(s) {
				continue
			}
			if set&(1<<s) == 0 {
				least = 0
				break
			}
			if w := pod(c, s); least < 0 || w < least {
				least = w
			}
		}
		pods += max(least, 0) * int64(c.Pods)
	}
	return pods > nodes
}

// onGPUs is the weight of a pod's memory on GPUs, each of which is a bin.
func (p *Problem) onGPUs(c *Class, shape int, f weights) int64 {
	bin := mibUp(p.Shapes[shape].Memory.Uint64())
	return least(c.Options[shape], func(o *Option) int64 { return int64(o.GPUs) * f.of(mib(o.Share.Uint64()), bin) })
}

// wholeGPUs is the weight of a pod on a node, which is a bin of GPUs, if it takes more than half of each: no two such pods
// share a GPU. Others weigh nothing.
func (p *Problem) wholeGPUs(c *Class, shape int, f weights) int64 {
	s := &p.Shapes[shape]
	return least(c.Options[shape], func(o *Option) int64 {
		if 2*mib(o.Share.Uint64()) <= mibUp(s.Memory.Uint64()) {
			return 0
		}
		return f.of(int64(o.GPUs), int64(s.GPUs))
	})
}

func least(options []Option, weight func(*Option) int64) int64 {
	w := weight(&options[0])
	for i := range options[1:] {
		w = min(w, weight(&options[1+i]))
	}
	return w
}

// sizes returns what sizes there are, each once: of memory on a GPU, of GPUs, CPUs and memory of a node.
func (p *Problem) sizes() (gpu, gpus, cpu, memory []int64) {
	add := func(list *[]int64, x int64) {
		for _, y := range *list {
			if x == y {
				return
			}
		}
		*list = append(*list, x)
	}
	for i := range p.Classes {
		c := &p.Classes[i]
		add(&cpu, c.CPU)
		add(&memory, mib(uint64(c.HostMemory)))
		for s := range c.Options {
			bin := mibUp(p.Shapes[s].Memory.Uint64())
			for _, o := range c.Options[s] {
				x := mib(o.Share.Uint64())
				add(&gpu, x)
				add(&gpu, bin-x+1)
				add(&gpus, int64(o.GPUs))
				add(&gpus, int64(p.Shapes[s].GPUs-o.GPUs+1))
			}
		}
	}
	return gpu, gpus, cpu, memory
}
