// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package podcheck

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpustate"
)

const (
	cdiForm  = berthv1alpha1.DeviceFormCDI
	uuidForm = berthv1alpha1.DeviceFormUUID
)

// namedPod returns a pod that was given a GPU by a reference to an annotation with a value.
func namedPod(name, annotation, value string) *corev1.Pod {
	class := "nvidia"
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), ResourceVersion: "1", Annotations: map[string]string{
			berthv1alpha1.AnnotationAllocation: `{"version":1}`, annotation: value,
		}},
		Spec: corev1.PodSpec{SchedulerName: berthv1alpha1.SchedulerName, RuntimeClassName: &class, Containers: []corev1.Container{{
			Env: []corev1.EnvVar{{Name: berthv1alpha1.EnvVisibleDevices, ValueFrom: &corev1.EnvVarSource{
				FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations['" + annotation + "']"}}}},
		}}},
	}
}

func byCDI(name string) *corev1.Pod {
	return namedPod(name, berthv1alpha1.AnnotationVisibleDevices, "runtime.nvidia.com/gpu="+gpu)
}

func byUUID(name string) *corev1.Pod {
	return namedPod(name, berthv1alpha1.AnnotationGPUUUIDs, gpu)
}

const (
	unresolvable  = "failed to inject CDI devices: unresolvable CDI devices management.nvidia.com/gpu=GPU-0"
	unknownDevice = "nvidia-container-cli: device error: runtime.nvidia.com/gpu=GPU-0: unknown device"
	driverMissing = "nvidia-container-cli: initialization error: nvml error: driver not loaded"
)

func failing(pod *corev1.Pod, message string, at time.Time) *corev1.Pod {
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			Reason: "StartError", Message: message, FinishedAt: metav1.NewTime(at)}},
	}}
	return pod
}

func running(pod *corev1.Pod, at time.Time) *corev1.Pod {
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{
		Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(at)}}}}
	return pod
}

