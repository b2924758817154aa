// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package warm

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	bt "github.com/berth-dev/berth/internal/testing"
)

func withImages(p *bt.Pod, references ...string) *bt.Pod {
	for _, r := range references {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: r}}})
	}
	return p
}

func replicaOf(p *bt.Pod, set string) *bt.Pod {
	controller := true
	p.OwnerReferences = []metav1.OwnerReference{{Kind: "StatefulSet", Name: set, Controller: &controller}}
	return p
}

func TestWhoLoadsTheSame(t *testing.T) {
	pod := func(name string) *bt.Pod { return bt.MakePod(name).Memory("10Gi") }
	env := func(p *bt.Pod, value string) *bt.Pod {
		p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, corev1.EnvVar{Name: "MODEL_ID", Value: value})
		return p
	}
	for _, tc := range []struct {
		name           string
		a, b           *bt.Pod
		modelA, modelB string
		want           bool
	}{
		{name: "one model", a: pod("a"), b: replicaOf(pod("b"), "set"), modelA: "hf://o/r", modelB: "hf://o/r", want: true},
		{name: "another revision of it", a: pod("a"), b: pod("b"), modelA: "hf://o/r", modelB: "hf://o/r@v2"},
		{name: "a model, and a helper's image volume", a: withImages(pod("a"), "tools:1"), b: withImages(pod("b"), "tools:1"), modelA: "hf://o/r", modelB: "hf://o/s"},
		{name: "the same image volumes in another order, and another spelling", a: withImages(pod("a"), "r/m", "r/l:1"), b: withImages(pod("b"), "r/l:1", "r/m:latest"), want: true},
		{name: "one more image volume", a: withImages(pod("a"), "r/m:1"), b: withImages(pod("b"), "r/m:1", "r/l:1")},
		{name: "one workload, and another version of the engine", a: replicaOf(pod("a"), "set"), b: replicaOf(pod("b").Image("vllm:2"), "set"), want: true},
		{name: "one workload, and another argument", a: replicaOf(pod("a").Args("--model=x"), "set"), b: replicaOf(pod("b").Args("--model=y"), "set")},
		{name: "one workload, and another variable", a: env(replicaOf(pod("a"), "set"), "x"), b: env(replicaOf(pod("b"), "set"), "y")},
		{name: "two workloads", a: replicaOf(pod("a"), "set"), b: replicaOf(pod("b"), "other")},
		{name: "pods of which nothing is known", a: pod("a"), b: pod("b")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, b := LoadsOf(tc.a.Obj(), tc.modelA).Key, LoadsOf(tc.b.Obj(), tc.modelB).Key
			if got := a != "" && a == b; got != tc.want {
				t.Errorf("%t: %q and %q", got, a, b)
			}
		})
	}
}
