// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/berth-dev/berth/pkg/replay/fgd"
)

// pod asks for milli of each of some GPUs, and little else.
func pod(name string, gpus, milli int) Pod {
	return Pod{Name: name, Memory: 1, Request: fgd.Request{CPU: 1000, GPUs: gpus, Milli: milli}}
}

func node(name string, gpus int) Node {
	return Node{Name: name, CPU: 64000, Memory: 1024, GPUs: gpus, Model: "T4"}
}

func TestArrivalsAskForSoMuch(t *testing.T) {
	list := []Pod{pod("a", 1, 1000), pod("b", 1, 500), pod("c", 2, 1000), pod("d", 0, 0), pod("e", 1, 300)} // 3800
	for _, tt := range []struct {
		name     string
		capacity int64
	}{
		{"more than the list", 10_000}, {"less than the list", 2000}, {"as much as the list", 2923},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := tt.capacity * 130 / 100
			for seed := range uint64(20) {
				got := Arrivals(list, tt.capacity, 130, seed)
				asked, last := int64(0), int64(0)
				for _, i := range got {
					last = list[i].Total()
					asked += last
				}
				if asked < want || last > 0 && asked-last >= want && asked > want {
					t.Errorf("seed %d: %v asks for %d, want just %d", seed, got, asked, want)
				}
				if once := slices.Sorted(slices.Values(got[:min(len(got), len(list))])); want > 3800 && !slices.Equal(once, []int{0, 1, 2, 3, 4}) {
					t.Errorf("seed %d: %v does not begin with all of the list", seed, got)
				}
				if !slices.Equal(got, Arrivals(list, tt.capacity, 130, seed)) {
					t.Errorf("seed %d: another order in a second try", seed)
				}
			}
		})
	}
	orders := map[string]bool{}
	for seed := range uint64(20) {
		var names strings.Builder
		for _, i := range Arrivals(list, 2923, 130, seed) {
			names.WriteString(list[i].Name)
		}
		orders[names.String()] = true
	}
	if len(orders) < 10 {
		t.Errorf("20 seeds make %d orders", len(orders))
	}
}

