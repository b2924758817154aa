// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// statusOf makes the status of one reading by an agent that just started.
func statusOf(r *Reading, o *owners) *berthv1alpha1.GPUNodeStatus {
	return newStatus(r, o, newActivityTracker(2*time.Second), start)
}

func gpu(index int) Device {
	return Device{
		UUID:              fmt.Sprintf("GPU-%08x-0000-4000-8000-000000000000", index),
		Index:             index,
		PCIBusID:          fmt.Sprintf("00000000:%02X:00.0", 16+index),
		Model:             "NVIDIA H100 80GB HBM3",
		ComputeCapability: "9.0",
		Memory:            Memory{Total: 80 * gib, Reserved: gib},
		ActivityMeasured:  true,
	}
}

func podUID(i int) types.UID { return types.UID(fmt.Sprintf("%08x-1111-4222-8333-444444444444", i)) }

func TestProcessesAreSummedUpByPod(t *testing.T) {
	d := gpu(0)
	d.Memory.Used = 36 * gib
	d.Processes = []Process{
		{PID: 1, Memory: 10 * gib, Active: true},
		{PID: 2, Memory: 5 * gib},
		{PID: 3, Memory: 20 * gib},
		{PID: 4, Memory: 512 * mib, Active: true},
		{PID: 5, Memory: 512 * mib},
		{PID: 6, Memory: 0, ActivityUnknown: true},
	}
	pods := map[int]types.UID{1: "b", 2: "b", 3: "a", 6: "c"}
	got := statusOf(&Reading{Devices: []Device{d}}, &owners{pods: pods}).Devices[0].Processes
	first := metav1.NewTime(start)
	want := []berthv1alpha1.GPUProcess{
		{PodUID: "a", Memory: resource.MustParse("20Gi"), LastActiveTime: &first},
		{PodUID: "b", Memory: resource.MustParse("15Gi"), Active: true},
		{PodUID: "c", Memory: resource.MustParse("0")},
		{Memory: resource.MustParse("1Gi")}, // nobody's, whose activity nobody needs
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("processes (-want +got):\n%s", diff)
	}
}

func TestActivityThatIsNotMeasuredIsNeitherActiveNorIdle(t *testing.T) {
	d := gpu(0)
	d.ActivityMeasured = false
	d.Processes = []Process{{PID: 1, Memory: gib, Active: true}}
	got := statusOf(&Reading{Devices: []Device{d}}, &owners{pods: map[int]types.UID{1: "a"}}).Devices[0].Processes
	want := []berthv1alpha1.GPUProcess{{PodUID: "a", Memory: resource.MustParse("1Gi")}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("processes (-want +got):\n%s", diff)
	}
}

