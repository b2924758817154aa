// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// sum is an amount of which a page says how it comes about: 5Gi # 2 × (3000Mi − 300Mi − 30Mi), rounded down.
var sum = regexp.MustCompile(`(\d+)Gi # (\d+) × \((\d+)Mi − (\d+)Mi − (\d+)Mi\), rounded down`)

// TestSumsAreRight: an autoscaler that is told more than a node has makes node after node.
func TestSumsAreRight(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	sums := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range sum.FindAllStringSubmatch(string(text), -1) {
			sums++
			n := make([]int, len(match))
			for i, digits := range match[1:] {
				if n[i+1], err = strconv.Atoi(digits); err != nil {
					t.Fatal(err)
				}
			}
			if want := n[2] * (n[3] - n[4] - n[5]) / 1024; n[1] != want {
				t.Errorf("%s: %s: it is %dGi", filepath.Base(page), match[0], want)
			}
		}
	}
	if sums == 0 {
		t.Error("no sum was found")
	}
}
