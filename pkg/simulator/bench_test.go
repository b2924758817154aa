// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	bt "github.com/berth-dev/berth/internal/testing"
)

// BenchmarkPods fills 500 nodes of 8 GPUs, with as many pods as GPUs, of eight sizes. It tells the pods per second of CPU time
// beside those per second, which depend on what else the machine does. Run it with -cpu 1 to see what one core does.
func BenchmarkPods(b *testing.B) {
	const nodes, gpus = 500, 8
	before := cpuTime(b)
	for b.Loop() {
		var objects []runtime.Object
		for i := range nodes {
			objects = append(objects, gpuNode(bt.MakeGPUsOf(fmt.Sprintf("n%03d", i), gpus, "80Gi"))...)
		}
		var pods []*corev1.Pod
		for i := range nodes * gpus {
			pods = append(pods, bt.MakePod(fmt.Sprintf("p%04d", i)).Memory(fmt.Sprintf("%dGi", 20+7*(i%8))).Obj())
		}
		s := simulate(b, objects...)
		run(b, s, pods...)
		for _, pod := range pods {
			if o, err := s.Outcome(pod.Namespace, pod.Name); err != nil || o.Pending != "" {
				b.Fatalf("%s: %s, %v", pod.Name, o.Pending, err)
			}
		}
	}
	b.ReportMetric(float64(nodes*gpus*b.N)/b.Elapsed().Seconds(), "pods/s")
	b.ReportMetric(float64(nodes*gpus*b.N)/(cpuTime(b)-before).Seconds(), "pods/CPU-s")
}

// cpuTime is what this process has used of any processor.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
