// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package attacks

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/test/integration/harness"
)

// What a container sees by its own variables.
const (
	itsAllocation = "its allocation"
	noGPU         = "no GPU"
)

// sees returns which GPUs a container sees by its own variables, which win over what envFrom brings; of several of one name
// the last wins.
func sees(env []corev1.EnvVar) string {
	what := "whatever envFrom says"
	for _, e := range env {
		if e.Name != berthv1alpha1.EnvVisibleDevices {
			continue
		}
		switch {
		case e.ValueFrom != nil && e.ValueFrom.FieldRef != nil && slices.Contains(
			[]string{berthv1alpha1.VisibleDevicesFieldPath, berthv1alpha1.GPUUUIDsFieldPath}, e.ValueFrom.FieldRef.FieldPath):
			what = itsAllocation
		case e.ValueFrom == nil && e.Value == berthv1alpha1.VisibleDevicesVoid:
			what = noGPU
		default:
			what = "what it likes"
		}
	}
	return what
}

// from returns the variable that gives a container its GPUs, with another source.
func from(source corev1.EnvVarSource) corev1.EnvVar {
	return corev1.EnvVar{Name: berthv1alpha1.EnvVisibleDevices, ValueFrom: &source}
}

func annotationRef(key string) corev1.EnvVarSource {
	return corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations['" + key + "']"}}
}

var (
	malice = corev1.LocalObjectReference{Name: "malice"}
	// fromAConfigMap brings a container all variables of a ConfigMap.
	fromAConfigMap = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: malice}}}
)

// takesGPUs tries what the cases of the parser do not, which TestAdmissionJudgesEveryCase tries on an apiserver.
func (r *room) takesGPUs(t *testing.T) {
	env := func(vars ...corev1.EnvVar) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, vars...) }
	}
	sidecar := func(p *corev1.Pod) {
		p.Annotations[berthv1alpha1.AnnotationContainer] = "server"
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "sidecar", Image: "example.test/sidecar:1"})
	}
	everywhere := func(p *corev1.Pod) {
		for i := range p.Spec.Containers {
			p.Spec.Containers[i].EnvFrom = fromAConfigMap
		}
	}
	wantsNone := func(name corev1.ResourceName) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			last := &p.Spec.Containers[len(p.Spec.Containers)-1]
			last.Resources.Limits = corev1.ResourceList{name: resource.MustParse("0")}
		}
	}
	// A kubelet ignores a resource that its node does not have, so that who names the node gets such a resource for nothing.
	byName := func(p *corev1.Pod) {
		p.Annotations, p.Spec.NodeName = nil, honest
		p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"nvidia.com/foo": resource.MustParse("1")}
	}
	noRequest := func(p *corev1.Pod) { p.Annotations = nil }
	all := corev1.EnvVar{Name: berthv1alpha1.EnvVisibleDevices, Value: "all"}
	const setsIt = "sets NVIDIA_VISIBLE_DEVICES"
	for _, tc := range []struct {
		name    string
		changes []func(*corev1.Pod)
		refused string
		sees    []string // by container
	}{
		{"from a Secret", changes(env(from(corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: malice, Key: "all"}}))), setsIt, nil},
		{"from a ConfigMap", changes(env(from(corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: malice, Key: "all"}}))), setsIt, nil},
		{"from an annotation of its own", changes(env(from(annotationRef("example.test/all")))), setsIt, nil},
		{"from a file", changes(func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		}, env(from(corev1.EnvVarSource{FileKeyRef: &corev1.FileKeySelector{VolumeName: "v", Path: "all", Key: "all"}}))), setsIt, nil},
		{"from a field that is no annotation", changes(env(from(corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}))), setsIt, nil},
		{"all, without a request", changes(noRequest, env(all)), setsIt, nil},
		{"all, before the reference", changes(env(all, from(annotationRef(berthv1alpha1.AnnotationVisibleDevices)))), setsIt, nil},
		{"the reference twice", changes(env(from(annotationRef(berthv1alpha1.AnnotationVisibleDevices)), from(annotationRef(berthv1alpha1.AnnotationGPUUUIDs)))), "", []string{itsAllocation}},
		{"all, in lower case", changes(env(corev1.EnvVar{Name: "nvidia_visible_devices", Value: "all"})), "", []string{itsAllocation}},
		{"by envFrom in every container", changes(sidecar, everywhere), "", []string{itsAllocation, noGPU}},
		{"by envFrom, without a request", changes(noRequest, everywhere), "", []string{noGPU}},
		{"by envFrom, beside no GPU of the device plugin", changes(sidecar, everywhere, wantsNone(berthv1alpha1.ResourceNVIDIAGPU)), "", []string{itsAllocation, noGPU}},
		{"by envFrom, beside no GPU, without a request", changes(noRequest, everywhere, wantsNone(berthv1alpha1.ResourceNVIDIAGPU)), "", []string{noGPU}},
		{"by envFrom, beside none of a resource that nobody has, without a request", changes(noRequest, everywhere, wantsNone("nvidia.com/foo")), "", []string{noGPU}},
		{"by envFrom, beside a resource that nobody has, on a node by name", changes(byName, everywhere), "", []string{noGPU}},
	} {
		pod, err := r.mallory.CoreV1().Pods(tenant).Create(t.Context(), r.pod("greedy", "", tc.changes...), dryRun)
		switch {
		case tc.refused != "":
			wantRefused(t, tc.name, err, tc.refused)
		case err != nil:
			t.Errorf("%s: %v", tc.name, err)
		default:
			var got []string
			for _, c := range pod.Spec.Containers {
				got = append(got, sees(c.Env))
			}
			if diff := cmp.Diff(tc.sees, got); diff != "" {
				t.Errorf("%s: what the containers see (-want +got):\n%s", tc.name, diff)
			}
		}
	}
}

