// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package evict

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/berth-dev/berth/internal/alloctest"
	"github.com/berth-dev/berth/pkg/alloc"
)

// evicted returns the node once the victims of the mask are gone.
func evicted(n *alloc.Node, victims []Victim, mask int) *alloc.Node {
	after := &alloc.Node{Name: n.Name, Devices: slices.Clone(n.Devices)}
	for i := range victims {
		if mask>>min(i, 63)&1 == 1 { // -1 is all of them
			for _, c := range victims[i].Frees {
				after.Devices[c.Device].Used = after.Devices[c.Device].Used.Minus(c.Memory)
			}
		}
	}
	return after
}

// oracleCost counts up what the mask costs, and lists the names.
func oracleCost(victims []Victim, budgets []int, mask int) (c Cost, names []string) {
	c.Priority, c.LastActive = math.MinInt32, math.MinInt64
	for i, v := range victims {
		if mask>>i&1 == 0 {
			continue
		}
		c.Victims++
		c.Priority = max(c.Priority, v.Priority)
		c.LastActive = max(c.LastActive, v.LastActive)
		c.Reload = c.Reload.Plus(v.Reload)
		if !v.Idle {
			c.Active++
		}
		if v.Pinned {
			c.Pinned++
		}
		names = append(names, v.Name)
	}
	for b, allowed := range budgets {
		hit := 0
		for i, v := range victims {
			if mask>>i&1 == 1 && slices.Contains(v.Budgets, b) {
				hit++
			}
		}
		c.Violations += max(0, hit-max(0, allowed))
	}
	slices.Sort(names)
	return c, names
}

// oracleEvict tries every set of victims that contains none of those in spared as a whole.
func oracleEvict(n *alloc.Node, r *alloc.Request, victims []Victim, budgets []int, whole int) (best int, ok bool) {
	var bestCost Cost
	var bestNames []string
	for mask := range 1 << len(victims) {
		if whole != 0 && mask&whole == whole || !alloctest.Fits(evicted(n, victims, mask), r) {
			continue
		}
		cost, names := oracleCost(victims, budgets, mask)
		if !ok || cmp.Or(compareFields(cost, bestCost), slices.Compare(names, bestNames)) < 0 {
			best, bestCost, bestNames, ok = mask, cost, names, true
		}
	}
	return best, ok
}

// compareFields compares costs in the documented order.
func compareFields(a, b Cost) int {
	return slices.Compare(
		[]int64{int64(a.Violations), int64(a.Priority), int64(a.Active + a.Pinned), int64(a.Victims), a.Reload.Int64(), a.LastActive},
		[]int64{int64(b.Violations), int64(b.Priority), int64(b.Active + b.Pinned), int64(b.Victims), b.Reload.Int64(), b.LastActive},
	)
}

func drawVictims(t *rapid.T, devices, size int) (victims []Victim, budgets []int) {
	for range rapid.IntRange(0, 3).Draw(t, "budgets") {
		budgets = append(budgets, rapid.IntRange(-1, 2).Draw(t, "allowed"))
	}
	alike := rapid.Bool().Draw(t, "alike")
	names := rapid.Permutation(seq(size)).Draw(t, "names")
	for i := range rapid.IntRange(0, size).Draw(t, "victims") {
		v := Victim{
			Name:       fmt.Sprintf("pod-%c", 'a'+names[i]),
			Priority:   int32(rapid.IntRange(-1, 1).Draw(t, "priority")),
			Idle:       rapid.Bool().Draw(t, "idle"),
			Pinned:     rapid.IntRange(0, 3).Draw(t, "pinned") == 0,
			LastActive: int64(rapid.IntRange(0, 3).Draw(t, "last active")),
			Reload:     alloc.GiB(uint64(rapid.IntRange(0, 3).Draw(t, "reload"))),
		}
		if alike {
			v.Priority, v.Idle, v.Pinned, v.Reload = 0, true, false, alloc.GiB(1)
		}
		for b := range budgets {
			if rapid.Bool().Draw(t, "in budget") {
				v.Budgets = append(v.Budgets, b)
			}
		}
		spans := 1
		if rapid.IntRange(0, 2).Draw(t, "spans") == 0 {
			spans = rapid.IntRange(1, devices).Draw(t, "span")
		}
		for _, d := range rapid.Permutation(seq(devices)).Draw(t, "on")[:spans] {
			v.Frees = append(v.Frees, Charge{Device: d, Memory: drawAmount(t, 4, "frees")})
		}
		victims = append(victims, v)
	}
	return victims, budgets
}

