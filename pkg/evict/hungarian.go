// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package evict

// matcher chooses a device for every share so that the sum of prices is least.
type matcher struct {
	// price returns what share i costs on device j, noPrice if it cannot go there.
	price           func(i, j int) price
	shares, devices int
	// device[i] is where share i goes.
	device []int
	// Of the Hungarian method, in which rows are shares, columns are devices, both counted from 1: the potentials,
	// which share a device has, and of the search for an augmenting path, each column's predecessor and distance.
	rowPotential, columnPotential, distance []price
	row, previous                           []int
	done                                    []bool
}

// alike chooses for shares that cost the same on each device: the cheapest devices, by position between equals.
func (m *matcher) alike() (total price, ok bool) {
	m.device = m.device[:0]
	for j := range m.devices {
		p := m.price(0, j)
		if !p.less(noPrice) {
			continue
		}
		at := len(m.device)
		if at == m.shares {
			if at--; !p.less(m.price(0, m.device[at])) {
				continue
			}
		} else {
			m.device = append(m.device, j)
		}
		for ; at > 0 && p.less(m.price(0, m.device[at-1])); at-- {
			m.device[at] = m.device[at-1]
		}
		m.device[at] = j
	}
	if len(m.device) < m.shares {
		return price{}, false
	}
	for _, j := range m.device {
		total = total.plus(m.price(0, j))
	}
	return total, true
}

// unlike chooses for shares of any prices, by the Hungarian method (Kuhn 1955, Munkres 1957) in its form with
// shortest augmenting paths: O(shares² × devices).
func (m *matcher) unlike() (total price, ok bool) {
	m.rowPotential = append(m.rowPotential[:0], make([]price, m.shares+1)...)
	m.columnPotential = append(m.columnPotential[:0], make([]price, m.devices+1)...)
	m.row = append(m.row[:0], make([]int, m.devices+1)...)
	m.previous = append(m.previous[:0], make([]int, m.devices+1)...)
	for i := 1; i <= m.shares; i++ {
		end, ok := m.path(i)
		if !ok {
			return price{}, false
		}
		for end != 0 {
			m.row[end] = m.row[m.previous[end]]
			end = m.previous[end]
		}
	}
	m.device = append(m.device[:0], make([]int, m.shares)...)
	for j := 1; j <= m.devices; j++ {
		if i := m.row[j]; i > 0 {
			m.device[i-1] = j - 1
			total = total.plus(m.price(i-1, j-1))
		}
	}
	return total, true
}

// path finds the cheapest way to give row i a column by moving others, and returns the free column at its end.
func (m *matcher) path(i int) (end int, ok bool) {
	m.distance = append(m.distance[:0], make([]price, m.devices+1)...)
	m.done = append(m.done[:0], make([]bool, m.devices+1)...)
	for j := range m.distance {
		m.distance[j] = noPrice
	}
	m.row[0] = i
	for at := 0; ; {
		m.done[at] = true
		row := m.row[at]
		step, next := noPrice, 0
		for j := 1; j <= m.devices; j++ {
			if m.done[j] {
				continue
			}
			if p := m.price(row-1, j-1); p.less(noPrice) {
				if d := p.minus(m.rowPotential[row]).minus(m.columnPotential[j]); d.less(m.distance[j]) {
					m.distance[j], m.previous[j] = d, at
				}
			}
			if m.distance[j].less(step) {
				step, next = m.distance[j], j
			}
		}
		if next == 0 {
			return 0, false
		}
		for j := range m.distance {
			if m.done[j] {
				m.rowPotential[m.row[j]] = m.rowPotential[m.row[j]].plus(step)
				m.columnPotential[j] = m.columnPotential[j].minus(step)
			} else if m.distance[j].less(noPrice) {
				m.distance[j] = m.distance[j].minus(step)
			}
		}
		if at = next; m.row[at] == 0 {
			return at, true
		}
	}
}
