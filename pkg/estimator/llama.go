// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// llama estimates what llama.cpp allocates on each device: the tensors of the layers that it holds, their cache and
// recurrent state, a compute buffer, and the CUDA context (docs/estimation.md, "llama.cpp"). Ollama runs
// llama-server since mid-2026 and differs in its defaults.
type llama struct {
	m     *Model
	s     *Settings
	dev   DeviceInfo
	build int64
	// context is the cells over all sequences, sequences the slots, unified whether they share one cache.
	context   int64
	sequences int64
	unified   bool
	batch     int64 // micro-batch: tokens computed at once
	// flash: attention is fused. hostFlash: it is, and runs on the host for some kind of layer.
	flash, hostFlash bool
	// paddedValues: without flash attention values are stored transposed, each layer's as wide as the widest.
	paddedValues int64
	keyBytes     int64 // 1024 times the bytes of one cached element
	valBytes     int64
	gpuLayers    int64 // layers on GPUs, the output layer counted as one
	// kinds are the costs of a layer of each kind, cuda the bytes of a CUDA context: the same for all options.
	kinds []kindCost
	cuda  int64
}

// kindCost is what a layer of one kind keeps, in bytes.
type kindCost struct{ kv, state, perToken int64 }

const (
	// newestBuild stands for a build that is not said.
	newestBuild = 1 << 30
	// buildVLess is the first build that caches only keys for MLA (ggml-org/llama.cpp#19067, January 2026).
	buildVLess = 7800
	// buildAutoSlots is the first whose server makes four slots with one cache unless told otherwise.
	buildAutoSlots = 7400
	// buildFewOutputs is the first that does not reserve logits for a whole micro-batch of a server with slots
	// (mid-2026; estimation.md, section 3).
	buildFewOutputs = 9500
	// buildFusedIndexer is a build that computes the scores of a sparse indexer in one operation; when that began is
	// not known, and the older way takes more.
	buildFusedIndexer = 10470
	// cellPadding: caches are made in multiples of 256 cells (llama.cpp, llama-kv-cache.cpp).
	cellPadding = 256
)

func newLlama(m *Model, s *Settings, dev DeviceInfo, e *Result) (*llama, error) {
	l := &llama{m: m, s: s, dev: dev, build: buildNumber(s.Version)}
	l.batch = s.MicroBatchSize
	ollama := s.Runtime == RuntimeOllama
	if l.batch == 0 {
		l.batch = 512
		if ollama {
			l.batch = 1024 // Ollama raises it while memory allows
		}
	}
	if s.BatchSize > 0 {
		l.batch = min(l.batch, s.BatchSize)
	}
	l.flash = s.FlashAttention != SwitchOff
	l.slots(ollama)
	l.contextLength(ollama, e)
	if !m.Cacheless {
		l.batch = min(l.batch, l.context) // with causal attention (llama-context.cpp, n_batch)
	}
	l.keyBytes, l.valBytes = llamaCacheType(s.KVCacheType), llamaCacheType(s.KVCacheType)
	if s.KVCacheTypeV != "" {
		l.valBytes = llamaCacheType(s.KVCacheTypeV)
		if !l.flash && isBlockType(s.KVCacheTypeV) {
			return nil, fmt.Errorf("a quantized value cache (%s) needs flash attention: set it on, or the value cache to f16", s.KVCacheTypeV)
		}
	}
	if err := l.checkCacheTypes(); err != nil {
		return nil, err
	}
	all := l.units()
	l.gpuLayers = all
	if n, ok := s.GPULayers.Count(); ok {
		l.gpuLayers = min(n, all)
		if l.gpuLayers < all {
			e.Notes = append(e.Notes, fmt.Sprintf("%d of %d layers are on GPUs, the others on the host", l.gpuLayers, all))
		}
	}
	l.resolveFlash(e)
	l.kinds = make([]kindCost, len(m.Layers))
	for i := range m.Layers {
		l.kinds[i] = l.costOf(&m.Layers[i])
	}
	l.cuda = l.cudaContext()
	l.record(ollama, e)
	return l, nil
}

// record says what the estimate rests on.
func (l *llama) record(ollama bool, e *Result) {
	s := l.s
	e.Used = *s
	release := s.Version
	if l.build == newestBuild && !ollama {
		release = "b" + strconv.Itoa(buildFusedIndexer) // the build that the rules were checked against
	}
	e.useWord("version", &e.Used.Version, s.Version, release)
	context := l.context
	if ollama {
		context /= max(l.sequences, 1) // Ollama is told that of one slot
	}
	e.use("contextLength", &e.Used.ContextLength, s.ContextLength, context)
	e.use("parallel", &e.Used.Parallel, s.Parallel, l.sequences)
	e.use("microBatchSize", &e.Used.MicroBatchSize, s.MicroBatchSize, l.batch)
	e.useWord("kvCacheType", &e.Used.KVCacheType, s.KVCacheType, l.keyType())
}

