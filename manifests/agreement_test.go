// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
