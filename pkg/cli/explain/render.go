// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/berth-dev/berth/internal/version"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/cli/whatif"
	"github.com/berth-dev/berth/pkg/simulator"
)

// maxNodes is how many nodes the short form shows.
const maxNodes = 10

// Render writes the answer in a few lines and a table of nodes; wide adds each GPU, and shows all nodes.
func (e *Explanation) Render(out io.Writer, wide bool) error {
	for _, line := range e.lines() {
		fmt.Fprintln(out, line)
	}
	if len(e.Nodes) > 0 {
		if err := e.renderNodes(out, wide); err != nil {
			return err
		}
	}
	return e.renderHistory(out, wide)
}

func (e *Explanation) renderNodes(out io.Writer, wide bool) error {
	fmt.Fprintln(out)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NODE\tFITS\tLACKS\tBY\tREASON")
	nodes := e.Nodes
	if !wide && len(nodes) > maxNodes {
		nodes = nodes[:maxNodes]
	}
	for i := range nodes {
		n := &nodes[i]
		fits, lacks, by := "no", "-", n.Plugin
		if n.Fits {
			fits = "yes"
		}
		if n.Short > 0 {
			lacks = alloc.BytesOf(n.Short).String()
		}
		if by == "" {
			by = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", n.Name, fits, lacks, by, n.Reason)
		if !wide {
			continue
		}
		for j := range n.GPUs {
			g := &n.GPUs[j]
			fmt.Fprintf(t, "  GPU %d\t\t%s of %s free\t\t%s\n", g.Index, alloc.BytesOf(g.Free), alloc.BytesOf(g.Needed), g.text())
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if left := len(e.Nodes) - len(nodes); left > 0 {
		fmt.Fprintf(out, "and %d more nodes: see -o wide\n", left)
	}
	if !wide {
		return nil
	}
	arguments, err := json.Marshal(e.Arguments)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "\nBy a scheduler of version %s with arguments %s\n", version.String(), arguments)
	return err
}

// lines is the answer.
func (e *Explanation) lines() (lines []string) {
	id := e.Namespace + "/" + e.Name.Name
	o := &e.Outcome
	switch {
	case e.Gone:
		return []string{fmt.Sprintf("%s is gone, or about to be: it is placed nowhere any more.", id)}
	case len(e.Missing) > 0:
		return e.linesByItself(id)
	case e.BoundTo != "":
		lines = append(lines, fmt.Sprintf("%s is on node %s.", id, e.BoundTo))
		for _, note := range e.Recorded {
			lines = append(lines, "The scheduler told: "+note)
		}
		if o.Node == "" {
			lines = append(lines, "If it were placed again now, it would wait: "+o.Pending)
		} else {
			lines = append(lines, "If it were placed again now, it would go to node "+o.Node+victimsOf(o)+".")
		}
	case e.Why == "":
		lines = append(lines, fmt.Sprintf("%s would be placed now, on node %s.", id, o.Node))
	default:
		lines = append(lines, fmt.Sprintf("%s waits: %s", id, e.Why))
		if o.Node != "" {
			lines = append(lines, fmt.Sprintf("It would be placed on node %s after %s%s.", o.Node, time.Duration(o.AfterSeconds*float64(time.Second)), victimsOf(o)))
		} else {
			lines = append(lines, e.nextLine())
		}
	}
	if e.Decision != "" {
		lines = append(lines, e.Decision+".")
	}
	if e.Nearest != "" {
		lines = append(lines, e.Nearest)
	}
	return lines
}

// linesByItself is what the pod and its Events tell, where the scheduler cannot be asked.
func (e *Explanation) linesByItself(id string) (lines []string) {
	switch {
	case e.BoundTo != "":
		lines = append(lines, fmt.Sprintf("%s is on node %s.", id, e.BoundTo))
	case e.Why == "":
		lines = append(lines, id+" waits, and the scheduler has not said why yet.")
	default:
		lines = append(lines, fmt.Sprintf("%s waits. The scheduler said at %s: %s", id, e.Said.UTC().Format(time.RFC3339), e.Why))
	}
	for _, note := range e.Recorded {
		lines = append(lines, "It was told: "+note)
	}
	return append(lines, "More is not known here: "+(&simulator.ErrMissing{What: e.Missing}).Error()+".")
}

// nextLine says when a pod is tried again for which nothing under way makes room.
func (e *Explanation) nextLine() string {
	n := e.Next
	if n == nil {
		return "Nothing that is known will give it a place: it is tried again when memory is freed, or a node or a report changes."
	}
	text := "Nothing that is under way will give it a place. It is tried again at " + n.Time.UTC().Format(time.RFC3339) +
		", in " + shortly(n.Time.Sub(e.Time.Time))
	if len(n.Because) > 0 {
		text += ", when " + strings.Join(n.Because, " and ")
	}
	if n.Outcome.Node == "" {
		return text + ", and would wait on. It is tried too when memory is freed, or a node or a report changes."
	}
	text += ", and would be placed on node " + n.Outcome.Node + victimsOf(&n.Outcome)
	return text + ", if all else stays as it is; earlier if memory is freed, or a node or a report changes."
}

func victimsOf(p *whatif.Pod) string {
	if len(p.Victims) == 0 {
		return ", nobody evicted"
	}
	names := make([]string, len(p.Victims))
	for i, v := range p.Victims {
		names[i] = v.Namespace + "/" + v.Name
	}
	return ", evicting " + strings.Join(names, ", ")
}

// nearMiss says what lacks on the GPU that lacks least of the node that lacks least, and who holds it.
func (e *Explanation) nearMiss() string {
	if len(e.Nodes) == 0 || e.Nodes[0].Fits || e.Nodes[0].Short == 0 {
		return ""
	}
	n := &e.Nodes[0]
	var near *GPU
	for i := range n.GPUs {
		if g := &n.GPUs[i]; g.Free < g.Needed && (near == nil || g.Needed-g.Free < near.Needed-near.Free) {
			near = g
		}
	}
	if near == nil {
		return ""
	}
	text := fmt.Sprintf("It lacks %s on GPU %d of node %s", alloc.BytesOf(near.Needed-near.Free), near.Index, n.Name)
	if held := near.text(); held != "" {
		text += ": " + held
	}
	return text + "."
}

// text says why a GPU has no more free, and who holds its memory.
func (g *GPU) text() string {
	var parts []string
	if g.Reason != "" && g.Reason != string(alloc.ReasonInsufficientFree) {
		parts = append(parts, g.Reason)
	}
	for i := range g.Holders {
		parts = append(parts, g.Holders[i].text())
	}
	return strings.Join(parts, "; ")
}

func (h *Holder) text() string {
	memory := alloc.BytesOf(h.Memory).String()
	if h.State == "foreign" {
		return "processes of no known pod hold " + memory
	}
	text := fmt.Sprintf("pod %s/%s holds %s", h.Namespace, h.Name, memory)
	switch {
	case h.State == "promised":
		return fmt.Sprintf("%s are kept for pod %s/%s", memory, h.Namespace, h.Name)
	case h.State == "leaving":
		text += " and is going"
		if h.LeavesBy != nil {
			text += ", by " + h.LeavesBy.UTC().Format(time.RFC3339) + " at the latest"
		}
	case h.IdleAfter > 0 && h.IdleSeconds > 0:
		text += fmt.Sprintf(" and is idle for %s of %s", inWords(h.IdleSeconds), inWords(h.IdleAfter))
	case h.IdleSeconds > 0:
		text += " and is idle for " + inWords(h.IdleSeconds)
	}
	if h.ProtectedUntil != nil {
		text += ", protected until " + h.ProtectedUntil.UTC().Format(time.RFC3339)
	}
	return text
}
