// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpusim

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	testingclock "k8s.io/utils/clock/testing"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/agent"
	"github.com/berth-dev/berth/pkg/lab/kwok"
)

const gib = 1 << 30

func newHardware(t *testing.T, annotations map[string]string) (*Hardware, *testingclock.FakeClock) {
	t.Helper()
	spec, err := ParseSpec(annotations)
	if err != nil {
		t.Fatal(err)
	}
	clock := testingclock.NewFakeClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	return NewHardware("n1", spec, clock), clock
}

func read(t *testing.T, h *Hardware) []agent.Device {
	t.Helper()
	reading, err := h.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return reading.Devices
}

func TestMemoryFollowsThePod(t *testing.T) {
	h, clock := newHardware(t, map[string]string{AnnotationGPUs: "2xH100-80"})
	uuid := UUID("n1", 1)
	h.Run("pod", &Use{Memory: map[string]uint64{uuid: 40 * gib}, Started: clock.Now(), LoadTime: 10 * time.Second, Active: true})

	steps := []struct {
		name string
		do   func()
		want uint64
	}{
		{"as it starts it has its CUDA context", func() {}, contextMemory},
		// 400Mi + (40Gi - 400Mi) / 2
		{"half loaded", func() { clock.Step(5 * time.Second) }, contextMemory + (40*gib-contextMemory)/2},
		{"loaded", func() { clock.Step(5 * time.Second) }, 40 * gib},
		{"it stays", func() { clock.Step(time.Hour) }, 40 * gib},
		{"as it ends, all is still there", func() { h.End("pod") }, 40 * gib},
		{"half drained", func() { clock.Step(DrainTime / 2) }, 20 * gib},
		{"drained", func() { clock.Step(DrainTime / 2) }, 0},
	}
	for _, step := range steps {
		step.do()
		devices := read(t, h)
		if got := devices[1].Memory.Used; got != step.want {
			t.Errorf("%s: %d bytes used, want %d", step.name, got, step.want)
		}
		if got := devices[0].Memory.Used; got != 0 {
			t.Errorf("%s: %d bytes used on the other GPU", step.name, got)
		}
		for _, p := range devices[1].Processes {
			if pod := h.Attribute([]int{p.PID})[p.PID]; pod != "pod" {
				t.Errorf("%s: process %d belongs to %q, want pod", step.name, p.PID, pod)
			}
		}
	}
}

func TestGPUsAreAttachedAsInServers(t *testing.T) {
	tests := []struct {
		gpus, want string
	}{
		{"8xH100-80", "0 80, 0 80, 0 82, 0 82, 1 84, 1 84, 1 86, 1 86"},
		{"4xL40S-48", "0 80, 0 80, 0 82, 0 82"},
		{"1xT4-16", "0 "},
	}
	for _, tt := range tests {
		t.Run(tt.gpus, func(t *testing.T) {
			h, _ := newHardware(t, map[string]string{AnnotationGPUs: tt.gpus})
			var got []string
			for _, d := range read(t, h) {
				pcieSwitch := strings.TrimSuffix(strings.TrimPrefix(d.PCIeSwitch, "0000:"), ":00.0")
				got = append(got, fmt.Sprintf("%d %s", *d.NUMANode, pcieSwitch))
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, ", ")); diff != "" {
				t.Errorf("NUMA nodes and switches (-want,+got):\n%s", diff)
			}
		})
	}
}

func TestAPodThatEndsWhileItLoadsDrainsWhatItHad(t *testing.T) {
	h, clock := newHardware(t, map[string]string{AnnotationGPUs: "1xT4-16"})
	h.Run("pod", &Use{Memory: map[string]uint64{UUID("n1", 0): 10 * gib}, Started: clock.Now(), LoadTime: 10 * time.Second})
	clock.Step(5 * time.Second)
	h.End("pod")
	before := read(t, h)[0].Memory.Used
	clock.Step(DrainTime / 2)
	if got := read(t, h)[0].Memory.Used; got != before/2 {
		t.Errorf("half drained: %d bytes used, want half of %d", got, before)
	}
}

