// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpumap

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpustate"
)

const gi = int64(1) << 30

func findDevice(t *testing.T, m *Map, uuid string) *Device {
	t.Helper()
	for i := range m.Nodes {
		for j := range m.Nodes[i].Devices {
			if d := &m.Nodes[i].Devices[j]; d.UUID == uuid {
				return d
			}
		}
	}
	t.Fatalf("no device %s", uuid)
	return nil
}

func TestBuildAddsUpWhatADeviceHolds(t *testing.T) {
	m := buildMap(t, readObjects(t, "cluster.yaml"))
	// 81559Mi − 512Mi reserved − 256Mi headroom.
	const capacity = 80791 << 20
	tests := map[string]struct {
		uuid string
		want Device
	}{
		"bookings, a gone pod's memory and what is foreign are all off what is free": {
			uuid: "GPU-a0",
			want: Device{Booked: 44 * gi, Measured: 50 * gi, Leaving: 4 * gi, Foreign: 6 * gi, Free: capacity - 54*gi},
		},
		"an ended pod books nothing": {
			uuid: "GPU-a1",
			want: Device{Booked: 36 * gi, Measured: 34 * gi, Free: capacity - 36*gi},
		},
		"a pod that takes more than it booked is charged what it takes": {
			uuid: "GPU-a2",
			want: Device{Booked: 30 * gi, Measured: 52 * gi, Free: capacity - 50*gi - 20*gi},
		},
		"an unhealthy device has nothing free": {uuid: "GPU-a3"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := findDevice(t, m, tt.uuid)
			got := Device{Booked: d.Booked, Measured: d.Measured, Leaving: d.Leaving, Foreign: d.Foreign, Free: d.Free}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("device %s (-want +got):\n%s", tt.uuid, diff)
			}
		})
	}
}

func TestBuildShowsNodesWithGPUsAndThoseThatAreNamed(t *testing.T) {
	o := readObjects(t, "cluster.yaml")
	tests := map[string]struct{ ask, want []string }{
		"all nodes with GPUs, reported or advertised": {want: []string{"gpu-a", "gpu-b", "gpu-c"}},
		"only the named ones, by name":                {ask: []string{"gpu-b", "gpu-a"}, want: []string{"gpu-a", "gpu-b"}},
		"a named one without GPUs":                    {ask: []string{"cpu-a"}, want: []string{"cpu-a"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, n := range buildMap(t, o, tt.ask...).Nodes {
				got = append(got, n.Name)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("nodes (-want +got):\n%s", diff)
			}
		})
	}
	if _, err := Build(o, DefaultSettings(), "gpu-x"); err == nil || !strings.Contains(err.Error(), `"gpu-x"`) {
		t.Errorf("a name that no node has: got error %v", err)
	}
}

func TestBuildTellsStaleNodes(t *testing.T) {
	tests := map[string]struct {
		change func(*Objects, *Settings)
		want   string
	}{
		"a Lease renewed 12 minutes ago is stale": {
			change: func(*Objects, *Settings) {}, want: string(gpustate.ReasonStaleReport),
		},
		"not where the scheduler never takes reports for stale, and a pod without an allocation blocks nobody": {
			change: func(_ *Objects, s *Settings) { s.StaleAfter = metav1.Duration{} },
			want:   "",
		},
		"not where Leases cannot be read": {
			change: func(o *Objects, _ *Settings) { o.Leases, o.LeasesUnknown = nil, true },
			want:   "",
		},
		"an agent whose clock is ahead is fresh": {
			change: func(o *Objects, _ *Settings) {
				for i := range o.Leases {
					o.Leases[i].Spec.RenewTime = &metav1.MicroTime{Time: now.AddDate(0, 0, 1)}
				}
			},
			want: "",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			o, s := readObjects(t, "cluster.yaml"), DefaultSettings()
			tt.change(o, &s)
			m, err := Build(o, s, "gpu-b")
			if err != nil {
				t.Fatal(err)
			}
			if got := m.Nodes[0].Reason; got != tt.want {
				t.Errorf("reason %q, want %q", got, tt.want)
			}
		})
	}
}

