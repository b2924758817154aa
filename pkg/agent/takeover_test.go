// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// Of an earlier process's report, what the controller wrote stays the controller's: the agent would keep it for ever.
func TestWhatPodsHaveShownIsNotTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runtimes := []berthv1alpha1.RuntimeHandOff{{Handler: "nvidia", Accepts: []berthv1alpha1.DeviceForm{berthv1alpha1.DeviceFormCDI}}}
		before := &berthv1alpha1.GPUNode{Status: berthv1alpha1.GPUNodeStatus{HandOff: &berthv1alpha1.HandOff{
			Runtimes: runtimes, Shown: []berthv1alpha1.ShownForm{{Handler: "nvidia", Form: berthv1alpha1.DeviceFormUUID}},
		}}}
		r := newRig(t, func(o *Options) {
			o.Client = &fakeClient{node: before}
			o.Reader.(*fakeReader).err = errDown
		})
		wait(5 * time.Second)
		if diff := cmp.Diff(&berthv1alpha1.HandOff{Runtimes: runtimes}, r.client.last().HandOff); diff != "" {
			t.Errorf("the hand-off in the report (-want +got):\n%s", diff)
		}
	})
}
