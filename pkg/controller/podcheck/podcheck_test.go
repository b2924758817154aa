// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package podcheck

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

const (
	mib = 1 << 20
	gib = 1 << 30
	// gpu is the only GPU of the node.
	gpu = "GPU-00000000-0000-4000-8000-000000000000"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

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
		// next is when to look again.
		next time.Time
	}{
		{"as booked", berthPod(time.Hour), devices{"a": 10 * gib}, devices{"a": 10 * gib}, nil, time.Time{}},
		{"over the booking by the margin", berthPod(0), devices{"a": 10*gib + 256*mib}, devices{"a": 10 * gib}, nil, time.Time{}},
		{"over the booking by more", berthPod(0), devices{"a": 10*gib + 257*mib}, devices{"a": 10 * gib}, []string{"GPUMemoryOveruse a"}, time.Time{}},
		{"on another GPU", berthPod(0), devices{"b": gib}, devices{"a": gib}, []string{"GPUHandOffMismatch b"}, time.Time{}},
		{"on another GPU too", berthPod(0), devices{"a": gib, "b": gib}, devices{"a": gib}, []string{"GPUHandOffMismatch b"}, time.Time{}},
		{"on one of two while it loads", berthPod(time.Second), devices{"a": gib}, devices{"a": gib, "b": gib}, nil, start.Add(59 * time.Second)},
		{"on one of two long after", berthPod(time.Hour), devices{"a": gib}, devices{"a": gib, "b": gib}, []string{"GPUHandOffMismatch b"}, time.Time{}},
		{"without an allocation", berthPod(0), devices{"a": gib}, nil, []string{"GPUHandOffMismatch a"}, time.Time{}},
		{"of another scheduler", other, devices{"a": gib}, nil, nil, time.Time{}},
		{"with a booking that is not known", berthPod(0), devices{"a": 70 * gib}, devices{"a": 0}, nil, time.Time{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			found, next := compare(tc.pod, tc.measured, tc.booked, 256*mib, start)
			for _, f := range found {
				got = append(got, f.Reason+" "+f.Device)
				if !strings.Contains(f.Note, f.Device) {
					t.Errorf("the note does not name the GPU: %s", f.Note)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("deviations (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.next, next); diff != "" {
				t.Errorf("when to look again (-want +got):\n%s", diff)
			}
		})
	}
}

// nriPod returns a pod whose GPU an NRI plugin is to add.
func nriPod(name string) *corev1.Pod {
	pod := namedPod(name, berthv1alpha1.NRIAnnotationPrefix+"server", berthv1alpha1.CDIKind+"="+gpu)
	pod.Spec = corev1.PodSpec{SchedulerName: berthv1alpha1.SchedulerName}
	return pod
}

func TestPodsWithoutTheGPUsThatAPluginShouldHaveAdded(t *testing.T) {
	s := &berthv1alpha1.GPUNodeStatus{HandOff: &berthv1alpha1.HandOff{NotInjected: []types.UID{"bare", "other", "plain"}}}
	plain := nriPod("plain")
	delete(plain.Annotations, berthv1alpha1.AnnotationAllocation)
	for _, tc := range []struct {
		name string
		pod  *corev1.Pod
		at   time.Duration
		want bool
		next time.Time
	}{
		{"a pod that has what it adds", running(nriPod("whole"), start), time.Hour, false, time.Time{}},
		{"one that has not", running(nriPod("bare"), start), injectedAfter, true, time.Time{}},
		{"one whose container has just started", running(nriPod("bare"), start), time.Second, false, start.Add(injectedAfter)},
		{"one whose container has not", nriPod("bare"), time.Hour, false, time.Time{}},
		{"one that is told its GPUs otherwise", running(byCDI("other"), start), time.Hour, false, time.Time{}},
		{"one without an allocation", running(plain, start), time.Hour, false, time.Time{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found, next := Check(tc.pod, s, 0, start.Add(tc.at))
			if got := len(found) == 1 && found[0].Reason == EventHandOffFailed; got != tc.want || len(found) > 1 {
				t.Errorf("found %+v", found)
			}
			if !next.Equal(tc.next) {
				t.Errorf("to look again at %s, want %s", next, tc.next)
			}
		})
	}
}

func TestFailureToHandOverSaysWhatToSet(t *testing.T) {
	found, _ := Check(failing(byUUID("server"), unresolvable, start), &berthv1alpha1.GPUNodeStatus{}, 0, start)
	if len(found) != 1 || found[0].Reason != EventHandOffFailed || !strings.Contains(found[0].Note, unresolvable) ||
		!strings.Contains(found[0].Note, "berth.dev/visible-devices") {
		t.Errorf("found %+v", found)
	}
}

func TestALimitThatCannotBeSetIsNamed(t *testing.T) {
	const message = `error running createRuntime hook #3: exit status 1, stderr: failed to set memory limits for gpu "GPU-a": Not Supported`
	found, _ := Check(failing(byCDI("server"), message, start), &berthv1alpha1.GPUNodeStatus{}, 0, start)
	if len(found) != 1 || found[0].Reason != EventHandOffFailed || !strings.Contains(found[0].Note, message) ||
		!strings.HasPrefix(found[0].Note, "The container cannot start because its GPU memory limit could not be set.") {
		t.Errorf("found %+v", found)
	}
}

func TestMemoryOfDevicesThatTheKubeletGaveAwayIsNotBerths(t *testing.T) {
	pod := berthPod(0)
	s := &berthv1alpha1.GPUNodeStatus{Devices: []berthv1alpha1.GPUDevice{{
		UUID: gpu, AssignedPods: []types.UID{"other"}, Processes: []berthv1alpha1.GPUProcess{{PodUID: pod.UID, Memory: resource.MustParse("1Gi")}},
	}}}
	if found, _ := Check(pod, s, 0, start); len(found) != 0 {
		t.Errorf("found %+v", found)
	}
	s.Devices[0].AssignedPods = nil
	if found, _ := Check(pod, s, 0, start); len(found) != 1 || found[0].Reason != EventHandOffMismatch {
		t.Errorf("of a pod without an allocation: %+v", found)
	}
}