func TestForeignMemoryBelongsToNobody(t *testing.T) {
	h, _ := newHardware(t, map[string]string{AnnotationGPUs: "2xA100-40", AnnotationForeignMemory: "1=12Gi"})
	device := read(t, h)[1]
	want := []agent.Process{{PID: foreignPID + 1, Memory: 12 * gib}}
	if diff := cmp.Diff(want, device.Processes); diff != "" {
		t.Errorf("processes (-want +got):\n%s", diff)
	}
	if pods := h.Attribute([]int{foreignPID + 1}); len(pods) != 0 {
		t.Errorf("the process belongs to %v, want nobody", pods)
	}
	if device.Memory.Used != 12*gib {
		t.Errorf("%d bytes used, want 12Gi", device.Memory.Used)
	}
}

func TestMemoryFluctuatesWithinItsBounds(t *testing.T) {
	h, clock := newHardware(t, map[string]string{
		AnnotationGPUs: "1xT4-16", AnnotationForeignMemory: "0=8Gi", AnnotationFluctuation: "32Mi",
	})
	seen := map[uint64]bool{}
	for range 20 {
		used := read(t, h)[0].Memory.Used
		if used > 8*gib || used < 8*gib-32<<20 {
			t.Errorf("%d bytes used, want 8Gi and at most 32Mi less", used)
		}
		if again := read(t, h)[0].Memory.Used; again != used {
			t.Errorf("%d and %d bytes used within a second, want the same", used, again)
		}
		seen[used] = true
		clock.Step(time.Second)
	}
	if len(seen) < 2 {
		t.Error("memory did not fluctuate")
	}
}

func TestOverbookedDeviceReportsNoMoreThanItHas(t *testing.T) {
	h, _ := newHardware(t, map[string]string{AnnotationGPUs: "1xT4-16", AnnotationForeignMemory: "0=40Gi"})
	if m := read(t, h)[0].Memory; m.Used+m.Reserved != m.Total {
		t.Errorf("used %d + reserved %d, want the total %d", m.Used, m.Reserved, m.Total)
	}
}

func TestConfigureChangesTheState(t *testing.T) {
	h, _ := newHardware(t, map[string]string{AnnotationGPUs: "1xL4-24"})
	if reason := read(t, h)[0].Reason; reason != "" {
		t.Errorf("unhealthy from the start: %s", reason)
	}
	spec, err := ParseSpec(map[string]string{AnnotationGPUs: "1xL4-24", AnnotationUnhealthy: "0=Xid79"})
	if err != nil {
		t.Fatal(err)
	}
	h.Configure(spec)
	if reason := read(t, h)[0].Reason; reason != "Xid79" {
		t.Errorf("reason = %q, want Xid79", reason)
	}
}

func TestLinksConnectNVLinkGPUsOnly(t *testing.T) {
	h, _ := newHardware(t, map[string]string{AnnotationGPUs: "2xA100-40,1xL40S-48"})
	var got []int
	for _, d := range read(t, h) {
		got = append(got, len(d.Links))
	}
	if diff := cmp.Diff([]int{1, 1, 0}, got); diff != "" {
		t.Errorf("links per GPU (-want +got):\n%s", diff)
	}
}

