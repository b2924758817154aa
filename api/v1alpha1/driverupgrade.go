// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import "slices"

// LabelDriverUpgradeState is how far the GPU operator is with replacing the driver of a node. An admin may set it for a
// driver that the operator does not manage.
const LabelDriverUpgradeState = "nvidia.com/gpu-driver-upgrade-state"

// driverGoes are the states, in their order, from when the node was cordoned until the old driver is unloaded; the
// agent's DaemonSet lists them too. In those before, and in upgrade-failed, the old driver stays, and after them
// (validation-required, uncordon-required, upgrade-done) there is a new one.
var driverGoes = []string{"wait-for-jobs-required", "pod-deletion-required", "drain-required", "pod-restart-required"}

// DriverGoes says whether the node with these labels waits for everybody to let go of its driver.
func DriverGoes(labels map[string]string) bool {
	return slices.Contains(driverGoes, labels[LabelDriverUpgradeState])
}
