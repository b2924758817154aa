// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// fakeSpecification remembers what it was told.
type fakeSpecification struct {
	mu    sync.Mutex
	files map[string]string
	err   error
	// without are the pods that lack what it adds.
	without []types.UID
}

func (s *fakeSpecification) Update(files map[string]string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files = files
	return s.err
}

func (s *fakeSpecification) Without() []types.UID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.without
}

func (s *fakeSpecification) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// fakeRuntimes are files that say one thing.
type fakeRuntimes []berthv1alpha1.RuntimeHandOff

func (f fakeRuntimes) Runtimes(context.Context) ([]berthv1alpha1.RuntimeHandOff, time.Time) {
	return f, start
}

func TestNRI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := &fakeSpecification{without: []types.UID{"other", "bare"}}
		r := newRig(t, func(o *Options) {
			o.Runtimes = fakeRuntimes{{Message: "the default runtime runc hands out no GPUs"}, {Handler: "nvidia", Accepts: []berthv1alpha1.DeviceForm{berthv1alpha1.DeviceFormCDI}}}
			o.Specification = spec
		})
		r.reader.change(func() {
			instance, sick := gpu(1), gpu(2)
			instance.Parent, sick.Minor, sick.Reason = "GPU-x", ptr.To(2), ReasonDeviceLost
			r.reader.reading.Devices[0].Minor = ptr.To(0)
			r.reader.reading.Devices = append(r.reader.reading.Devices, instance, sick)
		})
		wait(30 * time.Second)
		if diff := cmp.Diff(map[string]string{gpu(0).UUID: "/dev/nvidia0"}, spec.files); diff != "" {
			t.Errorf("the specification's GPUs (-want +got):\n%s", diff)
		}
		if changed := r.client.last().HandOff.ChangedTime; changed == nil || !changed.Time.Equal(start) {
			t.Errorf("the files changed at %v, want %s", changed, start)
		}
		if diff := cmp.Diff([]types.UID{"bare", "other"}, r.client.last().HandOff.NotInjected); diff != "" {
			t.Errorf("pods without anything of it (-want +got):\n%s", diff)
		}
		want := []berthv1alpha1.RuntimeHandOff{
			{Accepts: []berthv1alpha1.DeviceForm{berthv1alpha1.DeviceFormNRI}, Mode: "nri", Message: "the agent's CDI specification names 1 GPUs, for an NRI plugin to add",
				MemoryLimits: &berthv1alpha1.MemoryLimits{State: "Ignored", Message: "the agent's CDI specification has no hook that reads it"}},
			{Handler: "nvidia", Accepts: []berthv1alpha1.DeviceForm{berthv1alpha1.DeviceFormCDI}},
		}
		if diff := cmp.Diff(want, r.client.last().HandOff.Runtimes); diff != "" {
			t.Errorf("report (-want +got):\n%s", diff)
		}
		spec.fail(errors.New("no file"))
		wait(30 * time.Second)
		h := r.client.last().HandOff
		if r := h.Runtimes[0]; r.Accepts != nil || r.Message != "no CDI specification could be written: no file" || h.NotInjected != nil {
			t.Errorf("without a specification the report has %+v", h)
		}
	})
}

func TestNRIComesAfterADefaultRuntimeThatHandsOutGPUs(t *testing.T) {
	n := &nri{gpus: 1}
	files := []berthv1alpha1.RuntimeHandOff{{Accepts: []berthv1alpha1.DeviceForm{berthv1alpha1.DeviceFormCDI}, Mode: "auto"}}
	if diff := cmp.Diff(files, n.addTo(files)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := n.addTo(nil); len(got) != 1 || got[0].Mode != "nri" {
		t.Errorf("where nothing is known of it: %+v", got)
	}
}
