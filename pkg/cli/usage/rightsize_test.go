// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package usage

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
)

// sized builds the usage of one pod on a node of two GPUs, of which its namespace has a peak.
func sized(t *testing.T, pod *bt.Pod, peak []string, now ...string) *Usage {
	t.Helper()
	o := &Objects{}
	o.Time, o.LeasesUnknown = hour, true
	object := in("default", pod)
	o.Pods = []corev1.Pod{object}
	o.Nodes = []corev1.Node{*bt.MakeNode("gpu-a")}
	gn := bt.MakeGPUNode("gpu-a")
	for i, uuid := range []string{"GPU-0", "GPU-1"} {
		if gn.GPU(uuid, "80Gi"); i < len(now) {
			gn.Active(object.UID, now[i])
		}
	}
	o.GPUNodes = []berthv1alpha1.GPUNode{*gn.Obj()}
	if peak != nil {
		o.Profiles = []berthv1alpha1.ModelProfile{profileWith(llama, peakOf(&object, 2, peak...))}
	} else {
		o.Profiles = []berthv1alpha1.ModelProfile{profileWith(llama)}
	}
	return built(t, o, "namespace")
}

// TestRightSizing: the line books the largest peak of a GPU on each, with the margin of the scheduler (2 %, at least 256Mi),
// rounded up to whole GiB, below 4Gi to quarters.
func TestRightSizing(t *testing.T) {
	one := func(memory string) *bt.Pod { return running("p", "GPU-0="+memory).Memory(memory).Model(llama) }
	two := func(each string) *bt.Pod { return running("p", "GPU-0="+each, "GPU-1="+each).Model(llama) }
	for name, tc := range map[string]struct {
		pod  *bt.Pod
		peak []string
		now  []string
		want string // "" = nothing to say
	}{
		"it books 72Gi and peaks at 31Gi":                      {one("72Gi"), []string{"31Gi"}, []string{"30Gi"}, "berth.dev/gpu-memory: 32Gi"},
		"it holds more now than any did before":                {one("72Gi"), []string{"31Gi"}, []string{"40Gi"}, "berth.dev/gpu-memory: 41Gi"},
		"what it holds while it loads is not what it needs":    {one("72Gi").NotReady(hour), []string{"31Gi"}, []string{"40Gi"}, "berth.dev/gpu-memory: 32Gi"},
		"it books about what it needs":                         {one("34Gi"), []string{"31Gi"}, []string{"30Gi"}, ""},
		"a tenth of a large booking is worth a line":           {one("40Gi"), []string{"34Gi"}, nil, "berth.dev/gpu-memory: 35Gi"},
		"less than 1Gi is not":                                 {one("2Gi"), []string{"1Gi"}, nil, ""},
		"small needs are written in quarters of a GiB":         {one("8Gi"), []string{"1Gi"}, nil, "berth.dev/gpu-memory: 1280Mi"},
		"it holds more than it books":                          {one("30Gi"), []string{"33Gi"}, nil, "berth.dev/gpu-memory: 34Gi"},
		"by less than agents tell":                             {one("30Gi"), []string{"30767Mi"}, nil, ""},
		"on two GPUs the total is twice the larger peak":       {two("36Gi").Memory("72Gi").GPUCount("2"), []string{"15Gi", "12Gi"}, nil, "berth.dev/gpu-memory: 32Gi"},
		"what other counts of GPUs need stays":                 {two("36Gi").Memory("72Gi").GPUCount("1,2,4"), []string{"15Gi", "15Gi"}, nil, "berth.dev/gpu-memory: 1=72Gi,2=32Gi,4=72Gi"},
		"and each its own":                                     {two("36Gi").Memory("1=70Gi,2=72Gi"), []string{"15Gi", "15Gi"}, nil, "berth.dev/gpu-memory: 1=70Gi,2=32Gi"},
		"a size that was estimated":                            {running("p", "GPU-0=72Gi").Model(llama), []string{"31Gi"}, nil, "berth.dev/gpu-memory: 32Gi"},
		"a size that was estimated for several counts of GPUs": {two("36Gi").GPUCount("1,2"), []string{"15Gi", "15Gi"}, nil, "trustObservedPeaks"},
		"a vLLM whose cache has a size of its own": {
			one("72Gi").Runtime(berthv1alpha1.RuntimeVLLM).Args("--kv-cache-memory-bytes=8G"), []string{"31Gi"}, nil, "berth.dev/gpu-memory: 32Gi",
		},
	} {
		t.Run(name, func(t *testing.T) {
			u := sized(t, tc.pod, tc.peak, tc.now...)
			got := ""
			for _, a := range u.RightSizing {
				got += strings.Join([]string{a.Line, a.Hint}, "")
			}
			if len(u.NotSized) > 0 || tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
				t.Errorf("got %q, not sized %+v; want %q", got, u.NotSized, tc.want)
			}
			if tc.want != "trustObservedPeaks" && got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if len(got) == 0 {
				return
			}
			line, ok := strings.CutPrefix(u.RightSizing[0].Line, berthv1alpha1.AnnotationGPUMemory+": ")
			if _, err := berthv1alpha1.ParsePodRequest(tc.pod.Memory(line).Obj()); ok && err != nil {
				t.Errorf("the line would be refused: %v", err)
			}
		})
	}
}

