// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-base/metrics"
	"k8s.io/utils/clock"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/fleet"
	"github.com/berth-dev/berth/pkg/fleet/export"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// large is a cluster of 5000 nodes of 8 GPUs with 16 measured pods each, 20 plain pods beside them, and 1000 pods that wait.
func large(b *testing.B) (*gpustate.Tracker, *fleet.Cluster) {
	tr := gpustate.NewTracker(alloc.MiB(256), gpustate.Policy{StaleAfter: time.Hour, LoadTimeout: time.Hour}, clock.RealClock{})
	c := &fleet.Cluster{MemoryReturnTimeout: 2 * time.Minute}
	for i := range 5000 {
		name := fmt.Sprintf("node-%d", i)
		c.Nodes = append(c.Nodes, bt.MakeNode(name))
		report := bt.MakeGPUNode(name)
		for j := range 8 {
			report.GPU(bt.GPUOf(name, j), "80Gi").Process("", "300Mi")
		}
		for j := range 16 {
			gpu := bt.GPUOf(name, j/2)
			pod := bt.MakePod(fmt.Sprintf("%s-4567-89ab-cdef-%d", name, j)).Memory("30Gi").Bound(name, epoch, gpu+"=30Gi").Started(epoch).Ready(epoch)
			pod.Namespace = fmt.Sprintf("team-%d", (i+j)%100)
			report.At(gpu).Process(pod.ObjectMeta.UID, "28Gi")
			c.Pods = append(c.Pods, pod.Obj())
			tr.PodSeen(pod.Obj())
		}
		for range 20 {
			c.Pods = append(c.Pods, &corev1.Pod{Spec: corev1.PodSpec{NodeName: name}, Status: corev1.PodStatus{Phase: corev1.PodRunning}})
		}
		tr.ReportSeen(report.Obj(), true)
	}
	for i := range 1000 {
		c.Waiting = append(c.Waiting, fleet.Waiting{Created: epoch, Reason: fleet.InsufficientMemory, Devices: 1 + i%4, Share: alloc.GiB(uint64(20 + i%60))})
	}
	return tr, c
}

// BenchmarkScrape is what each scrape of the leader costs.
func BenchmarkScrape(b *testing.B) {
	tr, c := large(b)
	for _, perNode := range []bool{false, true} {
		b.Run(fmt.Sprintf("per node %v", perNode), func(b *testing.B) {
			collector := &export.Collector{}
			collector.Serve(func() export.Status {
				c.Viewer, c.PerNode = tr.Viewer(), perNode
				return export.Status{Leads: true, Places: true, Numbers: fleet.Measure(c)}
			})
			registry := metrics.NewKubeRegistry()
			registry.CustomMustRegister(collector)
			b.ReportAllocs()
			for b.Loop() {
				families, err := registry.Gather()
				if err != nil || len(families) == 0 {
					b.Fatal(err)
				}
			}
		})
	}
}
