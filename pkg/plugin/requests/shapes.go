// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package requests

import (
	"fmt"
	"sync"

	"github.com/berth-dev/berth/pkg/gpustate"
)

// Shapes numbers requests, from 1: equal requests have the same number. A number is never used for another request, but
// a request may get a new one.
type Shapes struct {
	mu      sync.Mutex
	numbers map[string]uint64
	last    uint64
}

// maxShapes bounds the memory of requests that are not seen again.
const maxShapes = 4096

// Of returns the number of what a request asks for.
func (s *Shapes) Of(r *gpustate.Request) uint64 {
	key := fmt.Sprint(r.MixedModels(), OptionSignatures(r), r.Sizing())
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
