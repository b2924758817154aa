// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package evict

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/pkg/alloc"
)

// pod returns an idle victim of priority 0 that holds that much, in GiB, on each of those devices.
func pod(name string, memory uint64, devices ...int) Victim {
	v := Victim{Name: name, Idle: true, Reload: alloc.GiB(memory * uint64(len(devices)))}
	for _, d := range devices {
		v.Frees = append(v.Frees, Charge{d, alloc.GiB(memory)})
	}
	return v
}

func (v Victim) with(change func(*Victim)) Victim {
	change(&v)
	return v
}

func active(v *Victim)    { v.Idle = false }
func important(v *Victim) { v.Priority = 100 }
func protected(v *Victim) { v.Budgets = []int{0} }

func TestEvictScenarios(t *testing.T) {
	for _, tc := range []struct {
		name    string
		n       *alloc.Node
		r       *alloc.Request
		victims []Victim
		budgets []int
		want    []string // nil: no plan
		on      []string
	}{
		{
			name:    "one big victim is cheaper than three small ones",
			n:       node(gpu(0, 80, 60), gpu(1, 80, 70)),
			r:       request(t, even(1, alloc.GiB(70))),
			victims: []Victim{pod("small-1", 20, 0), pod("small-2", 20, 0), pod("small-3", 20, 0), pod("big", 70, 1)},
			want:    []string{"big"}, on: []string{"GPU-b"},
		},
		{
			name:    "three idle pods go before one active pod",
			n:       node(gpu(0, 80, 60), gpu(1, 80, 70)),
			r:       request(t, even(1, alloc.GiB(70))),
			victims: []Victim{pod("small-1", 20, 0), pod("small-2", 20, 0), pod("small-3", 20, 0), pod("big", 70, 1).with(active)},
			want:    []string{"small-1", "small-2", "small-3"}, on: []string{"GPU-a"},
		},
		{
			name:    "two GPUs without a victim are better than one with",
			n:       node(gpu(0, 80, 60), gpu(1, 80, 40), gpu(2, 80, 40)),
			r:       request(t, even(1, alloc.GiB(80)), even(2, alloc.GiB(40))),
			victims: []Victim{pod("pod", 60, 0)},
			want:    []string{}, on: []string{"GPU-b", "GPU-c"},
		},
		{
			name:    "one GPU with one victim is better than two GPUs with two",
			n:       node(gpu(0, 80, 60), gpu(1, 80, 60)),
			r:       request(t, even(1, alloc.GiB(80)), even(2, alloc.GiB(40))),
			victims: []Victim{pod("a", 60, 0), pod("b", 60, 1)},
			want:    []string{"a"}, on: []string{"GPU-a"},
		},
		{
			name: "a victim on both GPUs is one victim",
			n:    node(gpu(0, 80, 80), gpu(1, 80, 80)),
			r:    request(t, even(2, alloc.GiB(40))),
			victims: []Victim{
				pod("a", 40, 0), pod("b", 40, 1), pod("both", 40, 0, 1),
			},
			want: []string{"both"}, on: []string{"GPU-a", "GPU-b"},
		},
		{
			name: "between equal costs the name decides",
			n:    node(gpu(0, 80, 60), gpu(1, 80, 60)),
			r:    request(t, even(1, alloc.GiB(80))),
			victims: []Victim{
				pod("b", 60, 0), pod("a", 60, 1),
			},
			want: []string{"a"}, on: []string{"GPU-b"},
		},
		{
			name: "before names, the least recently used",
			n:    node(gpu(0, 80, 60), gpu(1, 80, 60)),
			r:    request(t, even(1, alloc.GiB(80))),
			victims: []Victim{
				pod("b", 60, 0).with(func(v *Victim) { v.LastActive = 1 }), pod("a", 60, 1).with(func(v *Victim) { v.LastActive = 2 }),
			},
			want: []string{"b"}, on: []string{"GPU-a"},
		},
		{
			name: "before use, the bytes to reload",
			n:    node(gpu(0, 80, 60), gpu(1, 80, 60)),
			r:    request(t, even(1, alloc.GiB(80))),
			victims: []Victim{
				pod("b", 60, 0).with(func(v *Victim) { v.LastActive = 1; v.Reload = alloc.GiB(61) }),
				pod("a", 60, 1).with(func(v *Victim) { v.LastActive = 2 }),
			},
			want: []string{"a"}, on: []string{"GPU-b"},
		},
		{
			name: "two unimportant pods go before one of higher priority",
			n:    node(gpu(0, 80, 60), gpu(1, 80, 60)),
			r:    request(t, even(1, alloc.GiB(80))),
			victims: []Victim{
				pod("important", 60, 0).with(important), pod("a", 30, 1).with(active), pod("b", 30, 1).with(active),
			},
			want: []string{"a", "b"}, on: []string{"GPU-b"},
		},
		{
			name: "a disruption budget outweighs priority",
			n:    node(gpu(0, 80, 60), gpu(1, 80, 60)),
			r:    request(t, even(1, alloc.GiB(80))),
			victims: []Victim{
				pod("important", 60, 0).with(important), pod("protected", 60, 1).with(protected),
			},
			budgets: []int{0},
			want:    []string{"important"}, on: []string{"GPU-a"},
		},
		{
			name: "what a budget still allows is not a violation",
			n:    node(gpu(0, 80, 60), gpu(1, 80, 60)),
			r:    request(t, even(1, alloc.GiB(80))),
			victims: []Victim{
				pod("important", 60, 0).with(important), pod("protected", 60, 1).with(protected),
			},
			budgets: []int{1},
			want:    []string{"protected"}, on: []string{"GPU-b"},
		},
		{
			name: "a budget is violated when there is no other way",
			n:    node(gpu(0, 80, 60)),
			r:    request(t, even(1, alloc.GiB(80))),
			victims: []Victim{
				pod("a", 30, 0).with(protected), pod("b", 30, 0).with(protected),
			},
			budgets: []int{1},
			want:    []string{"a", "b"}, on: []string{"GPU-a"},
		},
		{
			name:    "foreign memory that no eviction frees",
			n:       node(gpu(0, 80, 60), gpu(1, 80, 70)),
			r:       request(t, even(1, alloc.GiB(80))),
			victims: []Victim{pod("a", 40, 0), pod("b", 60, 1)}, // 20 and 10 GiB are nobody's
			want:    nil,
		},
		{
			name:    "a blocked GPU stays blocked whoever goes",
			n:       node(blocked(gpu(0, 80, 60), alloc.ReasonUnhealthy)),
			r:       request(t, even(1, alloc.GiB(30))),
			victims: []Victim{pod("a", 60, 0)},
			want:    nil,
		},
		{
			name:    "more is used than can be booked: the deficit must be freed too",
			n:       node(gpu(0, 80, 100)),
			r:       request(t, even(1, alloc.GiB(20))),
			victims: []Victim{pod("a", 30, 0), pod("b", 50, 0)},
			want:    []string{"b"}, on: []string{"GPU-a"}, // 100 − 30 leaves 10 of 80 free, 100 − 50 leaves 30
		},
		{
			name:    "unequal shares, the larger where most is freed",
			n:       node(gpu(0, 80, 80), gpu(1, 80, 80)),
			r:       request(t, alloc.Option{Shares: []alloc.Bytes{alloc.GiB(50), alloc.GiB(20)}, TensorParallelSize: 1}),
			victims: []Victim{pod("a", 20, 0), pod("b", 50, 1), pod("c", 60, 0)},
			want:    []string{"a", "b"}, on: []string{"GPU-a", "GPU-b"},
		},
		{
			name:    "it could not fit on an empty node",
			n:       node(gpu(0, 80, 60)),
			r:       request(t, even(1, alloc.GiB(81))),
			victims: []Victim{pod("a", 60, 0)},
			want:    nil,
		},
		{
			name: "GPUs of unlike models are not freed together",
			n:    node(gpu(0, 80, 60), model(gpu(1, 80, 60), "A100"), model(gpu(2, 80, 60), "A100")),
			r:    request(t, even(2, alloc.GiB(60))),
			victims: []Victim{
				pod("a", 60, 0), pod("b", 60, 1), pod("c", 60, 2).with(important),
			},
			want: []string{"c", "b"}, on: []string{"GPU-b", "GPU-c"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			plan, runnerUp, ok := Find(tc.n, tc.r, tc.victims, tc.budgets)
			if ok != (tc.want != nil) {
				t.Fatalf("plan %+v, ok %v", plan, ok)
			}
			if !ok {
				return
			}
			got := []string{}
			for _, i := range plan.Victims {
				got = append(got, tc.victims[i].Name)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("victims (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.on, devicesOf(plan.Allocation)); diff != "" {
				t.Errorf("devices (-want +got):\n%s", diff)
			}
			if runnerUp != nil && runnerUp.Cost.Compare(plan.Cost) < 0 {
				t.Errorf("the runner-up is cheaper: %v against %v", runnerUp.Cost, plan.Cost)
			}
		})
	}
}

func TestEvictNamesTheRunnerUp(t *testing.T) {
	n := node(gpu(0, 80, 60), gpu(1, 80, 60))
	victims := []Victim{pod("a", 60, 0), pod("b", 60, 1).with(active)}
	_, runnerUp, ok := Find(n, request(t, even(1, alloc.GiB(80))), victims, nil)
	if !ok || runnerUp == nil || !slices.Equal(runnerUp.Victims, []int{1}) {
		t.Fatalf("runner-up %+v, want the active pod", runnerUp)
	}
	if got, want := runnerUp.Cost.String(), "1 victim (1 active), priority at most 0, 60Gi to reload"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCostsAreComparedFieldByField(t *testing.T) {
	// Each cost is dearer than the one before, in a field that matters more than all in which it is cheaper.
	costs := []Cost{
		CostOf(nil, nil, nil),
		{Priority: -1, Active: 9, Victims: 9, Reload: alloc.GiB(9), LastActive: 9},
		{Victims: 9, Reload: alloc.GiB(9), LastActive: 9},
		{Active: 1, Victims: 8, Reload: alloc.GiB(9), LastActive: 9},
		{Active: 1, Victims: 9, Reload: alloc.GiB(1), LastActive: 9},
		{Active: 1, Victims: 9, Reload: alloc.GiB(2), LastActive: 1},
		{Active: 1, Victims: 9, Reload: alloc.GiB(2), LastActive: 2},
		{Violations: 1, Priority: -5},
	}
	for i, a := range costs {
		for j, b := range costs {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := a.Compare(b); got != want {
				t.Errorf("%+v against %+v: got %d, want %d", a, b, got, want)
			}
		}
	}
}

func TestAVictimIsPreferredOnlyIfItIsAsGoodInEveryRespect(t *testing.T) {
	base := pod("b", 20, 0, 1)
	base.Budgets, base.Priority, base.LastActive = []int{0}, 5, 5
	for _, tc := range []struct {
		name   string
		change func(*Victim)
		want   bool
	}{
		{"alike but for the name", func(*Victim) {}, true},
		{"it frees more", func(v *Victim) { v.Frees = pod("", 30, 0, 1).Frees }, true},
		{"it frees on one device more", func(v *Victim) { v.Frees = pod("", 20, 0, 1, 2).Frees }, true},
		{"it is in no budget", func(v *Victim) { v.Budgets = nil }, true},
		{"it frees less on one device", func(v *Victim) { v.Frees = []Charge{{0, alloc.GiB(20)}, {1, alloc.GiB(19)}} }, false},
		{"it does not free on one device", func(v *Victim) { v.Frees = v.Frees[:1] }, false},
		{"it is active", active, false},
		{"it is more important", important, false},
		{"it was used later", func(v *Victim) { v.LastActive = 6 }, false},
		{"it takes more to reload", func(v *Victim) { v.Reload = alloc.GiB(41) }, false},
		{"it is in one more budget", func(v *Victim) { v.Budgets = []int{0, 1} }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			other := base.with(tc.change)
			other.Name = "a"
			n := node(gpu(0, 80, 80), gpu(1, 80, 80), gpu(2, 80, 80))
			e := newEvictor(n, request(t, even(1, alloc.GiB(10))), []Victim{other, base}, []int{0, 0})
			if got := e.inferiorTo(0).has(1); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}
