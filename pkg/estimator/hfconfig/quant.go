// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package hfconfig

import (
	"context"
	"slices"
	"strings"
)

// scheme is how the weights of one module are stored.
type scheme struct {
	name string // for people: "FP8", "NVFP4", "INT4"
	// bits is the bits of one weight; zero means not quantized (the model's own type).
	bits int64
	// group is the number of inputs that share one scale; zero: one scale per output row.
	group int64
	// block is the edge of a square block that shares one scale (DeepSeek's FP8); group is then unused.
	block int64
	// scaleBytes is the bytes of one scale, zeroBits the bits of one zero point per group.
	scaleBytes, zeroBits int64
}

var (
	unquantized = scheme{}
	schemeFP8   = scheme{name: "FP8", bits: 8, scaleBytes: 4}
	schemeINT8  = scheme{name: "INT8", bits: 8, scaleBytes: 4}
	// NVFP4: one FP8 scale per 16 weights (modelopt's hf_quant_config: group_size 16).
	schemeNVFP4 = scheme{name: "NVFP4", bits: 4, group: 16, scaleBytes: 1}
	// MXFP4: one E8M0 scale per 32 weights (OCP Microscaling 1.0, section 5.2).
	schemeMXFP4 = scheme{name: "MXFP4", bits: 4, group: 32, scaleBytes: 1}
)

// bytes returns the size of an in × out matrix, count times. elementBytes is that of the model's own type.
func (s scheme) bytes(in, out, count, elementBytes int64) int64 {
	if s.bits == 0 {
		return mul(in, out, count, elementBytes)
	}
	weights := mul(ceilDiv(mul(in, s.bits), 8), out, count)
	var scales int64
	switch {
	case s.block > 0:
		scales = mul(ceilDiv(in, s.block), ceilDiv(out, s.block))
	case s.group > 0:
		scales = mul(ceilDiv(in, s.group), out)
	default:
		scales = out
	}
	zeros := ceilDiv(mul(scales, s.zeroBits), 8)
	return weights + mul(mul(scales, s.scaleBytes)+zeros, count)
}

// quantizer gives each linear module its scheme by name.
type quantizer struct {
	fallback scheme // modules that nothing else names
	kvCache  string // type of the KV cache that the checkpoint asks for, "fp8" or ""
	ignores  map[string]bool
	patterns []matcher
	parts    []string // of names, between dots, whatever is around them
	unread   bool     // how weights are stored is not known: they are taken as not quantized
	groups   []group
	layers   map[string]scheme
	seen     map[string]int64 // bytes by scheme name, to name the commonest

	compiler compiler
}

type group struct {
	targets []matcher
	all     bool
	scheme  scheme
}

// scheme returns how the module of that name is stored.
func (q *quantizer) scheme(name string) scheme {
	if q.ignored(name) {
		return unquantized
	}
	if len(q.layers) > 0 {
		for prefix := name; prefix != ""; prefix = parent(prefix) {
			if s, ok := q.layers[prefix]; ok {
				return s
			}
		}
	}
	for _, g := range q.groups {
		if g.all {
			return g.scheme
		}
		for _, match := range g.targets {
			if q.compiler.ctx.Err() == nil && match(name) {
				return g.scheme
			}
		}
	}
	return q.fallback
}

// ignored says whether name, or a module that contains it, is left unquantized. Names of one checkpoint carry
// different prefixes ("language_model.model.layers…", "model.language_model.layers…"), so the part from "layers."
// on is tried as well.
func (q *quantizer) ignored(name string) bool {
	for prefix := name; prefix != ""; prefix = parent(prefix) {
		if q.ignores[prefix] {
			return true
		}
	}
	if last := name[strings.LastIndexByte(name, '.')+1:]; q.ignores[last] {
		return true
	}
	if len(q.parts) > 0 {
		dotted := "." + name + "."
		if slices.ContainsFunc(q.parts, func(part string) bool { return strings.Contains(dotted, part) }) {
			return true
		}
	}
	for _, match := range q.patterns {
		if q.compiler.ctx.Err() != nil {
			return false // the caller sees to it that nothing comes of this
		}
		if match(name) {
			return true
		}
	}
	return false
}

func parent(name string) string {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return ""
	}
	return name[:i]
}

// canonical cuts what checkpoints put in front of "layers.N", so that names given with and without it agree.
func canonical(name string) string {
	if i := strings.Index(name, "layers."); i > 0 && !strings.Contains(name[:i], "visual") &&
		!strings.Contains(name[:i], "vision") && !strings.HasPrefix(name, "mtp") {
		return name[i:]
	}
	return name
}

