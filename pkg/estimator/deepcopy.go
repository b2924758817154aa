// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

import "slices"

// DeepCopyInto copies m into out, which shares nothing with m afterwards. Model is part of an API object.
func (m *Model) DeepCopyInto(out *Model) {
	*out = *m
	out.Layers = slices.Clone(m.Layers)
	out.LayerOrder = slices.Clone(m.LayerOrder)
	out.LayerWeights = slices.Clone(m.LayerWeights)
	out.ExpertWeights = slices.Clone(m.ExpertWeights)
	if m.Experts != nil {
		experts := *m.Experts
		out.Experts = &experts
	}
	if m.Vision != nil {
		vision := *m.Vision
		out.Vision = &vision
	}
	if m.Draft != nil {
		draft := *m.Draft
		out.Draft = &draft
	}
}

// DeepCopy returns a copy of m, nil for nil.
func (m *Model) DeepCopy() *Model {
	if m == nil {
		return nil
	}
	out := new(Model)
	m.DeepCopyInto(out)
	return out
}
