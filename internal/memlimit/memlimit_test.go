// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package memlimit

import (
	"runtime/debug"
	"testing"
	"testing/fstest"
)

func TestMemoryLimitFollowsTheContainers(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	tests := []struct {
		name, file, content, env string
		want                     int64
	}{
		{"a limit of cgroup v2", "memory.max", "700\n", "", 600},
		{"a limit of cgroup v1", "memory/memory.limit_in_bytes", "700\n", "", 600},
		{"no limit of cgroup v2", "memory.max", "max\n", "", 0},
		{"no limit of cgroup v1", "memory/memory.limit_in_bytes", "9223372036854771712\n", "", 0},
		{"no control group", "other", "", "", 0},
		{"an admin's own limit", "memory.max", "700\n", "300MiB", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("GOMEMLIMIT", tt.env)
			debug.SetMemoryLimit(before)
			got := Set(fstest.MapFS{tt.file: {Data: []byte(tt.content)}})
			set := debug.SetMemoryLimit(-1)
			if got != tt.want || tt.want != 0 && set != tt.want || tt.want == 0 && set != before {
				t.Errorf("said %d and set %d, want %d", got, set, tt.want)
			}
		})
	}
}