// buildNumber reads "b9849", "9849" or "0.30.1" (Ollama, which ships recent builds).
func buildNumber(s string) int64 {
	s = strings.TrimPrefix(strings.ToLower(s), "b")
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 {
		return newestBuild
	}
	return n
}

// llamaCacheType returns 1024 times the bytes of an element; f16 is the default.
func llamaCacheType(name string) int64 {
	if name == "" || name == "auto" {
		return 2048
	}
	b, _ := cacheBytes1024(name)
	return b
}

// slots sets how many sequences there are and whether they share a cache: llama-server makes four that do unless
// told a number (then each has its own), Ollama one.
func (l *llama) slots(ollama bool) {
	l.sequences = l.s.Parallel
	if l.sequences == 0 {
		l.sequences = 1
		if !ollama && l.build >= buildAutoSlots {
			l.sequences, l.unified = 4, true
		}
	}
	switch l.s.KVUnified {
	case SwitchOn:
		l.unified = true
	case SwitchOff:
		l.unified = false
	}
	if l.sequences == 1 {
		l.unified = true // the same either way
	}
}

// contextLength sets the cells over all sequences. llama-server divides --ctx-size among slots; Ollama multiplies
// OLLAMA_CONTEXT_LENGTH by them, and picks 4096, 32768 or 262144 by the GPUs' memory where it is not said (below
// 24 GiB, below 48 GiB, from there on).
func (l *llama) contextLength(ollama bool, e *Result) {
	c := l.s.ContextLength
	if c == 0 {
		c = l.m.ContextLength
		if c == 0 {
			c = contextWhenUnknown
			e.Notes = append(e.Notes, "the model does not say its context length: 4096 tokens assumed")
		} else if ollama {
			c = min(c, ollamaTier(l.dev.Total))
		}
		e.Notes = append(e.Notes, fmt.Sprintf("the context length is not set: %d tokens, the engine's default, assumed; "+
			"the engine may shrink it to fit", c))
	}
	if ollama {
		c = mul(c, l.sequences)
	}
	l.context = max(c, 1)
}

func ollamaTier(total int64) int64 {
	switch {
	case total > 0 && total < 23*gib: // marketing sizes round up
		return 4096
	case total > 0 && total < 47*gib:
		return 32768
	}
	return 262144
}

// refuses: layers are put on devices whole.
func (l *llama) refuses(n int) string {
	if n > 1 && l.s.SplitMode == "none" {
		return "split mode none uses one GPU"
	}
	if l.gpuLayers == 0 {
		return "no layer is offloaded to GPUs (--gpu-layers 0)"
	}
	if int64(n) > l.gpuLayers {
		return fmt.Sprintf("%d layers cannot be put on %d GPUs", l.gpuLayers, n)
	}
	return ""
}

// tensorMode says whether every layer is cut over all devices rather than put on one.
func (l *llama) tensorMode() bool { return l.s.SplitMode == "tensor" || l.s.SplitMode == "row" }

// option estimates n GPUs.
func (l *llama) option(n int) Option {
	o := Option{GPUCount: n, TensorParallelSize: 1, Devices: make([]Device, n), Feasible: true}
	first := l.units() - l.gpuLayers // the first unit on a GPU; the output layer is the last unit
	for unit := int64(0); unit < first; unit++ {
		o.HostMemory = add(o.HostMemory, l.layerBytes(unit))
	}
	o.HostMemory = add(o.HostMemory, l.m.HostWeights, l.m.Embedding) // tables are read row by row, on the host
	shares := l.shares(n, first)
	perToken := make([]int64, n)
	for i, share := range shares {
		for unit := share.from; unit < share.to; unit++ {
			l.place(&o, perToken, unit, i)
		}
	}
	for i := range o.Devices {
		c := &o.Devices[i].Components
		c.Compute, c.Engine = add(c.Compute, l.compute(shares, i)), l.cuda
	}
	c := &o.Devices[0].Components
	c.Compute = add(c.Compute, l.staging(first))
	l.companions(&o.Devices[0])
	for i := range o.Devices {
		o.Devices[i].Total = o.Devices[i].Components.Sum()
	}
	order := largestFirst(o.Devices)
	o.KVBytesPerToken = perToken[order[0]]
	sorted := make([]Device, n)
	for i, j := range order {
		sorted[i] = o.Devices[j]
		if !l.tensorMode() {
			o.LayerSplit = append(o.LayerSplit, shares[j].to-shares[j].from)
			if j == n-1 {
				o.OutputDevice = i
			}
		}
	}
	o.Devices = sorted
	if total := l.dev.Total; total > 0 && sorted[0].Total > total {
		o.Feasible = false
		o.Reason = fmt.Sprintf("needs %s of a device's %s", human(sorted[0].Total), human(total))
	}
	return o
}

// largestFirst returns the devices' indices by decreasing total.
func largestFirst(devices []Device) []int {
	order := make([]int, len(devices))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return compare(devices[b].Total, devices[a].Total) })
	return order
}
