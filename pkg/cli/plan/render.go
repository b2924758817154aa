// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/cli/gpumap"
)

// mapOf is up to how many nodes are drawn.
const mapOf = 8

// Render writes an answer for people.
func (a *Answer) Render(out io.Writer, style gpumap.Style) error {
	if !a.Enough {
		_, err := fmt.Fprintf(out, "%s.\n", strings.ToUpper(a.why[:1])+a.why[1:])
		return err
	}
	price := ""
	if a.Price != nil {
		price = fmt.Sprintf(", at a price of %.2f", *a.Price)
	}
	fmt.Fprintf(out, "%s for %s%s: %s.\n", count(a.Nodes, "node"), count(len(a.Pods), "pod"), price, a.verdict())
	if a.survive > 0 {
		fmt.Fprintf(out, "Any %s can be lost: its pods find a place on the others, whose pods stay where they are.\n", count(a.survive, "node"))
	}
	if a.AtOnce != "" {
		fmt.Fprintf(out, "Create the pods one after the other, each once the one before it is Ready. All at once, %s.\n"+
			"Beside a pod of vLLM, SGLang or TensorRT-LLM nothing is placed while it loads, so they would spread over more GPUs.\n", a.AtOnce)
	}
	fmt.Fprintln(out)
	if err := a.table(out); err != nil {
		return err
	}
	if a.OneFewer != "" {
		fmt.Fprintln(out)
		if len(a.Binds) > 0 {
			fmt.Fprintf(out, "What binds: %s. ", strings.Join(a.Binds, ", "))
		}
		fmt.Fprintln(out, a.OneFewer+".")
	}
	fmt.Fprintln(out)
	if hidden := len(a.nodes.Nodes) - mapOf; hidden > 0 {
		a.nodes.Notes = append(a.nodes.Notes, fmt.Sprintf("%s more; -o json has where all pods go", count(hidden, "node")))
		a.nodes.Nodes = a.nodes.Nodes[:mapOf]
	}
	return a.nodes.Render(out, style)
}

// verdict says how sure it is that nothing better is enough.
func (a *Answer) verdict() string {
	what := "fewer nodes"
	if a.Price != nil {
		what = "cheaper ones"
	}
	if a.Proven {
		return what + " are proven not to be enough"
	}
	parts := make([]string, len(a.AtLeast))
	for i, s := range a.AtLeast {
		parts[i] = fmt.Sprintf("%d × %s", s.Nodes, s.Shape)
	}
	return fmt.Sprintf("with pods in this order the scheduler gets by with no %s, but that %s would be too few is not proven", what, strings.Join(parts, " and "))
}

func (a *Answer) table(out io.Writer) error {
	cpu, memory := false, false
	for i := range a.Shapes {
		cpu, memory = cpu || a.Shapes[i].CPU > 0, memory || a.Shapes[i].Memory > 0
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := []string{"SHAPE", "NODES", "GPUS USED", "GPU MEMORY BOOKED", "FREE", "OF IT IN PIECES TOO SMALL"}
	if cpu {
		line = append(line, "CPU")
	}
	if memory {
		line = append(line, "HOST MEMORY")
	}
	fmt.Fprintln(t, strings.Join(line, "\t"))
	for i := range a.Shapes {
		s := &a.Shapes[i]
		line := []string{
			s.Shape, fmt.Sprint(s.Nodes), fmt.Sprintf("%d of %d", s.GPUsUsed, s.GPUs), share(s.Booked, s.GPUMemory, bytes),
			bytes(s.Usable + s.InPieces), bytes(s.InPieces),
		}
		if cpu {
			line = append(line, share(s.CPURequested, s.CPU, cpus))
		}
		if memory {
			line = append(line, share(s.MemoryRequested, s.Memory, bytes))
		}
		fmt.Fprintln(t, strings.Join(line, "\t"))
	}
	return t.Flush()
}

// share writes a part of what there is; only the part if there is no limit.
func share(part, whole int64, text func(int64) string) string {
	if whole == 0 {
		return text(part) + " of any"
	}
	return fmt.Sprintf("%s of %s (%d %%)", text(part), text(whole), 100*part/whole)
}

func bytes(n int64) string { return alloc.BytesOfInt64(n).String() }
func cpus(n int64) string  { return resource.NewMilliQuantity(n, resource.DecimalSI).String() }

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
