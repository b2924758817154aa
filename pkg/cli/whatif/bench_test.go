// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package whatif

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/gpunode"
	"github.com/berth-dev/berth/pkg/simulator"
)

// BenchmarkAsk asks about one pod of a higher priority in a cluster of 500 nodes of 8 GPUs, each of which is held by a pod.
func BenchmarkAsk(b *testing.B) {
	now := time.Now()
	cluster := func() *simulator.Snapshot {
		s := &simulator.Snapshot{Time: now, Objects: []runtime.Object{&nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "nvidia"}, Handler: "nvidia"}}}
		for i := range 500 {
			name := fmt.Sprintf("n%03d", i)
			gn := bt.MakeGPUNode(name)
			for gpu := range 8 {
				pod := fmt.Sprintf("%s-%d", name, gpu)
				gn.GPU("GPU-"+pod, "80Gi").Active(bt.MakePod(pod).Obj().UID, "60Gi")
				at := now.Add(-time.Hour)
				s.Objects = append(s.Objects, bt.MakePod(pod).Memory("60Gi").Bound(name, at, "GPU-"+pod+"=60Gi").Started(at).Ready(at).Obj())
			}
			report := gn.Obj()
			s.Objects = append(s.Objects, bt.MakeNode(name), &gpunode.Object{ObjectMeta: report.ObjectMeta, Status: &report.Status})
		}
		s.TakeForAlive()
		return s
	}
	pod := bt.MakePod("asked").Memory("70Gi").NoReference().Obj()
	pod.UID = ""
	for b.Loop() {
		b.StopTimer()
		s := cluster()
		b.StartTimer()
		answer, err := Ask(b.Context(), s, &Question{Pods: []*corev1.Pod{pod.DeepCopy()}, Priority: "7"})
		if err != nil || len(answer.Pods[0].Victims) != 1 {
			b.Fatalf("%+v, %v", answer, err)
		}
	}
}
