// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// fakeSpecification remembers what it was told.
type fakeSpecification struct {
	mu    sync.Mutex
	files map[string]string
	err   error
	asked []types.UID
	// without are the pods that lack what it adds.
	without []types.UID
}

func (s *fakeSpecification) Update(files map[string]string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files = files
	return s.err
}

func (s *fakeSpecification) Without(pods []types.UID) []types.UID {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = pods
	return slices.DeleteFunc(slices.Clone(pods), func(uid types.UID) bool { return !slices.Contains(s.without, uid) })
}

func (s *fakeSpecification) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func TestNRI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		named := func(name string) *corev1.Pod {
			pod := namedPod(name, berthv1alpha1.NRIAnnotationPrefix+"server", berthv1alpha1.CDIKind+"="+gpu(0).UUID)
			pod.Spec = corev1.PodSpec{SchedulerName: berthv1alpha1.SchedulerName}
			return running(pod, time.Now())
		}
		spec, events := &fakeSpecification{without: []types.UID{"bare", "other"}}, &fakeEvents{}
		r := newRig(t, func(o *Options) {
			// One was made while the plugin was down; one is not handed its GPUs in this way.
			o.Pods, o.Events = fakePods{named("whole"), named("bare"), running(byCDI("other"), time.Now())}, events
			o.Booked = func(*corev1.Pod) (map[string]uint64, error) { return map[string]uint64{gpu(0).UUID: gib}, nil }
			o.Runtimes = fakeRuntimes{{Message: "the default runtime runc hands out no GPUs"}, {Handler: "nvidia", Accepts: []berthv1alpha1.DeviceForm{cdiForm}}}
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
		if diff := cmp.Diff([]types.UID{"whole", "bare"}, spec.asked); diff != "" {
			t.Errorf("pods that were looked at (-want +got):\n%s", diff)
		}
		want := []berthv1alpha1.RuntimeHandOff{
			{Accepts: []berthv1alpha1.DeviceForm{berthv1alpha1.DeviceFormNRI}, Mode: "nri", Message: "the agent's CDI specification names 1 GPUs, for an NRI plugin to add"},
			{Handler: "nvidia", Accepts: []berthv1alpha1.DeviceForm{cdiForm}},
		}
		if diff := cmp.Diff(want, r.client.last().HandOff.Runtimes); diff != "" {
			t.Errorf("report (-want +got):\n%s", diff)
		}
		if told := events.all(); len(told) != 1 || !strings.HasPrefix(told[0], "bare GPUHandOffFailed: The container was started without") {
			t.Errorf("told %q", told)
		}
		spec.fail(errors.New("no file"))
		wait(30 * time.Second)
		if h := r.client.last().HandOff.Runtimes[0]; h.Accepts != nil || h.Message != "no CDI specification could be written: no file" {
			t.Errorf("without a specification the report has %+v", h)
		}
	})
}

func TestNRIComesAfterADefaultRuntimeThatHandsOutGPUs(t *testing.T) {
	n := &nri{gpus: 1}
	files := []berthv1alpha1.RuntimeHandOff{{Accepts: []berthv1alpha1.DeviceForm{cdiForm}, Mode: "auto"}}
	if diff := cmp.Diff(files, n.addTo(files)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := n.addTo(nil); len(got) != 1 || got[0].Mode != "nri" {
		t.Errorf("where nothing is known of it: %+v", got)
	}
}