// drawFullNode draws a node on which little or nothing is free, and often more is used than can be booked.
func drawFullNode(t *rapid.T, size int) *alloc.Node {
	n := drawNode(t, size)
	for i := range n.Devices {
		if rapid.IntRange(0, 9).Draw(t, "full") > 0 {
			n.Devices[i].Used = n.Devices[i].Capacity.Plus(alloc.MiB(uint64(rapid.IntRange(0, 1500).Draw(t, "deficit"))))
		}
	}
	return n
}

func maskOf(indexes []int) (mask int) {
	for _, i := range indexes {
		mask |= 1 << i
	}
	return mask
}

// TestEvictIsWhatBruteForceFinds: the plan's victims are those of the least cost, its allocation passes Validate once
// they are gone, and no victim is unnecessary; the runner-up is the next best that spares one of them.
func TestEvictIsWhatBruteForceFinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, r := drawFullNode(t, 5), drawRequest(t, 4)
		victims, budgets := drawVictims(t, len(n.Devices), 7)
		compareWithBruteForce(t, n, r, victims, budgets)
	})
}

// TestEvictOnEvenlyDrawnNodes is the same for nodes that are not drawn towards small numbers: most need several
// victims, on several devices.
func TestEvictOnEvenlyDrawnNodes(t *testing.T) {
	rounds := uint64(2000)
	if testing.Short() {
		rounds = 200
	}
	several := uint64(0)
	for seed := range rounds {
		n, r, victims, budgets := evenlyDrawn(t, rand.New(rand.NewPCG(seed, 0)), 5, 8)
		if compareWithBruteForce(t, n, r, victims, budgets) > 1 {
			several++
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if several < rounds/4 {
		t.Errorf("only %d of %d nodes needed several victims: the test is too easy", several, rounds)
	}
}

// evenlyDrawn returns a full node of alike devices, a request of powers of two, and victims of which some span
// devices, some are in budgets and many are alike.
func evenlyDrawn(tb testing.TB, rng *rand.Rand, devices, size int) (*alloc.Node, *alloc.Request, []Victim, []int) {
	n := &alloc.Node{}
	for i := range devices {
		d := gpu(i, 80, 80)
		d.Used = d.Used.Plus(alloc.GiB(rng.Uint64N(10)))
		if rng.IntN(10) == 0 {
			d.Model = "A100"
		}
		if rng.IntN(20) == 0 {
			d.Blocked = alloc.ReasonUnhealthy
		}
		n.Devices = append(n.Devices, d)
	}
	var options []alloc.Option
	for k := 1; k <= devices; k *= 2 {
		if rng.IntN(2) == 0 && (k < devices/2 || len(options) > 0) {
			continue
		}
		o := even(k, alloc.GiB(10+rng.Uint64N(30)))
		if rng.IntN(3) == 0 {
			for i := range o.Shares {
				o.Shares[i] = o.Shares[i].Plus(alloc.GiB(uint64(2 * (k - i))))
			}
		}
		options = append(options, o)
	}
	r, err := alloc.NewRequest(options, rng.IntN(3) == 0)
	if err != nil {
		tb.Fatal(err)
	}
	var budgets []int
	for range rng.IntN(3) {
		budgets = append(budgets, rng.IntN(3))
	}
	alike := rng.IntN(2) == 0
	var victims []Victim
	for i, name := range rng.Perm(size) {
		v := Victim{
			Name:       fmt.Sprintf("pod-%03d", name),
			Priority:   int32(rng.IntN(3)),
			Idle:       rng.IntN(2) == 0,
			LastActive: rng.Int64N(4),
			Reload:     alloc.GiB(rng.Uint64N(40)),
		}
		if alike {
			v.Priority, v.Idle, v.Reload = 0, true, alloc.GiB(20)
		}
		for b := range budgets {
			if rng.IntN(3) == 0 {
				v.Budgets = append(v.Budgets, b)
			}
		}
		memory := alloc.GiB(5 + 5*rng.Uint64N(7))
		v.Frees = []Charge{{i % devices, memory}}
		if rng.IntN(3) == 0 {
			v.Frees = nil
			for _, d := range rng.Perm(devices)[:2+rng.IntN(devices-2)] {
				v.Frees = append(v.Frees, Charge{d, memory})
			}
		}
		victims = append(victims, v)
	}
	return n, &r, victims, budgets
}

// compareWithBruteForce returns the number of victims.
func compareWithBruteForce(t alloctest.TB, n *alloc.Node, r *alloc.Request, victims []Victim, budgets []int) int {
	t.Helper()
	want, wantOK := oracleEvict(n, r, victims, budgets, 0)
	plan, runnerUp, ok := Find(n, r, victims, budgets)
	if ok != wantOK {
		t.Fatalf("found a plan: %v; brute force: %v", ok, wantOK)
	}
	if !ok {
		return 0
	}
	if got := maskOf(plan.Victims); got != want {
		gotCost, gotNames := oracleCost(victims, budgets, got)
		cost, names := oracleCost(victims, budgets, want)
		t.Fatalf("victims %v at %+v; brute force %v at %+v", gotNames, gotCost, names, cost)
	}
	cost, _ := oracleCost(victims, budgets, want)
	if plan.Cost != cost {
		t.Fatalf("cost %+v, want %+v", plan.Cost, cost)
	}
	if !plan.Exact {
		t.Fatal("a small node is not exact")
	}
	compareBelowCeilings(t, n, r, victims, budgets, &plan)
	after := evicted(n, victims, want)
	if err := alloc.Validate(after, plan.Allocation.Devices); err != nil {
		t.Fatal(err)
	}
	best, _ := alloc.Best(after, r, alloc.MostAllocated)
	if diff := gocmp.Diff(best, plan.Allocation, alloctest.CompareBytes); diff != "" {
		t.Fatalf("allocation (-best on what is left, +got):\n%s", diff)
	}
	for _, v := range plan.Victims {
		if alloc.Fits(evicted(n, victims, want&^(1<<v)), r) {
			t.Fatalf("victim %d is unnecessary", v)
		}
	}
	if want == 0 {
		if runnerUp != nil {
			t.Fatal("a runner-up to a plan without victims")
		}
		return 0
	}
	second, ok := oracleEvict(n, r, victims, budgets, want)
	if ok != (runnerUp != nil) {
		t.Fatalf("runner-up %v; brute force finds one: %v", runnerUp, ok)
	}
	if ok && maskOf(runnerUp.Victims) != second {
		t.Fatalf("runner-up %b; brute force %b", maskOf(runnerUp.Victims), second)
	}
	return len(plan.Victims)
}

// compareBelowCeilings checks that EvictBelow finds the plan that Evict finds, unless it costs too much; for ceilings
// that differ from its cost in each field by a little, and for those alike.
func compareBelowCeilings(t alloctest.TB, n *alloc.Node, r *alloc.Request, victims []Victim, budgets []int, want *Plan) {
	t.Helper()
	ceilings := []Cost{want.Cost}
	for _, by := range []int{-1, 1} {
		for _, change := range []func(*Cost){
			func(c *Cost) { c.Violations += by },
			func(c *Cost) { c.Priority = int32(min(max(int(c.Priority)+by, math.MinInt32), math.MaxInt32)) },
			func(c *Cost) { c.Active += by },
			func(c *Cost) { c.Victims += by },
			func(c *Cost) { c.Reload = alloc.BytesOf(uint64(max(int(c.Reload.Uint64())+by, 0))) },
			func(c *Cost) { c.LastActive += int64(by) },
		} {
			c := want.Cost
			if change(&c); c.Violations >= 0 && c.Active >= 0 && c.Victims >= 0 {
				ceilings = append(ceilings, c)
			}
		}
	}
	for _, c := range ceilings {
		for _, orEqual := range []bool{false, true} {
			got, ok := Below(n, r, victims, budgets, c, orEqual)
			order := want.Cost.Compare(c)
			if should := order < 0 || order == 0 && orEqual; ok != should {
				t.Fatalf("below %+v (or equal: %v): found %v, want %v, for the cheapest costs %+v", c, orEqual, ok, should, want.Cost)
			}
			if ok && !slices.Equal(got.Victims, want.Victims) {
				t.Fatalf("below %+v: victims %v, want %v", c, got.Victims, want.Victims)
			}
		}
	}
}

// TestEvictOnLargeNodes: where brute force cannot follow, a plan still holds once its victims are gone, has no victim
// that is unnecessary, and costs no more than dropping victims one by one, the dearest first, would.
func TestEvictOnLargeNodes(t *testing.T) {
	for _, tc := range []struct {
		devices, victims int
		spanning         float64
		alike            bool
	}{
		{8, 40, 0, false}, {8, 40, 0.3, false}, {16, 100, 0.3, false}, {16, 100, 0.3, true}, {64, 300, 0.1, false},
	} {
		t.Run(fmt.Sprintf("%d devices, %d victims", tc.devices, tc.victims), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(3, 4))
			for range 3 {
				n := busyNode(tc.devices)
				victims := crowd(rng, n, tc.victims, tc.spanning, tc.alike)
				budgets := []int{0, 2}
				for i := range victims {
					if rng.IntN(4) == 0 {
						victims[i].Budgets = []int{rng.IntN(2)}
					}
				}
				r := powersOfTwo(t, alloc.GiB(250))
				plan, ok := Best(n, r, victims, budgets)
				if !ok {
					t.Fatal("no plan")
				}
				if err := alloc.Validate(without(n, victims, plan.Victims), plan.Allocation.Devices); err != nil {
					t.Fatal(err)
				}
				for i := range plan.Victims {
					if alloc.Fits(without(n, victims, slices.Delete(slices.Clone(plan.Victims), i, i+1)), r) {
						t.Fatalf("%s is unnecessary", victims[plan.Victims[i]].Name)
					}
				}
				if simple := CostOf(victims, droppedOneByOne(n, r, victims), budgets); simple.Compare(plan.Cost) < 0 {
					t.Fatalf("%v, but there is a plan of %v", plan.Cost, simple)
				}
			}
		})
	}
}

