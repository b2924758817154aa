// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import "testing"

// The states are those of pkg/upgrade/consts.go of github.com/NVIDIA/k8s-operator-libs.
func TestDriverGoes(t *testing.T) {
	for state, want := range map[string]bool{
		"": false, "upgrade-required": false, "cordon-required": false,
		"wait-for-jobs-required": true, "pod-deletion-required": true, "drain-required": true, "pod-restart-required": true,
		"validation-required": false, "uncordon-required": false, "upgrade-done": false, "upgrade-failed": false,
	} {
		if got := DriverGoes(map[string]string{LabelDriverUpgradeState: state}); got != want {
			t.Errorf("%q: got %t, want %t", state, got, want)
		}
	}
	if DriverGoes(nil) {
		t.Error("a node without the label waits for nobody")
	}
}
