// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package requests

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"

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

func TestRequestsThatAskForTheSameHaveOneNumber(t *testing.T) {
	r := Reader{Exists: func(*corev1.Pod) bool { return true }}
	number := func(pod *bt.Pod) uint64 { return r.Of(pod.Obj()).Shape }
	base := number(bt.MakePod("a").Memory("30Gi"))
	if base == 0 {
		t.Error("a request has no number")
	}
	if n := number(bt.MakePod("b").Memory("30Gi")); n != base {
		t.Errorf("a request that is the same has number %d, want %d", n, base)
	}
	seen := map[uint64]string{base: "30Gi"}
	for name, pod := range map[string]*bt.Pod{
		"a byte more": bt.MakePod("c").Memory("32212254721"),
		"two counts":  bt.MakePod("d").Memory("30Gi").GPUCount("1,2"),
		"two GPUs":    bt.MakePod("e").Memory("60Gi").GPUCount("2"),
	} {
		n := number(pod)
		if other, ok := seen[n]; ok {
			t.Errorf("%s has the number %d of %s", name, n, other)
		}
		seen[n] = name
	}
}
