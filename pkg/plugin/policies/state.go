// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"errors"
	"slices"
	"strings"
	"sync"
)

// State has what was found of the policies last.
type State struct {
	mu sync.RWMutex
	// checks says that policies are checked at all.
	checks bool
	// findings are those of the last round that counts; nil before it.
	findings []Finding
}

// notChecked is why nothing is known at the start.
const notChecked = "they have not been checked yet"

// Expect makes the state one of policies that will be checked.
func (s *State) Expect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checks = true
}

// set takes the findings of a round, and returns those before it.
func (s *State) set(findings []Finding) []Finding {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.findings
	s.findings = findings
	return before
}

// Why says which policies are not known to be in force, and why; empty if all are, or none is checked.
func (s *State) Why() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.checks {
		return ""
	}
	if s.findings == nil {
		return notChecked
	}
	return why(s.findings)
}

// Err is Why as an error.
func (s *State) Err() error {
	if why := s.Why(); why != "" {
		return errors.New(why)
	}
	return nil
}

// why joins the problems among findings.
func why(findings []Finding) string {
	var texts []string
	for _, f := range findings {
		if f.Verdict != InForce {
			texts = append(texts, f.String())
		}
	}
	return strings.Join(texts, "; ")
}

// names returns the names of the policies with problems among findings.
func names(findings []Finding) (names []string) {
	for _, f := range findings {
		if f.Verdict != InForce {
			names = append(names, f.Policy)
		}
	}
	return slices.Sorted(slices.Values(names))
}
