// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package hfconfig

import "strings"

// readExceptions reads AutoRound's extra_config: layers, by name or expression, that have other bits than the rest.
func (q *quantizer) readExceptions(layers fields) {
	for name := range layers {
		s := q.fallback
		if s.bits = layers.sub(name).intOr(s.bits, "bits"); s.bits >= 16 {
			s = unquantized
		} else if s.bits == 8 {
			s.name = "INT8"
		}
		if strings.ContainsAny(name, `*\+[(^$`) {
			name = "re:" + name
		}
		q.addException(name, s)
	}
}

// addException gives modules that a name or a pattern means a scheme of their own.
func (q *quantizer) addException(name string, s scheme) {
	switch {
	case s == unquantized:
		q.addIgnore(name)
	case !isPattern(name):
		q.setLayer(name, s)
	default:
		if match := q.compiler.compile(name); match != nil {
			q.groups = append(q.groups, group{targets: []matcher{match}, scheme: s})
		}
	}
}

// quarkScheme reads how AMD's Quark stores weights (vllm/model_executor/layers/quantization/quark).
func quarkScheme(w fields) scheme {
	switch t := w.str("dtype"); {
	case t == "fp4":
		return schemeMXFP4
	case strings.HasPrefix(t, "fp6"):
		return scheme{name: "MXFP6", bits: 6, group: w.intOr(32, "group_size"), scaleBytes: 1}
	case strings.HasPrefix(t, "fp8"):
		s := schemeFP8
		if block := w.ints("block_size"); len(block) == 2 {
			s.block = block[0]
		}
		return s
	case t == "int8", t == "uint8":
		return schemeINT8
	case t == "int4", t == "uint4":
		return scheme{name: "INT4", bits: 4, group: w.intOr(128, "group_size"), scaleBytes: 2}
	}
	return unquantized
}
