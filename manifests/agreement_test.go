// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/internal/podcases"
)

// TestAdmissionAgreesWithTheParser garbles the values of all cases and checks that the policies and the parser give
// the same verdict on each.
func TestAdmissionAgreesWithTheParser(t *testing.T) {
	pods := needCluster(t).admin.CoreV1().Pods(metav1.NamespaceDefault)
	random := rand.New(rand.NewPCG(1, 2))
	values := map[string][]string{}
	for _, tc := range podcases.All() {
		for key, value := range tc.Pod.Annotations {
			if strings.HasPrefix(key, berthv1alpha1.GroupName+"/") && len(value) < 200 {
				values[key] = append(values[key], value)
			}
		}
	}
	accepted := 0
	for range 600 {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "pod", Annotations: map[string]string{}},
			Spec: corev1.PodSpec{
				SchedulerName: berthv1alpha1.SchedulerName,
				Containers:    []corev1.Container{{Name: "server", Image: "example.test/server:1"}},
			},
		}
		key := pick(random, []string{
			berthv1alpha1.AnnotationGPUMemory, berthv1alpha1.AnnotationGPUCount, berthv1alpha1.AnnotationModel,
			berthv1alpha1.AnnotationIdleAfter, berthv1alpha1.AnnotationContextLength, berthv1alpha1.AnnotationRuntime,
			berthv1alpha1.AnnotationKVCacheType, berthv1alpha1.AnnotationParallel,
		})
		pod.Annotations[berthv1alpha1.AnnotationGPUMemory] = pick(random, []string{"30Gi", "1=30Gi,2=34Gi"})
		pod.Annotations[key] = garble(random, pick(random, values[key]))

		_, refusal := berthv1alpha1.ParsePodRequest(pod)
		_, err := pods.Create(t.Context(), pod, dryRun)
		if (err == nil) != (refusal == nil) {
			t.Errorf("%q: the parser says %v, admission says %v", pod.Annotations, refusal, err)
		}
		if err != nil && (strings.Contains(err.Error(), "resulted in error") || strings.Contains(err.Error(), "failed expression")) {
			t.Errorf("%q: not a helpful refusal: %v", pod.Annotations, err)
		}
		if err == nil {
			accepted++
		}
	}
	if accepted < 100 || accepted > 500 {
		t.Errorf("%d of 600 pods were accepted; both verdicts should be common", accepted)
	}
}

// TestAdmissionAgreesOnContainers makes pods of random containers, references and names, and checks that the policies and
// the parser choose the same containers, and refuse the same pods; and that what admission adds does not change the choice.
func TestAdmissionAgreesOnContainers(t *testing.T) {
	pods := needCluster(t).admin.CoreV1().Pods(metav1.NamespaceDefault)
	random := rand.New(rand.NewPCG(3, 4))
	reference := func(path string) []corev1.EnvVar {
		return []corev1.EnvVar{{Name: berthv1alpha1.EnvVisibleDevices, ValueFrom: &corev1.EnvVarSource{
			FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path},
		}}}
	}
	accepted := 0
	for range 400 {
		pod := requestingPod("pod")
		pod.Spec.Containers = nil
		var names []string
		for i := range 1 + random.IntN(4) {
			c := corev1.Container{Name: string(rune('a' + i)), Image: "example.test/x:1"}
			names = append(names, c.Name)
			if random.IntN(4) == 0 {
				c.Env = reference(pick(random, []string{berthv1alpha1.VisibleDevicesFieldPath, berthv1alpha1.GPUUUIDsFieldPath}))
			}
			switch random.IntN(4) {
			case 0:
				pod.Spec.InitContainers = append(pod.Spec.InitContainers, c)
			case 1:
				c.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
				pod.Spec.InitContainers = append(pod.Spec.InitContainers, c)
			default:
				pod.Spec.Containers = append(pod.Spec.Containers, c)
			}
		}
		if len(pod.Spec.Containers) == 0 {
			pod.Spec.Containers = []corev1.Container{{Name: "z", Image: "example.test/x:1"}}
			names = append(names, "z")
		}
		if random.IntN(3) > 0 {
			var named []string
			for range 1 + random.IntN(3) {
				named = append(named, pick(random, append(names, "none", "")))
			}
			pod.Annotations[berthv1alpha1.AnnotationContainer] = strings.Join(named, ",")
		}
		if random.IntN(3) == 0 {
			pod.Annotations["kubectl.kubernetes.io/default-container"] = pick(random, append(names, "none"))
		}

		want, refusal := berthv1alpha1.GPUContainers(pod)
		admitted, err := pods.Create(t.Context(), pod, dryRun)
		if (err == nil) != (refusal == nil) {
			t.Errorf("%v: the parser says %v, admission says %v", pod.Annotations, refusal, err)
		}
		if err != nil {
			if strings.Contains(err.Error(), "resulted in error") || strings.Contains(err.Error(), "failed expression") {
				t.Errorf("%v: not a helpful refusal: %v", pod.Annotations, err)
			}
			continue
		}
		accepted++
		got, err := berthv1alpha1.GPUContainers(admitted)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v: after admission, %v (-parsed +admitted):\n%s", pod.Annotations, err, diff)
		}
		checkHandOff(t, admitted, true)
	}
	if accepted < 60 || accepted > 340 {
		t.Errorf("%d of 400 pods were accepted; both verdicts should be common", accepted)
	}
}

func pick[T any](random *rand.Rand, from []T) T { return from[random.IntN(len(from))] }

// garble changes a character of s, or none.
func garble(random *rand.Rand, s string) string {
	const characters = "0123456789.,-+=eEkMGiB smhd/:@_é\n"
	at := random.IntN(len(s) + 1)
	c := string(pick(random, []rune(characters)))
	switch random.IntN(4) {
	case 0:
		return s[:at] + c + s[at:]
	case 1:
		return s[:at]
	case 2:
		return s[at:]
	}
	return s
}
