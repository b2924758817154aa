// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package memlimit keeps a process within the memory of its container.
package memlimit

import (
	"io/fs"
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

// Cgroup is where a process in a container finds its control group.
func Cgroup() fs.FS { return os.DirFS("/sys/fs/cgroup") }

// Set makes the garbage collector keep the process within what its container may use, unless GOMEMLIMIT says
// otherwise. It returns the limit that it set in bytes, 0 if it set none. A seventh is left for what the collector does
// not count, and for the moment that it needs.
func Set(cgroup fs.FS) int64 {
	if os.Getenv("GOMEMLIMIT") != "" {
		return 0
	}
	limit := containerLimit(cgroup)
	if limit == 0 {
		return 0
	}
	limit -= limit / 7
	debug.SetMemoryLimit(limit)
	return limit
}

// containerLimit returns the memory limit of this process's container in bytes, 0 if there is none: a container sees its
// own control group as the root (Linux, Documentation/admin-guide/cgroup-v2.rst, "memory.max"; v1 has another file).
func containerLimit(cgroup fs.FS) int64 {
	for _, name := range []string{"memory.max", "memory/memory.limit_in_bytes"} {
		data, err := fs.ReadFile(cgroup, name)
		if err != nil {
			continue
		}
		// "max", or in v1 a number beyond any machine, stands for no limit.
		n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
		if err == nil && n > 0 && n < math.MaxInt64/2 {
			return n
		}
	}
	return 0
}
