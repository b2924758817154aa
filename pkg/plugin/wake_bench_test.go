// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"

	bt "github.com/berth-dev/berth/internal/testing"
)

// parkedPods makes a cluster of one full GPU node, and n pods of 60Gi that wait.
func parkedPods(b *testing.B, n int) (*fixture, []*corev1.Pod) {
	f := newFixture(b)
	f.pl.tracker.Policy.StaleAfter = 0
	f.node(bt.MakeNode("node"), bt.MakeGPUNode("node").GPU("GPU-0", "80Gi").Process("", "70Gi"))
	pods := make([]*corev1.Pod, n)
	for i := range pods {
		pods[i] = bt.MakePod(fmt.Sprintf("pod-%05d", i)).Memory("60Gi").Obj()
		f.known(pods[i])
		if _, status := f.pl.PreFilter(f.ctx, framework.NewCycleState(), pods[i], f.nodeInfos()); !status.IsSuccess() {
			b.Fatal(status)
		}
	}
	f.queue.take()
	return f, pods
}

// BenchmarkPodDeletedHint is what one deleted pod costs under the lock of the queue when 10,000 pods are parked: the
// framework asks for each of them.
func BenchmarkPodDeletedHint(parent *testing.B) {
	for _, node := range []string{"a CPU node", "a GPU node"} {
		parent.Run(node, func(b *testing.B) {
			f, pods := parkedPods(b, 10_000)
			on := "node"
			if node == "a CPU node" {
				on = "cpu"
				f.node(bt.MakeNode(on), nil)
			}
			events, err := f.pl.EventsToRegister(f.ctx)
			if err != nil {
				b.Fatal(err)
			}
			logger := klog.FromContext(f.ctx)
			b.ReportAllocs()
			defer reportCPU(b)()
			for b.Loop() {
				gone := bt.MakePod("gone").Node(on).Obj()
				for _, pod := range pods {
					if hint, _ := events[0].QueueingHintFn(logger, pod, gone, nil); hint != fwk.QueueSkip {
						b.Fatal("queued for nothing")
					}
				}
			}
		})
	}
}

// BenchmarkReportWhileThousandsWait is one report that helps none of 10,000 pods.
func BenchmarkReportWhileThousandsWait(b *testing.B) {
	f, _ := parkedPods(b, 10_000)
	gn := bt.MakeGPUNode("node").GPU("GPU-0", "80Gi").Process("", "71Gi").Obj()
	b.ReportAllocs()
	for b.Loop() {
		f.pl.feed.ReportSeen(gn, true)
	}
	if got := f.queue.take(); len(got) > 0 {
		b.Fatalf("%d pods activated for nothing", len(got))
	}
}

// BenchmarkFailingCycle is a cycle that finds no place and nobody to evict: PreFilter, Filter of every node one after
// the other, and PostFilter.
func BenchmarkFailingCycle(parent *testing.B) {
	for _, nodes := range []int{500, 5000} {
		parent.Run(fmt.Sprintf("%d nodes", nodes), func(b *testing.B) {
			f := newFixture(b)
			f.pl.tracker.Policy.StaleAfter = 0
			var pods []*bt.Pod
			for i := range nodes {
				name := fmt.Sprintf("node-%04d", i)
				f.nodes = append(f.nodes, bt.MakeNode(name))
				f.pl.feed.ReportSeen(bt.MakeGPUsOf(name, 8, "80Gi").Obj(), true)
				for gpu := range 8 {
					pods = append(pods, bt.MakePod(fmt.Sprintf("%s-%d", name, gpu)).Memory("1Gi").Bound(name, epoch, bt.GPUOf(name, gpu)+"=70Gi").Started(epoch).Ready(epoch))
				}
			}
			for _, n := range f.nodes {
				if err := f.pl.handle.SharedInformerFactory().Core().V1().Nodes().Informer().GetIndexer().Add(n); err != nil {
					b.Fatal(err)
				}
			}
			f.running(pods...)
			pod := bt.MakePod("waiting").Memory("60Gi").Obj()
			f.known(pod)
			infos := f.nodeInfos()
			b.ReportAllocs()
			defer reportCPU(b)()
			for b.Loop() {
				state := f.cycleState(pod)
				for _, ni := range infos {
					if f.pl.Filter(f.ctx, state, pod, ni).IsSuccess() {
						b.Fatal("it fits")
					}
				}
				if _, status := f.pl.PostFilter(f.ctx, state, pod, framework.NewNodeToStatus(nil, fwk.NewStatus(fwk.Unschedulable).WithPlugin(Name))); status.IsSuccess() {
					b.Fatal(status)
				}
			}
		})
	}
}

// reportCPU reports the time on all cores from now until the function that it returns is called, for machines that do other
// things as well.
func reportCPU(b *testing.B) (done func()) {
	began := cpuTime(b)
	return func() { b.ReportMetric((cpuTime(b)-began).Seconds()*1e3/float64(b.N), "cpu-ms/op") }
}
