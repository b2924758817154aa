// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// berthPod returns a pod of Berth that has been Ready for some time.
func berthPod(ready time.Duration) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "server", UID: "pod", ResourceVersion: "1"},
		Spec:       corev1.PodSpec{SchedulerName: berthv1alpha1.SchedulerName},
	}
	if ready > 0 {
		pod.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(start.Add(-ready)),
		}}
	}
	return pod
}

func TestCompare(t *testing.T) {
	type devices = map[string]uint64
	other := berthPod(time.Hour)
	other.Spec.SchedulerName = corev1.DefaultSchedulerName
	for _, tc := range []struct {
		name             string
		pod              *corev1.Pod
		measured, booked devices
		// want is the reason and device of each deviation.
		want []string
	}{
		{"as booked", berthPod(time.Hour), devices{"a": 10 * gib}, devices{"a": 10 * gib}, nil},
		{"over the booking by the margin", berthPod(0), devices{"a": 10*gib + 256*mib}, devices{"a": 10 * gib}, nil},
		{"over the booking by more", berthPod(0), devices{"a": 10*gib + 257*mib}, devices{"a": 10 * gib}, []string{"GPUMemoryOveruse a"}},
		{"on another GPU", berthPod(0), devices{"b": gib}, devices{"a": gib}, []string{"GPUHandOffMismatch b"}},
		{"on another GPU too", berthPod(0), devices{"a": gib, "b": gib}, devices{"a": gib}, []string{"GPUHandOffMismatch b"}},
		{"on one of two while it loads", berthPod(time.Second), devices{"a": gib}, devices{"a": gib, "b": gib}, nil},
		{"on one of two long after", berthPod(time.Hour), devices{"a": gib}, devices{"a": gib, "b": gib}, []string{"GPUHandOffMismatch b"}},
		{"without an allocation", berthPod(0), devices{"a": gib}, nil, []string{"GPUHandOffMismatch a"}},
		{"of another scheduler", other, devices{"a": gib}, nil, nil},
		{"with a booking that is not known", berthPod(0), devices{"a": 70 * gib}, devices{"a": 0}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			for _, d := range compare(tc.pod, tc.measured, tc.booked, 256*mib, start) {
				got = append(got, d.reason+" "+d.device)
				if !strings.Contains(d.note, d.device) {
					t.Errorf("the note does not name the GPU: %s", d.note)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("deviations (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOveruseIsToldOnceAndAgainWhileItLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := &fakeEvents{}
		r := newRig(t, func(o *Options) {
			o.Pods, o.Events = fakePods{berthPod(0)}, events
			o.Booked = func(*corev1.Pod) (map[string]uint64, error) { return map[string]uint64{gpu(0).UUID: 10 * gib}, nil }
			o.Attributor = fakeAttributor{1: "pod"}
		})
		hold := func(bytes uint64) {
			r.reader.change(func() {
				r.reader.reading.Devices[0].Processes = []Process{{PID: 1, Memory: bytes}}
				r.reader.reading.Devices[0].Memory.Used = bytes
			})
		}
		hold(50 * gib)
		wait(time.Second)
		if got := events.all(); len(got) != 0 {
			t.Fatalf("told before it is confirmed: %q", got)
		}
		wait(3 * time.Second)
		got := events.all()
		if len(got) != 1 || !strings.HasPrefix(got[0], "server GPUMemoryOveruse: The pod's processes hold 50Gi on GPU "+gpu(0).UUID+", of which 10Gi is booked.") {
			t.Fatalf("told %q", got)
		}
		wait(29 * time.Minute)
		if n := len(events.all()); n != 1 {
			t.Errorf("told %d times in half an hour", n)
		}
		wait(2 * time.Minute)
		if n := len(events.all()); n != 2 {
			t.Errorf("told %d times in 32 minutes, want again while it lasts", n)
		}
		hold(9 * gib)
		wait(5 * time.Second)
		hold(50 * gib)
		wait(5 * time.Second)
		if n := len(events.all()); n != 3 {
			t.Errorf("told %d times, want again when it happens again", n)
		}
		if n := r.counters.overuses.Load(); n != 2 {
			t.Errorf("counted %d, want 2", n)
		}
		// The memory is charged to the pod where it is.
		if p := r.client.last().Devices[0].Processes[0]; p.PodUID != "pod" || p.Memory.Value() != 50*gib {
			t.Errorf("reported %+v", p)
		}
	})
}

func TestAllocationIsDecodedOnceForEachVersionOfAPod(t *testing.T) {
	pod := berthPod(0)
	decoded := 0
	c := newHandOffChecker(&Options{Pods: fakePods{pod}, Booked: func(*corev1.Pod) (map[string]uint64, error) {
		decoded++
		return nil, errors.New("not readable")
	}})
	d := gpu(0)
	d.Processes = []Process{{PID: 1, Memory: gib}}
	s := statusOf(&Reading{Devices: []Device{d}}, &owners{pods: map[int]types.UID{1: "pod"}})
	for range 10 {
		c.check(t.Context(), s, nil, start, &counters{})
	}
	pod.ResourceVersion = "2"
	c.check(t.Context(), s, nil, start, &counters{})
	if decoded != 2 {
		t.Errorf("decoded %d times, want 2", decoded)
	}
	c.check(t.Context(), &berthv1alpha1.GPUNodeStatus{}, nil, start, &counters{})
	if len(c.bookings) != 0 || len(c.findings) != 0 {
		t.Errorf("remembered of a pod that left: %v, %v", c.bookings, c.findings)
	}
}
