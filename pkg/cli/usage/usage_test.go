// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package usage

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/cli/gpumap"
	"github.com/berth-dev/berth/pkg/gpustate"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

const (
	gi    = int64(1) << 30
	llama = "hf://org/llama-8b"
	qwen  = "ollama://qwen3:8b"
)

var (
	now  = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	hour = now.Add(-time.Hour)
)

// in puts a pod into a namespace, under a controller.
func in(namespace string, p *bt.Pod, owner ...string) corev1.Pod {
	pod := p.Obj()
	pod.Namespace = namespace
	if len(owner) == 2 {
		pod.OwnerReferences = ownedBy(owner[0], owner[1])
	}
	return *pod
}

func ownedBy(kind, name string) []metav1.OwnerReference {
	return []metav1.OwnerReference{{Kind: kind, Name: name, UID: types.UID(name), Controller: ptr.To(true)}}
}

func running(name string, shares ...string) *bt.Pod {
	return bt.MakePod(name).Bound("gpu-a", hour, shares...).Started(hour).Ready(hour)
}

// world is a cluster with one of everything that is told apart:
//   - chat-0 and chat-1 book 72Gi of a GPU each, and hold 30Gi and 29Gi of it;
//   - embed-0 of another namespace books 8Gi and is idle;
//   - vllm-0 fills 40Gi; raw-0 names no model; train-0 holds a whole GPU through the device plugin;
//   - 3Gi and 1Gi are held by nobody, and by a pod that is gone; far-0 is on a node without a report.
func world() *Objects {
	chat := func(name string) *bt.Pod { return running(name, "GPU-"+name+"=72Gi").Memory("72Gi").Model(llama) }
	o := &Objects{Owners: map[types.UID][]metav1.OwnerReference{
		"chat-abc": ownedBy("Deployment", "chat"), "chat": ownedBy("InferenceService", "llama"), "nightly-1": ownedBy("CronJob", "nightly"),
	}}
	embed := in("search", running("embed-0", "GPU-2=8Gi").Memory("8Gi").Model(qwen).Runtime(berthv1alpha1.RuntimeOllama), "StatefulSet", "embed")
	embed.Labels = map[string]string{"team": `a`}
	train := in("research", bt.MakePod("train-0").Scheduler("default-scheduler").WholeGPUs(1).Node("gpu-b").Started(hour).Ready(hour), "Job", "nightly-1")
	train.Labels = map[string]string{"team": "b", "owner": "kim"}
	o.Pods = []corev1.Pod{
		in("default", chat("chat-0"), "ReplicaSet", "chat-abc"), in("default", chat("chat-1"), "ReplicaSet", "chat-abc"), embed,
		in("default", running("vllm-0", "GPU-2=40Gi").Model(llama).Runtime(berthv1alpha1.RuntimeVLLM).Args("--gpu-memory-utilization=$(BERTH_GPU_MEMORY_UTILIZATION)")),
		in("search", running("raw-0", "GPU-3=4Gi").Memory("4Gi")), train,
		in("edge", bt.MakePod("far-0").Bound("gpu-far", hour, "GPU-f=16Gi").Memory("16Gi").Model(llama).Started(hour).Ready(hour)),
		in("search", bt.MakePod("waits").Memory("500Gi")),
	}
	a := bt.MakeGPUNode("gpu-a").
		GPU("GPU-chat-0", "80Gi").Active("chat-0", "30Gi").
		GPU("GPU-chat-1", "80Gi").Active("chat-1", "29Gi").
		GPU("GPU-2", "80Gi").Idle("embed-0", "6Gi", hour).Active("vllm-0", "40Gi").Process("", "3Gi").
		GPU("GPU-3", "80Gi").Active("raw-0", "2Gi").Process("gone", "1Gi")
	b := bt.MakeGPUNode("gpu-b").GPU("GPU-b", "80Gi").Active("train-0", "70Gi").AssignedTo("train-0")
	o.GPUNodes = []berthv1alpha1.GPUNode{*a.Obj(), *b.Obj()}
	far := bt.MakeNode("gpu-far")
	far.Annotations = map[string]string{"machineconfiguration.openshift.io/currentConfig": "rendered-edge-gpu-34991104f998905093971550eef782e9"}
	o.Nodes = []corev1.Node{*bt.MakeNode("gpu-a"), *bt.AdvertiseGPUs(bt.MakeNode("gpu-b"), 1), *far}
	o.Nodes[0].Labels = map[string]string{"cloud.google.com/gke-nodepool": "h100"}
	o.Nodes[1].Labels = map[string]string{berthv1alpha1.LabelDevicePlugin: berthv1alpha1.DevicePluginShared}
	o.Profiles = []berthv1alpha1.ModelProfile{profileWith(llama, peakOf(&o.Pods[0], 3, "31Gi")), profileWith(qwen)}
	o.Time, o.LeasesUnknown = now, true
	return o
}

