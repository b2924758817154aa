// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fgd measures how much of the idle GPUs of a node is in pieces that typical pods cannot use: the measure of
// "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent" (Weng et al., USENIX ATC
// 2023), section 3. Everything is in whole numbers, so that a sum does not depend on the order in which it is made.
package fgd

import (
	"cmp"
	"slices"
	"strings"
)

// Whole is how many milli a whole GPU has.
const Whole = 1000

// Request is what a pod asks for, as far as the measure looks at it.
type Request struct {
	// CPU is in milli.
	CPU int64
	// GPUs is how many GPUs it asks for, 0 for none, and Milli how much of each of them.
	GPUs, Milli int
	// Models are the models of GPUs that it may have, joined by |; empty = any.
	Models string
}

// May says whether a pod with these models may have GPUs of a model.
func May(models, model string) bool {
	for models != "" {
		var m string
		if m, models, _ = strings.Cut(models, "|"); m == model {
			return true
		} else if models == "" {
			return false
		}
	}
	return true
}

// Typical are the requests of typical pods, the most frequent first, with how many pods have them.
type Typical []Share

// Share is a request and how many pods have it.
type Share struct {
	Request
	Pods int64
}

// TypicalOf returns the most frequent requests until they are those of as many percent of the pods. Of equally frequent ones the
// larger comes first.
func TypicalOf(requests []Request, percent int) Typical {
	count := map[Request]int64{}
	for _, r := range requests {
		count[r]++
	}
	var all Typical
	for r, n := range count {
		all = append(all, Share{r, n})
	}
	slices.SortFunc(all, func(a, b Share) int {
		return cmp.Or(cmp.Compare(b.Pods, a.Pods), cmp.Compare(b.CPU, a.CPU), cmp.Compare(b.Milli, a.Milli),
			cmp.Compare(b.GPUs, a.GPUs), cmp.Compare(b.Models, a.Models))
	})
	covered, want := int64(0), int64(len(requests))*int64(percent)
	for i := range all {
		if covered*100 >= want {
			return all[:i]
		}
		covered += all[i].Pods
	}
	return all
}

// Weight returns how many pods the typical ones stand for: what Unusable is multiplied by.
func (t Typical) Weight() (sum int64) {
	for i := range t {
		sum += t[i].Pods
	}
	return sum
}

// Measure is what typical pods can use of a node whose GPUs are of one model.
type Measure struct {
	// nobody is the weight of those that can use nothing of any such node: they ask for no GPU, or for another model.
	nobody int64
	kinds  []kind
}

// kind are the typical pods that ask for the same of GPUs.
type kind struct {
	gpus, milli int
	weight      int64
	// cpu is how much CPU they ask for, the least first, and upTo[i] is the weight of those that ask for at most cpu[i].
	cpu, upTo []int64
}

// For returns the measure of nodes with GPUs of a model.
func (t Typical) For(model string) *Measure {
	m := &Measure{}
	byCPU := slices.Clone(t)
	slices.SortStableFunc(byCPU, func(a, b Share) int { return cmp.Compare(a.CPU, b.CPU) })
	for _, s := range byCPU {
		if s.GPUs == 0 || !May(s.Models, model) {
			m.nobody += s.Pods
			continue
		}
		i := slices.IndexFunc(m.kinds, func(k kind) bool { return k.gpus == s.GPUs && k.milli == s.Milli })
		if i < 0 {
			i = len(m.kinds)
			m.kinds = append(m.kinds, kind{gpus: s.GPUs, milli: s.Milli})
		}
		k := &m.kinds[i]
		k.weight += s.Pods
		k.cpu, k.upTo = append(k.cpu, s.CPU), append(k.upTo, k.weight)
	}
	return m
}

// enoughCPU returns the weight of those that find the CPU they ask for.
func (k *kind) enoughCPU(cpu int64) int64 {
	for i := len(k.cpu) - 1; i >= 0; i-- {
		if k.cpu[i] <= cpu {
			return k.upTo[i]
		}
	}
	return 0
}

// Unusable returns, for a node with so many milli of CPU and of each GPU idle, the sum over the typical pods of what they cannot
// use, in milli of GPU times Typical.Weight: all that is idle if the pod asks for no GPU, or finds too little CPU, too few GPUs
// or another model; else what is idle on GPUs that have less than it asks of one.
func (m *Measure) Unusable(cpu int64, idle []int) int64 {
	var all int64
	for _, milli := range idle {
		all += int64(milli)
	}
	if all == 0 {
		return 0
	}
	sum := m.nobody * all
	for i := range m.kinds {
		k := &m.kinds[i]
		enough, small := 0, int64(0)
		for _, milli := range idle {
			if milli >= k.milli {
				enough++
			} else {
				small += int64(milli)
			}
		}
		fit := int64(0)
		if enough >= k.gpus {
			fit = k.enoughCPU(cpu)
		}
		sum += fit*small + (k.weight-fit)*all
	}
	return sum
}
