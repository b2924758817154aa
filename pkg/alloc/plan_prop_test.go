// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/berth-dev/berth/internal/alloctest"
	"github.com/berth-dev/berth/pkg/alloc"
)

// TestPlanIsWhatBruteForceFinds: for every option that fits in any way, Plan returns the set that is first in the
// documented order, and nothing else; Best is its first; Fits says whether there is one.
func TestPlanIsWhatBruteForceFinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		comparePlanWithBruteForce(t, drawNode(t, 6), drawRequest(t, 4), drawStrategy(t))
	})
}

// TestPlanOnEvenlyDrawnNodes is the same for nodes that are not drawn towards small numbers: on most there are many
// sets to choose from, of equal or nearly equal weight.
func TestPlanOnEvenlyDrawnNodes(t *testing.T) {
	rounds := uint64(4000)
	if testing.Short() {
		rounds = 400
	}
	several := uint64(0)
	for seed := range rounds {
		rng := rand.New(rand.NewPCG(seed, 1))
		n, r := evenlyDrawnPlan(t, rng)
		s := []alloc.Strategy{alloc.MostAllocated, alloc.LeastAllocated, alloc.Fragmentation}[rng.IntN(3)]
		if comparePlanWithBruteForce(t, n, r, s) > 1 {
			several++
		}
	}
	if several < rounds/2 {
		t.Errorf("only on %d of %d nodes several options fit: the test is too easy", several, rounds)
	}
}

// evenlyDrawnPlan returns a node of devices in any order of which some are alike, and a request of several options.
func evenlyDrawnPlan(tb testing.TB, rng *rand.Rand) (*alloc.Node, *alloc.Request) {
	n := &alloc.Node{}
	count := 3 + rng.IntN(5)
	noise := []uint64{0, 1, 40, 100}[rng.IntN(4)] // MiB, around the step in which weights are compared
	for i := range count {
		d := gpu(i, 80, 10*rng.Uint64N(4))
		d.Index = count - i
		if rng.IntN(4) == 0 {
			d.Index = rng.IntN(3)
		}
		d.Used = d.Used.Plus(alloc.MiB(noise * rng.Uint64N(3)))
		if rng.IntN(3) == 0 {
			d.Model, d.Capacity, d.Total = "A100", alloc.GiB(60), alloc.GiB(62)
		}
		if rng.IntN(8) == 0 {
			d.Blocked = alloc.ReasonLoading
		}
		n.Devices = append(n.Devices, d)
	}
	density := rng.Float64()
	for i := range count {
		for j := range i {
			if rng.Float64() < density {
				n.Devices[i].Links |= 1 << j
				n.Devices[j].Links |= 1 << i
			}
		}
	}
	var options []alloc.Option
	for k := 1; k <= 4; k++ {
		o := even(k, alloc.GiB(25+rng.Uint64N(20)))
		if rng.IntN(2) == 0 {
			for i := range o.Shares {
				o.Shares[i] = o.Shares[i].Plus(alloc.GiB(rng.Uint64N(10) * uint64(k-i)))
			}
			slices.SortFunc(o.Shares, func(a, b alloc.Bytes) int { return b.Compare(a) })
		}
		if rng.IntN(4) == 0 {
			o.Take, o.Outside = alloc.Ratio(700_000+rng.IntN(300_000)), alloc.MiB(rng.Uint64N(3000))
		}
		options = append(options, o)
	}
	r, err := alloc.NewRequest(options, rng.IntN(2) == 0)
	if err != nil {
		tb.Fatal(err)
	}
	return permuted(n, rng.Perm(count)), &r
}

// comparePlanWithBruteForce returns how many options fit.
func comparePlanWithBruteForce(t alloctest.TB, n *alloc.Node, r *alloc.Request, s alloc.Strategy) int {
	t.Helper()
	type plan struct {
		Option  int
		Devices []string
	}
	var want, got []plan
	for i := range r.Options() {
		if set, ok := oracleBest(n, &r.Options()[i], r.MixedModels(), s); ok {
			want = append(want, plan{i, uuids(n, set)})
		}
	}
	plans := alloc.Plan(n, r, s)
	for _, a := range plans {
		p := plan{Option: a.Option}
		for _, d := range a.Devices {
			p.Devices = append(p.Devices, d.UUID)
		}
		slices.Sort(p.Devices)
		got = append(got, p)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("plans (-want +got):\n%s", diff)
	}
	if fits := alloc.Fits(n, r); fits != (len(want) > 0) {
		t.Fatalf("Fits = %v with %d allocations", fits, len(want))
	}
	best, ok := alloc.Best(n, r, s)
	if ok != (len(plans) > 0) {
		t.Fatalf("Best found one: %v, Plan found %d", ok, len(plans))
	}
	if ok {
		if diff := cmp.Diff(plans[0], best, alloctest.CompareBytes); diff != "" {
			t.Fatalf("Best is not Plan's first (-plan +best):\n%s", diff)
		}
	}
	return len(plans)
}

