// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"

	bt "github.com/berth-dev/berth/internal/testing"
)

// TestAPodThatIsBoundWithoutAnAllocationBlocksNobody: it may be any pod with a request, a static one too; it is charged
// what it is measured to hold, and its owner is told once, whoever leads.
func TestAPodThatIsBoundWithoutAnAllocationBlocksNobody(t *testing.T) {
	static := func() *bt.Pod {
		return bt.MakePod("s").Memory("70Gi").Annotation(corev1.MirrorPodAnnotationKey, "x").Node("node")
	}
	for name, made := range map[string]func() *bt.Pod{
		"bound by somebody else": func() *bt.Pod { return bt.MakePod("s").Memory("70Gi").Node("node") },
		"of a model":             func() *bt.Pod { return bt.MakePod("s").Model("hf://a/b").Node("node") },
		"static":                 static,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 1, "80Gi").Process("s", "20Gi"))
			f.node(bt.MakeNode("unreported"), nil) // so that PreFilter does not fail fast
			f.running(made())
			fits := func(memory string) fwk.Code {
				pod := bt.MakePod("of-" + memory).Memory(memory).Obj()
				return f.pl.Filter(f.ctx, f.begin(pod), pod, f.nodeInfo("node")).Code()
			}
			if fits("55Gi") != fwk.Success || fits("61Gi") == fwk.Success {
				t.Errorf("beside what is measured, 55Gi: %s, 61Gi: %s", fits("55Gi"), fits("61Gi"))
			}
			f.pl.feed.PodSeen(made().Obj())
			f.clock.Step(time.Second)
			f.eventually("the owner is told", func() bool { return len(f.api.notes()) == 1 })
			if got := f.api.notes()[0]; !strings.HasPrefix(got, "s BoundWithoutGPUMemory: The pod asks for GPU memory and is on a node without any") {
				t.Errorf("told %q", got)
			}
			f.pl.faults.Forget("s") // another one leads
			f.pl.feed.PodSeen(made().ResourceVersion("2").Obj())
			f.clock.Step(time.Second)
			f.pl.feed.PodSeen(made().ResourceVersion("3").Obj())
			if got := f.api.notes(); len(got) != 1 {
				t.Errorf("told %q", got)
			}
		})
	}
}

func TestNobodyIsToldOfPodsThatHaveWhatTheyAskFor(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 1, "80Gi"))
	for _, pod := range []*bt.Pod{
		bt.MakePod("waits").Memory("1Gi"), bt.MakePod("plain").Node("node"),
		bt.MakePod("ended").Memory("1Gi").Node("node").Phase(corev1.PodSucceeded),
		bt.MakePod("has").Memory("1Gi").Bound("node", epoch, "GPU-0=1Gi"),
	} {
		f.pl.feed.PodSeen(pod.Obj())
		if f.pl.world.Timers.Has("unallocated/" + pod.Name) {
			t.Errorf("the owner of %s will be told", pod.Name)
		}
	}
}
