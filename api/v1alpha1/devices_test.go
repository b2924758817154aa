// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestRegressionGPUsUnderOtherNamesAreGPUs(t *testing.T) {
	for name, want := range map[corev1.ResourceName]bool{
		"nvidia.com/gpu":                                    true,
		"nvidia.com/gpu.shared":                             true,
		"nvidia.com/gpu-small":                              true,
		"nvidia.com/mig-3g.40gb":                            true,
		"nvidia.com/mig-1g.10gb.me":                         true,
		"nvidia.com/a100":                                   true,
		"nvidia.com/mig-1g.5gb.shared":                      true,
		"deviceclass.resource.kubernetes.io/gpu.nvidia.com": true,
		"deviceclass.resource.kubernetes.io/nic.nvidia.com": false,
		"nvidia.com/hostdev":                                false,
		"nvidia.com/resibs2f0":                              false,
		"nvidia.com/rdma_shared_device_a":                   false,
		"nvidia.com/GA102GL_A10":                            false,
		"nvidia.com/":                                       false,
		"rdma/hca_shared_devices_a":                         false,
		"amd.com/gpu":                                       false,
		"xnvidia.com/gpu":                                   false,
		"cpu":                                               false,
	} {
		if got := IsWholeGPU(name); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

func TestWholeGPUsAreCounted(t *testing.T) {
	list := corev1.ResourceList{
		"nvidia.com/gpu": resource.MustParse("0"), "nvidia.com/gpu.shared": resource.MustParse("2"),
		"nvidia.com/mig-3g.40gb": resource.MustParse("1"), "nvidia.com/hostdev": resource.MustParse("8"),
	}
	if got := WholeGPUs(list); got != 3 {
		t.Errorf("got %d, want 3", got)
	}
	if got := WholeGPUs(nil); got != 0 {
		t.Errorf("an empty list has %d", got)
	}
}
