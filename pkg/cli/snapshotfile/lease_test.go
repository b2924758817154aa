// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshotfile

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
)

// TestThatALeaseIsHeldIsInAFile, and not by whom: whether a scheduler leads is told by it.
func TestThatALeaseIsHeldIsInAFile(t *testing.T) {
	for _, tc := range []struct {
		name         string
		holder, want *string
	}{
		{"held", new("berth-scheduler-7d9f-x2v4q"), new(redacted)},
		{"given up", new(""), nil},
		{"never held", nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			kept := keptOf(&coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{HolderIdentity: tc.holder}})
			if diff := cmp.Diff(tc.want, kept.(*coordinationv1.Lease).Spec.HolderIdentity); diff != "" {
				t.Error(diff)
			}
		})
	}
}
