// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator_test

import (
	"encoding/json"
	"testing"

	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/estimator/hfconfig"
)

// parseConfig reads a configuration given as a map.
func parseConfig(t testing.TB, config map[string]any) *estimator.Model {
	t.Helper()
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	m, err := hfconfig.Parse(t.Context(), data, nil)
	if err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return m
}

// vllmExcuses are the records that the estimate misses, each with the reason.
var vllmExcuses = map[string]string{
	"vl-15815-qwen25-32b-tp2 activation":                          "the version is not stated; from its date it is one with 38 bytes per logit",
	"vl-f55876904831-qwen25-15b-t4 activation":                    "a T4 computes prompts whole (no chunked prefill), so the context of 32768 is the batch",
	"vl-gfx906-gemma3-27b-4k weights":                             "a fork for MI50 that unpacks part of the weights",
	"vl-gfx906-gemma3-27b-8k weights":                             "a fork for MI50 that unpacks part of the weights",
	"vl-gfx906-qwen3-32b-awq weights":                             "a fork for MI50 that unpacks part of the weights",
	"vl-gfx906-gemma3-27b-4k activation":                          "a fork with naive attention, whose activations grow with the context",
	"vl-gfx906-gemma3-27b-8k activation":                          "a fork with naive attention, whose activations grow with the context",
	"vl-f53530895476-qwen35-122b weights":                         "another checkpoint of the model than the public configuration",
	"vl-aic1423-kimi-k25-nvfp4 weights":                           "attention is data-parallel there: each rank has all of it, which is not modelled",
	"vl-llmd019-llama-3-1-8b-instruct-tp1-pp4-len8192 activation": "the log is the first stage's; the estimate is for the last, which samples",
}
