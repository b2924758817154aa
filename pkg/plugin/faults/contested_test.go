// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"testing"
	"time"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// TestANodeThatChangesItsReportAllTheTime wakes and tells of another node once in a while only.
func TestANodeThatChangesItsReportAllTheTime(t *testing.T) {
	var c contested
	gpu := []gpustate.Contested{{UUID: "GPU-0", Nodes: []string{"hostile"}}}
	told := 0
	for i := range 100 {
		devices := gpu
		if i%2 == 1 {
			devices = nil
		}
		tell, cleared := c.set("victim", devices, bt.Epoch.Add(time.Duration(i)*ContestedDelay))
		if tell {
			told++
		}
		if cleared != (devices == nil) {
			t.Fatalf("look %d: cleared %v", i, cleared)
		}
	}
	// 200 s, and at most once in 60 s.
	if told != 4 {
		t.Errorf("told %d times, want 4", told)
	}
	if c.set("victim", nil, bt.Epoch.Add(time.Hour)); len(c.nodes) != 0 {
		t.Error("a node is remembered on which nothing is contested")
	}
}
