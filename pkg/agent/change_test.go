// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

func TestChanged(t *testing.T) {
	later := metav1.NewTime(start.Add(time.Minute))
	for _, tc := range []struct {
		name   string
		change func(*berthv1alpha1.GPUNodeStatus)
		want   bool
	}{
		{"nothing", func(*berthv1alpha1.GPUNodeStatus) {}, false},
		{"only the time of the reading", func(s *berthv1alpha1.GPUNodeStatus) { s.ObservedTime = later }, false},
		{"memory by a quantum", func(s *berthv1alpha1.GPUNodeStatus) {
			s.Devices[0].Memory.Used = resource.MustParse("72Gi")
			s.Devices[0].Memory.Used.Add(resource.MustParse("64Mi"))
			s.Devices[0].Memory.Used.Add(resource.MustParse("147456"))
		}, false},
		{"memory by more than a quantum", func(s *berthv1alpha1.GPUNodeStatus) {
			s.Devices[0].Memory.Used = resource.MustParse("73Gi")
		}, true},
		{"memory of a pod by more than a quantum", func(s *berthv1alpha1.GPUNodeStatus) {
			s.Devices[0].Processes[0].Memory = resource.MustParse("8Gi")
		}, true},
		{"a pod less", func(s *berthv1alpha1.GPUNodeStatus) { s.Devices[0].Processes = s.Devices[0].Processes[1:] }, true},
		{"another pod", func(s *berthv1alpha1.GPUNodeStatus) { s.Devices[0].Processes[0].PodUID = "x" }, true},
		{"a pod computes", func(s *berthv1alpha1.GPUNodeStatus) {
			s.Devices[0].Processes[0].Active, s.Devices[0].Processes[0].LastActiveTime = true, nil
		}, true},
		{"a pod computed since", func(s *berthv1alpha1.GPUNodeStatus) { s.Devices[0].Processes[0].LastActiveTime = &later }, true},
		{"activity is no longer measured", func(s *berthv1alpha1.GPUNodeStatus) { s.Devices[0].Processes[0].LastActiveTime = nil }, true},
		{"health", func(s *berthv1alpha1.GPUNodeStatus) { s.Devices[0].Health = berthv1alpha1.DeviceUnhealthy }, true},
		{"the reason of bad health", func(s *berthv1alpha1.GPUNodeStatus) { s.Devices[0].Reason = "Xid79" }, true},
		{"a link less", func(s *berthv1alpha1.GPUNodeStatus) { s.Devices[0].Links = s.Devices[0].Links[1:] }, true},
		{"another NUMA node", func(s *berthv1alpha1.GPUNodeStatus) { s.Devices[0].NUMANode = ptr.To[int32](1) }, true},
		{"another PCIe switch", func(s *berthv1alpha1.GPUNodeStatus) { s.Devices[0].PCIeSwitch = "0000:16:00.0" }, true},
		{"a device less", func(s *berthv1alpha1.GPUNodeStatus) { s.Devices = s.Devices[1:] }, true},
		{"another index", func(s *berthv1alpha1.GPUNodeStatus) { s.Devices[0].Index = 9 }, true},
		{"the device manager gave it away", func(s *berthv1alpha1.GPUNodeStatus) { s.Devices[0].AssignedTo = "x" }, true},
		{"a container runtime takes another form", func(s *berthv1alpha1.GPUNodeStatus) {
			s.HandOff = &berthv1alpha1.HandOff{Runtimes: []berthv1alpha1.RuntimeHandOff{{Handler: "nvidia"}}}
		}, true},
		{"another driver", func(s *berthv1alpha1.GPUNodeStatus) { s.DriverVersion = "590" }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, o := fullNode()
			a, b := statusOf(r, o), statusOf(r, o)
			tc.change(b)
			if got := changed(a, b, DefaultQuantum); got != tc.want {
				t.Errorf("changed = %t, want %t", got, tc.want)
			}
		})
	}
}
