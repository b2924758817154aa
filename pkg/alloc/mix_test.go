// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc_test

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/berth-dev/berth/internal/alloctest"
	"github.com/berth-dev/berth/pkg/alloc"
)

func host(cpu, memory uint64) alloc.Host { return alloc.Host{CPU: cpu, Memory: alloc.GiB(memory)} }

// kindOf is a kind of request for some devices of that many GiB each.
func kindOf(devices int, gib, cpu, memory uint64, count int) alloc.Kind {
	return alloc.Kind{Devices: devices, Share: alloc.GiB(gib), Host: host(cpu, memory), Count: count}
}

// outlook is of a node on which all kinds may be.
func outlook(free, needs alloc.Host, kinds ...alloc.Kind) *alloc.Outlook {
	return &alloc.Outlook{Mix: alloc.NewMix(kinds), Kinds: ^uint64(0), Host: free, Needs: needs}
}

// TestCost: how much more memory is of no use to the mix, in GiB.
func TestCost(t *testing.T) {
	small, large, pair := kindOf(1, 20, 1000, 1, 1), kindOf(1, 60, 1000, 1, 1), kindOf(2, 60, 1000, 1, 1)
	greedy := kindOf(1, 40, 8000, 1, 1)
	on := func(gib ...uint64) *alloc.Allocation {
		a := &alloc.Allocation{}
		for i, g := range gib {
			if g > 0 {
				a.Devices = append(a.Devices, alloc.DeviceShare{UUID: gpu(i, 80, 0).UUID, Memory: alloc.GiB(g)})
			}
		}
		return a
	}
	plenty, cpu := host(64000, 512), host(1000, 0)
	unlike := node(gpu(0, 80, 0), gpu(1, 80, 0))
	unlike.Devices[1].Model = "another"
	cut := node(gpu(0, 80, 0), gpu(1, 80, 0))
	cut.Devices[0].Parent, cut.Devices[1].Parent = "GPU-x", "GPU-x"
	nowhere := outlook(plenty, cpu, small)
	nowhere.Kinds = 0
	for _, tc := range []struct {
		name string
		n    *alloc.Node
		o    *alloc.Outlook
		a    *alloc.Allocation
		want int64
	}{
		{"what is left fits the kind still", node(gpu(0, 80, 0)), outlook(plenty, cpu, small), on(30), 0},
		{"what is left fits it no more", node(gpu(0, 80, 0)), outlook(plenty, cpu, small), on(70), 10},
		{"what was of no use is used", node(gpu(0, 80, 70)), outlook(plenty, cpu, small), on(10), -10},
		{"of two kinds, one of them as frequent as the other, one has no use for the 50 that are left", node(gpu(0, 80, 0)), outlook(plenty, cpu, small, large), on(30), 25},
		{"a kind for two devices has no use for one", node(gpu(0, 80, 0), gpu(1, 80, 0)), outlook(plenty, cpu, pair), on(30), 50 + 80},
		{"nor for two of unlike models, so nothing is lost", unlike, outlook(plenty, cpu, pair), on(30), -30},
		{"nor for two MIG instances", cut, outlook(plenty, cpu, pair), on(30), -30},
		{"a kind that may not be on the node", node(gpu(0, 80, 0)), nowhere, on(30), -30},
		{"a pod without devices that leaves enough CPU", node(gpu(0, 80, 0)), outlook(host(9000, 8), cpu, greedy), nil, 0},
		{"and one that leaves less than the kind takes", node(gpu(0, 80, 0)), outlook(host(8000, 8), cpu, greedy), nil, 80},
		// 160 GiB would take 32 cores. 8 cores are for 2 × 40 GiB of them, 15 for 2 × 75.
		{"half of the CPU is enough, as others take less", node(gpu(0, 80, 0), gpu(1, 80, 0)), outlook(host(17000, 8), cpu, greedy), nil, 0},
		{"with less than half some is left over", node(gpu(0, 80, 0), gpu(1, 80, 0)), outlook(host(16000, 8), cpu, greedy), nil, 10},
		{"the same for host memory", node(gpu(0, 80, 0), gpu(1, 80, 0)), outlook(host(64000, 16), host(0, 1), kindOf(1, 40, 0, 8, 1)), nil, 10},
		{"without a mix nothing costs anything", node(gpu(0, 80, 0)), nil, on(70), 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := *tc.n
			n.Outlook = tc.o
			if got := alloc.Cost(&n, tc.a); got != tc.want<<10<<16 {
				t.Errorf("%g GiB, want %d", float64(got)/(1<<26), tc.want)
			}
		})
	}
}

