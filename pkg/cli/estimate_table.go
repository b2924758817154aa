// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/estimator"
)

// gpu is a well-known GPU with its physical memory, as the driver reports it.
type gpu struct {
	name   string
	memory float64 // GiB
}

// gpus are in ascending order of their memory.
var gpus = []gpu{
	{"RTX 4060 Ti 16GB", 15.6}, {"T4", 14.6}, {"L4", 22.5}, {"A10", 22.5}, {"RTX 4090", 23.5}, {"RTX 5090", 31.8},
	{"A100 40GB", 39.5}, {"L40S", 44.4}, {"A100 80GB", 79.1}, {"H100 80GB", 79.19}, {"RTX PRO 6000", 95}, {"H200", 139.8},
	{"B200", 178},
}

// printTable prints what people read: the model, the components per GPU of each option, and what fits where.
func (o *estimateOptions) printTable(m *estimator.Model, r *estimator.Result, counts []int, device estimator.DeviceInfo) error {
	if err := describeModel(o.Out, m, &o.settings); err != nil {
		return err
	}
	w := tabwriter.NewWriter(o.Out, 0, 0, 2, ' ', 0)
	header := "GPUS\tTP\tDEVICES\tTOTAL\tWEIGHTS\tKV CACHE\tSTATE\tCOMPUTE\tENGINE\tKV/TOKEN"
	if device.Total > 0 {
		header += "\tFEASIBLE"
	}
	fmt.Fprintln(w, header)
	for i := range r.Options {
		printOption(w, &r.Options[i], device.Total > 0)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, refusal := range r.Refused {
		fmt.Fprintf(o.Out, "Not on %s: %s.\n", plural(refusal.GPUCount, "GPU"), refusal.Reason)
	}
	if device.Total == 0 {
		o.printFits(m, counts)
	}
	for _, note := range r.Notes {
		fmt.Fprintf(o.Out, "Note: %s.\n", note)
	}
	return nil
}

// describeModel prints one paragraph on what was read.
func describeModel(out io.Writer, m *estimator.Model, s *estimator.Settings) error {
	how := map[estimator.WeightsSource]string{
		estimator.WeightsFromTensors:  "weights as listed by the files",
		estimator.WeightsFromConfig:   "weights computed from the configuration",
		estimator.WeightsFromFileSize: "weights taken to be the whole file",
	}[m.WeightsSource]
	kinds := make([]string, len(m.Layers))
	for i, k := range m.Layers {
		kinds[i] = fmt.Sprintf("%d %s", k.Count, k.Kind)
	}
	_, err := fmt.Fprintf(out, "Model: %s, %.1fB parameters, %s, %s\nLayers: %s\nRuntime: %s\n\n",
		m.Architecture, float64(m.Parameters)/1e9, m.Quantization, how, strings.Join(kinds, ", "), s.Runtime)
	return err
}

// printOption prints a line for each group of equal devices.
func printOption(w io.Writer, o *estimator.Option, judged bool) {
	for i := 0; i < len(o.Devices); {
		n := 1
		for i+n < len(o.Devices) && o.Devices[i+n] == o.Devices[i] {
			n++
		}
		d := &o.Devices[i]
		c := &d.Components
		lead := [3]string{strconv.Itoa(o.GPUCount), strconv.Itoa(o.TensorParallelSize), strconv.FormatInt(o.KVBytesPerToken, 10)}
		if i > 0 {
			lead = [3]string{}
		}
		fmt.Fprintf(w, "%s\t%s\t%d×\t%s\t%s\t%s\t%s\t%s\t%s\t%s", lead[0], lead[1], n, amount(d.Total), amount(c.Weights),
			amount(c.KVCache), amount(c.RecurrentState), amount(c.Compute), amount(c.Engine), lead[2])
		if judged && i == 0 {
			fmt.Fprintf(w, "\t%s", verdict(o))
		}
		fmt.Fprintln(w)
		i += n
	}
}

// verdict says in a few words whether an option is feasible, and why not.
func verdict(o *estimator.Option) string {
	switch {
	case !o.Feasible:
		return "no: " + o.Reason
	case o.Tight:
		return "tight: " + o.Reason
	}
	return "yes"
}

// printFits prints the well-known GPUs that hold each option. Engines choose other defaults on other GPUs, so each
// is estimated anew.
func (o *estimateOptions) printFits(m *estimator.Model, counts []int) {
	fits := map[int][]string{}
	var order []int
	for _, g := range gpus {
		device := estimator.DeviceInfo{Name: g.name, Total: int64(g.memory * (1 << 30))}
		r, err := estimator.Estimate(m, o.settings, counts, device)
		if err != nil {
			continue
		}
		for i := range r.Options {
			n := r.Options[i].GPUCount
			if _, seen := fits[n]; !seen {
				fits[n] = nil
				order = append(order, n)
			}
			if r.Options[i].Feasible {
				fits[n] = append(fits[n], g.name)
			}
		}
	}
	fmt.Fprintln(o.Out)
	for _, n := range order {
		names := strings.Join(fits[n], ", ")
		if names == "" {
			names = "none of the usual GPUs"
		}
		fmt.Fprintf(o.Out, "%s: %s\n", plural(n, "GPU"), names)
	}
}

// amount formats bytes; a dash for none.
func amount(n int64) string {
	if n == 0 {
		return "–"
	}
	return alloc.BytesOfInt64(n).String()
}

// plural writes "1 GPU", "2 GPUs".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
