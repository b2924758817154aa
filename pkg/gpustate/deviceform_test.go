// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
)

const (
	cdi  = berthv1alpha1.DeviceFormCDI
	bare = berthv1alpha1.DeviceFormUUID
	nri  = berthv1alpha1.DeviceFormNRI
)

// TestFormOn: which form a node is told, for each kind of pod.
func TestFormOn(t *testing.T) {
	node := func(override string, handlers ...string) *corev1.Node {
		n := bt.MakeNode(testNode)
		if override != "" {
			n.Annotations = map[string]string{berthv1alpha1.AnnotationHandOff: override}
		}
		for _, h := range handlers {
			n.Status.RuntimeHandlers = append(n.Status.RuntimeHandlers, corev1.NodeRuntimeHandler{Name: h})
		}
		return n
	}
	any := HandOff{Handler: "nvidia"}
	uuids := HandOff{Handler: "nvidia", OnlyUUIDs: true}
	long := HandOff{Handler: "nvidia", NoNRI: true}
	accepts := func(forms ...berthv1alpha1.DeviceForm) *bt.GPUNode {
		return bt.MakeGPUNodeOf(testNode, 1, "80Gi").Runtime("nvidia", forms...)
	}
	older := bt.MakeGPUNodeOf(testNode, 1, "80Gi")
	for _, tc := range []struct {
		name   string
		pod    HandOff
		node   *corev1.Node
		report *bt.GPUNode
		want   berthv1alpha1.DeviceForm
		reason alloc.Reason
	}{
		{name: "an older agent says nothing: qualified names work in most modes", pod: any, report: older, want: cdi},
		{name: "an older agent says nothing, and the pod refers to UUIDs: as before", pod: uuids, report: older, want: bare},
		{name: "the handler was not looked at", pod: any, report: older.Copy().Runtime("other", bare), want: cdi},
		{name: "the default runtime is a handler of its own", pod: HandOff{}, report: older.Copy().Runtime("nvidia", cdi).Runtime("", bare), want: bare},
		{name: "the runtime takes both: the preferred one", pod: any, report: accepts(cdi, bare), want: cdi},
		{name: "the runtime takes both, and the pod refers to UUIDs", pod: uuids, report: accepts(cdi, bare), want: bare},
		{name: "explicit legacy mode", pod: any, report: accepts(bare), want: bare},
		{name: "the operator's default takes no UUIDs", pod: uuids, report: accepts(cdi), reason: ReasonOnlyUUIDs},
		{name: "the runtime takes nothing", pod: any, report: accepts(), reason: ReasonNoHandOff},
		{name: "the runtime takes nothing that this version knows", pod: any, report: accepts("Magic"), reason: ReasonNoHandOff},
		{name: "a form that this version does not know is passed over", pod: any, report: accepts("Magic", bare), want: bare},
		{name: "NRI", pod: any, report: accepts(nri), want: nri},
		{name: "NRI, and the pod refers to UUIDs", pod: uuids, report: accepts(nri), reason: ReasonOnlyUUIDs},
		{name: "NRI, and the container's name is too long for it", pod: long, report: accepts(nri), reason: ReasonLongName},
		{name: "an admin's word against the report", pod: any, node: node("UUID"), report: accepts(cdi), want: bare},
		{name: "an admin's word against a report of nothing", pod: any, node: node("CDI"), report: accepts(), want: cdi},
		{name: "an admin's word that does not go with the pod", pod: uuids, node: node("CDI"), report: accepts(bare), reason: ReasonOnlyUUIDs},
		{name: "an admin's word for NRI", pod: long, node: node("NRI"), report: older, reason: ReasonLongName},
		{name: "an admin's word that is none", pod: any, node: node("cdi"), report: accepts(cdi), reason: ReasonHandOffOverride},
		{name: "the node has the handler", pod: any, node: node("", "", "nvidia"), report: accepts(bare), want: bare},
		{name: "the node lacks the handler", pod: any, node: node("", "", "runc"), report: accepts(bare), reason: ReasonNoRuntimeHandler},
		{name: "the node lacks the handler, whatever an admin says of the form", pod: any, node: node("CDI", "", "runc"), report: accepts(cdi), reason: ReasonNoRuntimeHandler},
		{name: "the default runtime needs no handler", pod: HandOff{}, node: node("", "runc"), report: older, want: cdi},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.node == nil {
				tc.node = node("")
			}
			f := newFixture(t)
			f.report(tc.report)
			report, _ := f.Store.Report(testNode, 0)
			form, reason := tc.pod.FormOn(tc.node, report)
			if form != tc.want || reason != tc.reason {
				t.Errorf("got %q, %q, want %q, %q", form, reason, tc.want, tc.reason)
			}
		})
	}
}