// oracleUseless is what the documentation of Cost says, in GiB, in floating-point numbers.
func oracleUseless(n *alloc.Node, free []float64, kinds []alloc.Kind, may uint64, cpu, memory float64) (useless float64) {
	total := 0
	for _, k := range kinds {
		total += k.Count
	}
	idle := 0.0
	for _, f := range free {
		idle += f
	}
	const gib = 1 << 30
	for i, k := range kinds {
		share, needs := float64(k.Share.Uint64())/gib, float64(k.Host.Memory.Uint64())/gib
		large := map[string][]float64{} // by model
		for j, f := range free {
			if f >= share && (k.Devices == 1 || n.Devices[j].Parent == "") {
				large[n.Devices[j].Model] = append(large[n.Devices[j].Model], f)
			}
		}
		useful := 0.0
		for _, of := range large {
			if len(of) >= k.Devices {
				for _, f := range of {
					useful += f
				}
			}
		}
		if may>>i&1 == 0 || cpu < float64(k.Host.CPU) || memory < needs {
			useful = 0
		}
		all := share * float64(k.Devices)
		if k.Host.CPU > 0 {
			useful = min(useful, 2*all*cpu/float64(k.Host.CPU))
		}
		if needs > 0 {
			useful = min(useful, 2*all*memory/needs)
		}
		useless += float64(k.Count) / float64(total) * (idle - useful)
	}
	return useless
}

// drawOutlook draws a mix, and a node that is kept fit for it.
func drawOutlook(t *rapid.T) (*alloc.Outlook, []alloc.Kind) {
	var kinds []alloc.Kind
	for range rapid.IntRange(1, 5).Draw(t, "kinds") {
		kinds = append(kinds, kindOf(rapid.IntRange(1, 3).Draw(t, "devices"), rapid.Uint64Range(1, 8).Draw(t, "share"),
			1000*rapid.Uint64Range(0, 4).Draw(t, "CPU"), rapid.Uint64Range(0, 4).Draw(t, "memory"), rapid.IntRange(1, 9).Draw(t, "count")))
	}
	o := outlook(host(1000*rapid.Uint64Range(0, 16).Draw(t, "free CPU"), rapid.Uint64Range(0, 16).Draw(t, "free memory")),
		host(1000*rapid.Uint64Range(0, 4).Draw(t, "needs CPU"), rapid.Uint64Range(0, 4).Draw(t, "needs memory")), kinds...)
	o.Kinds = rapid.Uint64Range(0, 31).Draw(t, "may be here")
	return o, kinds
}

// TestCostIsWhatTheOracleSays, but for rounding, and whatever the order of the devices.
func TestCostIsWhatTheOracleSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := drawNode(t, 6)
		var kinds []alloc.Kind
		n.Outlook, kinds = drawOutlook(t)
		for i := range n.Devices { // what is free is whole GiB, so that rounding decides nothing
			d := &n.Devices[i]
			d.Capacity, d.Used = alloc.GiB(d.Capacity.Uint64()>>30), alloc.GiB(d.Used.Uint64()>>30)
		}
		var a *alloc.Allocation
		if rapid.Bool().Draw(t, "an allocation") {
			a = &alloc.Allocation{}
			for i := range n.Devices {
				if free := n.Devices[i].Free().Uint64() >> 30; free > 0 && rapid.Bool().Draw(t, "on it") {
					a.Devices = append(a.Devices, alloc.DeviceShare{UUID: n.Devices[i].UUID, Memory: alloc.GiB(rapid.Uint64Range(1, free).Draw(t, "booked"))})
				}
			}
		}
		var before, after []float64
		idle := 0.0
		for i := range n.Devices {
			free := float64(n.Devices[i].Free().Uint64() >> 30)
			idle += free
			before, after = append(before, free), append(after, free)
			if a != nil {
				for _, d := range a.Devices {
					if d.UUID == n.Devices[i].UUID {
						after[i] -= float64(d.Memory.Uint64() >> 30)
					}
				}
			}
		}
		o := n.Outlook
		left := o.Host.Minus(o.Needs)
		want := oracleUseless(n, after, kinds, o.Kinds, float64(left.CPU), float64(left.Memory.Uint64()>>30)) -
			oracleUseless(n, before, kinds, o.Kinds, float64(o.Host.CPU), float64(o.Host.Memory.Uint64()>>30))
		got := float64(alloc.Cost(n, a)) / (1 << 26)
		if math.Abs(got-want) > (idle+1)*float64(len(kinds))*2/(1<<10) {
			t.Fatalf("%g GiB, want %g", got, want)
		}
		order := rapid.Permutation(alloctest.Seq(len(n.Devices))).Draw(t, "order")
		other := permuted(n, order)
		other.Outlook = n.Outlook
		if again := alloc.Cost(other, a); again != alloc.Cost(n, a) {
			t.Fatalf("%d, in another order of the devices %d", alloc.Cost(n, a), again)
		}
	})
}