// TestForms is a story of one node: each step is a look at its pods.
func TestForms(t *testing.T) {
	type step struct {
		name string
		// after is when it happens, counted from the step before.
		after time.Duration
		// changed says that the files change before it.
		changed bool
		pods    []*corev1.Pod
		// on is the pod whose processes are on the GPU.
		on types.UID
		// sick says that the GPU is not healthy.
		sick bool
		want []berthv1alpha1.DeviceForm
	}
	at := func(d time.Duration) time.Time { return start.Add(d) }
	both := []berthv1alpha1.DeviceForm{cdiForm, uuidForm}
	for _, tc := range []struct {
		name  string
		files []berthv1alpha1.DeviceForm
		steps []step
	}{
		{"what a pod cannot start by is not used again, until some time after it is gone", both, []step{
			{name: "nothing happened", want: both},
			{name: "a pod fails", after: time.Minute, pods: []*corev1.Pod{failing(byUUID("a"), unresolvable, at(time.Minute))}, want: both[:1]},
			{name: "it goes on failing", after: time.Hour, pods: []*corev1.Pod{failing(byUUID("a"), unresolvable, at(time.Hour))}, want: both[:1]},
			{name: "it is gone", after: 9 * time.Minute, want: both[:1]},
			{name: "for long", after: 2 * time.Minute, want: both},
		}},
		{"a changed file ends it at once", both, []step{
			{name: "a pod fails", after: time.Minute, pods: []*corev1.Pod{failing(byUUID("a"), unresolvable, at(time.Minute))}, want: both[:1]},
			{name: "the file changes; the pod's last attempt was before", after: time.Minute, changed: true, pods: []*corev1.Pod{failing(byUUID("a"), unresolvable, at(time.Minute))}, want: both},
			{name: "it fails again", after: time.Minute, pods: []*corev1.Pod{failing(byUUID("a"), unresolvable, at(3*time.Minute))}, want: both[:1]},
		}},
		{"a container that starts by it ends it", both, []step{
			{name: "a pod fails", after: time.Minute, pods: []*corev1.Pod{failing(byUUID("a"), unresolvable, at(time.Minute))}, want: both[:1]},
			{name: "it starts", after: time.Minute, pods: []*corev1.Pod{running(byUUID("a"), at(2*time.Minute))}, want: both},
		}},
		{"a form that was seen to work stands", both, []step{
			{name: "a pod uses its GPU", after: time.Minute, pods: []*corev1.Pod{running(byUUID("a"), at(time.Minute))}, on: "a", want: both},
			{name: "another fails", after: time.Minute, pods: []*corev1.Pod{failing(byUUID("b"), unresolvable, at(2*time.Minute))}, want: both},
			{name: "the files change, and it fails again", after: time.Minute, changed: true, pods: []*corev1.Pod{failing(byUUID("b"), unresolvable, at(4*time.Minute))}, want: both[:1]},
		}},
		{"what works is used though the files do not say so", both[:1], []step{
			{name: "a pod uses its GPU", after: time.Minute, pods: []*corev1.Pod{running(byUUID("a"), at(time.Minute))}, on: "a", want: both},
			{name: "the files change; the pod was started before", after: time.Minute, changed: true, pods: []*corev1.Pod{running(byUUID("a"), at(time.Minute))}, on: "a", want: both[:1]},
		}},
		{"of a handler that the files do not tell of", nil, []step{
			{name: "nothing is known", after: time.Minute},
			{name: "one form works, which says nothing of the other", after: time.Second, pods: []*corev1.Pod{running(byUUID("c"), at(time.Minute))}, on: "c"},
			{name: "a changed file", after: time.Second, changed: true},
			{name: "a pod fails by one form", after: time.Minute, pods: []*corev1.Pod{failing(byCDI("a"), unknownDevice, at(2*time.Minute))}, want: both[1:]},
			{name: "and another by the other", after: time.Minute, pods: []*corev1.Pod{failing(byCDI("a"), unknownDevice, at(3*time.Minute)), failing(byUUID("b"), unresolvable, at(3*time.Minute))}, want: []berthv1alpha1.DeviceForm{}},
		}},
		{"what says nothing of the form", both, []step{
			{name: "the driver is missing", after: time.Minute, pods: []*corev1.Pod{failing(byCDI("a"), driverMissing, at(time.Minute))}, want: both},
			{name: "the GPU is lost, and so unknown to all", after: time.Minute, pods: []*corev1.Pod{failing(byCDI("a"), unresolvable, at(2*time.Minute))}, sick: true, want: both},
			{name: "a pod without an allocation", after: time.Minute, pods: []*corev1.Pod{failing(withoutAllocation(byCDI("a")), unresolvable, at(3*time.Minute))}, want: both},
		}},
		{"nothing is left", both[:1], []step{
			{name: "a pod fails", after: time.Minute, pods: []*corev1.Pod{failing(byCDI("a"), unknownDevice, at(time.Minute))}, want: []berthv1alpha1.DeviceForm{}},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			now, changed := start, metav1.NewTime(start.Add(-time.Hour))
			var shown []berthv1alpha1.ShownForm
			var files []berthv1alpha1.RuntimeHandOff
			if tc.files != nil {
				files = []berthv1alpha1.RuntimeHandOff{{Handler: "nvidia", Accepts: tc.files, Mode: "auto", Message: "by file"}}
			}
			for _, s := range tc.steps {
				if s.changed {
					changed = metav1.NewTime(now.Add(time.Second))
				}
				now = now.Add(s.after)
				device := berthv1alpha1.GPUDevice{UUID: gpu, Health: berthv1alpha1.DeviceHealthy}
				if s.sick {
					device.Health = berthv1alpha1.DeviceUnhealthy
				}
				if s.on != "" {
					device.Processes = []berthv1alpha1.GPUProcess{{PodUID: s.on, Memory: resource.MustParse("1Gi")}}
				}
				h := &berthv1alpha1.HandOff{Runtimes: files, ChangedTime: &changed, Shown: shown}
				status := &berthv1alpha1.GPUNodeStatus{Devices: []berthv1alpha1.GPUDevice{device}, HandOff: h}
				h.Shown, _ = Shown(status, s.pods, now)
				shown = h.Shown
				got, note := acceptedBy(h)
				if len(got) < len(tc.files) && !strings.Contains(note, "was not given its GPUs in the form") {
					t.Errorf("%s: the message is %q", s.name, note)
				}
				if diff := cmp.Diff(s.want, got); diff != "" {
					t.Errorf("%s: forms (-want +got):\n%s", s.name, diff)
				}
			}
			if tc.files != nil && len(files[0].Accepts) != len(tc.files) {
				t.Error("what the files say was changed")
			}
		})
	}
}

// acceptedBy returns what the scheduler takes the only runtime handler to accept, and what people are told of it; nil when
// nothing is known.
func acceptedBy(h *berthv1alpha1.HandOff) (forms []berthv1alpha1.DeviceForm, note string) {
	runtimes := gpustate.RuntimesOf(h)
	if len(runtimes) == 0 {
		return nil, ""
	}
	return runtimes[0].Accepts, runtimes[0].Message
}

func withoutAllocation(pod *corev1.Pod) *corev1.Pod {
	delete(pod.Annotations, berthv1alpha1.AnnotationAllocation)
	return pod
}

func TestWhatIsShownIsWrittenSeldom(t *testing.T) {
	device := berthv1alpha1.GPUDevice{UUID: gpu, Health: berthv1alpha1.DeviceHealthy}
	s := &berthv1alpha1.GPUNodeStatus{Devices: []berthv1alpha1.GPUDevice{device}, HandOff: &berthv1alpha1.HandOff{}}
	pod := failing(byUUID("a"), unresolvable, start)
	writes := 0
	for now := start; now.Before(start.Add(time.Hour)); now = now.Add(time.Second) {
		shown, next := Shown(s, []*corev1.Pod{pod}, now)
		if !equality.Semantic.DeepEqual(shown, s.HandOff.Shown) {
			writes++
		}
		s.HandOff.Shown = shown
		if len(shown) != 1 || !next.After(now) || next.After(now.Add(refutedFor+time.Second)) {
			t.Fatalf("shown %+v, to look again at %s, %s after now", shown, next, next.Sub(now))
		}
	}
	if writes != 60 {
		t.Errorf("%d writes in an hour, want one a minute", writes)
	}
}
