// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/controller/podcheck"
	"github.com/berth-dev/berth/pkg/gpunode"
)

// bookedPod returns a pod that has booked 10Gi of GPU-a.
func bookedPod(name, node string, change ...func(*corev1.Pod)) *corev1.Pod {
	return modelPod(name, append([]func(*corev1.Pod){func(p *corev1.Pod) {
		p.Spec.NodeName = node
		p.Annotations = map[string]string{berthv1alpha1.AnnotationAllocation: `{"version":1,"devices":[{"uuid":"GPU-a","memory":"10737418240"}]}`}
	}}, change...)...)
}

// held reports what pods hold, as "UID memory" on GPU-a and then on GPU-b.
func held(t *testing.T, node string, pods ...[]string) *gpunode.Object {
	t.Helper()
	gn := &berthv1alpha1.GPUNode{ObjectMeta: metav1.ObjectMeta{Name: node}}
	for i, processes := range pods {
		d := berthv1alpha1.GPUDevice{UUID: "GPU-" + string(rune('a'+i)), Health: berthv1alpha1.DeviceHealthy}
		d.Memory.Total = resource.MustParse("80Gi")
		for _, p := range processes {
			var uid, memory string
			if _, err := fmt.Sscan(p, &uid, &memory); err != nil {
				t.Fatal(err)
			}
			d.Processes = append(d.Processes, berthv1alpha1.GPUProcess{PodUID: types.UID(uid), Memory: resource.MustParse(memory)})
		}
		gn.Status.Devices = append(gn.Status.Devices, d)
	}
	return objectOf(t, gn)
}

// look reconciles a node, and returns what was told and when it is to be looked at again.
func (w *world) look(node string) ([]string, time.Duration) {
	w.t.Helper()
	result, err := w.check.Reconcile(w.t.Context(), request("", node))
	if err != nil {
		w.t.Fatal(err)
	}
	return w.told(), result.RequeueAfter
}

// report replaces the report of a node.
func (w *world) report(object *gpunode.Object) {
	w.t.Helper()
	if err := w.client.Delete(w.t.Context(), &gpunode.Object{ObjectMeta: metav1.ObjectMeta{Name: object.Name}}); client.IgnoreNotFound(err) != nil {
		w.t.Fatal(err)
	}
	object.ResourceVersion = ""
	if err := w.client.Create(w.t.Context(), object); err != nil {
		w.t.Fatal(err)
	}
}

func TestOveruseIsToldOnceAndAgainWhileItLasts(t *testing.T) {
	w := newWorld(t, bookedPod("p", "n1"), held(t, "n1", []string{"uid-p 50Gi"}))
	before := testutil.ToFloat64(podDeviations.WithLabelValues(podcheck.EventMemoryOveruse))
	if told, again := w.look("n1"); len(told) != 0 || again != confirmedAfter {
		t.Fatalf("told %q before it is confirmed, to look again after %s", told, again)
	}
	w.advance(confirmedAfter)
	told, again := w.look("n1")
	const want = "Warning GPUMemoryOveruse The pod's processes hold 50Gi on GPU GPU-a, of which 10Gi is booked."
	if len(told) != 1 || !strings.HasPrefix(told[0], want) || again != repeatedAfter {
		t.Fatalf("told %q, to look again after %s", told, again)
	}
	w.advance(29 * time.Minute)
	if told, _ := w.look("n1"); len(told) != 0 {
		t.Errorf("told again within half an hour: %q", told)
	}
	w.advance(time.Minute)
	if told, _ := w.look("n1"); len(told) != 1 {
		t.Errorf("told %q after half an hour, want again while it lasts", told)
	}
	w.report(held(t, "n1", []string{"uid-p 9Gi"}))
	if told, again := w.look("n1"); len(told) != 0 || again != 0 || len(w.check.findings) != 0 {
		t.Errorf("told %q when it was over, to look again after %s, remembered %v", told, again, w.check.findings)
	}
	w.report(held(t, "n1", []string{"uid-p 50Gi"}))
	w.look("n1")
	w.advance(confirmedAfter)
	if told, _ := w.look("n1"); len(told) != 1 {
		t.Errorf("told %q, want again when it happens again", told)
	}
	if n := testutil.ToFloat64(podDeviations.WithLabelValues(podcheck.EventMemoryOveruse)) - before; n != 2 {
		t.Errorf("counted %v, want 2", n)
	}
}

