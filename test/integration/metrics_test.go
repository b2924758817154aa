// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-dev/berth/test/integration/harness"
)

// histogram is one of the scheduler's metrics.
type histogram struct {
	count int
	sum   float64
	// upTo is how many observations are at most how large, by size.
	upTo []bucket
}

type bucket struct {
	bound float64
	count int
}

// quantile returns the bound of the bucket that a quantile is in; infinite if it is above all.
func (h *histogram) quantile(q float64) float64 {
	for _, b := range h.upTo {
		if float64(b.count) >= q*float64(h.count) {
			return b.bound
		}
	}
	return math.Inf(1)
}

// readHistogram reads a metric of a lab's scheduler; series is its name and all its labels, sorted.
func readHistogram(t *testing.T, lab *harness.Lab, series string) histogram {
	t.Helper()
	name, labels, _ := strings.Cut(strings.TrimSuffix(series, "}"), "{")
	var h histogram
	for line := range strings.SplitSeq(schedulerMetrics(t, lab), "\n") {
		key, value, _ := strings.Cut(line, "} ")
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue // a comment, or without labels
		}
		switch {
		case key == name+"_count{"+labels:
			h.count = int(v)
		case key == name+"_sum{"+labels:
			h.sum = v
		case strings.HasPrefix(key, name+"_bucket{"+labels+`,le="`):
			bound, err := strconv.ParseFloat(strings.TrimSuffix(key[strings.LastIndex(key, `le="`)+4:], `"`), 64)
			if err != nil {
				t.Fatal(err)
			}
			h.upTo = append(h.upTo, bucket{bound, int(v)})
		}
	}
	return h
}

// schedulerMetrics reads /metrics of a lab's scheduler.
func schedulerMetrics(t *testing.T, lab *harness.Lab) string {
	t.Helper()
	code, text := lab.AskScheduler(t, "/metrics", "")
	if code != http.StatusOK {
		t.Fatalf("/metrics of the scheduler: %d", code)
	}
	return text
}
