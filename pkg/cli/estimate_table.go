// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"slices"
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
	if err := describeModel(o.Out, m, r); err != nil {
		return err
	}
	if len(r.Options) > 0 {
		if err := o.printOptions(r, device); err != nil {
			return err
		}
	}
	for _, refusal := range r.Refused {
		fmt.Fprintf(o.Out, "Not on %s: %s.\n", plural(refusal.GPUCount, "GPU"), refusal.Reason)
	}
	if device.Total == 0 && feasible(r) {
		o.printFits(m, counts)
	}
	if o.takesMore(r) {
		fmt.Fprintf(o.Out, "Note: TOTAL is what the model needs; %s gives the rest of its fraction of the GPU to the cache.\n", estimator.EngineOf(o.settings.Runtime).Title)
	}
	for _, note := range r.Notes {
		fmt.Fprintf(o.Out, "Note: %s.\n", note)
	}
	return nil
}

// feasible says whether any option is.
func feasible(r *estimator.Result) bool {
	return slices.ContainsFunc(r.Options, func(o estimator.Option) bool { return o.Feasible })
}

// takesMore says whether the engine takes a fraction of the GPU, whatever it needs.
func (o *estimateOptions) takesMore(r *estimator.Result) bool {
	return len(r.Options) > 0 && r.Utilization > 0 && !o.settings.UtilizationHandedOver && o.settings.KVCacheMemory == 0
}

// printOptions prints the table of options.
func (o *estimateOptions) printOptions(r *estimator.Result, device estimator.DeviceInfo) error {
	w := tabwriter.NewWriter(o.Out, 0, 0, 2, ' ', 0)
	header := "GPUS\tTP\tDEVICES\tTOTAL\tWEIGHTS\tKV CACHE\tSTATE\tCOMPUTE\tENGINE\tKV/TOKEN"
	judged := device.Total > 0 || !feasible(r)
	if judged {
		header += "\tFEASIBLE"
	}
	fmt.Fprintln(w, header)
	for i := range r.Options {
		printOption(w, &r.Options[i], judged)
	}
	return w.Flush()
}

// describeModel prints one paragraph on what was read, and what it is estimated for.
func describeModel(out io.Writer, m *estimator.Model, r *estimator.Result) error {
	how := map[estimator.WeightsSource]string{
		estimator.WeightsFromTensors:  "weights as listed by the files",
		estimator.WeightsFromConfig:   "weights computed from the configuration",
		estimator.WeightsFromFileSize: "weights taken to be the whole file",
	}[m.WeightsSource]
	kinds := make([]string, len(m.Layers))
	for i, k := range m.Layers {
		kinds[i] = fmt.Sprintf("%d %s", k.Count, k.Kind)
	}
	_, err := fmt.Fprintf(out, "Model: %s, %.1fB parameters, %s, %s\nLayers: %s\nRuntime: %s\nSettings: %s\n\n",
		m.Architecture, float64(m.Parameters)/1e9, m.Quantization, how, strings.Join(kinds, ", "), r.Used.Runtime, describeSettings(r))
	return err
}

// describeSettings lists the settings that the estimate rests on, those that nobody gave with a star.
func describeSettings(r *estimator.Result) string {
	u := &r.Used
	var parts []string
	add := func(name, field, value string) {
		if value == "" || value == "0" {
			return
		}
		if slices.Contains(r.Assumed, field) {
			value += "*"
		}
		parts = append(parts, name+" "+value)
	}
	count := func(n int64) string { return strconv.FormatInt(n, 10) }
	add("release", "version", u.Version)
	add("context", "contextLength", count(u.ContextLength))
	if r.Utilization > 0 { // vLLM
		add("requests of it", "parallel", count(u.Parallel))
		add("sequences", "maxNumSeqs", count(u.MaxNumSeqs))
		add("tokens a step", "maxNumBatchedTokens", count(u.MaxNumBatchedTokens))
	} else {
		add("slots", "parallel", count(u.Parallel))
		add("micro-batch", "microBatchSize", count(u.MicroBatchSize))
	}
	add("cache type", "kvCacheType", u.KVCacheType)
	if u.GPUMemoryUtilization > 0 {
		add("utilization", "gpuMemoryUtilization", strconv.FormatFloat(float64(u.GPUMemoryUtilization)/1e6, 'g', 3, 64))
	}
	text := strings.Join(parts, ", ")
	if len(r.Assumed) > 0 {
		text += " (*: assumed, the engine's default)"
	}
	return text
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
	fmt.Fprintln(o.Out, "\nFits on:")
	for _, n := range order {
		names := strings.Join(fits[n], ", ")
		if names == "" {
			names = "none of the usual GPUs"
		}
		fmt.Fprintf(o.Out, "  %s: %s\n", plural(n, "GPU"), names)
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