func TestBuildNamesPodsWhoseGPUIsNotReported(t *testing.T) {
	o := readObjects(t, "cluster.yaml")
	for i := range o.GPUNodes {
		if devices := &o.GPUNodes[i].Status.Devices; o.GPUNodes[i].Name == "gpu-a" {
			*devices = (*devices)[:2] // GPU-a2, with greedy-0 and loader-0, is gone
		}
	}
	want := []string{
		"pod default/greedy-0 was given GPU-a2, which is not reported",
		"pod default/loader-0 was given GPU-a2, which is not reported",
	}
	if diff := cmp.Diff(want, buildMap(t, o, "gpu-a").Nodes[0].Problems); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestBuildSaysWhyANodeTakesNoGPUs(t *testing.T) {
	o := readObjects(t, "cluster.yaml")
	for i := range o.GPUNodes {
		o.GPUNodes[i].Status.HandOff = &berthv1alpha1.HandOff{Runtimes: []berthv1alpha1.RuntimeHandOff{
			{Handler: "nvidia", Mode: "legacy", Message: "set accept-nvidia-visible-devices-envvar-when-unprivileged = true in /etc/x.toml"},
		}}
		if o.GPUNodes[i].Name != "gpu-a" {
			o.GPUNodes[i].Status.HandOff.Runtimes[0].Accepts = []berthv1alpha1.DeviceForm{berthv1alpha1.DeviceFormUUID}
		}
	}
	want := []string{
		"its runtime handler nvidia takes no GPUs from Berth: set accept-nvidia-visible-devices-envvar-when-unprivileged = true in /etc/x.toml",
	}
	if diff := cmp.Diff(want, buildMap(t, o, "gpu-a").Nodes[0].Problems); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	for _, problem := range buildMap(t, o, "gpu-b").Nodes[0].Problems {
		if strings.Contains(problem, "takes no GPUs") {
			t.Errorf("a node that takes them has the problem %q", problem)
		}
	}
}

func TestBuildShowsANodeWhoseReportCannotBeRead(t *testing.T) {
	o := readObjects(t, "cluster.yaml")
	o.GPUNodes = slices.DeleteFunc(o.GPUNodes, func(gn berthv1alpha1.GPUNode) bool { return gn.Name == "gpu-b" })
	o.Unreadable = map[string]string{"gpu-b": "no time"}
	n := buildMap(t, o, "gpu-b").Nodes[0]
	if n.Reason != string(gpustate.ReasonUnreadableReport) || !slices.Contains(n.Problems, "its report cannot be read: no time") {
		t.Errorf("reason %q, problems %q", n.Reason, n.Problems)
	}
}

func TestBuildShowsAGPUThatAnotherNodeReportsToo(t *testing.T) {
	o := readObjects(t, "cluster.yaml")
	for i := range o.GPUNodes {
		if o.GPUNodes[i].Name == "gpu-b" {
			o.GPUNodes[i].Status.Devices[0].UUID = "GPU-a1"
		}
	}
	for i, d := range buildMap(t, o, "gpu-a").Nodes[0].Devices {
		if d.State == StateContested {
			t.Errorf("GPU %d is contested by a node that has long been silent", i)
		}
	}
	for i := range o.Leases {
		o.Leases[i].Spec.RenewTime = &metav1.MicroTime{Time: o.Time}
	}
	m := buildMap(t, o, "gpu-a", "gpu-b")
	for i, rival := range []string{"gpu-b", "gpu-a"} {
		for _, d := range m.Nodes[i].Devices {
			if isIt := d.UUID == "GPU-a1"; isIt != (d.State == StateContested) {
				t.Errorf("GPU %s of %s is %s", d.UUID, m.Nodes[i].Name, d.State)
			} else if isIt && (d.Reason != "reported by "+rival+" too" || d.Free != 0) {
				t.Errorf("GPU %s of %s: %q, %d free", d.UUID, m.Nodes[i].Name, d.Reason, d.Free)
			}
		}
	}
}

func TestBuildShowsCordonedGPUs(t *testing.T) {
	o := readObjects(t, "cluster.yaml")
	for i := range o.Nodes {
		if o.Nodes[i].Name == "gpu-a" {
			o.Nodes[i].Annotations = map[string]string{berthv1alpha1.AnnotationCordonedGPUs: "GPU-a1,GPU-of-yore"}
		}
	}
	node := buildMap(t, o, "gpu-a").Nodes[0]
	for _, d := range node.Devices {
		if isIt := d.UUID == "GPU-a1"; isIt != (d.State == StateCordoned) || isIt && d.Free != 0 {
			t.Errorf("GPU %s is %s with %d free", d.UUID, d.State, d.Free)
		}
	}
	if !strings.Contains(strings.Join(node.Problems, "\n"), "names what it does not report: GPU-of-yore") {
		t.Errorf("problems: %q", node.Problems)
	}
}

// TestAPodAloneOnAGPU holds all of it by its booking; memory of nobody, which it was placed beside, is no overuse.
func TestAPodAloneOnAGPU(t *testing.T) {
	d := Device{State: StateReady, Capacity: 80 << 30, Foreign: 1 << 30, Pods: []PodShare{{Charged: 80 << 30, Whole: true}}}
	if words := strings.Join(d.words(), "\n"); strings.Contains(words, "more than the GPU has") {
		t.Error(words)
	}
	d.Pods[0].Charged += 2 << 30
	if words := strings.Join(d.words(), "\n"); !strings.Contains(words, "2Gi more than the GPU has") {
		t.Error(words)
	}
}

func TestBuildShowsWhoElseHoldsGPUs(t *testing.T) {
	o := readObjects(t, "cluster.yaml")
	for i := range o.GPUNodes {
		if d := o.GPUNodes[i].Status.Devices; o.GPUNodes[i].Name == "gpu-b" {
			d[1].AssignedPods = []types.UID{"uid-whole", "uid-chat"}
		}
	}
	node, uuid := "gpu-a", "GPU-a1"
	o.Slices = []resourcev1.ResourceSlice{{Spec: resourcev1.ResourceSliceSpec{
		Driver: "gpu.nvidia.com", Pool: resourcev1.ResourcePool{Name: node}, NodeName: &node,
		Devices: []resourcev1.Device{{Name: "gpu-1", Attributes: map[resourcev1.QualifiedName]resourcev1.DeviceAttribute{"uuid": {StringValue: &uuid}}}},
	}}}
	o.Claims = []resourcev1.ResourceClaim{{Status: resourcev1.ResourceClaimStatus{Allocation: &resourcev1.AllocationResult{
		Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{{Driver: "gpu.nvidia.com", Pool: node, Device: "gpu-1"}}},
	}}}}
	m := buildMap(t, o, "gpu-a", "gpu-b")
	if got := m.Nodes[0].Reason; got != string(gpustate.ReasonDRA) {
		t.Errorf("the node of a driver: %q", got)
	}
	if d := m.Nodes[0].Devices[1]; d.State != StateAssigned || d.Reason != "held by a resource claim" || d.Free != 0 {
		t.Errorf("the GPU of a claim: %s, %s, %d free", d.State, d.Reason, d.Free)
	}
	if d := m.Nodes[1].Devices[0]; d.Reason != "held whole by pod research/train-0, pod default/chat-7d9f8b6c5-x2v4q" {
		t.Errorf("the GPU of two pods: %q", d.Reason)
	}
}

