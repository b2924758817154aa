// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// A resource is a GPU unless its name says otherwise: NVIDIA's device plugin can be told to call its GPUs and MIG
// instances anything below nvidia.com/ (resources and rename of its configuration), as long as it is a DNS name in lower
// case. Others use the same prefix: the network operator's NICs (nvidia.com/hostdev is its own example), and KubeVirt's
// GPUs (nvidia.com/GA102GL_A10), which are bound to another driver. The policies in manifests/policies have the same
// patterns, see their test.
var (
	gpuResource   = regexp.MustCompile(`^nvidia[.]com/[a-z0-9.-]+$`)
	otherResource = regexp.MustCompile(`^nvidia[.]com/(hostdev|rdma|roce|sriov|mlnx|mellanox|ib|resib|nic|vf|rail)`)
)

// classResources are those by which a pod gets a device of NVIDIA's DRA driver without a claim of its own, whatever
// the class says: the prefix is Kubernetes' own, and the names are those of the driver's classes.
var classResources = []corev1.ResourceName{
	"deviceclass.resource.kubernetes.io/gpu.nvidia.com",
	"deviceclass.resource.kubernetes.io/mig.nvidia.com",
	"deviceclass.resource.kubernetes.io/vfio.gpu.nvidia.com",
}

// IsWholeGPU says whether a resource is a GPU, a time slice of one, or a MIG instance, which the kubelet gives away: one
// that Berth must not book too.
func IsWholeGPU(name corev1.ResourceName) bool {
	if !strings.Contains(string(name), "nvidia.com") {
		return false // quickly: this is asked for each resource of each node
	}
	return gpuResource.MatchString(string(name)) && !otherResource.MatchString(string(name)) ||
		slices.Contains(classResources, name)
}

// WholeGPUs returns how many GPUs a list of resources asks for, or offers. A quantity of zero is none, and MIG instances
// and time slices count as one each.
func WholeGPUs(list corev1.ResourceList) int64 {
	count := int64(0)
	for name, q := range list {
		if q.Sign() > 0 && IsWholeGPU(name) {
			count += q.Value()
		}
	}
	return count
}

// Assigned returns the pods that hold the device through the kubelet, each once; agents before AssignedPods tell one.
func (d *GPUDevice) Assigned() []types.UID {
	if d.AssignedTo == "" || slices.Contains(d.AssignedPods, d.AssignedTo) {
		return d.AssignedPods
	}
	return append([]types.UID{d.AssignedTo}, d.AssignedPods...)
}