func TestNothingIsToldOfWhatAnAgentThatIsSilentSaw(t *testing.T) {
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: berthv1alpha1.Namespace, Name: "n1"},
		Spec:       coordinationv1.LeaseSpec{RenewTime: &metav1.MicroTime{Time: testTime}, LeaseDurationSeconds: new(int32(60))},
	}
	w := newWorld(t, bookedPod("p", "n1"), held(t, "n1", []string{"uid-p 50Gi"}), lease)
	w.look("n1")
	w.advance(61 * time.Second)
	if told, again := w.look("n1"); len(told) != 0 || again != staleRetry {
		t.Fatalf("told %q, to look again after %s", told, again)
	}
	lease.Spec.RenewTime = &metav1.MicroTime{Time: w.clock.Now()}
	if err := w.client.Update(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	if told, _ := w.look("n1"); len(told) != 1 {
		t.Errorf("told %q once the agent is heard again", told)
	}
}

// The attack is that one node's token reports another node's pod, whose owner is told what is not so.
func TestOneNodesTokenDoesNotMakeEventsOnPodsOfAnother(t *testing.T) {
	w := newWorld(t, bookedPod("victim", "n2"), held(t, "n1", []string{"uid-victim 50Gi"}), held(t, "n2", []string{"uid-victim 10Gi"}))
	for range 3 {
		for _, node := range []string{"n1", "n2"} {
			if told, _ := w.look(node); len(told) != 0 {
				t.Errorf("told %q", told)
			}
		}
		w.advance(time.Hour)
	}
}

func TestPodsOnOtherGPUsAreToldOfEach(t *testing.T) {
	w := newWorld(t, bookedPod("p", "n1"), held(t, "n1", nil, []string{"uid-p 1Gi"}, []string{"uid-p 1Gi"}))
	w.look("n1")
	w.advance(confirmedAfter)
	told, _ := w.look("n1")
	for i, device := range []string{"GPU-b", "GPU-c"} {
		if len(told) != 2 || !strings.Contains(told[i], "GPUHandOffMismatch The pod's processes hold 1Gi on GPU "+device) {
			t.Errorf("told %q", told)
		}
	}
}

func TestFormThatAPodCannotStartByIsWrittenOnce(t *testing.T) {
	class := "nvidia"
	pod := bookedPod("p", "n1", func(p *corev1.Pod) {
		p.Annotations[berthv1alpha1.AnnotationGPUUUIDs] = "GPU-a"
		p.Spec.RuntimeClassName = &class
		p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: berthv1alpha1.EnvVisibleDevices, ValueFrom: &corev1.EnvVarSource{
			FieldRef: &corev1.ObjectFieldSelector{FieldPath: berthv1alpha1.GPUUUIDsFieldPath},
		}}}
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{
			Reason: "RunContainerError", Message: "unresolvable CDI devices management.nvidia.com/gpu=GPU-a",
		}}}}
	})
	w := newWorld(t, pod, held(t, "n1", nil))
	patches := 0
	w.check.client = decoding{interceptor.NewClient(w.client.(client.WithWatch), interceptor.Funcs{
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
			patches++
			return c.SubResource(sub).Patch(ctx, obj, patch, opts...)
		},
	})}
	for range 3 {
		w.look("n1")
	}
	object := &gpunode.Object{}
	if err := w.client.Get(t.Context(), client.ObjectKey{Name: "n1"}, object); err != nil {
		t.Fatal(err)
	}
	object.Decode()
	want := []berthv1alpha1.ShownForm{{
		Handler: "nvidia", Form: berthv1alpha1.DeviceFormUUID, SeenTime: metav1.NewTime(testTime),
		Message: "pod default/p was not given its GPUs in the form UUID: unresolvable CDI devices management.nvidia.com/gpu=GPU-a",
	}}
	if diff := cmp.Diff(want, object.Status.HandOff.Shown, cmp.Comparer(func(a, b metav1.Time) bool { return a.Equal(&b) })); diff != "" {
		t.Errorf("shown (-want +got):\n%s", diff)
	}
	if len(object.Status.Devices) != 1 || patches != 1 {
		t.Errorf("%d devices are left of the report, after %d writes", len(object.Status.Devices), patches)
	}
	w.delete(pod)
	w.advance(11 * time.Minute)
	w.look("n1")
	if err := w.client.Get(t.Context(), client.ObjectKey{Name: "n1"}, object); err != nil {
		t.Fatal(err)
	}
	object.Status = nil
	if object.Decode(); len(object.Status.HandOff.Shown) != 0 {
		t.Errorf("long after the pod is gone: %+v", object.Status.HandOff.Shown)
	}
}