func TestPendingPodIsShownWithoutTheSecretInItsURI(t *testing.T) {
	o := readObjects(t, "cluster.yaml")
	for i := range o.Pods {
		if o.Pods[i].Name == "unsized-0" {
			o.Pods[i].Annotations[berthv1alpha1.AnnotationModel] = "https://host.example/x.gguf?sig=MARKER"
		}
	}
	pending := buildMap(t, o).PendingPods
	i := slices.IndexFunc(pending, func(p PendingPod) bool { return p.Name == "unsized-0" })
	if i < 0 || pending[i].Model != "https://host.example/x.gguf?…" {
		t.Errorf("got %+v", pending)
	}
}

func TestPendingPodOfAModelSaysWhyItsSizeIsNotKnown(t *testing.T) {
	o := readObjects(t, "cluster.yaml")
	profile := berthv1alpha1.ModelProfile{ObjectMeta: metav1.ObjectMeta{
		Name: berthv1alpha1.ModelProfileName("hf://acme/private-13b"),
	}, Spec: berthv1alpha1.ModelProfileSpec{Source: "hf://acme/private-13b"}}
	profile.Status.Conditions = []metav1.Condition{{
		Type: berthv1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: "Unauthorized",
		Message: "the hub refuses anonymous access to acme/private-13b",
	}}
	o.Profiles = append(o.Profiles, profile)
	m := buildMap(t, o)
	i := slices.IndexFunc(m.PendingPods, func(p PendingPod) bool { return p.Name == "unsized-0" })
	if i < 0 {
		t.Fatal("the pod is not shown as pending")
	}
	want := "waiting until the size of the model is known: the hub refuses anonymous access to acme/private-13b"
	if got := m.PendingPods[i].Reason; got != want {
		t.Errorf("reason %q, want %q", got, want)
	}
}