func TestNodesAreShuffledBySeed(t *testing.T) {
	nodes := []Node{node("a", 1), node("b", 1), node("c", 1), node("d", 1), node("e", 1), node("f", 1)}
	one, two := Shuffled(nodes, 1), Shuffled(nodes, 2)
	if slices.Equal(one, two) || !slices.Equal(one, Shuffled(nodes, 1)) {
		t.Errorf("seed 1: %v, seed 2: %v", one, two)
	}
	slices.SortFunc(one, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	if !slices.Equal(one, nodes) {
		t.Errorf("not the same nodes: %v", one)
	}
}

// script places pods as it says; a pod that it does not name fits nowhere.
type script map[string]Placement

func (s script) Place(pod *Pod) (Placement, string, error) {
	if at, ok := s[pod.Name]; ok {
		return at, "", nil
	}
	return Placement{}, "full", nil
}

func TestArrive(t *testing.T) {
	// Two GPUs: 2000 milli. Typical is half a GPU, of two pods, and two whole ones, of one pod.
	trace := &Trace{Nodes: []Node{node("n", 2)}, Pods: []Pod{pod("a", 1, 500), pod("b", 2, 1000), pod("c", 1, 500)}}
	arrive := func(s script, step func()) (*Run, error) {
		return Arrive(t.Context(), trace.Nodes, trace, []int{0, 1, 2, 1}, 150, s, step)
	}
	steps := 0
	got, err := arrive(script{"a": {0, []int{0}}, "c": {0, []int{1}}}, func() { steps++ })
	if err != nil {
		t.Fatal(err)
	}
	want := &Run{
		Arrived: 2.5, Allocated: 0.5, Fragmentation: 1. / 3, Failed: 2,
		Curve: []Point{
			{0.25, 0.25, 1. / 3}, // idle are 500 and 1000, all of no use to one of the three pods
			{1.25, 0.25, 1. / 3}, // b fails
			{1.5, 0.5, 1. / 3},   // what arrives beyond 150 % is not drawn
		},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-12)); diff != "" || steps != 4 {
		t.Errorf("%d steps (-want +got):\n%s", steps, diff)
	}
	for _, tt := range []struct {
		name   string
		script script
		want   string
	}{
		{"a pod is placed where it does not fit", script{"a": {0, []int{0}}, "b": {}}, "pod b was placed on 0 GPUs of node n, where it does not fit"},
		{"a pod that fits is not placed", script{}, "pod a fits on node n, and was not placed: full"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := arrive(tt.script, nil); err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestPointsOfOnePercentAreTheirMean(t *testing.T) {
	var c curve
	for _, p := range []Point{{0.001, 0, 0.2}, {0.004, 0.004, 0.4}, {0.005, 0.005, 0.5}, {1.304, 0.9, 1}, {1.295, 0.8, 1}} {
		c.add(p)
	}
	want := []Point{{0, 0.002, 0.3}, {0.01, 0.005, 0.5}, {1.3, 0.85, 1}}
	if diff := cmp.Diff(want, c.points(), cmpopts.EquateApprox(0, 1e-12)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	run := &Run{Curve: want}
	if p, ok := run.At(130); !ok || p.Allocated != 0.85 {
		t.Errorf("at 130: %v, %v", p, ok)
	}
	if p, ok := run.At(50); ok {
		t.Errorf("at 50: %v", p)
	}
}

func TestSpread(t *testing.T) {
	if diff := cmp.Diff(Spread{2, 1, 4}, SpreadOf([]float64{1, 4, 1}), cmpopts.EquateApprox(0, 1e-12)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := SpreadOf(nil); got != (Spread{}) {
		t.Errorf("of nothing: %v", got)
	}
}

func TestBooksRefuseWhatDoesNotFit(t *testing.T) {
	small := Node{Name: "n", CPU: 2000, Memory: 10, GPUs: 2, Model: "T4"}
	v100 := pod("p", 1, 500)
	v100.Models = "V100"
	cpu, memory := pod("p", 1, 500), pod("p", 1, 500)
	cpu.CPU, memory.Memory = 2001, 11
	for _, tt := range []struct {
		name string
		pod  Pod
		at   Placement
		ok   bool
	}{
		{"on a GPU", pod("p", 1, 1000), Placement{0, []int{1}}, true},
		{"on none", pod("p", 0, 0), Placement{0, nil}, true},
		{"a node that is not there", pod("p", 0, 0), Placement{1, nil}, false},
		{"a GPU that is not there", pod("p", 1, 500), Placement{0, []int{2}}, false},
		{"one GPU for two", pod("p", 2, 500), Placement{0, []int{0, 0}}, false},
		{"too few GPUs", pod("p", 2, 500), Placement{0, []int{0}}, false},
		{"too much CPU", cpu, Placement{0, []int{0}}, false},
		{"too much memory", memory, Placement{0, []int{0}}, false},
		{"another model", v100, Placement{0, []int{0}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBooks([]Node{small}, fgd.Typical{{Request: tt.pod.Request, Pods: 1}})
			before := b.unusable
			if err := b.take(&tt.pod, tt.at); (err == nil) != tt.ok {
				t.Fatalf("got %v", err)
			}
			if !tt.ok {
				return
			}
			if err := b.take(&tt.pod, tt.at); (err == nil) != (tt.pod.GPUs == 0) {
				t.Errorf("a second time: %v", err)
			}
			b.free(&tt.pod, tt.at)
			if tt.pod.GPUs == 0 {
				b.free(&tt.pod, tt.at)
			}
			if b.idle != 2000 || b.unusable != before || b.nodes[0].cpu != 2000 || b.nodes[0].pods != PodsPerNode {
				t.Errorf("not as before: %+v", b)
			}
		})
	}
}

func TestArriveTellsOfErrors(t *testing.T) {
	trace := &Trace{Nodes: []Node{node("n", 2)}, Pods: []Pod{pod("a", 1, 500)}}
	if _, err := Arrive(t.Context(), trace.Nodes, trace, []int{0}, 130, broken{}, nil); err == nil || err.Error() != "pod a: broken" {
		t.Errorf("got %v", err)
	}
}

type broken struct{}

func (broken) Place(*Pod) (Placement, string, error) { return Placement{}, "", errors.New("broken") }