// TestHandOffOfAPod: what is read in the pod.
func TestHandOffOfAPod(t *testing.T) {
	reference := func(path string) []corev1.EnvVar {
		return []corev1.EnvVar{{Name: berthv1alpha1.EnvVisibleDevices, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}}
	}
	second := func(name, path string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Annotations[berthv1alpha1.AnnotationContainer] = "server," + name
			p.Spec.InitContainers = []corev1.Container{{Name: name, Env: reference(path), RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways)}}
		}
	}
	for _, tc := range []struct {
		name string
		edit func(*corev1.Pod)
		want HandOff
	}{
		{"what admission injects", func(*corev1.Pod) {}, HandOff{}},
		{"a reference to UUIDs", func(p *corev1.Pod) { p.Spec.Containers[0].Env = reference(berthv1alpha1.GPUUUIDsFieldPath) }, HandOff{OnlyUUIDs: true}},
		{"a reference to UUIDs in one of two", second("side", berthv1alpha1.GPUUUIDsFieldPath), HandOff{OnlyUUIDs: true, RunAtOnce: true}},
		{"a name of 53 characters", second(strings.Repeat("x", 53), berthv1alpha1.VisibleDevicesFieldPath), HandOff{RunAtOnce: true, NoGPUSharing: true}},
		{"a name of 54 characters", second(strings.Repeat("x", 54), berthv1alpha1.VisibleDevicesFieldPath), HandOff{NoNRI: true, RunAtOnce: true, NoGPUSharing: true}},
	} {
		pod := bt.MakePod("a").Memory("30Gi").Obj()
		tc.edit(pod)
		r, _, err := requestOf(pod)
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		if diff := cmp.Diff(tc.want, r.HandOff); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

// TestFormsOfAnAllocation: what the annotations say in each form. Every element of a list is qualified, or the runtime
// takes none of them for CDI names.
func TestFormsOfAnAllocation(t *testing.T) {
	r := &Request{Containers: []string{"server", "convert"}}
	option := alloc.Option{Shares: []alloc.Bytes{alloc.GiB(1), alloc.GiB(1)}, TensorParallelSize: 2}
	var err error
	if r.Request, err = alloc.NewRequest([]alloc.Option{option}, false); err != nil {
		t.Fatal(err)
	}
	r.general = &sizes{request: r.Request}
	a := &alloc.Allocation{Devices: []alloc.DeviceShare{{UUID: "GPU-a", Memory: alloc.GiB(1)}, {UUID: "MIG-b", Memory: alloc.GiB(1)}}}
	for form, want := range map[berthv1alpha1.DeviceForm]map[string]string{
		cdi:  {"berth.dev/visible-devices": "runtime.nvidia.com/gpu=GPU-a,runtime.nvidia.com/gpu=MIG-b"},
		bare: {"berth.dev/visible-devices": "GPU-a,MIG-b"},
		nri: {
			"berth.dev/visible-devices":           "void",
			"nvidia.cdi.k8s.io/container.server":  "berth.dev/gpu=GPU-a,berth.dev/gpu=MIG-b",
			"nvidia.cdi.k8s.io/container.convert": "berth.dev/gpu=GPU-a,berth.dev/gpu=MIG-b",
		},
	} {
		want["berth.dev/gpu-uuids"] = "GPU-a,MIG-b"
		got, err := r.Annotations(a, &alloc.Node{}, form, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"allocation", "tensor-parallel-size", "tensor-split", "gpu-memory-utilization"} {
			delete(got, berthv1alpha1.GroupName+"/"+key)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", form, diff)
		}
	}
}

func TestHandOffProblems(t *testing.T) {
	plain, overridden, wrong := bt.MakeNode(testNode), bt.MakeNode(testNode), bt.MakeNode(testNode)
	overridden.Annotations = map[string]string{berthv1alpha1.AnnotationHandOff: "UUID"}
	wrong.Annotations = map[string]string{berthv1alpha1.AnnotationHandOff: "uuid"}
	nothing := bt.MakeGPUNode(testNode).Runtime("nvidia").Message("set x in config.toml").Runtime("")
	for _, tc := range []struct {
		name   string
		node   *corev1.Node
		report *bt.GPUNode
		want   []string
	}{
		{"nothing is known", plain, bt.MakeGPUNode(testNode), nil},
		{"one of two takes GPUs", plain, bt.MakeGPUNode(testNode).Runtime("").Runtime("nvidia", cdi), nil},
		{"none does", plain, nothing, []string{
			"its runtime handler nvidia takes no GPUs from Berth: set x in config.toml", "its default runtime takes no GPUs from Berth",
		}},
		{"none does, and an admin knows better", overridden, nothing, nil},
		{"what an admin wrote is no form", wrong, bt.MakeGPUNode(testNode), []string{"its annotation berth.dev/hand-off is none of CDI, UUID and NRI"}},
	} {
		if diff := cmp.Diff(tc.want, HandOffProblems(tc.node, tc.report.Status.HandOff)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}