func changes(c ...func(*corev1.Pod)) []func(*corev1.Pod) { return c }

// debugs tries to see GPUs from a container that is added to a pod that runs, as TestDebuggingContainersSeeNoGPU does.
func (r *room) debugs(t *testing.T) {
	pods := r.mallory.CoreV1().Pods(tenant)
	pod := harness.Create(t, r.Lab, r.pod("debugged", attacked))
	r.removeAfter(t, pod)
	r.WaitBound(t, pod)
	add := func(name string, c corev1.EphemeralContainerCommon) error {
		c.Name, c.Image, c.ImagePullPolicy, c.TerminationMessagePolicy = name, "example.test/debug:1", corev1.PullAlways, corev1.TerminationMessageReadFile
		return retry.RetryOnConflict(retry.DefaultRetry, func() error { // the kubelet writes too
			current, err := pods.Get(t.Context(), pod.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			current.Spec.EphemeralContainers = append(current.Spec.EphemeralContainers, corev1.EphemeralContainer{EphemeralContainerCommon: c})
			_, err = pods.UpdateEphemeralContainers(t.Context(), pod.Name, current, metav1.UpdateOptions{})
			return err
		})
	}
	for name, source := range map[string]corev1.EnvVarSource{
		"configmap":  {ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: malice, Key: "all"}},
		"annotation": annotationRef("example.test/all"),
	} {
		err := add(name, corev1.EphemeralContainerCommon{Env: []corev1.EnvVar{from(source)}})
		wantRefused(t, "a debugging container with GPUs from a "+name, err, name)
	}
	if err := add("everything", corev1.EphemeralContainerCommon{EnvFrom: fromAConfigMap}); err != nil {
		t.Fatal(err)
	}
	got := r.Pod(t, pod).Spec.EphemeralContainers
	if len(got) != 1 || sees(got[0].Env) != noGPU || !strings.HasPrefix(got[0].Name, "everything") {
		t.Errorf("debugging containers %+v", got)
	}
}
