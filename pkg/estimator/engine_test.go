// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator_test

import (
	"slices"
	"testing"

	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/model"
)

// TestTheTableOfEngines: each runtime that a pod can name has an engine, and each engine is whole.
func TestTheTableOfEngines(t *testing.T) {
	for _, name := range model.Runtimes {
		if e := estimator.EngineOf(name); e.Name != name {
			t.Errorf("%s has no engine", name)
		}
	}
	if e := estimator.EngineOf("of-next-year"); e.Name != estimator.RuntimeCustom {
		t.Errorf("an engine that is not known is %s, want custom", e.Name)
	}
	dense := parseConfig(t, llama8B)
	for _, e := range estimator.Engines() {
		if e.Title == "" || len(e.Counts(false)) == 0 || len(e.Counts(true)) == 0 {
			t.Errorf("%s has no title or no counts", e.Name)
		}
		if !slices.Contains(model.Runtimes, e.Name) && (e.Share == nil || e.Starts == nil && e.Image == nil && e.Set == nil) {
			t.Errorf("%s can neither be named nor recognised as one that takes a fraction", e.Name)
		}
		if s := e.Share; s != nil {
			if f := s.Default(&estimator.Settings{}, estimator.DeviceInfo{}, 1); f <= 0 || f > 1_000_000 {
				t.Errorf("%s takes %d parts of a million", e.Name, f)
			}
			if s.Flag == "" || s.Outside == nil && !s.NeedsModel {
				t.Errorf("%s does not say how it is told, or what it takes beside its fraction", e.Name)
			}
		}
		if e.SplitsByLayers {
			continue // loads other files
		}
		o := one(t, dense, estimator.Settings{Runtime: e.Name, ContextLength: 4096}, 2, estimator.DeviceInfo{})
		// 16 GB of weights over two GPUs.
		if len(o.Devices) != 2 || o.Devices[0].Total < 8e9 || o.Devices[0].Total != o.Devices[0].Components.Sum() {
			t.Errorf("%s: %+v", e.Name, o)
		}
	}
}
