// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package feed

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// TestSchedulerKeepsNoRuns: of what was measured it keeps what it books by.
func TestSchedulerKeepsNoRuns(t *testing.T) {
	peak := berthv1alpha1.ObservedPeak{Namespace: "team", GPUCount: 1, Devices: []resource.Quantity{resource.MustParse("20Gi")}}
	profile := &berthv1alpha1.ModelProfile{ObjectMeta: metav1.ObjectMeta{Name: "p", ManagedFields: []metav1.ManagedFieldsEntry{{}}}}
	profile.Status.ObservedPeaks = []berthv1alpha1.ObservedPeak{peak}
	profile.Status.ObservedPeaks[0].Runs = []berthv1alpha1.MeasuredRun{{PodUID: "uid"}}
	got, err := transform(profile)
	if err != nil {
		t.Fatal(err)
	}
	want := &berthv1alpha1.ModelProfile{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Status: berthv1alpha1.ModelProfileStatus{ObservedPeaks: []berthv1alpha1.ObservedPeak{peak}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
