// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package planner

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/pkg/alloc"
)

// TestManyTriesEndInAnAnswer: if what could be enough is not confirmed again and again, nodes are added until they are, and those
// taken away that are not needed. It is no proven answer.
func TestManyTriesEndInAnAnswer(t *testing.T) {
	option := []Option{{1, alloc.GiB(20)}}
	p := &Problem{
		Shapes:  []Shape{{GPUs: 1, Memory: alloc.GiB(78)}, {GPUs: 1, Memory: alloc.GiB(44)}, {GPUs: 1, Memory: alloc.GiB(10)}},
		Classes: []Class{{Pods: 60, Options: [][]Option{option, option, nil}}},
	}
	tries := 0
	got, err := Fewest(p, func(counts []int) (bool, error) {
		tries++
		return counts[0] >= 20 && counts[1] >= 4, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	got.Tried = 0
	// 60 pods of 20 GiB are three on each of 20 GPUs.
	if diff := cmp.Diff(&Plan{Counts: []int{20, 4, 0}, Bound: []int{20, 0, 0}}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if tries < maxTries || tries > 3*maxTries {
		t.Errorf("%d tries", tries)
	}
}
