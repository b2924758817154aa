// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"slices"
	"time"

	"github.com/berth-dev/berth/pkg/alloc"
)

// reporters has, for each GPU and MIG instance by its UUID, the nodes whose report names it. A GPU is in one node, so one
// that several name is contested: who of them has it, nobody here can tell. It is kept as reports come, because they
// come by the hundred in a second; a report that names what the one before it did costs a few comparisons.
type reporters map[string][]string

// update takes down that a node's report is another; nil is none. It returns the nodes that name what only one of the
// two reports does: who their rivals are has changed.
func (r reporters) update(node string, before, after *Report) (concerned []string) {
	if sameUUIDs(before, after) {
		return nil
	}
	was, is := before.uuids(), after.uuids()
	for _, uuid := range was {
		if slices.Contains(is, uuid) {
			continue
		}
		others := slices.DeleteFunc(slices.Clone(r[uuid]), func(n string) bool { return n == node })
		concerned = append(concerned, others...)
		if r[uuid] = others; len(others) == 0 {
			delete(r, uuid)
		}
	}
	for _, uuid := range is {
		if !slices.Contains(was, uuid) {
			concerned = append(concerned, r[uuid]...)
			r[uuid] = append(slices.Clip(r[uuid]), node)
		}
	}
	slices.Sort(concerned)
	return slices.Compact(concerned)
}

// rivals returns, for each device of a report, the other nodes that name it, or the GPU that it is a part of; nil if
// there are none.
func (r reporters) rivals(report *Report) [][]string {
	var out [][]string
	for i := range report.Devices {
		d := &report.Devices[i]
		var others []string
		for _, uuid := range []string{d.UUID, d.Parent} { // nobody is among the reporters of no UUID
			for _, node := range r[uuid] {
				if node != report.Node {
					others = append(others, node)
				}
			}
		}
		if len(others) == 0 {
			continue
		}
		if out == nil {
			out = make([][]string, len(report.Devices))
		}
		slices.Sort(others)
		out[i] = slices.Compact(others)
	}
	return out
}

// uuids returns the UUIDs that a report names: of its devices, and of the GPUs that these are instances of.
func (r *Report) uuids() []string {
	if r == nil {
		return nil
	}
	out := make([]string, 0, len(r.Devices))
	for i := range r.Devices {
		for _, uuid := range []string{r.Devices[i].UUID, r.Devices[i].Parent} {
			if uuid != "" && !slices.Contains(out, uuid) {
				out = append(out, uuid)
			}
		}
	}
	return out
}

func sameUUIDs(a, b *Report) bool {
	return a != nil && b != nil && slices.EqualFunc(a.Devices, b.Devices, func(x, y alloc.Device) bool {
		return x.UUID == y.UUID && x.Parent == y.Parent
	})
}

// Contested is a device that several nodes report, which all have been heard of lately. It counts on none of them. A
// report that is stale contests nothing: its node gets no pods anyway, and so a GPU that was moved counts where it is now.
type Contested struct {
	UUID  string
	Index int
	// Nodes are the other nodes, by name.
	Nodes []string
}

// Contested returns the contested devices of a node, as of a snapshot.
func (s *Snapshot) Contested(node string, staleAfter time.Duration) (out []Contested) {
	slot := s.slot(node)
	if slot == nil || slot.report.rivals == nil || slot.state.stale(s.sinceStart, staleAfter) {
		return nil
	}
	for i, rivals := range slot.report.rivals {
		if fresh := s.fresh(rivals, staleAfter); len(fresh) > 0 {
			d := &slot.report.Devices[i]
			out = append(out, Contested{UUID: d.UUID, Index: d.Index, Nodes: fresh})
		}
	}
	return out
}

// fresh returns those of the nodes whose agent has been heard of.
func (s *Snapshot) fresh(nodes []string, staleAfter time.Duration) (fresh []string) {
	for _, node := range nodes {
		if _, ok := s.Report(node, staleAfter); ok {
			fresh = append(fresh, node)
		}
	}
	return fresh
}

// HasRivals says whether other nodes, be they silent, report a device of a node.
func (s *Store) HasRivals(node string) bool {
	r, _ := s.Report(node, 0)
	return r != nil && r.rivals != nil
}

// reportChanged keeps the reporters. s.mu is held.
func (s *Store) reportChanged(node string, before, after *Report) (concerned []string) {
	concerned = s.reporters.update(node, before, after)
	switch {
	case after == nil:
	case sameUUIDs(before, after):
		after.rivals = before.rivals
	default:
		after.rivals = s.reporters.rivals(after)
	}
	for _, other := range concerned {
		i := s.position[other]
		slot := s.chunks[i/chunkSize].reports[i%chunkSize]
		report := *slot.report
		report.rivals = s.reporters.rivals(&report)
		s.writable(i).reports[i%chunkSize] = &nodeSlot{report: &report, state: slot.state} // without what was derived
	}
	return concerned
}

// blockContested blocks the devices that other nodes report too.
func (v *View) blockContested(s *Snapshot, staleAfter time.Duration) {
	for i, rivals := range v.Report.rivals {
		if v.Devices[i].Blocked == "" && len(s.fresh(rivals, staleAfter)) > 0 {
			v.Devices[i].Blocked = alloc.ReasonContested
		}
	}
}
