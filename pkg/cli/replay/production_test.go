// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/berth-dev/berth/pkg/replay"
	request "github.com/berth-dev/berth/pkg/replay/fgd"
)

// pod asks for milli of each of some GPUs, and little else.
func pod(name string, gpus, milli int) replay.Pod {
	return replay.Pod{Name: name, Memory: 1, Request: request.Request{CPU: 1000, GPUs: gpus, Milli: milli}}
}

func limited(p replay.Pod, models string) replay.Pod {
	p.Models = models
	return p
}

func node(name string, gpus int, model string) replay.Node {
	return replay.Node{Name: name, CPU: 8000, Memory: 1024, GPUs: gpus, Model: model}
}

// TestProductionPlaces: Berth's scheduler places the pods of a trace as its strategies say.
func TestProductionPlaces(t *testing.T) {
	tests := []struct {
		name, strategy string
		nodes          []replay.Node
		pods           []replay.Pod
		want           []string
	}{
		{
			"MostAllocated takes the tightest GPU, and fills it to the last milli", "MostAllocated",
			[]replay.Node{node("a", 2, "T4"), node("b", 1, "T4")},
			[]replay.Pod{pod("p", 1, 600), pod("q", 1, 400), pod("r", 1, 1), pod("s", 2, 1000), pod("t", 1, 999), pod("u", 1, 1000)},
			[]string{"a[0]", "a[0]", "a[1]", "nowhere", "a[1]", "b[0]"},
		},
		{
			"parts of several GPUs", "MostAllocated",
			[]replay.Node{node("a", 1, "T4"), node("b", 2, "T4"), node("c", 2, "T4")},
			[]replay.Pod{pod("p", 2, 300), pod("q", 2, 701), pod("r", 2, 700), pod("s", 2, 1000)},
			[]string{"b[0 1]", "c[0 1]", "b[0 1]", "nowhere"},
		},
		{
			"LeastAllocated takes the emptiest", "LeastAllocated",
			[]replay.Node{node("a", 2, "T4"), node("b", 1, "T4")},
			[]replay.Pod{pod("p", 1, 300), pod("q", 1, 300), pod("r", 1, 200), pod("s", 1, 700)},
			[]string{"a[0]", "a[1]", "b[0]", "b[0]"},
		},
		{
			"kube-scheduler's scores decide between nodes that are equal by Berth's", "MostAllocated+defaults",
			[]replay.Node{node("a", 1, "T4"), node("b", 1, "T4")},
			[]replay.Pod{pod("p", 0, 0), pod("q", 0, 0), pod("r", 0, 0)},
			[]string{"a[]", "b[]", "a[]"}, // they spread
		},
		{
			"without them, to one without GPUs all nodes are equal", "MostAllocated",
			[]replay.Node{node("a", 1, "T4"), node("b", 1, "T4")},
			[]replay.Pod{pod("p", 0, 0), pod("q", 0, 0), pod("r", 0, 0)},
			[]string{"a[]", "a[]", "a[]"},
		},
		{
			"a model that the pod may have, one that it may not, and CPU that is too little", "MostAllocated",
			[]replay.Node{node("a", 1, "T4"), node("b", 1, "V100 M32")},
			[]replay.Pod{limited(pod("p", 1, 100), "V100 M16|V100 M32"), limited(pod("q", 1, 100), "P100"), {Name: "r", Memory: 1, Request: request.Request{CPU: 8001}}},
			[]string{"b[0]", "nowhere", "nowhere"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			trace := &replay.Trace{Nodes: tt.nodes, Pods: tt.pods}
			templates, err := newTemplates(t.Context(), trace)
			if err != nil {
				t.Fatal(err)
			}
			p, err := newProduction(t.Context(), tt.strategy, tt.nodes, templates)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i := range tt.pods {
				at, nowhere, err := p.Place(&tt.pods[i])
				switch {
				case err != nil:
					t.Fatal(err)
				case nowhere != "":
					got = append(got, "nowhere")
				default:
					got = append(got, fmt.Sprint(tt.nodes[at.Node].Name, at.GPUs))
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// small is a trace of six nodes.
func small() *replay.Trace {
	trace := &replay.Trace{}
	for i := range 6 {
		trace.Nodes = append(trace.Nodes, node(fmt.Sprint("n", i), 1+i%3, "T4"))
	}
	for i := range 12 {
		trace.Pods = append(trace.Pods, pod(fmt.Sprint("p", i), i%3, 100*(1+i%10)))
	}
	return trace
}

func TestAskComparesOnTheSameArrivals(t *testing.T) {
	strategies := []string{"BestFit", "FGD", "MostAllocated"}
	ask := func(shuffle bool, parallel int) *Answer {
		t.Helper()
		a, err := Ask(t.Context(), &Question{Trace: small(), Strategies: strategies, Seeds: 3, Percent: 130, ShuffleNodes: shuffle, Parallel: parallel}, &Progress{})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := ask(false, 2)
	if diff := cmp.Diff(a, ask(false, 1)); diff != "" {
		t.Errorf("a second time, one run at a time (-first +second):\n%s", diff)
	}
	if cmp.Equal(a.Runs, ask(true, 2).Runs) {
		t.Error("shuffled nodes change nothing")
	}
	var order, arrived []string
	for _, r := range a.Runs {
		order = append(order, fmt.Sprint(r.Strategy, " ", r.Seed))
		arrived = append(arrived, fmt.Sprintf("%d %.3f", r.Seed, r.Arrived))
		if r.Arrived < 1.3 || r.Allocated <= 0.5 || r.Allocated > 1 || r.Failed == 0 {
			t.Errorf("%s, seed %d: %+v", r.Strategy, r.Seed, r)
		}
	}
	if want := []string{"BestFit 1", "BestFit 2", "BestFit 3", "FGD 1", "FGD 2", "FGD 3", "MostAllocated 1", "MostAllocated 2", "MostAllocated 3"}; !slices.Equal(order, want) {
		t.Errorf("runs are %v", order)
	}
	if !slices.Equal(arrived[:3], arrived[3:6]) || !slices.Equal(arrived[:3], arrived[6:]) || slices.Equal(arrived[:1], arrived[1:2]) {
		t.Errorf("what arrived: %v", arrived)
	}
	mean := 0.
	for i := range 3 {
		mean += (a.Runs[i].Allocated - a.Runs[3+i].Allocated) / 3
	}
	if got := a.Strategies[0].AgainstFGD; got == nil || got.Mean-mean > 1e-9 || mean-got.Mean > 1e-9 || a.Strategies[1].AgainstFGD != nil {
		t.Errorf("against FGD: %+v, want a mean of %v", got, mean)
	}
}

func TestAskRefuses(t *testing.T) {
	for _, tt := range []struct {
		strategies []string
		want       string
	}{
		{[]string{"FGD", "fgd"}, `strategy "fgd" is not known: use some of FGD, BestFit, Random, MostAllocated`},
		{[]string{"FGD", "FGD"}, "strategy FGD is named twice"},
	} {
		_, err := Ask(t.Context(), &Question{Trace: small(), Strategies: tt.strategies, Seeds: 1, Percent: 130, Parallel: 1}, &Progress{})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
}

func TestRender(t *testing.T) {
	a := &Answer{
		Nodes: 2, GPUs: 3, Pods: 4, Seeds: 2, Arrive: 1.3, ShuffledNodes: true,
		Strategies: []Strategy{
			{Strategy: "FGD", Allocated: replay.Spread{Mean: 0.9522, Min: 0.9508, Max: 0.9542}, Fragmentation: replay.Spread{Mean: 0.993}, Failed: replay.Spread{Mean: 2478.2}, Curve: []replay.Point{{Arrived: 0.5, Fragmentation: 0.179}}},
			{Strategy: "BestFit", Allocated: replay.Spread{Mean: 0.9318, Min: 0.92, Max: 0.94}, AgainstFGD: &replay.Spread{Mean: -0.0204, Min: -0.03, Max: 0.0001}},
		},
	}
	var b strings.Builder
	if err := a.Render(&b); err != nil {
		t.Fatal(err)
	}
	want := `2 nodes, 3 GPUs, a list of 4 pods, 130% of the GPUs asked for, 2 seeds, nodes shuffled by the seed

STRATEGY  ALLOCATED %             IDLE IN PIECES %, AT 50, AT 80, AT THE END  FAILED PODS  MORE ALLOCATED THAN FGD
FGD       95.22 (95.08 to 95.42)  17.9, -, 99.3                               2478         -
BestFit   93.18 (92.00 to 94.00)  -, -, 0.0                                   0            -2.04 (-3.00 to +0.01)
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestTimes: in the queue of Berth's scheduler a pod waits until another one is gone, and is passed by a smaller one meanwhile.
func TestTimes(t *testing.T) {
	timed := func(p replay.Pod, created, deleted int64) replay.Pod {
		p.Created, p.Deleted = created, deleted
		return p
	}
	q := &Question{
		Trace: &replay.Trace{
			Nodes: []replay.Node{node("n", 1, "T4")}, HasTimes: true,
			Pods: []replay.Pod{
				timed(pod("a", 1, 600), 0, 100), timed(pod("b", 1, 600), 20, 300), timed(pod("c", 1, 400), 30, 300), timed(pod("d", 1, 1000), 50, 200),
			},
		},
		Strategies: []string{"FGD", "MostAllocated"}, Seeds: 1, Parallel: 1,
	}
	a, err := AskTimes(t.Context(), q, &Progress{})
	if err != nil {
		t.Fatal(err)
	}
	want := []*replay.Waiting{
		{Strategy: "FGD", Seed: 1, Pods: 4, NeverRan: 1, Waited: 1, MeanSeconds: 80. / 3, P99Seconds: 80, MaxSeconds: 80},
		{Strategy: "MostAllocated", Seed: 1, Pods: 4, NeverRan: 1, Waited: 1, MeanSeconds: 80. / 3, P99Seconds: 80, MaxSeconds: 80},
	}
	if diff := cmp.Diff(want, a.Runs, cmpopts.EquateApprox(0, 1e-9)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	q.Trace.HasTimes = false
	if _, err := AskTimes(t.Context(), q, &Progress{}); err == nil || !strings.Contains(err.Error(), "leave --times out") {
		t.Errorf("without times: %v", err)
	}
}