func TestSummary(t *testing.T) {
	lost, parent, instance, other, taken := gpu(1), gpu(2), gpu(2), gpu(3), gpu(4)
	lost.Reason = ReasonDeviceLost
	parent.Reason = berthv1alpha1.DeviceReasonMIGParent
	instance.UUID, instance.Parent, instance.Memory = "MIG-1", parent.UUID, Memory{Total: 40 * gib, Used: 15 * gib}
	other.Model = "NVIDIA A100-SXM4-40GB"
	odd := gpu(5)
	odd.Memory.Used += gib + 1
	for _, tc := range []struct {
		name    string
		devices []Device
		want    berthv1alpha1.GPUSummary
	}{
		{
			name:    "one kind of GPU",
			devices: []Device{gpu(0)},
			want: berthv1alpha1.GPUSummary{GPUs: 1, Model: "NVIDIA H100 80GB HBM3",
				Free: resource.MustParse("79Gi"), LargestFree: resource.MustParse("79Gi")},
		},
		{
			name:    "a lost GPU has nothing free, and one in instances is none itself",
			devices: []Device{lost, parent, instance},
			want: berthv1alpha1.GPUSummary{GPUs: 2, Model: "NVIDIA H100 80GB HBM3",
				Free: resource.MustParse("25Gi"), LargestFree: resource.MustParse("25Gi")},
		},
		{
			name:    "a GPU that is given away whole has nothing free",
			devices: []Device{taken, other},
			want: berthv1alpha1.GPUSummary{GPUs: 2, Model: "mixed",
				Free: resource.MustParse("79Gi"), LargestFree: resource.MustParse("79Gi")},
		},
		{
			name:    "a number of bytes that nobody can read",
			devices: []Device{odd},
			want: berthv1alpha1.GPUSummary{GPUs: 1, Model: "NVIDIA H100 80GB HBM3",
				Free: resource.MustParse("79871Mi"), LargestFree: resource.MustParse("79871Mi")},
		},
		{
			name: "a node without GPUs",
			want: berthv1alpha1.GPUSummary{Free: resource.MustParse("0"), LargestFree: resource.MustParse("0")},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := &owners{assigned: map[string][]types.UID{taken.UUID: {"p"}}}
			got := statusOf(&Reading{Devices: tc.devices}, o).Summary
			if diff := cmp.Diff(&tc.want, got); diff != "" {
				t.Errorf("summary (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAssignedPodsAreFoundByWhateverTheKubeletCallsTheirDevice(t *testing.T) {
	instance := gpu(1)
	instance.UUID, instance.Parent = "MIG-1", gpu(1).UUID
	of7, seven := gpu(2), 7
	of7.Minor = &seven
	o := &owners{assigned: map[string][]types.UID{
		gpu(0).UUID: {"by-uuid", "shares", "by-uuid"}, "1": {"by-index"}, "gpu-7": {"by-claim"}, "gpu-2": {"of another number"},
	}}
	s := statusOf(&Reading{Devices: []Device{gpu(0), gpu(1), instance, of7}}, o)
	var got []types.UID
	for _, d := range s.Devices {
		got = append(got, d.AssignedTo)
	}
	// An instance has its parent's index, which is not its own.
	if diff := cmp.Diff([]types.UID{"by-uuid", "by-index", "", "by-claim"}, got); diff != "" {
		t.Errorf("assigned (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]types.UID{"by-uuid", "shares"}, s.Devices[0].AssignedPods); diff != "" {
		t.Errorf("assigned pods (-want +got):\n%s", diff)
	}
}

func TestADeviceThatCannotBeTold(t *testing.T) {
	minor := 3
	d := gpu(0)
	d.Minor, d.PCIBusID = &minor, "00000000:07:00.0"
	for name, unknown := range map[string]bool{
		d.UUID: false, "0": false, "nvidia3": false, "gpu-3": false, "GPU-gone": false, "gpu-9-mig-1g10gb-19-0": false,
		"0000:07:00.0": false, "0000:99:00.0": false,
		"7": true, "nvidia0": true, "slot-a": true,
	} {
		s := statusOf(&Reading{Devices: []Device{d}}, &owners{assigned: map[string][]types.UID{name: {"p"}}})
		if got := s.AssignmentsUnknown != ""; got != unknown {
			t.Errorf("%s: %q", name, s.AssignmentsUnknown)
		}
		if held := s.Devices[0].AssignedTo == "p"; held == (unknown || strings.Contains(name, "9") || name == "GPU-gone") {
			t.Errorf("%s: it is the pod's: %v", name, held)
		}
	}
}

func TestUnavailableKeepsWhatWasSeenAndGivesNothing(t *testing.T) {
	d, parent := gpu(0), gpu(1)
	d.Processes = []Process{{PID: 1, Memory: gib}}
	parent.Reason = berthv1alpha1.DeviceReasonMIGParent
	last := statusOf(&Reading{DriverVersion: "580.159.04", Devices: []Device{d, parent}}, &owners{})
	got := unavailable(last, start.Add(time.Minute))
	if got.Devices[0].Health != berthv1alpha1.DeviceUnhealthy || got.Devices[0].Reason != ReasonDriverUnavailable ||
		len(got.Devices[0].Processes) != 1 || got.Devices[1].Reason != berthv1alpha1.DeviceReasonMIGParent {
		t.Errorf("got %+v", got.Devices)
	}
	if last.Devices[0].Health != berthv1alpha1.DeviceHealthy {
		t.Error("the last report was changed")
	}
	if !got.Summary.Free.IsZero() {
		t.Errorf("free is %s, want 0", got.Summary.Free.String())
	}
}

// fullNode is 8 GPUs that are all connected, with 64 pods that are idle, which takes more to say than active.
func fullNode() (*Reading, *owners) {
	r := &Reading{DriverVersion: "580.159.04"}
	o := &owners{pods: map[int]types.UID{}, assigned: map[string][]types.UID{}}
	for i := range 8 {
		d := gpu(i)
		for j := range 8 {
			if i != j {
				d.Links = append(d.Links, berthv1alpha1.GPULink{Peer: gpu(j).UUID, Type: berthv1alpha1.LinkNVLink})
			}
			pid := 8*i + j + 1
			o.pods[pid] = podUID(pid)
			// Not a round number of MiB.
			d.Processes = append(d.Processes, Process{PID: pid, Memory: 9*gib + uint64(pid)*4096})
			d.Memory.Used += 9*gib + uint64(pid)*4096
		}
		r.Devices = append(r.Devices, d)
	}
	return r, o
}

func TestWhereAGPUIsAttachedIsReported(t *testing.T) {
	known, unknown := gpu(0), gpu(1)
	known.NUMANode, known.PCIeSwitch = ptr.To[int32](1), "0000:16:00.0"
	s := statusOf(&Reading{Devices: []Device{known, unknown}}, &owners{})
	if got := s.Devices[0]; !ptr.Equal(got.NUMANode, known.NUMANode) || got.PCIeSwitch != known.PCIeSwitch {
		t.Errorf("got NUMA node %v, switch %q", got.NUMANode, got.PCIeSwitch)
	}
	if got := s.Devices[1]; got.NUMANode != nil || got.PCIeSwitch != "" {
		t.Errorf("not known, but got NUMA node %v, switch %q", got.NUMANode, got.PCIeSwitch)
	}
}

func TestReportOfAFullNodeIsUnder16KiB(t *testing.T) {
	r, o := fullNode()
	body, err := json.Marshal(&berthv1alpha1.GPUNode{
		ObjectMeta: metav1.ObjectMeta{Name: "ip-10-251-103-118.us-west-2.compute.internal"},
		Status:     *statusOf(r, o),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", len(body))
	if len(body) >= 16<<10 {
		t.Errorf("%d bytes", len(body))
	}
}

func BenchmarkStatusOfAFullNode(b *testing.B) {
	r, o := fullNode()
	tracker := newActivityTracker(2 * time.Second)
	last := newStatus(r, o, tracker, start)
	b.ReportAllocs()
	for b.Loop() {
		if changed(last, newStatus(r, o, tracker, start), DefaultQuantum) {
			b.Fatal("nothing changed")
		}
	}
}
