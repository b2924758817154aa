// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package parked

import "unique"

// nodeSet is a set of nodes, one bit each by the list's numbers. Equal sets, such as those of replicas of one workload,
// are one object.
type nodeSet struct{ bits unique.Handle[string] }

// setOf returns the set of some nodes, which get numbers if they have none.
func (l *List) setOf(nodes []string) nodeSet {
	if len(nodes) == 0 {
		return nodeSet{}
	}
	bits := make([]byte, 0, (len(l.numbers)+len(nodes))/8+1)
	for _, node := range nodes {
		n, ok := l.numbers[node]
		if !ok {
			n = len(l.numbers)
			l.numbers[node] = n
		}
		for n/8 >= len(bits) {
			bits = append(bits, 0)
		}
		bits[n/8] |= 1 << (n % 8)
	}
	return nodeSet{unique.Make(string(bits))}
}

// has says whether the node of a number is in the set; none is under a negative one.
func (s nodeSet) has(number int) bool {
	if number < 0 || s == (nodeSet{}) {
		return false
	}
	bits := s.bits.Value()
	return number/8 < len(bits) && bits[number/8]&(1<<(number%8)) != 0
}
