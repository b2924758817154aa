// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cycle

import (
	"fmt"
	"testing"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/gpustate"
)

func TestNumbersAreNeverUsedForAnotherRequest(t *testing.T) {
	var shapes Shapes
	request := func(memory int) *gpustate.Request {
		pod := bt.MakePod("pod").Memory(fmt.Sprint(memory)).Obj()
		parsed, err := berthv1alpha1.ParsePodRequest(pod)
		if err != nil {
			t.Fatal(err)
		}
		r, _, err := gpustate.NewRequest(pod, parsed, nil, gpustate.Sizing{})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	seen := map[uint64]bool{shapes.Of(request(1 << 30)): true}
	for i := range maxShapes + 10 {
		n := shapes.Of(request(1<<30 + i + 1))
		if seen[n] {
			t.Fatalf("number %d is used twice", n)
		}
		seen[n] = true
	}
	if len(shapes.numbers) > maxShapes {
		t.Errorf("%d requests are remembered", len(shapes.numbers))
	}
}
