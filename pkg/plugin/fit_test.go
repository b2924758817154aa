// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"testing"

	bt "github.com/berth-dev/berth/internal/testing"
)

// TestAlikePodsAreJudgedByTheNodeAsItIs: what was found out for one replica serves the next, until the node changes.
func TestAlikePodsAreJudgedByTheNodeAsItIs(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("n"), bt.MakeGPUNodeOf("n", 1, "80Gi"))
	fits := func(name string) bool {
		pod := bt.MakePod(name).Memory("50Gi").Obj()
		return f.pl.Filter(f.ctx, f.begin(pod), pod, f.nodeInfo("n")).IsSuccess()
	}
	if !fits("a") || !fits("b") {
		t.Fatal("a replica does not fit on the empty node")
	}
	f.reserve(bt.MakePod("c").Memory("50Gi").Obj(), "n")
	if fits("d") {
		t.Error("a replica fits on the full node")
	}
	f.pl.tracker.Ledger.Forget("c")
	if !fits("e") {
		t.Error("no replica fits on the node that is empty again")
	}
	f.pl.feed.ReportSeen(bt.MakeGPUNode("n").GPU("GPU-0", "80Gi").Process("", "40Gi").Obj(), true)
	if fits("f") {
		t.Error("a replica fits beside a foreign process")
	}
}

// TestScoreIsThatOfTheNode whether Filter came before it or not.
func TestScoreIsThatOfTheNode(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("n"), bt.MakeGPUNodeOf("n", 2, "80Gi"))
	f.running(bt.MakePod("other").Memory("20Gi").Bound("n", epoch, "GPU-1=20Gi"))
	score := func(filter bool) int64 {
		pod := bt.MakePod("p").Memory("50Gi").Obj()
		state, ni := f.begin(pod), f.nodeInfo("n")
		if filter {
			wantStatus(t, "Filter", f.pl.Filter(f.ctx, state, pod, ni), 0, "")
		}
		got, status := f.pl.Score(f.ctx, state, pod, ni)
		if !status.IsSuccess() {
			t.Fatal(status)
		}
		return got
	}
	without, with, again := score(false), score(true), score(true)
	if without == 0 || with != without || again != without {
		t.Errorf("scores %d without Filter, %d and %d with it, want the same", without, with, again)
	}
}