// addIgnore takes one entry of an ignore list: "re:…" a regular expression, with "*" a glob, else a name.
func (q *quantizer) addIgnore(entry string) {
	if !isPattern(entry) {
		q.ignores[canonical(entry)] = true
	} else if match := q.compiler.compile(entry); match != nil {
		q.patterns = append(q.patterns, match)
	}
}

// newQuantizer reads quantization_config of config.json and, where given, hf_quant_config.json (ModelOpt), which
// wins. Both may be nil.
func newQuantizer(ctx context.Context, config, hfQuant fields) (*quantizer, error) {
	q := &quantizer{ignores: map[string]bool{}, seen: map[string]int64{}, compiler: compiler{ctx: ctx}}
	if config != nil {
		q.readConfig(config)
	}
	if hfQuant != nil {
		quantization := hfQuant.sub("quantization")
		if quantization == nil {
			quantization = hfQuant
		}
		q.readModelOpt(quantization)
	}
	return q, q.compiler.err
}

// readConfig reads quantization_config: its quant_method says whose layout it has.
func (q *quantizer) readConfig(c fields) {
	method := strings.ToLower(c.str("quant_method"))
	// These skip modules whose names contain an entry (vllm/model_executor/layers/quantization/awq.py, bitsandbytes.py).
	inside := strings.HasPrefix(method, "awq") || method == "bitsandbytes"
	for _, list := range []string{"modules_to_not_convert", "ignore", "ignored_layers", "exclude_modules", "llm_int8_skip_modules", "exclude"} {
		for _, entry := range c.strs(list) {
			q.addIgnore(entry)
			if part := strings.Trim(canonical(entry), "."); inside && part != "" && len(q.parts) < maxPatterns {
				q.parts = append(q.parts, "."+part+".")
			}
		}
	}
	q.kvCache = kvCacheType(c)
	if len(c.sub("quantized_layers")) > 0 {
		q.readModelOpt(c)
	}
	switch method {
	case "fp8", "fbgemm_fp8":
		q.fallback = schemeFP8
		if blocks := c.ints("weight_block_size"); len(blocks) == 2 && blocks[0] > 0 {
			q.fallback.block = blocks[0]
		}
	case "mxfp4", "mxfp4_fp8":
		q.fallback = schemeMXFP4
	case "awq", "awq_marlin", "gptq", "gptq_marlin", "auto-round", "autoround", "intel/auto-round":
		// Scales are 16 bit, zero points of the weights' own width, one of each per group.
		bits := c.intOr(4, "bits", "w_bit")
		q.fallback = scheme{name: "INT4", bits: bits, group: c.intOr(128, "group_size", "q_group_size"), scaleBytes: 2, zeroBits: bits}
		if bits == 8 {
			q.fallback.name = "INT8"
		}
		q.ignores["lm_head"] = !c.bool(false, "lm_head")
		q.readExceptions(c.sub("extra_config"))
	case "quark":
		q.fallback = quarkScheme(c.sub("global_quant_config").sub("weight"))
		layers := c.sub("layer_quant_config")
		for name := range layers {
			q.addException(name, quarkScheme(layers.sub(name).sub("weight")))
		}
	case "bitnet": // four ternary weights to a byte
		q.fallback = scheme{name: "BitNet", bits: 2, scaleBytes: 2}
		q.ignores["lm_head"] = true
	case "bitsandbytes":
		if c.bool(false, "load_in_8bit", "_load_in_8bit") {
			q.fallback = schemeINT8
		} else {
			q.fallback = scheme{name: "NF4", bits: 4, group: 64, scaleBytes: 4}
		}
		q.ignores["lm_head"] = true
	default:
		if groups := c.sub("config_groups"); groups != nil {
			q.readGroups(groups, c.str("format"))
		} else if algo := c.str("quant_algo"); algo != "" && len(q.layers) == 0 {
			q.fallback = modelOptScheme(algo, c.int("group_size"))
		} else if len(q.layers) == 0 {
			q.unread = method != "" && method != "compressed-tensors" && !strings.HasPrefix(method, "modelopt")
		}
	}
}