func TestBookedMemoryIsMeasured(t *testing.T) {
	elected := make(chan struct{})
	over := bookedPod("over", "n1", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })
	w := newWorld(t, bookedPod("a", "n1"), bookedPod("b", "n1"), bookedPod("waits", ""), over, held(t, "n1", nil, nil))
	c := &bookedCollector{cache: decoding{w.client}, elected: elected}
	if n := testutil.CollectAndCount(c); n != 0 {
		t.Errorf("%d metrics of a replica that does not work", n)
	}
	close(elected)
	want := `
# HELP berth_gpu_memory_booked_bytes Memory that pods have booked on the device.
# TYPE berth_gpu_memory_booked_bytes gauge
berth_gpu_memory_booked_bytes{UUID="GPU-a",node="n1"} 2.147483648e+10
berth_gpu_memory_booked_bytes{UUID="GPU-b",node="n1"} 0
`
	if err := testutil.CollectAndCompare(c, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	c.pods = true
	want += `# HELP berth_pod_gpu_memory_booked_bytes Memory that the pod has booked on the device.
# TYPE berth_pod_gpu_memory_booked_bytes gauge
berth_pod_gpu_memory_booked_bytes{UUID="GPU-a",namespace="default",pod="a"} 1.073741824e+10
berth_pod_gpu_memory_booked_bytes{UUID="GPU-a",namespace="default",pod="b"} 1.073741824e+10
`
	if err := testutil.CollectAndCompare(c, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

func TestCacheKeepsHowAPodWasGivenItsGPUs(t *testing.T) {
	reference := corev1.EnvVar{Name: "NVIDIA_VISIBLE_DEVICES", ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations['berth.dev/gpu-uuids']"}}}
	failed := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "RunContainerError", Message: "why"}}
	pod := bookedPod("p", "n1", func(p *corev1.Pod) {
		p.Annotations["nvidia.cdi.k8s.io/container.c"], p.Annotations["large"] = "berth.dev/gpu=GPU-a", "x"
		p.Annotations["berth.dev/gpu-memory"] = "10Gi"
		p.Spec.Containers = []corev1.Container{
			{Name: "other", Env: []corev1.EnvVar{{Name: "NVIDIA_VISIBLE_DEVICES", Value: "void"}}},
			{Name: "c", Image: "large", Env: []corev1.EnvVar{{Name: "LARGE", Value: "x"}, reference}},
		}
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", Image: "large", State: failed}}
	})
	trimmed, err := trimPod(pod)
	if err != nil {
		t.Fatal(err)
	}
	got := trimmed.(*corev1.Pod)
	if diff := cmp.Diff([]corev1.Container{{Name: "c", Env: []corev1.EnvVar{reference}}}, got.Spec.Containers); diff != "" {
		t.Errorf("containers (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]corev1.ContainerStatus{{Name: "c", State: failed}}, got.Status.ContainerStatuses); diff != "" {
		t.Errorf("how they fare (-want +got):\n%s", diff)
	}
	if len(got.Annotations) != 2 {
		t.Errorf("annotations %v", got.Annotations)
	}
}
