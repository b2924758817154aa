// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"encoding/json"
	"testing"
	"time"

	fwk "k8s.io/kube-scheduler/framework"

	bt "github.com/berth-dev/berth/internal/testing"
)

// signature is what the framework makes of a pod's fragments.
func (f *fixture) signature(pod *bt.Pod) string {
	f.t.Helper()
	fragments, status := f.pl.SignPod(f.ctx, pod.Obj())
	if !status.IsSuccess() {
		return status.Code().String()
	}
	b, err := json.Marshal(fragments)
	if err != nil {
		f.t.Fatal(err)
	}
	return string(b)
}

// TestPodsThatAreAlikeHaveOneSignature: everything that Filter and Score read of a pod is in it, and nothing else.
func TestPodsThatAreAlikeHaveOneSignature(t *testing.T) {
	f := newFixture(t)
	base := func(name string) *bt.Pod { return bt.MakePod(name).Memory("60Gi").GPUCount("1,2") }
	want := f.signature(base("a"))
	for what, pod := range map[string]*bt.Pod{
		"another pod of the workload":          base("b"),
		"the same request in other words":      bt.MakePod("c").Memory("1=60Gi,2=60Gi"),
		"in other units":                       bt.MakePod("d").Memory("61440Mi").GPUCount("2,1"),
		"its own terms as a victim":            base("e").Annotation("idle-after", "10m").Annotation("min-runtime", "5m"),
		"another image, other labels, no args": base("f").Args("--x"),
		"how long it has waited":               base("g").NotReady(epoch.Add(-time.Hour)),
	} {
		if got := f.signature(pod); got != want {
			t.Errorf("%s: the signature differs: %s, want %s", what, got, want)
		}
	}
	f.class("nvidia", "nvidia")
	f.class("other", "other")
	classed := func(name, class string) *bt.Pod {
		p := base(name)
		p.Spec.RuntimeClassName = &class
		return p
	}
	uuids := base("r")
	toUUIDs(&uuids.Pod)
	seen := map[string]string{want: "the base"}
	for what, pod := range map[string]*bt.Pod{
		"another total":           bt.MakePod("h").Memory("61Gi").GPUCount("1,2"),
		"another set of counts":   bt.MakePod("i").Memory("60Gi").GPUCount("1,2,4"),
		"another runtime":         base("j").Runtime("ollama"),
		"vLLM":                    base("k").Runtime(vllm),
		"vLLM with its own share": base("l").Runtime(vllm).Args("--gpu-memory-utilization=0.5"),
		"another priority":        base("m").Priority(7),
		"a RuntimeClass":          classed("p", "nvidia"),
		"another RuntimeClass":    classed("q", "other"),
		"a reference to UUIDs":    uuids,
		"the resource beside it":  base("s").Limit("berth.dev/gpu-memory", "60Gi"),
		"a GPU for itself":        base("s").Annotation("gpu-sharing", "none"),
		"no replica beside it":    base("t").Annotation("gpu-sharing", "other-workloads"),
		"a plain pod":             bt.MakePod("n"),
		"an invalid request":      bt.MakePod("o").Memory("30"),
	} {
		got := f.signature(pod)
		if other, ok := seen[got]; ok {
			t.Errorf("%s has the signature of %s: %s", what, other, got)
		}
		seen[got] = what
	}
}

// TestWhoIsNotSigned: a plain pod is signed with nothing of ours; one whose request is not known is not signed.
func TestWhoIsNotSigned(t *testing.T) {
	f := newFixture(t)
	fragments, status := f.pl.SignPod(f.ctx, bt.MakePod("plain").Obj())
	if len(fragments) != 0 || !status.IsSuccess() {
		t.Errorf("a plain pod: %v, %v", fragments, status)
	}
	for what, pod := range map[string]*bt.Pod{
		"an invalid request": bt.MakePod("a").Memory("30"),
		"an unknown model":   bt.MakePod("b").Model("ollama://x").Runtime("ollama"),
	} {
		if _, status := f.pl.SignPod(f.ctx, pod.Obj()); status.Code() != fwk.Unschedulable {
			t.Errorf("%s: %v", what, status)
		}
	}
}

// TestRequestIsReadAnew when the pod was edited: it is remembered by the version of the pod.
func TestRequestIsReadAnew(t *testing.T) {
	f := newFixture(t)
	before := f.signature(bt.MakePod("a").Memory("60Gi").ResourceVersion("1"))
	if got := f.signature(bt.MakePod("a").Memory("70Gi").ResourceVersion("2")); got == before {
		t.Error("the request of the older version was used")
	}
}
