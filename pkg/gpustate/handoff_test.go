// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/estimator"
)

// place plans a pod on a node and books it, and returns what it is told.
func (f *fixture) place(p *bt.Pod) map[string]string {
	f.t.Helper()
	pod := p.Obj()
	r, _, err := requestOf(pod)
	if err != nil {
		f.t.Fatal(err)
	}
	v := f.view(Query{Pod: pod.UID, Runtime: r.Runtime, Loaded: true})
	best, ok := alloc.Best(&v.Node, &r.Request, alloc.MostAllocated)
	if !ok {
		f.t.Fatalf("%s does not fit on %+v", pod.Name, v.Node)
	}
	out, err := r.Annotations(&best, &v.Node, berthv1alpha1.DeviceFormCDI, "")
	if err != nil {
		f.t.Fatal(err)
	}
	if err := f.Ledger.Assume(pod, testNode, r.Allocation(&best, &v.Node)); err != nil {
		f.t.Fatal(err)
	}
	return out
}

// TestTwoEnginesShareTwoGPUs: two vLLM pods of 78Gi on the same two H100s (79.19 GiB usable of 81559 MiB) are each
// told a fraction that leaves room for what they take outside it.
func TestTwoEnginesShareTwoGPUs(t *testing.T) {
	f := newFixture(t)
	f.report(bt.MakeGPUNodeOf(testNode, 2, "81087Mi"))
	for _, name := range []string{"a", "b"} {
		got := f.place(bt.MakePod(name).Memory("78Gi").Runtime(vllm).GPUCount("2").Args(handed...))
		ratio, err := strconv.ParseFloat(got[berthv1alpha1.AnnotationGPUMemoryUtilization], 64)
		if err != nil || ratio > 0.467 || ratio < 0.4 {
			t.Errorf("%s is told the fraction %v, error %v, want at most 0.467", name, ratio, err)
		}
		if got[berthv1alpha1.AnnotationTensorParallelSize] != "2" || got[berthv1alpha1.AnnotationGPUUUIDs] != "GPU-0,GPU-1" {
			t.Errorf("%s is told %v", name, got)
		}
	}
}

