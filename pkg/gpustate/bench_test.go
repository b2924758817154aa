// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
)

// fullNode is a tracker with one node of 8 GPUs and 16 running pods of 30Gi, two on each GPU, as measured by its agent.
func fullNode(b *testing.B) (*Tracker, []*corev1.Pod) {
	tr := NewTracker(alloc.MiB(256), Policy{}, clock.RealClock{})
	report := bt.MakeGPUNodeOf(testNode, 8, "80Gi")
	var pods []*corev1.Pod
	for i := range 16 {
		name := fmt.Sprintf("01234567-89ab-cdef-0123-4567%08x", i) // as long as a UID
		pod := bt.MakePod(name).Memory("30Gi").Bound(testNode, epoch, bt.GPU(i/2)+"=30Gi").Started(epoch).Ready(epoch).Obj()
		report.At(bt.GPU(i/2)).Process(pod.UID, "28Gi")
		tr.PodSeen(pod)
		pods = append(pods, pod)
	}
	tr.ReportSeen(report.Obj(), true)
	return tr, pods
}

// BenchmarkViewAndFits is what Filter does for one node: it runs for thousands of nodes for each pod.
func BenchmarkViewAndFits(b *testing.B) {
	tr, pods := fullNode(b)
	assumed := bt.MakePod("assumed").Memory("10Gi").Node(testNode).Obj()
	a, _ := DecodeAllocation(bt.AllocationJSON("", "GPU-3=10Gi"))
	request := func(memory string) *alloc.Request {
		r, _, err := requestOf(bt.MakePod("new").Memory(memory).GPUCount("1,2,4").Obj())
		if err != nil {
			b.Fatal(err)
		}
		return &r.Request
	}
	fits, fails := request("15Gi"), request("200Gi")
	node := bt.MakeNode(testNode)
	run := func(name string, r *alloc.Request, pods []*corev1.Pod, want bool) {
		b.Run(name, func(b *testing.B) {
			viewer := tr.Viewer()
			b.ReportAllocs()
			for b.Loop() {
				q := Query{Pod: "new", Runtime: custom}
				v := viewer.View(node, pods, &q)
				if alloc.Fits(&v.Node, r) != want || v.Reason != "" {
					b.Fatal("the wrong answer")
				}
			}
		})
	}
	b.Run("recalled", func(b *testing.B) {
		viewer := tr.Viewer()
		q := Query{Pod: "new", Runtime: custom, Generation: 1}
		viewer.View(node, pods, &q)
		b.ReportAllocs()
		for b.Loop() {
			v, ok := viewer.Recall(node, &q)
			if !ok || !alloc.Fits(&v.Node, fits) {
				b.Fatal("the wrong answer")
			}
		}
	})
	run("fits", fits, pods, true)
	run("does not fit", fails, pods, false)
	run("no pods listed", fits, nil, true)
	if err := tr.Ledger.Assume(assumed, testNode, a); err != nil {
		b.Fatal(err)
	}
	run("one assumed", fits, append(pods, assumed), true)
}

// BenchmarkSnapshot is the start of a cycle while agents report: one snapshot after each report, of 5000 nodes.
func BenchmarkSnapshot(b *testing.B) {
	s := NewStore(alloc.MiB(256), clock.RealClock{})
	const nodes = 5000
	for i := range nodes {
		s.Apply(bt.MakeGPUsOf(fmt.Sprintf("node-%d", i), 8, "80Gi").Obj(), true)
	}
	reports := make([]*berthv1alpha1.GPUNode, nodes)
	for i := range reports {
		reports[i] = bt.MakeGPUsOf(fmt.Sprintf("node-%d", i), 8, "80Gi").Process("", "1Gi").Obj()
	}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		s.Apply(reports[i%nodes], true)
		if s.Snapshot().Len() != nodes {
			b.Fatal("a node is lost")
		}
		i++
	}
}

// BenchmarkReportSeen is what one report costs while nobody waits.
func BenchmarkReportSeen(b *testing.B) {
	tr, _ := fullNode(b)
	report := bt.MakeGPUNodeOf(testNode, 8, "80Gi")
	for i := range 16 {
		report.At(bt.GPU(i/2)).Process(tr.Ledger.OnNode(testNode)[i].UID, "28Gi")
	}
	gn := report.Obj()
	b.ReportAllocs()
	for b.Loop() {
		tr.ReportSeen(gn, true)
	}
}

// BenchmarkBookAndForget is what a placement costs the ledger on a node of 16 pods.
func BenchmarkBookAndForget(b *testing.B) {
	tr, _ := fullNode(b)
	pod := bt.MakePod("new").Memory("10Gi").Obj()
	a, _ := DecodeAllocation(bt.AllocationJSON("", "GPU-3=10Gi"))
	b.ReportAllocs()
	for b.Loop() {
		if err := tr.Ledger.Assume(pod, testNode, a); err != nil {
			b.Fatal(err)
		}
		tr.Ledger.Forget(pod.UID)
	}
}
