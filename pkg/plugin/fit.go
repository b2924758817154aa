// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"sync"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// fit says whether a pod fits on what it sees of a node, and how good its best allocation there is, 0 to 100. What was
// found out for a pod that asks for the same, such as the last replica of its Deployment, is not worked out again
// as long as the node looks the same.
func (pl *Plugin) fit(s *cycleState, view *gpustate.View) gpustate.Fit {
	if view.Reason != "" {
		return gpustate.Fit{}
	}
	if known, ok := view.Fit(s.shape); ok {
		return known
	}
	var f gpustate.Fit
	if best, ok := alloc.Best(&view.Node, &s.request.Request, pl.args.Strategy); ok {
		f = gpustate.Fit{Fits: true, Score: alloc.Score(&view.Node, &best, pl.args.Strategy)}
	}
	view.RememberFit(s.shape, f)
	return f
}

// shapes numbers requests, from 1: equal requests have the same number. A number is never used for another request, but
// a request may get a new one.
type shapes struct {
	mu      sync.Mutex
	numbers map[string]uint64
	last    uint64
}

// maxShapes bounds the memory of requests that are not seen again.
const maxShapes = 4096

// of returns the number of what a request asks for.
func (s *shapes) of(r *gpustate.Request) uint64 {
	key := fmt.Sprint(r.MixedModels(), optionSignatures(r))
	s.mu.Lock()
	defer s.mu.Unlock()
	number, ok := s.numbers[key]
	if !ok {
		if len(s.numbers) >= maxShapes || s.numbers == nil {
			s.numbers = map[string]uint64{}
		}
		s.last++
		number = s.last
		s.numbers[key] = number
	}
	return number
}