// TestTheCheapestDeviceIsTaken: of those that can hold a pod's only share, the one with the least Cost, of equal ones the first.
func TestTheCheapestDeviceIsTaken(t *testing.T) {
	// On the tighter device, 10 GiB would be left, of no use; on the other one the kind fits again.
	n := node(gpu(0, 80, 50), gpu(1, 80, 30))
	n.Outlook = outlook(host(64000, 512), host(0, 0), kindOf(1, 30, 0, 0, 1))
	r, err := alloc.NewRequest([]alloc.Option{even(1, alloc.GiB(20))}, false)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := alloc.Best(n, &r, alloc.Fragmentation); !ok || got.Devices[0].UUID != gpu(1, 80, 0).UUID {
		t.Fatalf("got %v, want the second device", got.Devices)
	}
	rapid.Check(t, func(t *rapid.T) {
		n := drawNode(t, 6)
		n.Outlook, _ = drawOutlook(t)
		if rapid.Bool().Draw(t, "devices matter") {
			n.Outlook.Host, n.Outlook.Kinds = host(64000, 64), ^uint64(0)
		}
		share := alloctest.DrawAmount(t, 4, "share").Max(alloc.MiB(64))
		r, err := alloc.NewRequest([]alloc.Option{even(1, share)}, false)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := alloc.Best(n, &r, alloc.Fragmentation)
		least, want := int64(math.MaxInt64), ""
		for _, d := range n.Devices {
			if d.Free().Less(share) {
				continue
			}
			a := &alloc.Allocation{Devices: []alloc.DeviceShare{{UUID: d.UUID, Memory: share}}}
			if cost := alloc.Cost(n, a); cost < least {
				least, want = cost, d.UUID
			}
		}
		if ok != (want != "") || ok && got.Devices[0].UUID != want {
			t.Fatalf("got %v, want %q at %d", got.Devices, want, least)
		}
	})
}

// TestRank: fewer devices come first, then the cost, then links.
func TestRank(t *testing.T) {
	o := outlook(host(64000, 512), host(1000, 0), kindOf(1, 60, 1000, 1, 1))
	on := func(option int, gib ...uint64) *alloc.Allocation {
		a := &alloc.Allocation{Option: option}
		for i, g := range gib {
			a.Devices = append(a.Devices, alloc.DeviceShare{UUID: gpu(i, 80, 0).UUID, Memory: alloc.GiB(g)})
		}
		return a
	}
	with := func(n *alloc.Node) *alloc.Node { n.Outlook = o; return n }
	linked := with(node(gpu(0, 80, 0), gpu(1, 80, 0)))
	linked.Devices[0].Links, linked.Devices[1].Links = 0b10, 0b01
	ranks := []int64{
		alloc.Rank(with(node(gpu(0, 80, 60))), on(0, 20)), // uses up what was of no use
		alloc.Rank(with(node(gpu(0, 80, 0))), on(0, 10)),
		alloc.Rank(with(node(gpu(0, 80, 0))), on(0, 30)), // leaves 50 of no use
		alloc.Rank(linked, on(1, 10, 10)),
		alloc.Rank(with(node(gpu(0, 80, 0), gpu(1, 80, 0))), on(1, 10, 10)),
		alloc.Rank(linked, on(2, 10, 10)),
	}
	for i := range ranks[1:] {
		if ranks[i] <= ranks[i+1] {
			t.Errorf("rank %d is %d, the next %d", i, ranks[i], ranks[i+1])
		}
	}
	huge := &alloc.Node{Outlook: outlook(host(64000, 512), host(1000, 0), kindOf(alloc.MaxDevices, 1<<20, 0, 0, 1))}
	for i := range alloc.MaxDevices {
		huge.Devices = append(huge.Devices, gpu(i, 1<<20, 0))
	}
	if got := alloc.Rank(huge, on(0, 1)); got <= alloc.Rank(linked, on(1, 10, 10)) {
		t.Errorf("the largest cost that there is makes an earlier option %d, worse than a later one", got)
	}
}

// TestMixHasTheMostFrequent: a mix has at most MaxKinds, and of nothing there is none.
func TestMixHasTheMostFrequent(t *testing.T) {
	if m := alloc.NewMix(nil); m != nil || m.Len() != 0 {
		t.Errorf("the mix of nothing is %v", m)
	}
	if got := alloc.NewMix(slices.Repeat([]alloc.Kind{kindOf(1, 1, 0, 0, 1)}, 70)).Len(); got != alloc.MaxKinds {
		t.Errorf("%d kinds", got)
	}
}

// TestOptionOfARank, whatever an allocation costs.
func TestOptionOfARank(t *testing.T) {
	n := node(gpu(0, 80, 0), gpu(1, 80, 0))
	for _, kinds := range [][]alloc.Kind{{kindOf(1, 20, 1000, 1, 1)}, {kindOf(1, 70, 1000, 1, 1)}, {kindOf(2, 80, 1000, 1, 1)}} {
		n.Outlook = outlook(host(64000, 512), host(1000, 0), kinds...)
		for option := range 8 {
			a := &alloc.Allocation{Option: option, Devices: []alloc.DeviceShare{{UUID: n.Devices[0].UUID, Memory: alloc.GiB(30)}}}
			if got := alloc.OptionOf(alloc.Rank(n, a)); got != option {
				t.Errorf("option %d at a cost of %d: got %d", option, alloc.Cost(n, a), got)
			}
		}
	}
}
