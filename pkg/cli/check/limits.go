// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// limits says on how many nodes containers are held to what is booked, if the scheduler's argument enforcement names who does it.
func (c *judge) limits() (out []Result) {
	handler, known := "", false
	if c.Args != nil && c.Args.Limits() {
		_, handler, known = c.classHandler()
	}
	if !known {
		return nil // nobody is to, or it is told why it is not known
	}
	var nodes, held, refused []string
	why := ""
	for i := range c.Nodes {
		node := &c.Nodes[i]
		report, _ := c.viewer.Snapshot.Report(node.Name, 0)
		if report == nil || c.handOff(node, handler) != "" {
			continue
		}
		nodes = append(nodes, node.Name)
		pod := gpustate.HandOff{Handler: handler, Enforcement: c.Args.Enforcement, LimitTold: gpustate.LimitToldAll}
		form, reason := pod.FormOn(node, report)
		if reason != "" {
			refused, why = append(refused, node.Name), string(reason)
			if note := report.LimitsNote(handler); note != "" {
				why += " (" + note + ")"
			}
			continue
		}
		if by, _ := pod.LimitOn(node, report, form); by != berthv1alpha1.EnforcementNone {
			held = append(held, node.Name)
		}
	}
	if len(refused) > 0 {
		out = append(out, warning(idLimits, "the scheduler's argument enforcement is %s, and %s no pods that are told a limit; of %s: %s", c.Args.Enforcement, getting(len(refused)), refused[len(refused)-1], why).
			of(refused...).run("kubectl get gpunode "+refused[0]+" -o jsonpath='{.status.handOff.runtimes}'").see(pageLimits))
	}
	switch {
	case len(held) > 0:
		out = append(out, ok(idLimits, "%s containers to what is booked, by %s", holding(len(held), len(nodes)), c.Args.Enforcement))
	case len(nodes) > len(refused):
		out = append(out, warning(idLimits, "the scheduler's argument enforcement is %s, and no node says that it holds containers to what is booked: memory is booked and watched, as with None", c.Args.Enforcement).
			of(nodes...).run("kubectl get gpunode "+nodes[0]+" -o jsonpath='{.status.handOff.runtimes}'").see(pageLimits))
	}
	return out
}

func getting(n int) string {
	if n == 1 {
		return "1 node gets"
	}
	return count(n, "node") + " get"
}

func holding(n, of int) string {
	if n == 1 {
		return "1 of " + count(of, "node") + " holds"
	}
	return fmt.Sprintf("%d of %s hold", n, count(of, "node"))
}
