// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

import "fmt"

// release is what changed in vLLM's memory with a release, from the first one that has it on.
type release struct {
	from version
	// perLogit is the bytes that profiling needs for each logit of max_num_seqs rows; samplerAfter those that the
	// sampler needs more when it is warmed up later, where profiling leaves it out.
	perLogit, samplerAfter int64
	// alone, pair and many are the bytes allocated outside PyTorch on one GPU, on two, and on four and more.
	alone, pair, many int64
}

// releases are the figures by release, oldest first. A release between two of them has those of the older one.
//
// Sources: start-up logs on H100 of llm-d-planner for v0.11 and v0.15 to v0.19 (58 of v0.19; docs/estimation.md);
// vllm-project/vllm#48601 of July 2026 (the second model runner: 1.54 GiB of activations for 1024 × 248320 logits, 0.60
// GiB outside PyTorch on four GPUs; it then failed to warm up the sampler) and a public log of v0.26 with GLM-5.2 (6.31
// and 0.95 GiB on four) for v0.25 and on.
var releases = []release{
	{from: 0, perLogit: 38, alone: 160 * mib, pair: 576 * mib, many: 576 * mib},
	{from: 12, perLogit: 38, alone: 160 * mib, pair: 2150 * mib, many: 2270 * mib},
	{from: 17, perLogit: 14, alone: 160 * mib, pair: 2150 * mib, many: 2270 * mib},
	{from: 18, perLogit: 14, alone: 384 * mib, pair: 2150 * mib, many: 2270 * mib},
	{from: 25, perLogit: 4, samplerAfter: 10, alone: 384 * mib, pair: 1000 * mib, many: 1000 * mib},
}

// newestMeasured is the newest release with measurements; beyond it the figures are those of it.
const newestMeasured version = 26

// releaseOf returns the figures of a release.
func releaseOf(v version) *release {
	r := &releases[0]
	for i := range releases {
		if v >= releases[i].from {
			r = &releases[i]
		}
	}
	return r
}

// releaseNote says when the figures of another release are used, "" if they are those of the release itself.
func releaseNote(v version) string {
	if v == newest || v <= newestMeasured {
		return ""
	}
	return fmt.Sprintf("vLLM %d.%d is newer than the newest release with measurements, 0.%d: its figures are used", v/1000, v%1000, newestMeasured)
}