func TestParseSpecSaysWhatIsWrong(t *testing.T) {
	tests := map[string]struct {
		annotations map[string]string
		want        string
	}{
		"no count":              {map[string]string{AnnotationGPUs: "H100-80"}, `lab.berth.dev/gpus: "H100-80" is not a number of GPUs and their model, such as 8xH100-80`},
		"no GPUs":               {map[string]string{AnnotationGPUs: "0xH100-80"}, `lab.berth.dev/gpus: "0xH100-80" is not a number of GPUs and their model, such as 8xH100-80`},
		"unknown model":         {map[string]string{AnnotationGPUs: "8xV100"}, `lab.berth.dev/gpus: GPU model "V100" is not known: use one of B200-180, H200-141, H100-80, A100-80, A100-40, L40S-48, L4-24, A10-24, T4-16`},
		"too many":              {map[string]string{AnnotationGPUs: "60xT4-16,5xL4-24"}, `lab.berth.dev/gpus: "60xT4-16,5xL4-24" are more than 64 GPUs on one node`},
		"GPU that is not there": {map[string]string{AnnotationGPUs: "2xT4-16", AnnotationForeignMemory: "2=1Gi"}, `lab.berth.dev/foreign-memory: "2=1Gi" is about GPU 2, but the node has 2 GPUs, counted from 0`},
		"no index":              {map[string]string{AnnotationGPUs: "2xT4-16", AnnotationForeignMemory: "1Gi"}, `lab.berth.dev/foreign-memory: "1Gi" does not start with the index of a GPU and =, as in 0=…`},
		"no amount":             {map[string]string{AnnotationGPUs: "2xT4-16", AnnotationForeignMemory: "0=lots"}, `lab.berth.dev/foreign-memory: "lots" is not an amount of memory such as 60Gi`},
		"no reason":             {map[string]string{AnnotationGPUs: "2xT4-16", AnnotationUnhealthy: "0="}, `lab.berth.dev/unhealthy: a reason is missing, as in 3=Xid79`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := ParseSpec(tt.annotations)
			if err == nil || err.Error() != tt.want {
				t.Errorf("error = %v, want %s", err, tt.want)
			}
		})
	}
}

func FuzzParseSpec(f *testing.F) {
	f.Add("8xH100-80", "0=60Gi,3=512Mi", "3=Xid79")
	f.Add("4xA100-40, 2xL40S-48", "", "")
	f.Fuzz(func(t *testing.T, gpus, foreign, unhealthy string) {
		spec, err := ParseSpec(map[string]string{
			AnnotationGPUs: gpus, AnnotationForeignMemory: foreign, AnnotationUnhealthy: unhealthy,
		})
		if err != nil {
			return
		}
		for i := range spec.Foreign {
			if i < 0 || i >= len(spec.GPUs) {
				t.Errorf("foreign memory on GPU %d of %d", i, len(spec.GPUs))
			}
		}
	})
}

func TestUseOfPod(t *testing.T) {
	started := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	running := corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &started}
	allocation := `{"version":1,"devices":[{"uuid":"GPU-a","memory":"1000"}]}`
	annotations := func(more map[string]string) map[string]string {
		all := map[string]string{berthv1alpha1.AnnotationAllocation: allocation}
		for k, v := range more {
			all[k] = v
		}
		return all
	}
	name := types.NamespacedName{Namespace: "team", Name: "server"}
	tests := map[string]struct {
		annotations map[string]string
		status      corev1.PodStatus
		want        *Use
	}{
		"a pod without an allocation uses nothing": {status: running},
		"a pod that does not run uses nothing":     {annotations: annotations(nil), status: corev1.PodStatus{Phase: corev1.PodPending}},
		"a pod uses a little less than it booked": {
			annotations: annotations(nil), status: running,
			want: &Use{Pod: name, Memory: map[string]uint64{"GPU-a": 950}, Started: started.Time, LoadTime: defaultLoadTime, Active: true},
		},
		"a pod uses what its annotations say": {
			annotations: annotations(map[string]string{
				AnnotationGPUMemory: "50Gi", AnnotationGPUActive: "false", kwok.AnnotationReadyAfter: "7s",
			}),
			status: running,
			want:   &Use{Pod: name, Memory: map[string]uint64{"GPU-a": 50 * gib}, Started: started.Time, LoadTime: 7 * time.Second},
		},
		"of a pod nobody can tell whether it computes": {
			annotations: annotations(map[string]string{AnnotationGPUActive: "unknown"}), status: running,
			want: &Use{Pod: name, Memory: map[string]uint64{"GPU-a": 950}, Started: started.Time, LoadTime: defaultLoadTime, ActivityUnknown: true},
		},
	}
	for what, tt := range tests {
		t.Run(what, func(t *testing.T) {
			meta := metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name, Annotations: tt.annotations}
			got, err := UseOf(&corev1.Pod{ObjectMeta: meta, Status: tt.status})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("use (-want +got):\n%s", diff)
			}
		})
	}
}
