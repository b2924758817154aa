// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package hfconfig

import (
	"strings"

	"github.com/berth-dev/berth/pkg/estimator"
)

// rope is how positions are rotated (rope_scaling; in newer configurations rope_parameters).
type rope struct {
	kind             string // "yarn", "linear"; empty for plain rotations
	factor           float64
	original         int64 // the positions that the model was first trained for
	multimodal       bool  // positions have a time, a height and a width
	partial          float64
	ofWindows, given bool
}

// maxRopeFactor bounds how much longer a context is said to be made.
const maxRopeFactor = 1 << 10

// ropeOf returns how layers of a kind rotate. Newer configurations say it for each type of layer; in older ones,
// layers of windows that have a frequency of their own are not scaled (Gemma 3).
func (b *builder) ropeOf(windows bool) rope {
	f := b.text.sub("rope_scaling", "rope_parameters")
	r := rope{factor: 1, partial: 1, given: f != nil}
	if full, sliding := f.sub("full_attention"), f.sub("sliding_attention"); full != nil || sliding != nil {
		r.ofWindows = windows && sliding != nil
		if f = full; r.ofWindows || full == nil {
			f = sliding
		}
	} else if windows && b.text.has("rope_local_base_freq", "swa_rope_theta", "local_rope_theta") {
		f, r.ofWindows = nil, true
	}
	r.kind = f.str("rope_type", "type")
	if factor, ok := f.number("factor"); ok && factor > 1 && factor <= maxRopeFactor {
		r.factor = factor
	} else if !r.given && !r.ofWindows && b.ropeFactor > 1 && b.root.sub("vision_config") != nil {
		r.kind, r.factor = "linear", float64(b.ropeFactor)
	}
	if r.original = f.int("original_max_position_embeddings"); r.original == 0 {
		r.original = b.text.int("original_max_position_embeddings") // Phi has it beside the scaling
	}
	r.multimodal = b.multimodalRope || len(f.ints("mrope_section")) > 0
	if r.kind == "proportional" {
		return r // Gemma 4: the dimensions that are not rotated have rows of zeros
	}
	for _, source := range []fields{f, b.text} {
		for _, name := range []string{"partial_rotary_factor", "rotary_pct", "rope_pct"} {
			if n, ok := source.number(name); ok && n > 0 && n < 1 && r.partial == 1 {
				r.partial = n
			}
		}
	}
	return r
}

// positions returns the rows of the table of rotations (vllm/model_executor/layers/rotary_embedding, get_rope): as many
// as the configuration has positions, times the factor where it scales them linearly; the positions of images and videos
// run ahead, so there are four times as many.
func (r *rope) positions(configured int64) int64 {
	n := configured
	switch r.kind {
	case "linear", "ntk", "dynamic":
		n = int64(float64(n) * r.factor)
	case "yarn", "deepseek_yarn":
		if r.original > 0 {
			n = int64(float64(r.original) * r.factor)
		}
	case "longrope", "su":
		n += r.original // one table for short contexts, one for long ones
	}
	if r.multimodal {
		n = mul(4, n)
	}
	return n
}

// rotaryElements returns the elements of all tables: one for each width and way of rotating.
func (b *builder) rotaryElements(m *estimator.Model) int64 {
	if b.learnedPositions || b.twoStacks() {
		return 0
	}
	type table struct {
		dim  int64
		rope rope
	}
	full, windows := b.ropeOf(false), b.ropeOf(true) // read once, however many kinds of layers there are
	seen := map[table]bool{}
	var sum int64
	for i := range m.Layers {
		k := &m.Layers[i]
		if k.Kind == estimator.LayerRecurrent || k.Kind == estimator.LayerCross {
			continue
		}
		t := table{dim: k.KeyDim, rope: full}
		if k.Kind == estimator.LayerSlidingWindow {
			t.rope = windows
		}
		if k.Kind == estimator.LayerLatent {
			t.dim = b.text.intOr(k.KeyDim, "qk_rope_head_dim")
		}
		if seen[t] {
			continue
		}
		seen[t] = true
		dim := min(int64(float64(t.dim)*t.rope.partial), t.dim)
		accumulate(&sum, mul(t.rope.positions(b.configuredPositions()), dim))
	}
	return sum
}

// configuredPositions returns how many positions the configuration says that there are.
func (b *builder) configuredPositions() int64 {
	return b.text.int("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length", "n_ctx")
}

// contextLength returns the longest context that engines take the model to be made for: what the configuration says,
// longer by the factor of its RoPE scaling (vllm/config/model.py, _get_and_verify_max_len; YaRN scales the original,
// Gemma 3 has counted it in).
func (b *builder) contextLength() int64 {
	n := b.configuredPositions()
	longest := max(n, b.text.int("model_max_length"))
	r := b.ropeOf(false)
	if r.factor <= 1 || !r.given || strings.Contains(b.text.str("model_type")+normalise(b.arch), "gemma3") {
		return longest
	}
	switch r.kind {
	case "yarn", "deepseek_yarn":
		if r.original > 0 {
			n = r.original
		}
	case "llama3", "longrope", "su", "mrope":
		return longest // counted in already
	}
	return max(longest, int64(float64(n)*r.factor))
}
