// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/gpunode"
	"github.com/berth-dev/berth/pkg/gpustate"
)

var epoch = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// neverStale are arguments for clusters without agents, which never report anew.
var neverStale = map[string]any{"staleAfter": "0s"}

func objectOf(gn *berthv1alpha1.GPUNode) *gpunode.Object {
	return &gpunode.Object{TypeMeta: gn.TypeMeta, ObjectMeta: gn.ObjectMeta, Status: &gn.Status}
}

// gpuNode returns a node and its report.
func gpuNode(gn *bt.GPUNode) []runtime.Object {
	return []runtime.Object{bt.MakeNode(gn.Name), objectOf(gn.Obj())}
}

func simulate(t testing.TB, objects ...runtime.Object) *Simulator {
	t.Helper()
	s, err := New(t.Context(), &Snapshot{Time: epoch, Objects: objects}, Options{Args: neverStale})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func run(t testing.TB, s *Simulator, pods ...*corev1.Pod) {
	t.Helper()
	if err := s.Create(pods...); err != nil {
		t.Fatal(err)
	}
	if err := s.Run(); err != nil {
		t.Fatal(err)
	}
}

// result says in a line what became of a pod.
func result(t testing.TB, s *Simulator, pod *corev1.Pod) string {
	t.Helper()
	o, err := s.Outcome(pod.Namespace, pod.Name)
	switch {
	case err != nil:
		t.Fatal(err)
	case o.Pod == nil:
		return "gone"
	case o.Pending != "":
		return "pending: " + o.Pending
	}
	line := o.Pod.Spec.NodeName
	if o.Allocation != nil {
		for _, d := range o.Allocation.Devices {
			line += fmt.Sprintf(" %s=%s", d.UUID, d.Memory)
		}
	}
	for _, v := range o.Victims {
		line += " evicting " + v.Name
	}
	return fmt.Sprintf("%s after %s", line, o.After.Round(time.Second))
}

func TestPodsGetWhatTheSchedulerGivesThem(t *testing.T) {
	at := epoch.Add(-time.Hour)
	running := func(name, memory string, priority int32, gpu string) *bt.Pod {
		return bt.MakePod(name).Memory(memory).Priority(priority).Bound("a", at, gpu+"="+memory).Started(at).Ready(at)
	}
	const ratio = "--gpu-memory-utilization=$(BERTH_GPU_MEMORY_UTILIZATION)"
	tests := []struct {
		name    string
		objects []runtime.Object
		pods    []*bt.Pod
		want    []string
	}{
		{
			name:    "a pod goes where it fits tightest",
			objects: append(gpuNode(bt.MakeGPUNodeOf("a", 2, "80Gi")), gpuNode(bt.MakeGPUNode("b").GPU("GPU-b", "40Gi"))...),
			pods:    []*bt.Pod{bt.MakePod("p").Memory("30Gi")},
			want:    []string{"b GPU-b=30Gi after 0s"},
		},
		{
			name:    "the second of two sees the first",
			objects: gpuNode(bt.MakeGPUNodeOf("a", 2, "80Gi")),
			pods:    []*bt.Pod{bt.MakePod("p").Memory("60Gi"), bt.MakePod("q").Memory("60Gi"), bt.MakePod("r").Memory("60Gi")},
			want: []string{
				"a GPU-0=60Gi after 0s", "a GPU-1=60Gi after 0s",
				"pending: 0/1 nodes are available: 1 node(s) didn't have enough free GPU memory. nearest on node a: needs 60Gi",
			},
		},
		{
			name:    "a vLLM waits until another one has loaded",
			objects: gpuNode(bt.MakeGPUNodeOf("a", 1, "80Gi")),
			pods:    []*bt.Pod{bt.MakePod("p").Memory("30Gi").Runtime("vllm").Args(ratio), bt.MakePod("q").Memory("30Gi").Runtime("vllm").Args(ratio)},
			want:    []string{"a GPU-0=30Gi after 0s", "a GPU-0=30Gi after 2s"},
		},
		{
			name: "a victim goes in its grace period, and its memory is waited for",
			objects: append(gpuNode(bt.MakeGPUNode("a").GPU("GPU-0", "80Gi").Active("low", "60Gi")),
				running("low", "60Gi", 0, "GPU-0").Obj()),
			pods: []*bt.Pod{bt.MakePod("high").Memory("60Gi").Priority(10)},
			want: []string{"a GPU-0=60Gi evicting low after 31s"},
		},
		{
			name:    "a pod that asks for no GPU memory",
			objects: gpuNode(bt.MakeGPUNodeOf("a", 1, "80Gi")),
			pods:    []*bt.Pod{bt.MakePod("plain")},
			want:    []string{"a after 0s"},
		},
		{
			name:    "the size of the model is not known",
			objects: gpuNode(bt.MakeGPUNodeOf("a", 1, "80Gi")),
			pods:    []*bt.Pod{bt.MakePod("p").Model("hf://org/model")},
			want:    []string{"pending: " + string(gpustate.ReasonModelUnknown)},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := simulate(t, tt.objects...)
			var pods []*corev1.Pod
			for _, p := range tt.pods {
				pods = append(pods, p.Obj())
			}
			run(t, s, pods...)
			for i, pod := range pods {
				if got := result(t, s, pod); got != tt.want[i] && !(strings.HasPrefix(tt.want[i], "pending: ") && strings.HasPrefix(got, tt.want[i])) {
					t.Errorf("%s: %s, want %s", pod.Name, got, tt.want[i])
				}
			}
		})
	}
}