// peakOf is what was measured of pods like one.
func peakOf(pod *corev1.Pod, samples int32, devices ...string) berthv1alpha1.ObservedPeak {
	settings, err := gpustate.EngineSettings(pod)
	if err != nil {
		panic(err)
	}
	p := berthv1alpha1.ObservedPeak{Namespace: pod.Namespace, Settings: settings, GPUCount: int32(len(devices)), Samples: samples}
	for _, d := range devices {
		p.Devices = append(p.Devices, resource.MustParse(d))
	}
	return p
}

func profileWith(model string, peaks ...berthv1alpha1.ObservedPeak) berthv1alpha1.ModelProfile {
	return berthv1alpha1.ModelProfile{
		ObjectMeta: metav1.ObjectMeta{Name: berthv1alpha1.ModelProfileNames(model)[0]},
		Spec:       berthv1alpha1.ModelProfileSpec{Source: model}, Status: berthv1alpha1.ModelProfileStatus{ObservedPeaks: peaks},
	}
}

func built(t *testing.T, o *Objects, by string, nodes ...string) *Usage {
	t.Helper()
	b, err := ParseBy(by)
	if err != nil {
		t.Fatal(err)
	}
	u, err := Build(o, gpumap.DefaultSettings(), b, nodes...)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestGroups: what is booked, measured and idle is added up, the largest booking first.
func TestGroups(t *testing.T) {
	// A GPU of 80Gi has 80Gi − 256Mi for pods: train-0 holds all of it.
	const whole = 80*gi - gi/4
	row := func(name string, pods, gpus int, booked, measured int64) Row {
		return Row{Name: name, Pods: pods, GPUs: gpus, Booked: booked, Measured: measured}
	}
	far := row("", 1, 1, 16*gi, 0)
	far.UnmeasuredPods = 1
	as := func(r Row, name string) Row { r.Name = name; return r }
	idle := func(r Row) Row { r.Idle = 8 * gi; return r }
	of := func(r Row, capacity int64) Row { r.Capacity = &capacity; return r }
	total := idle(row(TotalName, 7, 6, 72*2*gi+8*gi+40*gi+4*gi+16*gi+whole, 30*gi+29*gi+6*gi+40*gi+2*gi+70*gi))
	total.UnmeasuredPods = 1
	total = of(total, 5*whole)
	for by, want := range map[string][]Row{
		"namespace": {
			row("default", 3, 3, 184*gi, 99*gi), row("research", 1, 1, whole, 70*gi), as(far, "edge"), idle(row("search", 2, 2, 12*gi, 8*gi)),
		},
		"model": {
			{Name: llama, Pods: 4, GPUs: 4, Booked: 200 * gi, Measured: 99 * gi, UnmeasuredPods: 1},
			row(None, 2, 2, whole+4*gi, 72*gi), idle(row(qwen, 1, 1, 8*gi, 6*gi)),
		},
		"owner": {
			row("default/InferenceService/llama", 2, 2, 144*gi, 59*gi), row("research/CronJob/nightly", 1, 1, whole, 70*gi),
			row("default/Pod/vllm-0", 1, 1, 40*gi, 40*gi), as(far, "edge/Pod/far-0"),
			idle(row("search/StatefulSet/embed", 1, 1, 8*gi, 6*gi)), row("search/Pod/raw-0", 1, 1, 4*gi, 2*gi),
		},
		"node-pool": {
			of(idle(row("h100", 5, 4, 196*gi, 107*gi)), 4*whole), of(row(None, 1, 1, whole, 70*gi), whole), as(far, "edge-gpu"),
		},
		"team": {
			{Name: None, Pods: 5, GPUs: 5, Booked: 204 * gi, Measured: 101 * gi, UnmeasuredPods: 1},
			row("b", 1, 1, whole, 70*gi), idle(row("a", 1, 1, 8*gi, 6*gi)),
		},
		"label=owner": {
			{Name: None, Pods: 6, GPUs: 5, Booked: 212 * gi, Measured: 107 * gi, UnmeasuredPods: 1, Idle: 8 * gi}, row("kim", 1, 1, whole, 70*gi),
		},
	} {
		t.Run("by "+by, func(t *testing.T) {
			u := built(t, world(), by)
			if diff := cmp.Diff(want, u.Rows); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(total, u.Total); diff != "" {
				t.Errorf("total (-want +got):\n%s", diff)
			}
			if u.By != by || *u.Others != 4*gi {
				t.Errorf("by %s, others %d; want %s, 4Gi", u.By, *u.Others, by)
			}
		})
	}
}

func TestOnlyTheNamedNodesCount(t *testing.T) {
	u := built(t, world(), "namespace", "gpu-b")
	if len(u.Rows) != 1 || u.Rows[0].Name != "research" || len(u.RightSizing)+len(u.NotSized) != 0 {
		t.Errorf("got %+v", u)
	}
}

// TestPodsThatShareAGPUByTimeSlicing count its memory once.
func TestPodsThatShareAGPUByTimeSlicing(t *testing.T) {
	o := world()
	o.Pods = append(o.Pods, in("other", bt.MakePod("half").Scheduler("default-scheduler").Node("gpu-b")))
	o.GPUNodes[1] = *bt.MakeGPUNode("gpu-b").GPU("GPU-b", "80Gi").AssignedPods("train-0", "half").Obj()
	u := built(t, o, "namespace", "gpu-b")
	if len(u.Rows) != 2 || u.Rows[0].Booked != u.Rows[1].Booked || u.Total.Booked != 80*gi-gi/4 || u.Total.GPUs != 1 {
		t.Errorf("got %+v, total %+v", u.Rows, u.Total)
	}
}

// TestWithoutReports: what pods were promised is known of them alone; what is measured is not.
func TestWithoutReports(t *testing.T) {
	o := world()
	o.GPUNodes = nil
	u := built(t, o, "namespace")
	want := Row{Name: TotalName, Pods: 6, GPUs: 5, Booked: (144 + 8 + 40 + 4 + 16) * gi, UnmeasuredPods: 6}
	if diff := cmp.Diff(want, u.Total); diff != "" || u.Others != nil {
		t.Errorf("others %v; total (-want +got):\n%s", u.Others, diff)
	}
}

func TestNotes(t *testing.T) {
	for name, tc := range map[string]struct {
		by     string
		change func(*Objects)
		want   string
	}{
		"a ReplicaSet that was not read":      {"owner", func(o *Objects) { delete(o.Owners, "chat-abc") }, "Not all ReplicaSets could be read"},
		"a label that no pod has":             {"namespce", func(*Objects) {}, "namespce; --by takes one of namespace, model"},
		"nodes without a label of any pool":   {"node-pool", func(o *Objects) { o.Nodes[0].Labels, o.Nodes[2].Annotations = nil, nil }, "No node says its pool"},
		"a booking that cannot be read":       {"model", func(o *Objects) { o.Pods[6].Annotations[berthv1alpha1.AnnotationAllocation] = "{" }, "edge/far-0"},
		"a GPU that a resource claim holds":   {"model", func(o *Objects) { claimed(o) }, "resource claims hold 1 GPU"},
		"an agent that is silent for a while": {"model", func(o *Objects) { silent(o) }, "gpu-a was last heard of 20m ago"},
	} {
		t.Run(name, func(t *testing.T) {
			has := func(o *Objects) bool {
				return strings.Contains(strings.Join(built(t, o, tc.by).Notes, "\n"), tc.want)
			}
			o := world()
			tc.change(o)
			if !has(o) {
				t.Errorf("notes %q, want %q", built(t, o, tc.by).Notes, tc.want)
			}
			if tc.by != "namespce" && has(world()) {
				t.Errorf("%q is told without a cause", tc.want)
			}
		})
	}
}

func TestParseBy(t *testing.T) {
	for _, bad := range []string{"", "label=", "two words", "a/b/c", "node pool", "-x"} {
		if by, err := ParseBy(bad); err == nil || !strings.Contains(err.Error(), "node-pool") {
			t.Errorf("%q is read as %v, error %v", bad, by, err)
		}
	}
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	file = filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// TestOutput holds the forms to golden files: go test ./pkg/cli/usage -update writes them.
func TestOutput(t *testing.T) {
	for _, by := range []string{"namespace", "node-pool"} {
		u := built(t, world(), by)
		var text, csv bytes.Buffer
		if err := u.Render(&text); err != nil {
			t.Fatal(err)
		}
		if err := u.CSV(&csv); err != nil {
			t.Fatal(err)
		}
		golden(t, by+".txt", text.Bytes())
		golden(t, by+".csv", csv.Bytes())
		object, err := json.MarshalIndent(u, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, by+".json", append(object, '\n'))
	}
}

// TestCSVQuotes: a model's URI may have commas and quotes in it.
func TestCSVQuotes(t *testing.T) {
	o := world()
	for i := range o.Pods {
		o.Pods[i].Annotations[berthv1alpha1.AnnotationModel] = `https://models.example/a,"b".gguf`
	}
	var out bytes.Buffer
	if err := built(t, o, "model").CSV(&out); err != nil {
		t.Fatal(err)
	}
	if want := "\n\"https://models.example/a,\"\"b\"\".gguf\",7,"; !strings.Contains(out.String(), want) {
		t.Errorf("want %q in\n%s", want, out.String())
	}
}

// claimed lets a resource claim hold GPU-3.
func claimed(o *Objects) {
	pool, uuid := "gpu-a", "GPU-3"
	o.Slices = []resourcev1.ResourceSlice{{Spec: resourcev1.ResourceSliceSpec{
		Driver: "gpu.nvidia.com", Pool: resourcev1.ResourcePool{Name: pool}, NodeName: &pool,
		Devices: []resourcev1.Device{{Name: "gpu-3", Attributes: map[resourcev1.QualifiedName]resourcev1.DeviceAttribute{"uuid": {StringValue: &uuid}}}},
	}}}
	o.Claims = []resourcev1.ResourceClaim{{
		ObjectMeta: metav1.ObjectMeta{Name: "claim", UID: "claim"},
		Status: resourcev1.ResourceClaimStatus{Allocation: &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{
			Results: []resourcev1.DeviceRequestAllocationResult{{Driver: "gpu.nvidia.com", Pool: pool, Device: "gpu-3"}},
		}}},
	}}
}

// silent lets the agent of gpu-a have renewed its Lease 20 minutes ago.
func silent(o *Objects) {
	o.LeasesUnknown = false
	o.Leases = []coordinationv1.Lease{{
		ObjectMeta: metav1.ObjectMeta{Name: "gpu-a"}, Spec: coordinationv1.LeaseSpec{RenewTime: &metav1.MicroTime{Time: now.Add(-20 * time.Minute)}},
	}}
}
