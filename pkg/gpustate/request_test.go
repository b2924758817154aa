// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
)

// handed are vLLM's arguments that take what the allocation says.
var handed = []string{
	"--tensor-parallel-size=$(BERTH_TENSOR_PARALLEL_SIZE)", "--gpu-memory-utilization=$(BERTH_GPU_MEMORY_UTILIZATION)",
}

// TestOptionsOfATotal: a total that an admin measured is split evenly, rounded up.
func TestOptionsOfATotal(t *testing.T) {
	type option struct {
		Share string // of each GPU
		GPUs  int
		TP    int
	}
	for _, tc := range []struct {
		name string
		pod  *bt.Pod
		want []option
		err  string
	}{
		{name: "one GPU by default", pod: bt.MakePod("a").Memory("30Gi"), want: []option{{"30Gi", 1, 1}}},
		{name: "one total for several counts", pod: bt.MakePod("a").Memory("100Gi").GPUCount("1,2,4"), want: []option{{"100Gi", 1, 1}, {"50Gi", 2, 2}, {"25Gi", 4, 4}}},
		{name: "a total for each count", pod: bt.MakePod("a").Memory("1=30Gi,2=34Gi"), want: []option{{"30Gi", 1, 1}, {"17Gi", 2, 2}}},
		{name: "rounded up, so that nothing is lost", pod: bt.MakePod("a").Memory("100000001").GPUCount("3"), want: []option{{"31.8Mi", 3, 3}}},
		{name: "vLLM that does not follow the count", pod: bt.MakePod("a").Memory("30Gi").Runtime(vllm), want: []option{{"30Gi", 1, 1}}},
		{
			name: "vLLM that follows the count takes powers of two", pod: bt.MakePod("a").Memory("80Gi").Runtime(vllm).Args(handed...),
			want: []option{{"80Gi", 1, 1}, {"40Gi", 2, 2}, {"20Gi", 4, 4}, {"10Gi", 8, 8}},
		},
		{name: "vLLM whose command line says the count", pod: bt.MakePod("a").Memory("80Gi").Runtime(vllm).Args("--tensor-parallel-size=2"), want: []option{{"40Gi", 2, 2}}},
		{
			name: "vLLM whose command line contradicts the counts", pod: bt.MakePod("a").Memory("80Gi").Runtime(vllm).GPUCount("1,4").Args("--tensor-parallel-size=2"),
			err: "write $(BERTH_TENSOR_PARALLEL_SIZE) there",
		},
		{
			name: "Ollama follows any count, and splits by layers", pod: bt.MakePod("a").Memory("8Gi").Runtime(ollama).GPUCount("1-3"),
			want: []option{{"8Gi", 1, 1}, {"4Gi", 2, 1}, {"2.7Gi", 3, 1}},
		},
		{
			name: "a count that leaves nothing beside what the engine takes outside its cache is not considered",
			pod:  bt.MakePod("a").Memory("8Gi").Runtime(vllm).GPUCount("1,8").Args(handed...), want: []option{{"8Gi", 1, 1}},
		},
		{
			name: "no count leaves anything", pod: bt.MakePod("a").Memory("8Gi").Runtime(vllm).GPUCount("8").Args(handed...),
			err: "leaves nothing for the model",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, unresolved, err := requestOf(tc.pod.Obj())
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) || r != nil || unresolved != nil {
					t.Fatalf("got %v, %v, error %v, want an error that says %q", r, unresolved, err, tc.err)
				}
				return
			}
			if err != nil || unresolved != nil {
				t.Fatalf("unresolved %v, error %v", unresolved, err)
			}
			var got []option
			for i := range r.Options() {
				o := &r.Options()[i]
				got = append(got, option{o.Shares[0].String(), len(o.Shares), o.TensorParallelSize})
				if o.Shares[0] != o.Shares[len(o.Shares)-1] {
					t.Errorf("%d GPUs: uneven shares %v", len(o.Shares), o.Shares)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestUnknownModelIsNeverPlaced: without a total and without a profile there is nothing that could be planned.
func TestUnknownModelIsNeverPlaced(t *testing.T) {
	pod := bt.MakePod("a").Model("ollama://llama3.1:70b").Runtime(ollama).Obj()
	parsed, err := berthv1alpha1.ParsePodRequest(pod)
	if err != nil {
		t.Fatal(err)
	}
	for name, profile := range map[string]*berthv1alpha1.ModelProfile{"no profile": nil, "a profile without a status": {}} {
		r, unresolved, err := NewRequest(pod, parsed, profile, Sizing{})
		if r != nil || unresolved == nil || err != nil {
			t.Errorf("%s: request %v, unresolved %v, error %v", name, r, unresolved, err)
		}
	}
	r, unresolved, err := requestOf(bt.MakePod("a").Model("ollama://llama3.1:70b").Memory("74Gi").Obj())
	if r == nil || unresolved != nil || err != nil {
		t.Errorf("with a measured total: request %v, unresolved %v, error %v; it is never gated by a profile", r, unresolved, err)
	}
}

// TestWhatVLLMReallyTakes: an engine that is not handed its fraction takes its own share of each GPU.
func TestWhatVLLMReallyTakes(t *testing.T) {
	h100 := alloc.Device{UUID: "GPU-0", Total: alloc.MiB(81559), Capacity: alloc.MiB(81559)}
	for _, tc := range []struct {
		name string
		args []string
		want float64 // of the device, at least; 0 = what was asked for
		note bool
	}{
		{"handed its fraction", handed, 0, false},
		{"its default", nil, 0.92, true},
		{"a fraction of its own", []string{"--gpu-memory-utilization=0.5"}, 0.5, true},
		{"a cache in bytes", []string{"--kv-cache-memory-bytes=1G"}, 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, _, err := requestOf(bt.MakePod("a").Memory("30Gi").Runtime(vllm).Args(tc.args...).Obj())
			if err != nil {
				t.Fatal(err)
			}
			got := r.Options()[0].On(0, &h100)
			least, most := alloc.GiB(30), alloc.GiB(30)
			if tc.want > 0 {
				least = alloc.BytesOf(uint64(tc.want * float64(h100.Total.Uint64())))
				most = least.Plus(alloc.GiB(4)) // what lies outside the fraction
			}
			if got.Less(least) || most.Less(got) {
				t.Errorf("books %s, want %s to %s", got, least, most)
			}
			if (len(r.Notes) > 0) != tc.note {
				t.Errorf("notes %+v, want some: %v", r.Notes, tc.note)
			}
		})
	}
}

func TestReferenceOfTheChosenContainer(t *testing.T) {
	sidecar := func(p *corev1.Pod) *corev1.Pod {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "sidecar"})
		return p
	}
	both := func(p *corev1.Pod) *corev1.Pod {
		p = sidecar(p)
		p.Spec.Containers[1].Env = p.Spec.Containers[0].Env
		return p
	}
	for _, tc := range []struct {
		name string
		pod  *corev1.Pod
		want bool
	}{
		{"the only container has it", bt.MakePod("a").Memory("30Gi").Obj(), true},
		{"no container has it", bt.MakePod("a").Memory("30Gi").NoReference().Obj(), false},
		{"an injected container does not", sidecar(bt.MakePod("a").Memory("30Gi").Obj()), true},
		{"another container is named", sidecar(bt.MakePod("a").Memory("30Gi").Annotation("container", "sidecar").Obj()), false},
		{"of two that are named, one does not have it", sidecar(bt.MakePod("a").Memory("30Gi").Annotation("container", "server,sidecar").Obj()), false},
		{"both that are named have it", both(bt.MakePod("a").Memory("30Gi").Annotation("container", "server,sidecar").Obj()), true},
	} {
		if got := HasReference(tc.pod); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}