// TestWhatAPodIsTold: the annotations of the Binding, for each engine.
func TestWhatAPodIsTold(t *testing.T) {
	for _, tc := range []struct {
		name string
		pod  *bt.Pod
		want map[string]string
	}{
		{"custom, one GPU", bt.MakePod("a").Memory("20Gi"), map[string]string{
			"allocation": bt.AllocationJSON(custom, "GPU-0=20Gi"), "gpu-uuids": "GPU-0",
			"visible-devices":      "runtime.nvidia.com/gpu=GPU-0",
			"tensor-parallel-size": "1", "tensor-split": "20480", "gpu-memory-utilization": "0.250"}},
		{"llama.cpp, two GPUs, model unknown", bt.MakePod("a").Memory("20Gi").Runtime(llamaCpp).GPUCount("2"), map[string]string{
			"allocation": strings.Replace(bt.AllocationJSON(llamaCpp, "GPU-0=10Gi", "GPU-1=10Gi"), `"tensorParallelSize":2`, `"tensorParallelSize":1`, 1),
			"gpu-uuids":  "GPU-0,GPU-1", "visible-devices": "runtime.nvidia.com/gpu=GPU-0,runtime.nvidia.com/gpu=GPU-1",
			"tensor-parallel-size": "1", "tensor-split": "10240,10240", "gpu-memory-utilization": "0.125"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			f.report(bt.MakeGPUNodeOf(testNode, 2, "80Gi"))
			want := map[string]string{}
			for k, v := range tc.want {
				want[berthv1alpha1.GroupName+"/"+k] = v
			}
			if diff := cmp.Diff(want, f.place(tc.pod)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestFractionStaysWithinTheBooking: for any booking, the fraction of any of the devices and what lies outside it are
// together no more than what is booked there.
func TestFractionStaysWithinTheBooking(t *testing.T) {
	node := &alloc.Node{Devices: []alloc.Device{{UUID: "GPU-a", Total: alloc.MiB(81559)}, {UUID: "GPU-b", Total: alloc.MiB(40960)}}}
	for booked := uint64(1); booked < 40960; booked += 97 {
		a := &alloc.Allocation{Devices: []alloc.DeviceShare{{UUID: "GPU-a", Memory: alloc.MiB(booked)}, {UUID: "GPU-b", Memory: alloc.MiB(booked)}}}
		outside := alloc.MiB(2150)
		ratio := utilization(a, node, outside)
		told, err := strconv.ParseFloat(formatRatio(ratio), 64)
		if err != nil {
			t.Fatal(err)
		}
		for i := range node.Devices {
			total := node.Devices[i].Total.Uint64()
			if taken := uint64(told * float64(total)); told > 0 && alloc.MiB(booked).Less(alloc.BytesOf(taken).Plus(outside)) {
				t.Fatalf("booked %d MiB: told %v, which takes %d bytes and %v outside", booked, told, taken, outside)
			}
		}
	}
	if got := utilization(&alloc.Allocation{Devices: []alloc.DeviceShare{{UUID: "GPU-unknown", Memory: alloc.GiB(1)}}}, node, alloc.Bytes{}); got != 0 {
		t.Errorf("a device of unknown size gives the fraction %v", got)
	}
}

// TestAFractionOfWhatIsFree: an engine that takes a fraction of what is free takes outside + f × (free − before), with
// the least free of its GPUs, and stays within its booking by it, whoever else is on them.
func TestAFractionOfWhatIsFree(t *testing.T) {
	pod := bt.MakePod("p").Memory("60Gi").Runtime(berthv1alpha1.RuntimeSGLang).GPUCount("2").
		Args("--mem-fraction-static=$(BERTH_MEM_FRACTION_STATIC)")
	r := askedBy(t, pod, nil)
	if !slices.ContainsFunc(r.Notes, func(n Note) bool { return n.Reason == "OnSeveralGPUs" }) {
		t.Error("nobody says that SGLang wants GPUs that are as free as each other")
	}
	for _, unused := range [][2]uint64{{80, 80}, {40, 40}, {80, 40}, {31, 79}} {
		node := nodeOf(h100, h100)
		a := &alloc.Allocation{TensorParallelSize: 2}
		for i := range node.Devices {
			node.Devices[i].Unused = alloc.GiB(unused[i])
			a.Devices = append(a.Devices, alloc.DeviceShare{UUID: node.Devices[i].UUID, Memory: alloc.GiB(30)})
		}
		told, err := r.Annotations(a, node, berthv1alpha1.DeviceFormUUID, "")
		if err != nil {
			t.Fatal(err)
		}
		f, err := strconv.ParseFloat(told[berthv1alpha1.AnnotationMemFractionStatic], 64)
		if err != nil {
			t.Fatalf("%v GiB free: told %v", unused, told)
		}
		s := r.sizedOn(node)
		outside, before := float64(s.request.Options()[0].Outside.Uint64()), float64(s.before[2].Uint64())
		free := float64(alloc.GiB(min(unused[0], unused[1])).Uint64())
		takes := (outside + f*(free-before)) / (1 << 30)
		if takes > 30 || takes < 29.9 {
			t.Errorf("%v GiB free: a fraction of %v takes %.2f GiB of 30", unused, f, takes)
		}
		if _, told := told[berthv1alpha1.AnnotationFreeGPUMemoryFraction]; told {
			t.Error("it is told the fraction of another engine")
		}
	}
	own, err := askedBy(t, bt.MakePod("p").Memory("60Gi").Runtime(berthv1alpha1.RuntimeSGLang).GPUCount("2"), nil).
		Annotations(&alloc.Allocation{Devices: []alloc.DeviceShare{{UUID: "GPU-a", Memory: alloc.GiB(30)}, {UUID: "GPU-b", Memory: alloc.GiB(30)}}}, nodeOf(h100, h100), berthv1alpha1.DeviceFormUUID, "")
	if err != nil || own[berthv1alpha1.AnnotationMemFractionStatic] != "" {
		t.Errorf("a pod that does not ask for it was told %v, error %v", own, err)
	}
}

// TestTensorRTIsToldItsFraction: a process of which N is not cache takes N + f × (free − N), whoever else is on its GPU.
func TestTensorRTIsToldItsFraction(t *testing.T) {
	pod := bt.MakePod("p").Model("hf://org/llama-8b").Runtime(berthv1alpha1.RuntimeTensorRT).Annotation("context-length", "8192").
		Args("--kv_cache_free_gpu_memory_fraction=$(BERTH_FREE_GPU_MEMORY_FRACTION)")
	r := askedBy(t, pod, profileOf(t))
	node := nodeOf(h100)
	option := r.On(node).Options()[0]
	booked, rest := float64(option.Shares[0].Uint64()), float64(option.Outside.Uint64())
	for _, unused := range []uint64{80, 50, 30} {
		node.Devices[0].Unused = alloc.GiB(unused)
		told, err := r.Annotations(&alloc.Allocation{Devices: []alloc.DeviceShare{{UUID: "GPU-a", Memory: option.Shares[0]}}}, node, berthv1alpha1.DeviceFormUUID, "")
		if err != nil {
			t.Fatal(err)
		}
		f, err := strconv.ParseFloat(told[berthv1alpha1.AnnotationFreeGPUMemoryFraction], 64)
		if err != nil {
			t.Fatalf("%d GiB free: told %v", unused, told)
		}
		if takes := rest + f*(float64(alloc.GiB(unused).Uint64())-rest); takes > booked || takes < booked-(100<<20) {
			t.Errorf("%d GiB free: a fraction of %v takes %.2f GiB of %.2f", unused, f, takes/(1<<30), booked/(1<<30))
		}
	}
	stated := bt.MakePod("p").Memory("30Gi").Runtime(berthv1alpha1.RuntimeTensorRT).Args("--free_gpu_memory_fraction=$(BERTH_FREE_GPU_MEMORY_FRACTION)").Obj()
	parsed, err := berthv1alpha1.ParsePodRequest(stated)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := NewRequest(stated, parsed, nil, Sizing{}); err == nil || !strings.Contains(err.Error(), "berth.dev/model") {
		t.Errorf("a fraction of a model that is not known: %v", err)
	}
}

// TestLayersInTheEnginesOrder: llama.cpp puts the output layer on its last device whatever is booked there, so any
// device must have room for it, and the last is told the layers that come with it.
func TestLayersInTheEnginesOrder(t *testing.T) {
	shares := []alloc.Bytes{alloc.GiB(21), alloc.GiB(20), alloc.GiB(12)}
	option := &estimator.Option{LayerSplit: []int64{21, 20, 12}, OutputDevice: 1}
	s := &sizes{layerSplits: [][]int64{inEngineOrder(shares, option)}}
	a := &alloc.Allocation{}
	for i, share := range shares {
		if share != alloc.GiB(21) {
			t.Errorf("share %d is %s, want 21Gi as the largest", i, share)
		}
		a.Devices = append(a.Devices, alloc.DeviceShare{UUID: "GPU-" + strconv.Itoa(i), Memory: share})
	}
	if got := s.tensorSplit(a); got != "21,12,20" {
		t.Errorf("got %s, want 21,12,20: the layers of the device with the output layer last", got)
	}
	if layers := inEngineOrder(shares, &estimator.Option{}); layers != nil {
		t.Errorf("an engine that does not split by layers got %v", layers)
	}
}
