// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

// customEngine is what is not known better: it splits evenly, and is estimated as the engine that people load files of
// the model's format with.
var customEngine = register(&Engine{
	Name:   RuntimeCustom,
	Title:  "the container",
	Counts: func(bool) []int { return []int{1} },
	size: func(m *Model, s *Settings, dev DeviceInfo, e *Result) (sizer, error) {
		if m.Format == FormatGGUF {
			e.Notes = append(e.Notes, "runtime custom: estimated as llama.cpp would load it")
			return newLlama(m, s, dev, e)
		}
		e.Notes = append(e.Notes, "runtime custom: estimated as vLLM would load it")
		return newVLLM(m, s, dev, e)
	},
})
