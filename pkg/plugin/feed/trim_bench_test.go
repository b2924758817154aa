// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package feed

import (
	"runtime"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BenchmarkTrim has 5000 pods as an informer reads them, on nodes, and says how many bytes each of them takes that stay: as
// kube-scheduler keeps it, that is without field managers, and as Berth does.
func BenchmarkTrim(b *testing.B) {
	pod := heavyPod("n")
	for len(pod.Spec.Containers[0].Env) < 15 {
		pod.Spec.Containers[0].Env = append(pod.Spec.Containers[0].Env, corev1.EnvVar{Name: "SETTING", Value: "the value of a setting"})
	}
	data, err := pod.Marshal()
	if err != nil {
		b.Fatal(err)
	}
	whole := func(obj any) (any, error) {
		obj.(metav1.Object).SetManagedFields(nil)
		return obj, nil
	}
	for name, transform := range map[string]func(any) (any, error){"kube-scheduler": whole, "berth": trimPod} {
		b.Run(name, func(b *testing.B) {
			var bytes float64
			for b.Loop() {
				pods := make([]*corev1.Pod, 5000)
				before := inUse()
				for i := range pods {
					read := &corev1.Pod{}
					if err := read.Unmarshal(data); err != nil {
						b.Fatal(err)
					}
					if _, err := transform(read); err != nil {
						b.Fatal(err)
					}
					pods[i] = read
				}
				bytes = float64(inUse()-before) / float64(len(pods))
				runtime.KeepAlive(pods)
			}
			b.ReportMetric(bytes, "B/pod")
		})
	}
}

func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
