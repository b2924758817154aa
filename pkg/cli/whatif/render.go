// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package whatif

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/berth-dev/berth/pkg/alloc"
)

// Render writes an answer for people.
func (a *Answer) Render(out io.Writer) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "POD\tNODE\tGPUS\tEVICTS\tAFTER")
	placed := 0
	victims := map[Name]bool{}
	for i := range a.Pods {
		p := &a.Pods[i]
		p.row(t)
		if p.Node != "" {
			placed++
		}
		for _, v := range p.Victims {
			victims[v] = true
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for i := range a.Pods {
		if p := &a.Pods[i]; p.Node == "" {
			fmt.Fprintf(out, "\n%s stays pending:\n  %s\n", p.id(), strings.ReplaceAll(p.Pending, "\n", "\n  "))
		}
	}
	if len(a.Others) > 0 {
		fmt.Fprintln(out, "\nPods that wait now would find a place too:")
		t = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for i := range a.Others {
			a.Others[i].row(t)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	switch {
	case len(a.Pods) == 0:
		_, err := fmt.Fprintln(out, "\nNo pod of this scheduler is asked about: name manifests by -f, or drain a node.")
		return err
	case len(victims) > 0:
		_, err := fmt.Fprintf(out, "\n%d of %s would be placed, and %s evicted.\n", placed, count(len(a.Pods), "pod"), count(len(victims), "pod"))
		return err
	}
	_, err := fmt.Fprintf(out, "\n%d of %s would be placed, and nobody evicted.\n", placed, count(len(a.Pods), "pod"))
	return err
}

func (p *Pod) id() string { return p.Namespace + "/" + p.Name.Name }

func (p *Pod) row(out io.Writer) {
	node, after := p.Node, (time.Duration(p.AfterSeconds) * time.Second).String()
	if node == "" {
		node, after = "-", "-"
	}
	fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\n", p.id(), node, orDash(p.gpus()), orDash(p.evicts()), after)
}

func (p *Pod) gpus() string {
	parts := make([]string, len(p.Devices))
	for i, d := range p.Devices {
		parts[i] = alloc.BytesOf(d.Memory).String() + " on " + d.UUID
	}
	return strings.Join(parts, ", ")
}

func (p *Pod) evicts() string {
	parts := make([]string, len(p.Victims))
	for i, v := range p.Victims {
		parts[i] = v.Namespace + "/" + v.Name
	}
	return strings.Join(parts, ", ")
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