// TestNotSized: where it is not known what a pod needs, no line is written, and it is said why.
func TestNotSized(t *testing.T) {
	book := func() *bt.Pod { return running("p", "GPU-0=72Gi").Memory("72Gi") }
	for name, tc := range map[string]struct {
		pod  *bt.Pod
		peak []string
		want string
	}{
		"vLLM fills what it is booked": {book().Model(llama).Runtime(berthv1alpha1.RuntimeVLLM), []string{"31Gi"}, "vLLM takes all that it is booked"},
		"SGLang as well":               {book().Model(llama).Runtime(berthv1alpha1.RuntimeSGLang), []string{"31Gi"}, "SGLang takes all"},
		"an engine that is only recognised by its command line": {
			book().Model(llama).Args("vllm", "serve", "m"), []string{"31Gi"}, "vLLM takes all that it is booked",
		},
		"no model is named":                {book(), nil, "it names no model"},
		"nothing was measured yet":         {book().Model(llama), nil, "was measured yet"},
		"a peak on two GPUs is another":    {book().Model(llama).GPUCount("1,2"), []string{"31Gi", "31Gi"}, "was measured yet"},
		"there is no profile of its model": {book().Model(qwen), nil, "no ModelProfile of its model"},
		"an allocation of a newer version": {book().Model(llama).Allocation(`{"version":9,"devices":[{"uuid":"GPU-0","memory":"1"}]}`), nil, "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			u := sized(t, tc.pod, tc.peak, "30Gi")
			if len(u.RightSizing) > 0 || len(u.NotSized) != 1 || !strings.Contains(u.NotSized[0].Reason, tc.want) {
				t.Errorf("got %+v, not sized %+v; want %q", u.RightSizing, u.NotSized, tc.want)
			}
		})
	}
}

// TestPeaksOfOthers: what was measured in other namespaces says nothing of a pod, unless an admin lets it.
func TestPeaksOfOthers(t *testing.T) {
	o := world()
	o.Profiles[0].Status.ObservedPeaks[0].Namespace = "platform"
	u := built(t, o, "namespace")
	if len(u.RightSizing) > 0 {
		t.Errorf("another namespace's peaks count: %+v", u.RightSizing)
	}
	o.Profiles[0].Spec.PeaksFrom = []string{"platform"}
	u = built(t, o, "namespace")
	var got []string
	for _, a := range u.RightSizing {
		got = append(got, strings.Join(a.lines(), "|"))
	}
	const where = " (3 pods measured in namespace platform, which an admin chose for all)"
	want := []string{
		"default/chat-0 books 72Gi, peaks at 31Gi" + where + ", holds 30Gi now|    berth.dev/gpu-memory: 32Gi",
		"default/chat-1 books 72Gi, peaks at 31Gi" + where + ", holds 29Gi now|    berth.dev/gpu-memory: 32Gi",
		"edge/far-0 books 16Gi, peaks at 31Gi" + where + "|    berth.dev/gpu-memory: 32Gi",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
