// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

// DeviceInfo is what is known of the GPUs that a model may be placed on. The zero value means that nothing is
// known: the larger figure is then used where a term depends on the device.
type DeviceInfo struct {
	// Total is the physical memory of one device in bytes (79.19 GiB for an "80 GB" H100), zero when not known.
	Total int64
	// Name is the driver's name of it ("NVIDIA H100 80GB HBM3"), empty when not known.
	Name string
}

// Components are the parts of the memory on one device, in bytes.
type Components struct {
	Weights int64 `json:"weights"`
	// KVCache includes what a sparse-attention indexer caches.
	KVCache int64 `json:"kvCache"`
	// RecurrentState is the state of recurrent layers, of all sequences.
	RecurrentState int64 `json:"recurrentState"`
	// Compute is activations (vLLM) or compute buffers (llama.cpp).
	Compute int64 `json:"compute"`
	// Engine is what is not the model's: CUDA context, NCCL, CUDA graphs.
	Engine int64 `json:"engine"`
}

// Sum returns the sum of the components, saturated.
func (c *Components) Sum() int64 {
	return add(c.Weights, c.KVCache, c.RecurrentState, c.Compute, c.Engine)
}

// Device is what one device of an option must hold.
type Device struct {
	// Total is the sum of the components: what the model needs on this device.
	Total      int64      `json:"total"`
	Components Components `json:"components"`
}

// Option is one way to run a model: on how many GPUs, and what each must hold.
type Option struct {
	GPUCount int `json:"gpuCount"`
	// TensorParallelSize is what the engine is told; 1 for engines that split by layers.
	TensorParallelSize int `json:"tensorParallelSize"`
	// Devices are the devices, the one that needs most first.
	Devices []Device `json:"devices"`
	// KVBytesPerToken is what one more token of context costs on the first device, rounded up.
	KVBytesPerToken int64 `json:"kvBytesPerToken"`
	// Feasible says whether the engine can run like this: every device holds its share, and within the engine's
	// own fraction where that is set. Without a known device size nothing is too large.
	Feasible bool `json:"feasible"`
	// Tight says that it is feasible with less room left than another peak of activations.
	Tight bool `json:"tight,omitempty"`
	// Reason says why it is not feasible, or is tight.
	Reason string `json:"reason,omitempty"`
	// Outside is the part of Components.Engine that lies outside gpu-memory-utilization, on each device (vLLM):
	// CUDA context and NCCL, and the graphs before vLLM 0.21.
	Outside int64 `json:"outside,omitempty"`
	// Before is the part of Outside that the process holds before it looks at what is free, of engines that take a
	// fraction of that: Outside + fraction × (free − Before) is what they take.
	Before int64 `json:"before,omitempty"`
	// Take is what the engine takes on each device when it is not handed its fraction: utilization × total +
	// outside. Zero for engines that take what they need, and when the device size is not known.
	Take int64 `json:"take,omitempty"`
	// HostMemory is what stays in the host's memory (layers not offloaded, embeddings), for information.
	HostMemory int64 `json:"hostMemory,omitempty"`
	// LayerSplit is the layers on each of Devices, the output layer counted as one, and OutputDevice the device that
	// has the output layer: what llama.cpp's --tensor-split must say, in its own order of devices, of which the last
	// one gets the output layer. Nil for engines that do not split by layers.
	LayerSplit   []int64 `json:"layerSplit,omitempty"`
	OutputDevice int     `json:"outputDevice,omitempty"`
}

// Result is the options of a model under settings: what Estimate returns.
type Result struct {
	// Options are in the order of their GPU counts. Counts that the engine cannot use are absent, see Refused.
	Options []Option `json:"options"`
	// Refused says for each GPU count without an option why not.
	Refused []Refusal `json:"refused,omitempty"`
	// Fallback marks an estimate that rests on file size and dimensions only because the architecture is unknown.
	Fallback bool `json:"fallback,omitempty"`
	// Notes are assumptions a user may want to know of.
	Notes []string `json:"notes,omitempty"`
	// Used are the settings with the engine's defaults filled in, as far as memory depends on them, and Assumed the
	// names of those of its fields that nobody gave, as JSON has them, in order.
	Used    Settings `json:"used"`
	Assumed []string `json:"assumed,omitempty"`
	// Utilization is the fraction of a device in parts per million that vLLM takes by these settings, its default
	// where they are silent; zero for other engines.
	Utilization int64 `json:"utilization,omitempty"`
}

// Refusal is a GPU count that the engine cannot use.
type Refusal struct {
	GPUCount int    `json:"gpuCount"`
	Reason   string `json:"reason"`
}

// use records the value of a setting that the estimate rests on, and whether it was assumed.
func (r *Result) use(name string, target *int64, given, value int64) {
	*target = value
	if given == 0 && value != 0 {
		r.Assumed = append(r.Assumed, name)
	}
}

// useWord is use for words.
func (r *Result) useWord(name string, target *string, given, value string) {
	*target = value
	if given == "" && value != "" {
		r.Assumed = append(r.Assumed, name)
	}
}
