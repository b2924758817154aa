// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// waitDevice waits until the agent of a node reports of a GPU what it should.
func (c *cluster) waitDevice(t *testing.T, w *worker, gpu int, what string, met func(*berthv1alpha1.GPUDevice) bool) {
	t.Helper()
	c.waitNode(t, w, fmt.Sprintf("GPU %d of %s %s", gpu, w.name, what), func(gn *berthv1alpha1.GPUNode) (bool, string) {
		for i := range gn.Status.Devices {
			if d := &gn.Status.Devices[i]; d.UUID == w.state.GPUs[gpu].UUID {
				return met(d), fmt.Sprintf("it is reported as %+v", *d)
			}
		}
		return false, "it is not reported"
	})
}

// waitNode waits until the agent of a node reports what it should.
func (c *cluster) waitNode(t *testing.T, w *worker, what string, met func(*berthv1alpha1.GPUNode) (bool, string)) {
	t.Helper()
	eventually(t, what, func(ctx context.Context) (bool, string) {
		gn := &berthv1alpha1.GPUNode{}
		if err := c.client.Get(ctx, client.ObjectKey{Name: w.name}, gn); err != nil {
			return false, err.Error()
		}
		return met(gn)
	})
}

// waitUsed waits until so many GiB of a GPU are reported as used.
func (c *cluster) waitUsed(t *testing.T, w *worker, gpu int, gib int64) {
	t.Helper()
	c.waitDevice(t, w, gpu, fmt.Sprintf("has %d GiB used", gib), func(d *berthv1alpha1.GPUDevice) bool {
		return d.Memory.Used.Value() == gib<<30
	})
}

// held returns how many GiB of a device a pod is reported to hold; "" is nobody.
func held(d *berthv1alpha1.GPUDevice, uid types.UID) int64 {
	var sum int64
	for _, p := range d.Processes {
		if p.PodUID == uid {
			sum += p.Memory.Value()
		}
	}
	return sum >> 30
}

// active tells whether a pod is reported to compute on a device.
func active(d *berthv1alpha1.GPUDevice, uid types.UID) bool {
	return slices.ContainsFunc(d.Processes, func(p berthv1alpha1.GPUProcess) bool { return p.PodUID == uid && p.Active })
}