// without returns the node once those victims are gone.
func without(n *alloc.Node, victims []Victim, gone []int) *alloc.Node {
	some := make([]Victim, 0, len(gone))
	for _, i := range gone {
		some = append(some, victims[i])
	}
	return evicted(n, some, -1)
}

// droppedOneByOne returns what is left of all victims when those that are not needed are dropped, in order of priority.
func droppedOneByOne(n *alloc.Node, r *alloc.Request, victims []Victim) []int {
	left := seq(len(victims))
	slices.SortStableFunc(left, func(a, b int) int {
		return cmp.Or(
			cmp.Compare(len(victims[b].Budgets), len(victims[a].Budgets)),
			cmp.Compare(victims[b].Priority, victims[a].Priority),
			victims[b].Reload.Compare(victims[a].Reload),
		)
	})
	for i := 0; i < len(left); {
		if fewer := slices.Delete(slices.Clone(left), i, i+1); alloc.Fits(without(n, victims, fewer), r) {
			left = fewer
		} else {
			i++
		}
	}
	return left
}

// TestPricesAreInTheOrderOfCosts: what adds up of a cost, as one number, is never in another order than Compare says.
func TestPricesAreInTheOrderOfCosts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func() Cost {
			small := rapid.IntRange(0, 3)
			return Cost{
				Violations: small.Draw(t, "violations"), Active: small.Draw(t, "active"), Pinned: small.Draw(t, "pinned"),
				Victims: small.Draw(t, "victims"), Reload: alloc.GiB(uint64(small.Draw(t, "reload"))),
			}
		}
		a, b := draw(), draw()
		pa, pb := a.part().times(priceParts), b.part().times(priceParts)
		if pa.less(pb) != (a.Compare(b) < 0) || pb.less(pa) != (b.Compare(a) < 0) {
			t.Fatalf("%+v against %+v: Compare says %d, the prices say otherwise", a, b, a.Compare(b))
		}
		x, y := a.order(), b.order()
		if x.atMost(&y) && a.Compare(b) > 0 {
			t.Fatalf("%+v is dearer than %+v, but in no respect", a, b)
		}
	})
}