// readGroups reads config_groups of compressed-tensors and of ModelOpt: sets of modules with a scheme each.
func (q *quantizer) readGroups(groups fields, format string) {
	for name := range groups {
		g := groups.sub(name)
		weights := g.sub("weights")
		if weights == nil {
			continue
		}
		out := group{scheme: groupScheme(weights, g.str("format")+format)}
		targets := g.strs("targets")
		out.all = len(targets) == 0
		for _, t := range targets {
			switch {
			case t == "Linear":
				out.all = true
			case isPattern(t):
				if match := q.compiler.compile(t); match != nil {
					out.targets = append(out.targets, match)
				}
			default:
				q.setLayer(t, out.scheme)
			}
		}
		if out.all || len(out.targets) > 0 {
			q.groups = append(q.groups, out)
		}
	}
	// A group that takes every linear layer yields to those that name theirs.
	for i := range q.groups {
		if q.groups[i].all && i != len(q.groups)-1 {
			last := len(q.groups) - 1
			q.groups[i], q.groups[last] = q.groups[last], q.groups[i]
			break
		}
	}
	if n := len(q.groups); len(q.layers) > 0 && n > 0 && q.groups[n-1].all {
		q.fallback = q.groups[n-1].scheme
	}
}

func groupScheme(weights fields, format string) scheme {
	bits := weights.intOr(16, "num_bits")
	size := weights.int("group_size")
	float := weights.str("type") == "float"
	switch {
	case bits >= 16:
		return unquantized
	case bits == 4 && float && (size == 32 || strings.Contains(format, "mxfp4")):
		return schemeMXFP4
	case bits == 4 && float:
		return schemeNVFP4
	case bits == 8 && float:
		s := schemeFP8
		if block := weights.ints("block_structure"); len(block) == 2 {
			s.block = block[0]
		}
		return s
	case bits == 8 && size == 0:
		return schemeINT8
	}
	s := scheme{name: "INT4", bits: bits, group: size, scaleBytes: 2}
	if !weights.bool(true, "symmetric") {
		s.zeroBits = bits
	}
	return s
}

// readModelOpt reads NVIDIA ModelOpt's layout: quant_algo, exclude_modules, and for MIXED_PRECISION the algorithm
// of each module.
func (q *quantizer) readModelOpt(c fields) {
	for _, entry := range c.strs("exclude_modules") {
		q.addIgnore(entry)
	}
	if kv := kvCacheType(c); kv != "" {
		q.kvCache = kv
	}
	if layers := c.sub("quantized_layers"); len(layers) > 0 {
		q.groups, q.fallback = nil, unquantized
		for name := range layers {
			l := layers.sub(name)
			q.setLayer(name, modelOptScheme(l.str("quant_algo"), l.int("group_size")))
		}
		return
	}
	if algo := c.str("quant_algo"); algo != "" && algo != "MIXED_PRECISION" {
		q.groups, q.layers = nil, nil
		q.fallback = modelOptScheme(algo, c.int("group_size"))
		// ModelOpt never quantizes the output layer unless asked to; some of its files do not say so.
		q.ignores["lm_head"] = true
	}
}

func (q *quantizer) setLayer(name string, s scheme) {
	if q.layers == nil {
		q.layers = map[string]scheme{}
	}
	q.layers[commonName(canonical(name))] = s
}

func modelOptScheme(algo string, groupSize int64) scheme {
	switch a := strings.ToUpper(algo); {
	case strings.Contains(a, "NVFP4"):
		return schemeNVFP4
	case strings.Contains(a, "MXFP4"):
		return schemeMXFP4
	case strings.Contains(a, "W4A16"), strings.Contains(a, "W4A8"), strings.Contains(a, "INT4"):
		return scheme{name: "INT4", bits: 4, group: max(groupSize, 64), scaleBytes: 2}
	case strings.Contains(a, "FP8_PB"):
		s := schemeFP8
		s.block = 128
		return s
	case strings.Contains(a, "MXFP8"):
		return scheme{name: "MXFP8", bits: 8, group: 32, scaleBytes: 1}
	case strings.Contains(a, "FP8"):
		return schemeFP8
	case strings.Contains(a, "INT8"), strings.Contains(a, "W8A8"):
		return schemeINT8
	}
	return unquantized
}

// kvCacheType returns "fp8" if the checkpoint brings scales for an FP8 cache, which engines then use by default.
func kvCacheType(c fields) string {
	named := strings.ToLower(c.str("kv_cache_quant_algo", "kv_cache_scheme"))
	if strings.Contains(named, "fp8") {
		return "fp8"
	}
	if s := c.sub("kv_cache_scheme"); s != nil && s.int("num_bits") == 8 && s.str("type") == "float" {
		return "fp8"
	}
	return ""
}