// TestEveryPlanIsValid: what Plan returns passes Validate, books on each device what the option says for it, and
// lists devices in the driver's order.
func TestEveryPlanIsValid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, r := drawNode(t, 8), drawRequest(t, 8)
		for _, a := range alloc.Plan(n, r, drawStrategy(t)) {
			if err := alloc.Validate(n, a.Devices); err != nil {
				t.Fatalf("allocation %v: %v", a, err)
			}
			o := &r.Options()[a.Option]
			if a.TensorParallelSize != o.TensorParallelSize {
				t.Fatalf("tensor-parallel size %d, the option says %d", a.TensorParallelSize, o.TensorParallelSize)
			}
			index := -1
			for _, share := range a.Devices {
				d := &n.Devices[n.Position(share.UUID)]
				if d.Index <= index {
					t.Fatalf("devices %v are not in the driver's order", a.Devices)
				}
				index = d.Index
			}
			if !books(n, o, 0, a.Devices) {
				t.Fatalf("%v does not book the shares %v, take %d", a.Devices, o.Shares, o.Take)
			}
		}
	})
}

// books says whether the bookings are those of the option's shares from i on, in some order.
func books(n *alloc.Node, o *alloc.Option, i int, bookings []alloc.DeviceShare) bool {
	for j, b := range bookings {
		if o.On(i, &n.Devices[n.Position(b.UUID)]) == b.Memory && books(n, o, i+1, slices.Delete(slices.Clone(bookings), j, j+1)) {
			return true
		}
	}
	return i == len(o.Shares) && len(bookings) == 0
}

// TestPlanDoesNotDependOnTheOrderOfDevices, nor on that of options.
func TestPlanDoesNotDependOnTheOrderOfDevices(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, r, s := drawNode(t, 8), drawRequest(t, 6), drawStrategy(t)
		options := rapid.Permutation(r.Options()).Draw(t, "options")
		r2, err := alloc.NewRequest(options, r.MixedModels())
		if err != nil {
			t.Fatal(err)
		}
		n2 := permuted(n, rapid.Permutation(seq(len(n.Devices))).Draw(t, "order"))
		if diff := cmp.Diff(alloc.Plan(n, r, s), alloc.Plan(n2, &r2, s), alloctest.CompareBytes); diff != "" {
			t.Fatalf("plan of the permuted node (-want +got):\n%s", diff)
		}
	})
}

// TestNothingEverFitsBecauseAPodWasAdded: more use, or a blocked device, never makes a request fit that did not.
func TestNothingEverFitsBecauseAPodWasAdded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, r := drawNode(t, 8), drawRequest(t, 6)
		before, ever := alloc.Fits(n, r), alloc.CanEverFit(n, r)
		i := rapid.IntRange(0, len(n.Devices)-1).Draw(t, "device")
		if rapid.Bool().Draw(t, "block") {
			n.Devices[i].Blocked = alloc.ReasonAssigned
		} else {
			n.Devices[i].Used = n.Devices[i].Used.Plus(drawAmount(t, 3, "added"))
		}
		after := alloc.Fits(n, r)
		if after && !before {
			t.Fatal("it fits only since a pod was added")
		}
		if before && !ever {
			t.Fatal("it fits, but never could")
		}
		if alloc.CanEverFit(n, r) != ever {
			t.Fatal("what is on the node changed what could ever fit")
		}
	})
}

// TestSharesGoWhereLeastIsLeft: within the set, the matching is the documented one.
func TestSharesGoWhereLeastIsLeft(t *testing.T) {
	// 41 GiB go to the 42 GiB hole and 20 GiB to the 60 GiB one: what is left in one piece is 40 GiB. The other way
	// round 19 and 22 GiB would be left. To spread, the larger share goes to the larger hole.
	n := &alloc.Node{Devices: []alloc.Device{
		{UUID: "GPU-a", Index: 1, Capacity: alloc.GiB(80), Used: alloc.GiB(38)},
		{UUID: "GPU-b", Index: 0, Capacity: alloc.GiB(80), Used: alloc.GiB(20)},
	}}
	r := request(t, alloc.Option{Shares: []alloc.Bytes{alloc.GiB(41), alloc.GiB(20)}, TensorParallelSize: 1})
	for s, want := range map[alloc.Strategy][]alloc.DeviceShare{
		alloc.MostAllocated:  {{"GPU-b", alloc.GiB(20)}, {"GPU-a", alloc.GiB(41)}},
		alloc.Fragmentation:  {{"GPU-b", alloc.GiB(20)}, {"GPU-a", alloc.GiB(41)}},
		alloc.LeastAllocated: {{"GPU-b", alloc.GiB(41)}, {"GPU-a", alloc.GiB(20)}},
	} {
		got, ok := alloc.Best(n, r, s)
		if !ok {
			t.Fatalf("%s: no allocation", s)
		}
		if diff := cmp.Diff(want, got.Devices, alloctest.CompareBytes); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s, diff)
		}
	}
}

func TestOfTwoLinkedPairsTheTighterIsTaken(t *testing.T) {
	// All differ by less than 64 MiB, so links decide first: 0-3 and 1-2 are linked. Of these, 1-2 has less free.
	n := node(gpu(0, 80, 0), gpu(1, 80, 0), gpu(2, 80, 0), gpu(3, 80, 0))
	for i, used := range []uint64{9, 8, 7, 4} {
		n.Devices[i].Used = alloc.MiB(used)
		n.Devices[i].Links = 1 << (3 - i)
	}
	got, ok := alloc.Best(n, request(t, even(2, alloc.GiB(10))), alloc.MostAllocated)
	if !ok {
		t.Fatal("no allocation")
	}
	if diff := cmp.Diff([]string{"GPU-b", "GPU-c"}, devicesOf(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
