// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package requests

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// TestWhatIsKept: each version of a pod is read once, until it is forgotten; of pods that are gone, or ask for nothing,
// nothing is kept.
func TestWhatIsKept(t *testing.T) {
	exists := true
	r := Reader{Exists: func(*corev1.Pod) bool { return exists }}
	kept := func(pod *corev1.Pod) bool {
		_, ok := r.read.Load(pod.UID)
		return ok
	}
	pod := bt.MakePod("a").Memory("30Gi").Obj()
	first := r.Of(pod)
	if r.Of(pod.DeepCopy()) != first {
		t.Error("the same version is read again")
	}
	edited := pod.DeepCopy()
	edited.ResourceVersion += "1"
	if r.Of(edited) == first {
		t.Error("another version is not read")
	}
	if r.Forget(pod.UID); kept(pod) {
		t.Error("it is kept after it was forgotten")
	}
	if plain := bt.MakePod("plain").Obj(); !r.Of(plain).IsPlain() || kept(plain) {
		t.Error("something is kept of a pod that asks for nothing")
	}
	exists = false
	if gone := bt.MakePod("gone").Memory("30Gi").Obj(); r.Of(gone).Request == nil || kept(gone) {
		t.Error("a pod that is gone is not read, or kept")
	}
}

// TestTheSameIsToldOnce of a pod, whatever its version: the scheduler writes to it each time that it finds no place.
func TestTheSameIsToldOnce(t *testing.T) {
	r := Reader{Exists: func(*corev1.Pod) bool { return true }}
	pod := bt.MakePod("a").Memory("30Gi").Image("vllm/vllm-openai:v0.25.0").Obj()
	told := func(version string) (reasons []string) {
		pod = pod.DeepCopy()
		pod.ResourceVersion = version
		r.Of(pod).Announce(func(n gpustate.Note) { reasons = append(reasons, n.Reason) })
		return reasons
	}
	all, share := []string{"EngineRecognised", "TakesItsShare"}, []string{"TakesItsShare"}
	steps := []struct {
		name string
		args []string
		want []string
	}{
		{"at first", nil, all},
		{"in the next cycle, of another version", nil, nil},
		{"another share is another note", []string{"--gpu-memory-utilization=0.5"}, share},
		{"again in the next cycle", []string{"--gpu-memory-utilization=0.5"}, nil},
		{"what was told before the last change is news again", nil, share},
	}
	for i, step := range steps {
		pod.Spec.Containers[0].Args = step.args
		if diff := cmp.Diff(step.want, told(fmt.Sprint(i))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
	r.Forget(pod.UID)
	if diff := cmp.Diff(all, told("forgotten")); diff != "" {
		t.Errorf("of a pod that was forgotten (-want +got):\n%s", diff)
	}
}