// TestSameInputSameOutput: order of the snapshot's objects, or another run, changes nothing.
func TestSameInputSameOutput(t *testing.T) {
	outcome := func(backwards bool) (lines []string) {
		var objects []runtime.Object
		for i := range 5 {
			objects = append(objects, gpuNode(bt.MakeGPUsOf(fmt.Sprintf("n%d", i), 4, "80Gi"))...)
		}
		var pods []*corev1.Pod
		for i := range 60 {
			p := bt.MakePod(fmt.Sprintf("p%02d", i)).Memory(fmt.Sprintf("%dGi", 10+7*i%60)).Priority(int32(i % 7)).GPUCount("1,2")
			pods = append(pods, p.Obj())
		}
		if backwards {
			for i, j := 0, len(objects)-1; i < j; i, j = i+1, j-1 {
				objects[i], objects[j] = objects[j], objects[i]
			}
		}
		s := simulate(t, objects...)
		run(t, s, pods[:30]...)
		run(t, s, pods[30:]...)
		for _, pod := range pods {
			lines = append(lines, pod.Name+" "+result(t, s, pod))
		}
		return lines
	}
	want := outcome(false)
	for range 3 {
		if diff := cmp.Diff(want, outcome(true)); diff != "" {
			t.Errorf("(-first +again)\n%s", diff)
		}
	}
	if !strings.Contains(strings.Join(want, "\n"), "evicting") {
		t.Errorf("nobody was evicted, so this shows little: %q", want)
	}
}

// TestTry: a pod that finds no place is gone again, and one that is bound runs at once and is measured by nobody.
func TestTry(t *testing.T) {
	s, err := New(t.Context(), &Snapshot{Time: epoch, Objects: gpuNode(bt.MakeGPUNodeOf("a", 1, "80Gi"))}, Options{Args: neverStale, Bare: true})
	if err != nil {
		t.Fatal(err)
	}
	try := func(pod *corev1.Pod) (*corev1.Pod, string) {
		t.Helper()
		bound, why, err := s.Try(pod)
		if err != nil {
			t.Fatal(err)
		}
		return bound, why
	}
	p, why := try(bt.MakePod("p").Memory("60Gi").Obj())
	if why != "" || p.Spec.NodeName != "a" || !isReady(p) || p.Status.Phase != corev1.PodRunning {
		t.Errorf("p: %q, %+v", why, p)
	}
	if q, why := try(bt.MakePod("q").Memory("60Gi").Obj()); q != nil || !strings.Contains(why, "didn't have enough free GPU memory") || s.Pod("default", "q") != nil {
		t.Errorf("q: %q, %v", why, q)
	}
	if _, why := try(bt.MakePod("r").NoReference().Memory("1Gi").Obj()); why == "" {
		t.Error("r was placed without a reference to its GPUs")
	}
	if err := s.Delete(p); err != nil {
		t.Fatal(err)
	}
	if s.kubelet.under != 0 {
		t.Error("its report is waited for")
	}
	if err := s.RunUntil(epoch.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if q, why := try(bt.MakePod("q").Memory("60Gi").Obj()); q == nil {
		t.Errorf("q, once p is gone: %s", why)
	}
	report, _ := find[*gpunode.Object](s.world, "", "a")
	if len(report.Status.Devices[0].Processes) > 0 || len(s.events.of) > 0 || len(s.history) > 0 {
		t.Errorf("what was kept: %v, %v, %v", report.Status.Devices[0].Processes, s.events.of, s.history)
	}
}
